// SPDX-License-Identifier: GPL-2.0
/*
 * What scripts/coccinelle/mm/gup_kept.cocci reports: the lines that end with
 * "bad" and no others. Only parsed, never compiled.
 */
static int into_a_structure(struct held *held, unsigned long addr)
{
	int ret;

	ret = get_user_pages_fast(addr, 1, FOLL_WRITE, &held->page); /* bad */
	if (ret != 1)
		return -EFAULT;
	return 0;
}

static int all_or_nothing(struct held *held, unsigned long addr, int nr)
{
	int ret;

	mmap_read_lock(current->mm);
	ret = get_user_pages(addr, nr, FOLL_WRITE, held->pages, NULL); /* bad */
	mmap_read_unlock(current->mm);
	if (ret < nr)
		goto fail;
	return 0;
fail:
	release_pages(held->pages, ret);
	return -EFAULT;
}

static int by_another_name(struct held *held, unsigned long addr, int nr)
{
	struct page **pages = held->pages + held->nr;

	if (get_user_pages_unlocked(addr, nr, pages, 0) != nr) /* bad */
		return -EFAULT;
	return 0;
}

static int stored_later(struct held *held, unsigned long addr)
{
	struct page *page;
	int ret;

	ret = get_user_pages_remote(held->mm, addr, 1, FOLL_WRITE, &page, NULL); /* bad */
	if (ret != 1)
		return -EFAULT;
	held->page = page;
	return 0;
}

static int into_a_bio(struct bio *bio, struct iov_iter *iter)
{
	struct page *pages[1];
	size_t offset;
	ssize_t size;

	size = iov_iter_get_pages2(iter, pages, PAGE_SIZE, 1, &offset); /* bad */
	if (size <= 0)
		return -EFAULT;
	if (!bio_add_page(bio, pages[0], size, offset)) {
		put_page(pages[0]);
		return -EINVAL;
	}
	return 0;
}

/* From here on all is right. */

static int dropped(struct held *held, unsigned long addr)
{
	int ret;

	ret = get_user_pages_fast(addr, 1, FOLL_WRITE, &held->page);
	if (ret != 1)
		return -EFAULT;
	touch(held->page);
	put_page(held->page);
	return 0;
}

static int dropped_later(struct held *held, unsigned long addr)
{
	struct page *page;

	if (get_user_pages_fast(addr, 1, FOLL_WRITE, &page) != 1)
		return -EFAULT;
	held->page = page;
	touch(held->page);
	put_page(page);
	return 0;
}

static int pinned(struct held *held, unsigned long addr)
{
	int ret;

	ret = pin_user_pages_fast(addr, 1, FOLL_WRITE | FOLL_LONGTERM, &held->page);
	return ret == 1 ? 0 : -EFAULT;
}

static int no_pages(struct held *held)
{
	int ret;

	ret = get_user_pages(held->addr, 1, FOLL_WRITE, NULL, NULL);
	if (ret != 1)
		return -EFAULT;
	held->there = true;
	return 0;
}

static long wrapper(unsigned long addr, int nr, struct page **pages)
{
	return get_user_pages_unlocked(addr, nr, pages, 0);
}
