// SPDX-License-Identifier: GPL-2.0
/*
 * What the pin accounting's arithmetic takes on this very machine, in
 * nanoseconds for the 512 base pages of a THP: to add a pin to each and to drop
 * it, beside as many plain atomic additions. The words side by side, as they are
 * where page_ext has nothing else to keep, and 16 bytes apart, as on 5.10.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What mm/page_pin_word.h takes from the kernel */
#define u32			uint32_t
#define u64			uint64_t
#define s64			int64_t
#define atomic_t		struct atomic
#define atomic64_t		struct atomic64
struct atomic {
	int counter;
};

struct atomic64 {
	s64 counter;
};

#define CONFIG_64BIT
#define IS_ALIGNED(x, a)	(((x) & ((a) - 1)) == 0)
#define round_down(x, a)	((x) & ~((a) - 1ul))

static __always_inline int atomic_read(const atomic_t *v)
{
	return __atomic_load_n(&v->counter, __ATOMIC_RELAXED);
}

static __always_inline void atomic_set(atomic_t *v, int i)
{
	__atomic_store_n(&v->counter, i, __ATOMIC_RELAXED);
}

static __always_inline int atomic_read_acquire(const atomic_t *v)
{
	return __atomic_load_n(&v->counter, __ATOMIC_ACQUIRE);
}

static __always_inline s64 atomic64_read_acquire(const atomic64_t *v)
{
	return __atomic_load_n(&v->counter, __ATOMIC_ACQUIRE);
}

#define try_cmpxchg(word, old, new, order)				\
	(__atomic_compare_exchange_n(word, old, new, false, order,	\
				     __ATOMIC_RELAXED))

static __always_inline bool atomic_try_cmpxchg(atomic_t *v, int *old, int new)
{
	return try_cmpxchg(&v->counter, old, new, __ATOMIC_SEQ_CST);
}

static __always_inline bool atomic_try_cmpxchg_release(atomic_t *v, int *old,
						       int new)
{
	return try_cmpxchg(&v->counter, old, new, __ATOMIC_RELEASE);
}

static __always_inline bool atomic64_try_cmpxchg(atomic64_t *v, s64 *old,
						 s64 new)
{
	return try_cmpxchg(&v->counter, old, new, __ATOMIC_SEQ_CST);
}

static __always_inline bool atomic64_try_cmpxchg_release(atomic64_t *v,
							 s64 *old, s64 new)
{
	return try_cmpxchg(&v->counter, old, new, __ATOMIC_RELEASE);
}

#include "../../mm/page_pin_word.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define NR		512
#define TIMES		2000
#define ROUNDS		40
#define FAR		16

static u64 words[NR * FAR / sizeof(u64)];

static size_t apart;

static void plain_add(void)
{
	size_t stride = apart;
	char *word = (char *)words;
	unsigned int i;

	for (i = 0; i < NR; i++, word += stride)
		__atomic_add_fetch((int *)word, 1, __ATOMIC_RELAXED);
}

static void plain_drop(void)
{
	size_t stride = apart;
	char *word = (char *)words;
	unsigned int i;

	for (i = 0; i < NR; i++, word += stride)
		__atomic_sub_fetch((int *)word, 1, __ATOMIC_RELEASE);
}

static void pin_add(void)
{
	page_pin_change_range(words, apart, NR, true, PAGE_PIN_WRITE);
}

static unsigned long missing;

static void pin_drop(void)
{
	missing += page_pin_change_range(words, apart, NR, false, 0);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* The best of some rounds, as others use the machine, too; of one THP. */
static void measure(const char *name, void (*add)(void), void (*drop)(void),
		    size_t stride)
{
	uint64_t best = -1, spent;
	unsigned int i, round;

	/* No constant to the compiler, as it is none in the kernel */
	asm volatile("" : "+r" (stride));
	apart = stride;
	for (round = 0; round < ROUNDS; round++) {
		spent = now();
		for (i = 0; i < TIMES; i++) {
			add();
			drop();
		}
		spent = now() - spent;
		if (spent < best)
			best = spent;
	}
	printf("%-34s%8.0f\n", name, (double)best / TIMES);
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (words[i] || missing) {
			fprintf(stderr, "native: %s: a word is not zero\n", name);
			exit(1);
		}
	}
}

int main(void)
{
	printf("512 base pages, to pin and unpin  nanoseconds, on this machine\n");
	measure("plain atomic additions", plain_add, plain_drop, sizeof(atomic_t));
	measure("pin accounting", pin_add, pin_drop, sizeof(atomic_t));
	measure("plain, words 16 bytes apart", plain_add, plain_drop, FAR);
	measure("pin accounting, 16 bytes apart", pin_add, pin_drop, FAR);
	return 0;
}
