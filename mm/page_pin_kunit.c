// SPDX-License-Identifier: GPL-2.0
/*
 * The arithmetic of the words that count pins, mm/page_pin_word.h, against a model
 * that has one counter for each base page: what no test in user space reaches, as
 * saturation takes 2^30 pins of a page, and every layout of words next to others.
 */
#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "page_pin_word.h"

/* More than a mask has bits, so that every length of mask has a neighbour. */
#define WORDS	(BITS_PER_LONG + 8)

/* Words at the distances that page_ext has: alone, and with others' data. */
static const size_t strides[] = { sizeof(atomic_t), 8, 16, 24 };

static u8 page_pin_words[WORDS * 24] __aligned(8);

static atomic_t *word_at(size_t stride, unsigned int i)
{
	return (atomic_t *)(page_pin_words + i * stride);
}

static u32 change(u32 word, bool add, u32 write)
{
	atomic_t at = ATOMIC_INIT(word);

	page_pin_change_range(&at, sizeof(at), 1, add, write);
	return atomic_read(&at);
}

static void page_pin_word_write(struct kunit *test)
{
	u32 word = change(0, true, 0);

	KUNIT_EXPECT_EQ(test, word, 1U);
	word = change(word, true, PAGE_PIN_WRITE);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_WRITE | 2);
	/* Nobody says which of the two goes: the other may be for write. */
	word = change(word, false, 0);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_WRITE | 1);
	word = change(word, true, 0);
	word = change(word, false, 0);
	word = change(word, false, 0);
	KUNIT_EXPECT_EQ(test, word, 0U);
	word = change(word, true, 0);
	KUNIT_EXPECT_EQ(test, word, 1U);
}

static void page_pin_word_unnamed(struct kunit *test)
{
	u32 word = PAGE_PIN_UNNAMED | PAGE_PIN_WRITE | 2;

	word = change(word, false, 0);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_UNNAMED | PAGE_PIN_WRITE | 1);
	word = change(word, false, 0);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_UNNAMED);
	word = change(word, true, 0);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_UNNAMED | 1);
}

/* A count that cannot rise any more is for write, and does not come back. */
static void page_pin_word_saturates(struct kunit *test)
{
	u32 word = change(PAGE_PIN_COUNT - 2, true, 0);

	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_COUNT - 1);
	word = change(word, false, 0);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_COUNT - 2);
	word = change(change(word, true, 0), true, 0);
	KUNIT_EXPECT_EQ(test, word, PAGE_PIN_WRITE | PAGE_PIN_COUNT);
	KUNIT_EXPECT_EQ(test, change(word, true, 0), word);
	KUNIT_EXPECT_EQ(test, change(word, true, PAGE_PIN_WRITE), word);
	KUNIT_EXPECT_EQ(test, change(word, false, 0), word);
	word |= PAGE_PIN_UNNAMED;
	KUNIT_EXPECT_EQ(test, change(word, true, 0), word);
	KUNIT_EXPECT_EQ(test, change(word, false, 0), word);
}

static void page_pin_word_missing(struct kunit *test)
{
	atomic_t words[5] = { ATOMIC_INIT(1), ATOMIC_INIT(0),
			      ATOMIC_INIT(PAGE_PIN_UNNAMED), ATOMIC_INIT(0),
			      ATOMIC_INIT(2) };
	unsigned long missing;

	missing = page_pin_change_range(words, sizeof(*words), ARRAY_SIZE(words),
					false, 0);
	KUNIT_EXPECT_EQ(test, missing, 3UL);
	KUNIT_EXPECT_EQ(test, atomic_read(&words[0]), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&words[1]), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&words[2]), (int)PAGE_PIN_UNNAMED);
	KUNIT_EXPECT_EQ(test, atomic_read(&words[4]), 1);
}

/* What a word may be: mostly as its neighbours, which is when pairs are taken. */
static u32 some_word(struct rnd_state *rnd)
{
	static const u32 others[] = {
		1, 2, PAGE_PIN_WRITE | 1, PAGE_PIN_WRITE | 2, PAGE_PIN_UNNAMED,
		PAGE_PIN_UNNAMED | 1, PAGE_PIN_COUNT - 1,
		PAGE_PIN_WRITE | PAGE_PIN_COUNT,
	};
	u32 dice = prandom_u32_state(rnd) % 32;

	return dice < ARRAY_SIZE(others) ? others[dice] :
	       dice < 20 ? 0 : PAGE_PIN_WRITE | 1;
}

