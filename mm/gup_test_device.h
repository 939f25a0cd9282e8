/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __GUP_TEST_DEVICE_H
#define __GUP_TEST_DEVICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * Writes into the pages pinned by PIN_LONGTERM_TEST_START as a device would:
 * through the pages, past the page tables. The number is far from those that
 * gup_test.h counts up.
 */
#define PIN_LONGTERM_TEST_WRITE	_IOW('g', 64, struct pin_longterm_test_write)

/**
 * struct pin_longterm_test_write - argument of PIN_LONGTERM_TEST_WRITE
 * @offset: where to write, in bytes from the start of the pinned range
 * @size: how much to write, in bytes
 * @src: address of the user's buffer with what to write
 *
 * All of @size is written, or nothing. Errors: EINVAL when nothing is pinned
 * or the range is not within what is; EACCES when the pin is not for write
 * (a device that was given memory to read does not write it); EFAULT, ENOMEM.
 */
struct pin_longterm_test_write {
	__u64 offset;
	__u64 size;
	__u64 src;
};

#ifdef __KERNEL__
struct page;

int gup_test_device_write(struct page **pages, unsigned long nr_pages,
			  bool writable, unsigned long arg);
#endif

#endif	/* __GUP_TEST_DEVICE_H */
