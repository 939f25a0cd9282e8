// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/gup_test: long-term pins held from user space, for tests.
 *
 * Each open file holds at most one set of pins; STOP or the last close drops
 * it. See gup_test.h for the interface, which is mainline's.
 */
#include <linux/debugfs.h>
#include <linux/highmem.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "gup_test.h"
#include "gup_test_device.h"

/* What one open file has pinned. */
struct gup_test_pins {
	struct mutex lock;	/* protects all of this */
	struct page **pages;	/* NULL: nothing is pinned */
	unsigned long nr_pages;
	bool writable;		/* the pins are FOLL_WRITE */
};

static void gup_test_stop(struct gup_test_pins *pins)
{
	if (!pins->pages)
		return;
	unpin_user_pages(pins->pages, pins->nr_pages);
	kvfree(pins->pages);
	pins->pages = NULL;
	pins->nr_pages = 0;
}

/* Pins nr pages at addr or none. Called with the mmap lock held unless fast. */
static int gup_test_pin(struct gup_test_pins *pins, unsigned long addr,
			unsigned long nr, unsigned int gup_flags, bool fast)
{
	while (pins->nr_pages < nr) {
		unsigned long start = addr + (pins->nr_pages << PAGE_SHIFT);
		int todo = min_t(unsigned long, nr - pins->nr_pages, INT_MAX);
		struct page **to = pins->pages + pins->nr_pages;
		long got;

		if (fast)
			got = pin_user_pages_fast(start, todo, gup_flags, to);
		else
			got = pin_user_pages(start, todo, gup_flags, to, NULL);
		if (got <= 0) {
			gup_test_stop(pins);
			return got ? got : -EFAULT;
		}
		pins->nr_pages += got;
	}
	return 0;
}

static int gup_test_start(struct gup_test_pins *pins, unsigned long arg)
{
	unsigned int gup_flags = FOLL_LONGTERM;
	struct pin_longterm_test args;
	struct mm_struct *mm = current->mm;
	bool fast;
	int ret;

	if (pins->pages)
		return -EINVAL;
	if (copy_from_user(&args, (void __user *)arg, sizeof(args)))
		return -EFAULT;
	if (args.flags & ~(PIN_LONGTERM_TEST_FLAG_USE_WRITE |
			   PIN_LONGTERM_TEST_FLAG_USE_FAST))
		return -EINVAL;
	if (!args.size || !IS_ALIGNED(args.addr | args.size, PAGE_SIZE) ||
	    args.addr > ULONG_MAX || args.size > LONG_MAX)
		return -EINVAL;

	pins->writable = args.flags & PIN_LONGTERM_TEST_FLAG_USE_WRITE;
	if (pins->writable)
		gup_flags |= FOLL_WRITE;
	fast = args.flags & PIN_LONGTERM_TEST_FLAG_USE_FAST;

	pins->pages = kvcalloc(args.size >> PAGE_SHIFT, sizeof(*pins->pages),
			       GFP_KERNEL);
	if (!pins->pages)
		return -ENOMEM;

	if (!fast && mmap_read_lock_killable(mm)) {
		gup_test_stop(pins);
		return -EINTR;
	}
	ret = gup_test_pin(pins, args.addr, args.size >> PAGE_SHIFT, gup_flags,
			   fast);
	if (!fast)
		mmap_read_unlock(mm);
	return ret;
}

/* Copies what the pinned pages hold now to the user's buffer. */
static int gup_test_read(struct gup_test_pins *pins, unsigned long arg)
{
	unsigned long i;
	int ret = 0;
	void *buf;
	__u64 to;

	if (!pins->pages)
		return -EINVAL;
	if (copy_from_user(&to, (void __user *)arg, sizeof(to)))
		return -EFAULT;

	/* The user's buffer may fault, which a mapping of highmem may not. */
	buf = (void *)__get_free_page(GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	for (i = 0; i < pins->nr_pages && !ret; i++, to += PAGE_SIZE) {
		memcpy_from_page(buf, pins->pages[i], 0, PAGE_SIZE);
		if (copy_to_user(u64_to_user_ptr(to), buf, PAGE_SIZE))
			ret = -EFAULT;
	}
	free_page((unsigned long)buf);
	return ret;
}

static long gup_test_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	struct gup_test_pins *pins = file->private_data;
	int ret = -EINVAL;

	if (mutex_lock_killable(&pins->lock))
		return -EINTR;

	switch (cmd) {
	case PIN_LONGTERM_TEST_START:
		ret = gup_test_start(pins, arg);
		break;
	case PIN_LONGTERM_TEST_STOP:
		gup_test_stop(pins);
		ret = 0;
		break;
	case PIN_LONGTERM_TEST_READ:
		ret = gup_test_read(pins, arg);
		break;
	case PIN_LONGTERM_TEST_WRITE:
		ret = gup_test_device_write(pins->pages, pins->nr_pages,
					    pins->writable, arg);
		break;
	}

	mutex_unlock(&pins->lock);
	return ret;
}

static int gup_test_open(struct inode *inode, struct file *file)
{
	struct gup_test_pins *pins = kzalloc(sizeof(*pins), GFP_KERNEL);

	if (!pins)
		return -ENOMEM;
	mutex_init(&pins->lock);
	file->private_data = pins;
	return nonseekable_open(inode, file);
}

static int gup_test_release(struct inode *inode, struct file *file)
{
	struct gup_test_pins *pins = file->private_data;

	gup_test_stop(pins);
	mutex_destroy(&pins->lock);
	kfree(pins);
	return 0;
}

static const struct file_operations gup_test_fops = {
	.open = gup_test_open,
	.unlocked_ioctl = gup_test_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = gup_test_release,
};

static int __init gup_test_init(void)
{
	debugfs_create_file_unsafe("gup_test", 0600, NULL, NULL,
				   &gup_test_fops);
	return 0;
}
late_initcall(gup_test_init);
