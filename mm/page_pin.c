// SPDX-License-Identifier: GPL-2.0
/*
 * Pins counted per base page.
 *
 * FOLL_PIN marks a page as held by a device or another user that reads or writes
 * it behind the page tables. The page itself has too little room for that mark:
 * a large folio counts the pins of all its base pages in one place, a small one
 * adds GUP_PIN_COUNTING_BIAS to a reference count that others raise as well, and
 * neither knows what the pins are for. Here each base page has a word of its own
 * (mm/page_pin_word.h): the count of its pins, and whether one of them was taken
 * for write.
 *
 * The word errs to one side: a page that a device may write is never taken for
 * one that it may not. Where there is no word (page_pin=off; memory without a
 * page_ext, like ZONE_DEVICE) whoever asks is told that the page may be pinned
 * for write, and asks folio_maybe_dma_pinned() before, as without this file.
 *
 * Who takes a pin raises the word before, or under the same page table lock as,
 * it makes sure that the page table still maps the page for it. Who changes a
 * page table entry and wants to know whether a device may write past it, changes
 * the entry, executes smp_mb(), and reads the word: see vma_maybe_pinned().
 * Documentation/mm/page_pin.rst (5.10: vm) has the whole picture.
 */
#define pr_fmt(fmt) "page_pin: " fmt

#include <linux/atomic.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/page_ext.h>
#include <linux/page_pin.h>
#include <linux/ratelimit.h>
#include <linux/string.h>

#include "page_pin_word.h"

static bool page_pin_on __initdata = IS_ENABLED(CONFIG_PAGE_PIN_DEFAULT_ON);

DEFINE_STATIC_KEY_FALSE(page_pin_key);
EXPORT_SYMBOL_GPL(page_pin_key);

static int __init page_pin_param(char *buf)
{
	if (!buf || kstrtobool(buf, &page_pin_on)) {
		pr_err("page_pin= is on or off\n");
		return -EINVAL;
	}
	return 0;
}
early_param("page_pin", page_pin_param);

/*
 * The last of the page_ext clients, so page_ext_size is what the others need.
 * If that is nothing, the words lie side by side; else each takes the room that
 * leaves the others' data aligned.
 */
static bool __init page_pin_need(void)
{
	page_pin_ops.size = page_ext_size ? sizeof(u64) : sizeof(atomic_t);
	return page_pin_on;
}

static void __init page_pin_init(void)
{
	if (!page_pin_on)
		return;
	static_branch_enable(&page_pin_key);
	pr_info("on, %zu bytes a base page, %lu KiB\n", page_pin_ops.size,
		(unsigned long)(totalram_pages() * page_pin_ops.size >> 10));
}

struct page_ext_operations page_pin_ops = {
	.size = sizeof(u64),
	.need = page_pin_need,
	.init = page_pin_init,
};

/*
 * The words of consecutive pages are page_ext_size apart, in one table for each
 * section; without sections, go by what is surely in one piece.
 */
#ifdef CONFIG_SPARSEMEM
#define PAGE_PIN_TABLE	PAGES_PER_SECTION
#else
#define PAGE_PIN_TABLE	pageblock_nr_pages
#endif

/* How many of @nr pages from @pfn on have their words in the table of @pfn. */
static __always_inline unsigned long page_pin_span(unsigned long pfn,
						   unsigned long nr)
{
	return min(nr, PAGE_PIN_TABLE - (pfn & (PAGE_PIN_TABLE - 1)));
}

static __always_inline void *page_pin_ext_word(struct page_ext *ext)
{
	return (void *)ext + page_pin_ops.offset;
}

static noinline bool page_pin_look_up(struct page_pin_cursor *at,
				      unsigned long pfn)
{
	__page_pin_cursor_put(at);
	at->ext = page_ext_get(pfn_to_page(pfn));
	if (!at->ext)
		return false;
	at->table = pfn / PAGE_PIN_TABLE;
	/* Where the word of page frame 0 would be. */
	at->words = page_pin_ext_word(at->ext) - pfn * page_ext_size;
	return true;
}

