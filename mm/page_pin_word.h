/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The word that counts the pins of a base page, and how it changes: plain
 * arithmetic, kept apart so that KUnit and a benchmark on the host can have it.
 */
#ifndef __MM_PAGE_PIN_WORD_H
#define __MM_PAGE_PIN_WORD_H

/*
 * The count is of all pins, as nothing that unpins says what the pin was for.
 * PAGE_PIN_WRITE is set by a pin for write and stays until the count is zero.
 * So a page is taken for pinned for write as long as a pin for write and pins
 * for read overlap, and never for less than it is. A count that reached its
 * maximum stays there, as pinned for write, until the page is freed.
 */
#define PAGE_PIN_WRITE		0x80000000U
/* In the first word of a folio: pins were dropped that named no base page. */
#define PAGE_PIN_UNNAMED	0x40000000U
#define PAGE_PIN_COUNT		0x3fffffffU

/* One pin more; @write: PAGE_PIN_WRITE, or 0 for a pin that is for read. */
static __always_inline u32 page_pin_word_add(u32 word, u32 write)
{
	if ((word & PAGE_PIN_COUNT) < PAGE_PIN_COUNT)
		word++;
	if ((word & PAGE_PIN_COUNT) == PAGE_PIN_COUNT)
		write = PAGE_PIN_WRITE;
	return word | write;
}

/* One pin less. Of nothing, or of a count that is at its maximum: no change. */
static __always_inline u32 page_pin_word_sub(u32 word)
{
	u32 count = word & PAGE_PIN_COUNT;

	if (count == 1)
		return word & PAGE_PIN_UNNAMED;
	if (count && count < PAGE_PIN_COUNT)
		word--;
	return word;
}

static __always_inline u32 page_pin_word_change(u32 word, bool add, u32 write)
{
	return add ? page_pin_word_add(word, write) : page_pin_word_sub(word);
}

/*
 * Changes one word; returns what it was. Dropping a pin releases: who reads the
 * word without it sees what was written while it was there.
 */
static __always_inline u32 page_pin_change_one(atomic_t *word, u32 guess,
					       bool add, u32 write)
{
	int old = guess, new;
	bool done;

	do {
		new = page_pin_word_change(old, add, write);
		done = add ? atomic_try_cmpxchg_relaxed(word, &old, new) :
			     atomic_try_cmpxchg_release(word, &old, new);
	} while (!done);
	return old;
}

#ifdef CONFIG_64BIT
/*
 * Changes pairs of words that are @guess both, and stops at the first that are
 * not, or at the last word of @nr. Returns how many words it changed.
 */
static __always_inline unsigned long
page_pin_change_pairs(void *first, unsigned long nr, u32 guess, bool add,
		      u32 write)
{
	u32 change = page_pin_word_change(guess, add, write);
	/* Equal halves: the same in either byte order. */
	s64 from = guess | (u64)guess << 32, to = change | (u64)change << 32;
	unsigned long done;
	s64 old;

	for (done = 0; done + 1 < nr; done += 2, first += sizeof(atomic64_t)) {
		old = from;
		if (!(add ? atomic64_try_cmpxchg_relaxed(first, &old, to) :
			    atomic64_try_cmpxchg_release(first, &old, to)))
			break;
	}
	return done;
}
#else
static inline unsigned long
page_pin_change_pairs(void *first, unsigned long nr, u32 guess, bool add,
		      u32 write)
{
	return 0;
}
#endif

/*
 * Changes the words of @nr base pages, @stride bytes apart. Neighbours mostly
 * are the same: what the last word was is the guess for the next, so that a word
 * costs one compare and exchange and no read, and two that are side by side
 * share one. Returns how many pins were to be dropped that were not there.
 */
static __always_inline unsigned long
page_pin_change_range(void *first, size_t stride, unsigned long nr, bool add,
		      u32 write)
{
	u32 guess = add ? 0 : PAGE_PIN_WRITE | 1;
	unsigned long done, missing = 0;

	while (nr) {
		/* Nothing to drop is found one by one. */
		if (stride == sizeof(atomic_t) &&
		    IS_ALIGNED((unsigned long)first, sizeof(u64)) &&
		    (add || guess & PAGE_PIN_COUNT)) {
			done = page_pin_change_pairs(first, nr, guess, add, write);
			first += done * sizeof(atomic_t);
			nr -= done;
			if (!nr)
				break;
		}
		guess = page_pin_change_one(first, guess, add, write);
		missing += !add && !(guess & PAGE_PIN_COUNT);
		first += stride;
		nr--;
	}
	return missing;
}

#endif	/* __MM_PAGE_PIN_WORD_H */
