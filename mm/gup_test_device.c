// SPDX-License-Identifier: GPL-2.0
/* A device's write into pinned pages, for the tests of gup_test. */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "gup_test_device.h"

/**
 * gup_test_device_write() - write into pinned pages as a device does
 * @pages: the pinned base pages, in the order of the range
 * @nr_pages: how many there are; 0 when nothing is pinned
 * @writable: the pins were taken with FOLL_WRITE
 * @arg: user address of a struct pin_longterm_test_write
 *
 * Like a driver at the end of a transfer it marks the pages dirty, and like a
 * device it leaves every page table entry alone: neither accessed, dirty nor
 * soft-dirty bits change.
 *
 * Context: may sleep; the caller keeps the pages pinned.
 * Return: 0, or the errors of struct pin_longterm_test_write.
 */
int gup_test_device_write(struct page **pages, unsigned long nr_pages,
			  bool writable, unsigned long arg)
{
	u64 len = (u64)nr_pages << PAGE_SHIFT;
	struct pin_longterm_test_write args;
	size_t done, chunk, size;
	char *buf;

	if (!nr_pages)
		return -EINVAL;
	if (!writable)
		return -EACCES;
	if (copy_from_user(&args, (void __user *)arg, sizeof(args)))
		return -EFAULT;
	if (!args.size || args.size > len || args.offset > len - args.size)
		return -EINVAL;

	size = args.size;
	buf = vmemdup_user(u64_to_user_ptr(args.src), size);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	for (done = 0; done < size; done += chunk) {
		u64 pos = args.offset + done;
		struct page *page = pages[pos >> PAGE_SHIFT];
		size_t off = offset_in_page(pos);

		chunk = min_t(size_t, size - done, PAGE_SIZE - off);
		memcpy_to_page(page, off, buf + done, chunk);
		flush_dcache_page(page);
		set_page_dirty_lock(page);
	}
	kvfree(buf);
	return 0;
}