/* The word of a base page; NULL if it has none. */
static __always_inline void *page_pin_word(struct page_pin_cursor *at,
					   unsigned long pfn)
{
	if (unlikely(pfn / PAGE_PIN_TABLE != at->table) &&
	    !page_pin_look_up(at, pfn))
		return NULL;
	return at->words + pfn * page_ext_size;
}

/**
 * __page_pin_cursor_put() - end the use of a cursor
 * @at: PAGE_PIN_CURSOR_INIT, and passed to __page_pin_add_next() maybe
 */
void __page_pin_cursor_put(struct page_pin_cursor *at)
{
	if (at->ext)
		page_ext_put(at->ext);
	at->ext = NULL;
	at->table = ~0UL;
}

/* Raises or lowers the words of @nr base pages by a pin each. */
static noinline void page_pin_change(struct page_pin_cursor *at,
				     unsigned long pfn, unsigned long nr,
				     bool add, u32 write)
{
	unsigned long span, missing;
	void *word;

	/* All processes share it, nobody writes it, and not all GUP pins it. */
	if (is_zero_pfn(pfn))
		return;

	for (; nr; pfn += span, nr -= span) {
		span = page_pin_span(pfn, nr);
		word = page_pin_word(at, pfn);
		if (!word)
			continue;
		/* Two loops, each with one of the two known. */
		missing = add ? page_pin_change_range(word, page_ext_size, span, true, write) :
				page_pin_change_range(word, page_ext_size, span, false, 0);
		/* Nobody pinned them, or another base page than is unpinned. */
		if (unlikely(missing))
			pr_warn_ratelimited("from pfn %lx on, %lu pins dropped that nobody took\n",
					    pfn, missing);
	}
}

/* The word of one base page; 0 if it has none. */
static __always_inline u32 page_pin_read(const struct page *page)
{
	struct page_ext *ext = page_ext_get(page);
	u32 word;

	if (!ext)
		return 0;
	word = atomic_read(page_pin_ext_word(ext));
	page_ext_put(ext);
	return word;
}

/* As page_pin_change(), without a cursor. One page, the usual number, is quick. */
static __always_inline void page_pin_change_once(struct page *page,
						 unsigned long nr, bool add,
						 u32 write)
{
	struct page_pin_cursor at = PAGE_PIN_CURSOR_INIT;
	struct page_ext *ext;
	bool done;

	if (nr == 1 && !is_zero_pfn(page_to_pfn(page))) {
		ext = page_ext_get(page);
		if (!ext)
			return;
		done = page_pin_change_lone(page_pin_ext_word(ext), add, write);
		page_ext_put(ext);
		if (done)
			return;
	}
	page_pin_change(&at, page_to_pfn(page), nr, add, write);
	__page_pin_cursor_put(&at);
}

/**
 * __page_pin_add() - count a pin of each base page of a range
 * @page: the first base page, of a folio that is pinned or about to be
 * @nr: how many base pages, all of that folio
 * @write: the pin is for write
 *
 * A full barrier, for GUP-fast, which then reads the page table entry once more.
 * Pairs with the one of vma_maybe_pinned(). GUP proper holds the page table lock.
 *
 * Context: any, with interrupts off too. The caller holds a reference.
 */
void __page_pin_add(struct page *page, unsigned long nr, bool write)
{
	page_pin_change_once(page, nr, true, write ? PAGE_PIN_WRITE : 0);
}

/**
 * __page_pin_add_next() - count a pin of one of a series of base pages
 * @at: PAGE_PIN_CURSOR_INIT, then what the call for the page before left
 * @page: the base page
 * @write: the pin is for write
 *
 * As __page_pin_add(), but what the words of base pages near one another have in
 * common is looked up once. The caller does not sleep before it calls
 * page_pin_cursor_put().
 */