static u32 model(u32 word, bool add, u32 write, unsigned long *missing)
{
	u32 count = word & PAGE_PIN_COUNT;

	if (!add && !count)
		++*missing;
	if (count == PAGE_PIN_COUNT || (!add && !count))
		return word | (add ? PAGE_PIN_WRITE : 0);
	if (add)
		return (word + 1) | write |
		       (count + 1 == PAGE_PIN_COUNT ? PAGE_PIN_WRITE : 0);
	return count == 1 ? word & PAGE_PIN_UNNAMED : word - 1;
}

/* How many words of all, or sums, are not what the model has after one change. */
static unsigned int try_change(struct rnd_state *rnd, size_t stride,
			       unsigned int first, unsigned int nr, bool add,
			       u32 write)
{
	unsigned long missing = 0, got;
	unsigned int i, wrong = 0;
	static u32 want[WORDS];

	/* What lies between the words belongs to others. */
	memset(page_pin_words, 0xa5, sizeof(page_pin_words));
	for (i = 0; i < WORDS; i++) {
		want[i] = some_word(rnd);
		atomic_set(word_at(stride, i), want[i]);
		if (i >= first && i < first + nr)
			want[i] = model(want[i], add, write, &missing);
	}

	got = page_pin_change_range(word_at(stride, first), stride, nr, add, write);

	wrong += got != missing;
	for (i = 0; i < WORDS; i++) {
		wrong += atomic_read(word_at(stride, i)) != (int)want[i];
		atomic_set(word_at(stride, i), 0xa5a5a5a5);
	}
	wrong += !!memchr_inv(page_pin_words, 0xa5, sizeof(page_pin_words));
	return wrong;
}

static void page_pin_word_ranges(struct kunit *test)
{
	unsigned int s, first, nr, wrong = 0;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 1);
	for (s = 0; s < ARRAY_SIZE(strides); s++)
		for (first = 0; first < 4; first++)
			for (nr = 0; first + nr <= WORDS; nr++) {
				wrong += try_change(&rnd, strides[s], first, nr, true, 0);
				wrong += try_change(&rnd, strides[s], first, nr, true,
						    PAGE_PIN_WRITE);
				wrong += try_change(&rnd, strides[s], first, nr, false, 0);
			}
	KUNIT_EXPECT_EQ(test, wrong, 0U);
}

/* As try_change(), of what asks and what forgets. */
static unsigned int try_mask(struct rnd_state *rnd, size_t stride,
			     unsigned int first, unsigned int nr, u32 bits)
{
	unsigned long mask = 0;
	unsigned int i, wrong;
	u32 word, all = 0;

	for (i = 0; i < WORDS; i++)
		atomic_set(word_at(stride, i), some_word(rnd));
	for (i = 0; i < nr; i++) {
		word = atomic_read(word_at(stride, first + i));
		all |= word;
		mask |= (unsigned long)!!(word & bits) << i;
	}

	wrong = page_pin_mask_range(word_at(stride, first), stride, nr, bits) != mask;
	wrong += page_pin_forget_range(word_at(stride, first), stride, nr) != all;
	for (i = 0; i < nr; i++)
		wrong += atomic_read(word_at(stride, first + i)) != 0;
	return wrong;
}

static void page_pin_word_masks(struct kunit *test)
{
	unsigned int s, first, nr, wrong = 0;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 2);
	for (s = 0; s < ARRAY_SIZE(strides); s++)
		for (first = 0; first < 4; first++)
			for (nr = 1; nr <= BITS_PER_LONG; nr++) {
				wrong += try_mask(&rnd, strides[s], first, nr,
						  PAGE_PIN_WRITE);
				wrong += try_mask(&rnd, strides[s], first, nr,
						  PAGE_PIN_COUNT);
			}
	KUNIT_EXPECT_EQ(test, wrong, 0U);
}

static struct kunit_case page_pin_cases[] = {
	KUNIT_CASE(page_pin_word_write),
	KUNIT_CASE(page_pin_word_unnamed),
	KUNIT_CASE(page_pin_word_saturates),
	KUNIT_CASE(page_pin_word_missing),
	KUNIT_CASE(page_pin_word_ranges),
	KUNIT_CASE(page_pin_word_masks),
	{}
};

static struct kunit_suite page_pin_suite = {
	.name = "page_pin",
	.test_cases = page_pin_cases,
};

kunit_test_suite(page_pin_suite);

MODULE_DESCRIPTION("Test of the words that count pins");
MODULE_LICENSE("GPL");
