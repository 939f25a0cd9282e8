/* SPDX-License-Identifier: GPL-2.0 */
/*
 * PAGEMAP_SCAN with asynchronous uffd write-protection, of 6.7 and later, for
 * the lab's guest programs, which are compiled with the headers of the host.
 */
#ifndef LAB_PAGEMAP_SCAN_H
#define LAB_PAGEMAP_SCAN_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED	0x2000
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC		0x8000
#endif

#ifndef PAGEMAP_SCAN
#define PAGE_IS_WRITTEN		2
#define PM_SCAN_WP_MATCHING	1
#define PM_SCAN_CHECK_WPASYNC	2

struct page_region {
	uint64_t start, end, categories;
};

struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages,
		 category_inverted, category_mask, category_anyof_mask,
		 return_mask;
};

#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#endif

/*
 * The regions of @mem that were written since it was last asked, fewer than
 * @max: their number, or -1
 */
static inline long scan_written(char *mem, size_t size,
				struct page_region *found, size_t max)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)mem,
		.end = (uintptr_t)mem + size,
		.vec = (uintptr_t)found,
		.vec_len = max,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY);
	long n;

	if (fd < 0)
		return -1;
	n = ioctl(fd, PAGEMAP_SCAN, &arg);
	close(fd);
	/* walk_end tells nothing: it may be where a part of the walk ended. */
	if (n == (long)max) {
		errno = ENOSPC;
		return -1;
	}
	return n;
}

/* Let @mem be scanned: the userfaultfd that has to stay open, or -1 */
static inline int wp_async(char *mem, size_t size)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)mem, .len = size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (uffd < 0)
		return -1;
	if (ioctl(uffd, UFFDIO_API, &api) ||
	    ioctl(uffd, UFFDIO_REGISTER, &reg)) {
		close(uffd);
		return -1;
	}
	return uffd;
}

static inline bool have_scan(void)
{
	struct page_region found;

	return scan_written(NULL, 0, &found, 1) >= 0;
}

#endif