void __page_pin_add_next(struct page_pin_cursor *at, struct page *page, bool write)
{
	unsigned long pfn = page_to_pfn(page);
	u32 bit = write ? PAGE_PIN_WRITE : 0;

	if (unlikely(pfn / PAGE_PIN_TABLE != at->table) || is_zero_pfn(pfn) ||
	    !page_pin_change_lone(at->words + pfn * page_ext_size, true, bit))
		page_pin_change(at, pfn, 1, true, bit);
}

/**
 * __page_pin_sub() - drop a pin of each base page of a range
 * @page: the first base page
 * @nr: how many base pages, all of its folio
 *
 * To be called before the reference of the pin is dropped. Releases: who then
 * finds no pin sees what was written to the page while there was one.
 *
 * Context: any, with interrupts off too.
 */
void __page_pin_sub(struct page *page, unsigned long nr)
{
	page_pin_change_once(page, nr, false, 0);
}

/* How many of @pages, not more than @most, are neighbours. Four at a time. */
static __always_inline unsigned long page_pin_run(struct page **pages,
						  unsigned long most)
{
	struct page *first = *pages;
	unsigned long run = 1;

	for (; run + 4 <= most; run += 4)
		if (pages[run] != first + run ||
		    pages[run + 1] != first + run + 1 ||
		    pages[run + 2] != first + run + 2 ||
		    pages[run + 3] != first + run + 3)
			break;
	while (run < most && pages[run] == first + run)
		run++;
	return run;
}

/**
 * __page_pin_sub_pages() - drop a pin of each of an array of base pages
 * @pages: the base pages, in any order; NULL is skipped
 * @nr: how many
 *
 * As __page_pin_sub(), for arrays.
 */
void __page_pin_sub_pages(struct page **pages, unsigned long nr)
{
	struct page_pin_cursor at = PAGE_PIN_CURSOR_INIT;
	unsigned long pfn, run;

	for (; nr; pages += run, nr -= run) {
		run = 1;
		if (!*pages)
			continue;
		pfn = page_to_pfn(*pages);
		/* In the memory map of one section, neighbours are neighbours. */
		run = page_pin_run(pages, page_pin_span(pfn, nr));
		if (run > 1 || pfn / PAGE_PIN_TABLE != at.table || is_zero_pfn(pfn) ||
		    !page_pin_change_lone(at.words + pfn * page_ext_size, false, 0))
			page_pin_change(&at, pfn, run, false, 0);
	}
	__page_pin_cursor_put(&at);
}

/**
 * __page_pin_unnamed() - note that pins of a folio go whose base pages nobody names
 * @head: the first page of the folio
 *
 * The words of those base pages stay raised, so that the pages are taken for
 * pinned while the folio has any pin, and __page_pin_check_free() forgives them.
 */
void __page_pin_unnamed(struct page *head)
{
	struct page_pin_cursor at = PAGE_PIN_CURSOR_INIT;
	atomic_t *word = page_pin_word(&at, page_to_pfn(head));

	if (word)
		atomic_or(PAGE_PIN_UNNAMED, word);
	__page_pin_cursor_put(&at);
}

/* Apart from its caller, which has few registers to save then. */
static noinline void page_pin_forget(struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page), nr = 1UL << order, span;
	struct page_pin_cursor at = PAGE_PIN_CURSOR_INIT;
	static DEFINE_RATELIMIT_STATE(limit, 5 * HZ, 1);
	u32 words = 0;
	void *word;

	for (; nr; pfn += span, nr -= span) {
		span = page_pin_span(pfn, nr);
		word = page_pin_word(&at, pfn);
		/* Side by side, and all of them 0: the usual case is quick. */
		if (!word || (page_ext_size == sizeof(atomic_t) &&
			      !memchr_inv(word, 0, span * sizeof(atomic_t))))
			continue;
		words |= page_pin_forget_range(word, page_ext_size, span);
	}
	__page_pin_cursor_put(&at);
	if (unlikely(words & PAGE_PIN_COUNT) && !(words & PAGE_PIN_UNNAMED) &&
	    __ratelimit(&limit))
		dump_page(page, "page_pin: freed with a pin");
}

