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
 * the entry, executes smp_mb(), and reads the word: see vma_maybe_pinned() in
 * fs/proc/task_mmu.c. Documentation/mm/page_pin.rst has the whole picture.
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
static unsigned long page_pin_span(unsigned long pfn, unsigned long nr)
{
	return min(nr, PAGE_PIN_TABLE - (pfn & (PAGE_PIN_TABLE - 1)));
}

static atomic_t *page_pin_word(struct page_ext *ext)
{
	return (void *)ext + page_pin_ops.offset;
}

/**
 * __page_pin_add() - count a pin of each base page of a range
 * @page: the first base page, of a folio that is pinned or about to be
 * @nr: how many base pages, all of that folio
 * @write: the pin is for write
 *
 * Orders nothing: GUP-fast has a full barrier between this and its second look
 * at the page table entry, and GUP proper holds the page table lock.
 *
 * Context: any, with interrupts off too. The caller holds a reference.
 */
void __page_pin_add(struct page *page, unsigned long nr, bool write)
{
	unsigned long pfn = page_to_pfn(page), span;
	struct page_ext *ext;

	/* All processes share it, nobody writes it, and not all GUP pins it. */
	if (is_zero_pfn(pfn))
		return;

	for (; nr; pfn += span, nr -= span) {
		span = page_pin_span(pfn, nr);
		ext = page_ext_get(pfn_to_page(pfn));
		if (!ext)
			continue;
		page_pin_change_range(page_pin_word(ext), page_ext_size, span,
				      true, write ? PAGE_PIN_WRITE : 0);
		page_ext_put(ext);
	}
}

/* Somebody unpins what nobody pinned, or another base page than was pinned. */
static void page_pin_missing(unsigned long pfn, unsigned long missing)
{
	/* __page_pin_add() leaves it out. */
	if (!is_zero_pfn(pfn))
		pr_warn_ratelimited("from pfn %lx on, %lu pins dropped that nobody took\n",
				    pfn, missing);
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
	unsigned long pfn = page_to_pfn(page), span, missing;
	struct page_ext *ext;

	for (; nr; pfn += span, nr -= span) {
		span = page_pin_span(pfn, nr);
		ext = page_ext_get(pfn_to_page(pfn));
		if (!ext)
			continue;
		missing = page_pin_change_range(page_pin_word(ext),
						page_ext_size, span, false, 0);
		page_ext_put(ext);
		if (unlikely(missing))
			page_pin_missing(pfn, missing);
	}
}

/* How many of @pages are consecutive base pages, in one table. */
static unsigned long page_pin_run(struct page **pages, unsigned long nr)
{
	unsigned long i = 1;

	nr = page_pin_span(page_to_pfn(*pages), nr);
	while (i < nr && pages[i] == pages[0] + i)
		i++;
	return i;
}

/**
 * __page_pin_sub_pages() - drop a pin of each of an array of base pages
 * @pages: the base pages, in any order; NULL is skipped
 * @nr: how many
 *
 * As __page_pin_sub(), for arrays: it looks up once what the words of a series
 * of pages have in common.
 */
void __page_pin_sub_pages(struct page **pages, unsigned long nr)
{
	unsigned long pfn, run, missing, table = 0;
	struct page_ext *ext = NULL;
	void *words = NULL;

	for (; nr; pages += run, nr -= run) {
		run = 1;
		if (!*pages)
			continue;
		pfn = page_to_pfn(*pages);
		run = page_pin_run(pages, nr);
		if (!ext || pfn / PAGE_PIN_TABLE != table) {
			if (ext)
				page_ext_put(ext);
			ext = page_ext_get(*pages);
			if (!ext)
				continue;
			table = pfn / PAGE_PIN_TABLE;
			/* Where the word of page frame 0 would be. */
			words = (void *)page_pin_word(ext) - pfn * page_ext_size;
		}
		missing = page_pin_change_range(words + pfn * page_ext_size,
						page_ext_size, run, false, 0);
		if (unlikely(missing))
			page_pin_missing(pfn, missing);
	}
	if (ext)
		page_ext_put(ext);
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
	struct page_ext *ext = page_ext_get(head);

	if (!ext)
		return;
	atomic_or(PAGE_PIN_UNNAMED, page_pin_word(ext));
	page_ext_put(ext);
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
	unsigned long pfn = page_to_pfn(page), end = pfn + (1UL << order);
	static DEFINE_RATELIMIT_STATE(limit, 5 * HZ, 1);
	bool unnamed = false, pinned = false;
	unsigned long span;
	struct page_ext *ext;
	void *word;

	for (; pfn < end; pfn += span) {
		span = page_pin_span(pfn, end - pfn);
		ext = page_ext_get(pfn_to_page(pfn));
		if (!ext)
			continue;
		word = page_pin_word(ext);
		for (; span; span--, pfn++, word += page_ext_size) {
			u32 old = atomic_read(word);

			if (likely(!old))
				continue;
			atomic_set(word, 0);
			unnamed |= old & PAGE_PIN_UNNAMED;
			pinned |= old & PAGE_PIN_COUNT;
		}
		page_ext_put(ext);
	}
	if (unlikely(pinned) && !unnamed && __ratelimit(&limit))
		dump_page(page, "page_pin: freed with a pin");
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
	struct page_ext *ext = page_ext_get(page);
	bool any;

	if (!ext)
		return true;
	any = atomic_read_acquire(page_pin_word(ext)) & PAGE_PIN_COUNT;
	page_ext_put(ext);
	return any;
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
	unsigned long pfn = page_to_pfn(page), end = pfn + nr, span;
	bool yes = false, no = false;
	struct page_ext *ext;
	void *word;

	for (; pfn < end && !(yes && no); pfn += span) {
		span = page_pin_span(pfn, end - pfn);
		ext = page_ext_get(pfn_to_page(pfn));
		if (!ext) {
			yes = true;
			continue;
		}
		word = page_pin_word(ext);
		for (; span && !(yes && no); span--, pfn++, word += page_ext_size) {
			if (atomic_read_acquire(word) & PAGE_PIN_WRITE)
				yes = true;
			else
				no = true;
		}
		page_ext_put(ext);
	}
	if (!yes)
		return PAGE_PIN_NONE;
	return no ? PAGE_PIN_SOME : PAGE_PIN_ALL;
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
	unsigned long pfn = page_to_pfn(page), end = pfn + nr, span;
	struct page_ext *ext;
	void *word;

	for (; pfn < end; pfn += span) {
		span = page_pin_span(pfn, end - pfn);
		ext = page_ext_get(pfn_to_page(pfn));
		if (!ext)
			continue;
		word = page_pin_word(ext);
		for (; span; span--, pfn++, word += page_ext_size) {
			u32 value = atomic_read(word);

			*pinned += !!(value & PAGE_PIN_COUNT);
			*written += !!(value & PAGE_PIN_WRITE);
		}
		page_ext_put(ext);
	}
}
