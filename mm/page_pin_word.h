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
 * Changes one word; returns what it was. Taking a pin is a full barrier: see
 * __page_pin_add(). Dropping one releases: who reads the word without it sees what
 * was written while it was there.
 */
static __always_inline u32 page_pin_change_one(atomic_t *word, u32 guess,
					       bool add, u32 write)
{
	int old = guess, new;
	bool done;

	do {
		new = page_pin_word_change(old, add, write);
		done = add ? atomic_try_cmpxchg(word, &old, new) :
			     atomic_try_cmpxchg_release(word, &old, new);
	} while (!done);
	return old;
}

/*
 * As page_pin_change_one() for the usual word, which is 0 without the pin and
 * as it is with only that pin otherwise. False if it is not, and not changed.
 */
static __always_inline bool page_pin_change_lone(atomic_t *word, bool add,
						 u32 write)
{
	int none = 0, one = add ? 1 | write : 1 | PAGE_PIN_WRITE;

	return add ? atomic_try_cmpxchg(word, &none, one) :
		     atomic_try_cmpxchg_release(word, &one, none);
}

#ifdef CONFIG_64BIT
static __always_inline bool page_pin_change_pair(void *pair, s64 from, s64 to,
						 bool add)
{
	return add ? atomic64_try_cmpxchg(pair, &from, to) :
		     atomic64_try_cmpxchg_release(pair, &from, to);
}

/*
 * Changes pairs of words that are @guess both, and stops at the first that are
 * not, or at the last word of @nr. Returns where it stopped. Four pairs at a
 * time: a pair alone takes less than the end of the loop.
 */
static __always_inline void *
page_pin_change_pairs(void *at, unsigned long nr, u32 guess, bool add, u32 write)
{
	u32 change = page_pin_word_change(guess, add, write);
	/* Equal halves: the same in either byte order. */
	s64 from = guess | (u64)guess << 32, to = change | (u64)change << 32;
	void *end = at + round_down(nr, 2) * sizeof(atomic_t);

	for (; at + 4 * sizeof(s64) <= end; at += 4 * sizeof(s64)) {
		if (!page_pin_change_pair(at, from, to, add))
			return at;
		if (!page_pin_change_pair(at + sizeof(s64), from, to, add))
			return at + sizeof(s64);
		if (!page_pin_change_pair(at + 2 * sizeof(s64), from, to, add))
			return at + 2 * sizeof(s64);
		if (!page_pin_change_pair(at + 3 * sizeof(s64), from, to, add))
			return at + 3 * sizeof(s64);
	}
	while (at < end && page_pin_change_pair(at, from, to, add))
		at += sizeof(s64);
	return at;
}

/* Are the next two words both 0? Acquires. */
static __always_inline bool page_pin_pair_is_zero(const void *word, size_t stride,
						  unsigned long nr)
{
	return nr > 1 && stride == sizeof(atomic_t) &&
	       IS_ALIGNED((unsigned long)word, sizeof(s64)) &&
	       !atomic64_read_acquire(word);
}
#else
static inline void *page_pin_change_pairs(void *at, unsigned long nr, u32 guess,
					  bool add, u32 write)
{
	return at;
}

static inline bool page_pin_pair_is_zero(const void *word, size_t stride,
					 unsigned long nr)
{
	return false;
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
	unsigned long missing = 0;
	void *at;

	while (nr) {
		/* Nothing to drop is found one by one. */
		if (nr > 1 && stride == sizeof(atomic_t) &&
		    IS_ALIGNED((unsigned long)first, sizeof(u64)) &&
		    (add || guess & PAGE_PIN_COUNT)) {
			at = page_pin_change_pairs(first, nr, guess, add, write);
			nr -= (at - first) / sizeof(atomic_t);
			first = at;
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

/*
 * Which of the words of at most BITS_PER_LONG base pages have one of @bits.
 * Acquires: who finds a pin gone sees what was written while it was there.
 */
static __always_inline unsigned long
page_pin_mask_range(const void *word, size_t stride, unsigned long nr, u32 bits)
{
	unsigned long mask = 0, i, step;

	for (i = 0; i < nr; i += step, word += step * stride) {
		step = 1;
		if (page_pin_pair_is_zero(word, stride, nr - i))
			step = 2;
		else if (atomic_read_acquire(word) & bits)
			mask |= 1UL << i;
	}
	return mask;
}

/* Makes the words of @nr base pages 0; returns all bits that one of them had. */
static __always_inline u32 page_pin_forget_range(void *word, size_t stride,
						 unsigned long nr)
{
	unsigned long i, step;
	u32 old, all = 0;

	for (i = 0; i < nr; i += step, word += step * stride) {
		step = 2;
		if (page_pin_pair_is_zero(word, stride, nr - i))
			continue;
		step = 1;
		old = atomic_read(word);
		if (old)
			atomic_set(word, 0);
		all |= old;
	}
	return all;
}

#endif	/* __MM_PAGE_PIN_WORD_H */
