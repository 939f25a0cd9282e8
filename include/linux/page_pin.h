/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __LINUX_PAGE_PIN_H
#define __LINUX_PAGE_PIN_H

#include <linux/jump_label.h>
#include <linux/types.h>

struct page;
struct page_ext;

/* Where the words of base pages near one another are. */
struct page_pin_cursor {
	struct page_ext *ext;
	unsigned long table;
	void *words;
};

#define PAGE_PIN_CURSOR_INIT	{ .table = ~0UL }

/* How many of the base pages of a range may be written by who pinned them. */
enum page_pin_part {
	PAGE_PIN_NONE,
	PAGE_PIN_SOME,
	PAGE_PIN_ALL,
};

#ifdef CONFIG_PAGE_PIN
extern struct page_ext_operations page_pin_ops;
DECLARE_STATIC_KEY_FALSE(page_pin_key);

void __page_pin_add(struct page *page, unsigned long nr, bool write);
void __page_pin_add_next(struct page_pin_cursor *at, struct page *page, bool write);
void __page_pin_cursor_put(struct page_pin_cursor *at);
void __page_pin_sub(struct page *page, unsigned long nr);
void __page_pin_sub_pages(struct page **pages, unsigned long nr);
void __page_pin_unnamed(struct page *head);
void __page_pin_check_free(struct page *page, unsigned int order);
bool __page_pin_any(const struct page *page);
unsigned long __page_pin_written_mask(const struct page *page, unsigned long nr);
enum page_pin_part __page_pin_written(const struct page *page, unsigned long nr);
void __page_pin_count(const struct page *page, unsigned long nr,
		      unsigned long *pinned, unsigned long *written);

static inline bool page_pin_enabled(void)
{
	return static_branch_unlikely(&page_pin_key);
}
#else
static inline bool page_pin_enabled(void) { return false; }
static inline void __page_pin_add(struct page *page, unsigned long nr, bool write) { }
static inline void __page_pin_add_next(struct page_pin_cursor *at, struct page *page,
				       bool write) { }
static inline void __page_pin_cursor_put(struct page_pin_cursor *at) { }
static inline void __page_pin_sub(struct page *page, unsigned long nr) { }
static inline void __page_pin_sub_pages(struct page **pages, unsigned long nr) { }
static inline void __page_pin_unnamed(struct page *head) { }
static inline void __page_pin_check_free(struct page *page, unsigned int order) { }
static inline bool __page_pin_any(const struct page *page) { return true; }
static inline unsigned long __page_pin_written_mask(const struct page *page, unsigned long nr)
{
	return ~0UL;
}

static inline enum page_pin_part __page_pin_written(const struct page *page, unsigned long nr)
{
	return PAGE_PIN_ALL;
}

static inline void __page_pin_count(const struct page *page, unsigned long nr,
				    unsigned long *pinned, unsigned long *written) { }
#endif

/* What each does is said at the functions in mm/page_pin.c that they call. */

static inline void page_pin_add(struct page *page, unsigned long nr, bool write)
{
	if (page_pin_enabled())
		__page_pin_add(page, nr, write);
}

static inline void page_pin_add_next(struct page_pin_cursor *at, struct page *page,
				     bool write)
{
	if (page_pin_enabled())
		__page_pin_add_next(at, page, write);
}

static inline void page_pin_cursor_put(struct page_pin_cursor *at)
{
	if (page_pin_enabled())
		__page_pin_cursor_put(at);
}

static inline void page_pin_sub(struct page *page, unsigned long nr)
{
	if (page_pin_enabled())
		__page_pin_sub(page, nr);
}

static inline void page_pin_sub_pages(struct page **pages, unsigned long nr)
{
	if (page_pin_enabled())
		__page_pin_sub_pages(pages, nr);
}

static inline void page_pin_unnamed(struct page *head)
{
	if (page_pin_enabled())
		__page_pin_unnamed(head);
}

static inline void page_pin_check_free(struct page *page, unsigned int order)
{
	if (page_pin_enabled())
		__page_pin_check_free(page, order);
}

static inline bool page_pin_any(const struct page *page)
{
	return !page_pin_enabled() || __page_pin_any(page);
}

/* Of @nr pages, how many come before the first that is pinned? 0 if nobody knows. */
static inline unsigned long page_pin_first(const struct page *page,
					   unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr && !page_pin_any(page + i); i++)
		;
	return i;
}

static inline unsigned long page_pin_written_mask(const struct page *page,
						  unsigned long nr)
{
	return page_pin_enabled() ? __page_pin_written_mask(page, nr) : ~0UL;
}

static inline enum page_pin_part page_pin_written(const struct page *page,
						  unsigned long nr)
{
	return page_pin_enabled() ? __page_pin_written(page, nr) : PAGE_PIN_ALL;
}

static inline void page_pin_count(const struct page *page, unsigned long nr,
				  unsigned long *pinned, unsigned long *written)
{
	if (page_pin_enabled())
		__page_pin_count(page, nr, pinned, written);
}

#endif	/* __LINUX_PAGE_PIN_H */