/**
 * __page_pin_check_free() - report pages that are freed with pins, forget the pins
 * @page: the first page
 * @order: what is freed is 1 << @order pages
 *
 * Context: any. Nobody has a reference to the pages.
 */
void __page_pin_check_free(struct page *page, unsigned int order)
{
	if (order || page_pin_read(page))
		page_pin_forget(page, order);
}

/*
 * Which of at most BITS_PER_LONG base pages have one of @bits in their words;
 * @unknown: or have no word.
 */
static unsigned long page_pin_mask(unsigned long pfn, unsigned long nr, u32 bits,
				   bool unknown)
{
	unsigned long done = 0, mask = 0, part, span;
	struct page_pin_cursor at = PAGE_PIN_CURSOR_INIT;
	void *word;

	for (; done < nr; done += span) {
		span = page_pin_span(pfn + done, nr - done);
		word = page_pin_word(&at, pfn + done);
		if (word)
			part = page_pin_mask_range(word, page_ext_size, span, bits);
		else
			part = unknown ? GENMASK(span - 1, 0) : 0;
		mask |= part << done;
	}
	__page_pin_cursor_put(&at);
	return mask;
}

/**
 * __page_pin_any() - does a base page have a pin, for read or for write?
 * @page: the base page
 *
 * Return: true also if nobody counts the pins of this page.
 * Context: any. What keeps the answer true is the caller's: a page table lock
 * with the entry taken out, or fork's write_protect_seq.
 */
bool __page_pin_any(const struct page *page)
{
	return page_pin_mask(page_to_pfn(page), 1, PAGE_PIN_COUNT, true);
}

/**
 * __page_pin_written_mask() - which of some base pages may be written by who pinned them?
 * @page: the first base page
 * @nr: how many base pages, at most BITS_PER_LONG
 *
 * Return: bit i for base page i; those whose pins nobody counts are among them.
 * Context: as __page_pin_any().
 */
unsigned long __page_pin_written_mask(const struct page *page, unsigned long nr)
{
	return page_pin_mask(page_to_pfn(page), nr, PAGE_PIN_WRITE, true);
}

/**
 * __page_pin_written() - how many of a range may be written by who pinned them?
 * @page: the first base page
 * @nr: how many base pages, at least 1
 *
 * Return: PAGE_PIN_NONE, PAGE_PIN_SOME or PAGE_PIN_ALL of them; those whose pins
 * nobody counts are among them.
 * Context: as __page_pin_any().
 */
enum page_pin_part __page_pin_written(const struct page *page, unsigned long nr)
{
	unsigned long pfn = page_to_pfn(page), end = pfn + nr, some, written = 0;

	for (; pfn < end; pfn += some) {
		some = min_t(unsigned long, end - pfn, BITS_PER_LONG);
		written += hweight_long(page_pin_mask(pfn, some, PAGE_PIN_WRITE, true));
	}
	if (!written)
		return PAGE_PIN_NONE;
	return written < nr ? PAGE_PIN_SOME : PAGE_PIN_ALL;
}

/**
 * __page_pin_count() - count the base pages of a range that are pinned
 * @page: the first base page
 * @nr: how many base pages
 * @pinned: raised by the number of those that have a pin
 * @written: raised by the number of those that have a pin for write
 *
 * For statistics: pages whose pins nobody counts are left out.
 */
void __page_pin_count(const struct page *page, unsigned long nr,
		      unsigned long *pinned, unsigned long *written)
{
	unsigned long pfn = page_to_pfn(page), end = pfn + nr, some;

	for (; pfn < end; pfn += some) {
		some = min_t(unsigned long, end - pfn, BITS_PER_LONG);
		*pinned += hweight_long(page_pin_mask(pfn, some, PAGE_PIN_COUNT, false));
		*written += hweight_long(page_pin_mask(pfn, some, PAGE_PIN_WRITE, false));
	}
}
