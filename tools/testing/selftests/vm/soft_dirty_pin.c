// SPDX-License-Identifier: GPL-2.0
/*
 * Soft-dirty tracking of memory that a device holds: after clear_refs, no write
 * of a device that holds a write pin may be missing from pagemap, and no page
 * may be there that neither CPU nor device wrote, or could have written.
 *
 * Each scenario is one function; a table crosses it with the kinds of memory.
 * The device is io_uring reading into a fixed buffer, or gup_test (debugfs,
 * CONFIG_GUP_TEST, with PIN_LONGTERM_TEST_WRITE), udmabuf, or a disk that is
 * read with O_DIRECT (-d /dev/X: throttle it to a few operations a second). A
 * scenario or kind that this kernel lacks is skipped. So is a case where the
 * kernel only reports too much, if it does not count pins by base page, and all
 * of it if the kernel has no CONFIG_PAGE_PIN, be it set or not; with -e the former
 * is a failure, and the latter is run. Needs root, and two NUMA nodes (numa=fake=2 will do) or
 * compaction for the races with migration.
 */
#define _GNU_SOURCE
#include <linux/aio_abi.h>
#include <linux/udmabuf.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pin_tracker.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB	4
#endif

/* Soft-dirty tracking. */

static int clear_refs(struct range *r, bool *found)
{
	(void)r;
	(void)found;
	return pwrite(clear_refs_fd, "4", 1, 0) == 1 ? 0 : broken("clear_refs");
}

/* Where PAGEMAP_SCAN says something else, what is wrong of the two counts. */
static void scan_soft_dirty(struct range *r, bool *dirty)
{
#ifdef PAGEMAP_SCAN
	struct pm_scan_arg arg = {
		.start = (uintptr_t)r->mem,
		.end = (uintptr_t)r->mem + r->size,
		.category_mask = PAGE_IS_SOFT_DIRTY,
		.return_mask = PAGE_IS_SOFT_DIRTY,
	};
	size_t i, nr = range_nr(r);
	bool *found = calloc(nr, sizeof(*found));

	if (!found)
		ksft_exit_fail_msg("no memory\n");
	if (pagemap_scan(r, &arg, found) == (ssize_t)r->size) {
		for (i = 0; i < nr; i++)
			if (found[i] != dirty[i])
				dirty[i] = !r->pages[i].must;
	} else if (errno != ENOTTY) {
		ksft_exit_fail_msg("PAGEMAP_SCAN: %s\n", strerror(errno));
	}
	free(found);
#else
	(void)r;
	(void)dirty;
#endif
}

static void read_soft_dirty(struct range *r, bool *dirty)
{
	size_t i, nr = range_nr(r);
	uint64_t *pm = calloc(nr, sizeof(*pm));

	if (!pm)
		ksft_exit_fail_msg("no memory\n");
	read_pagemap(pagemap_fd, r->mem, nr, pm);
	for (i = 0; i < nr; i++)
		dirty[i] = pm[i] & PM_SOFT_DIRTY;
	free(pm);
	scan_soft_dirty(r, dirty);
}

/* Or, of shared memory, the fault that maps it again by PTEs dirties all. */
static bool pmd_is_one(struct range *r)
{
	return pmd_mapped(r->mem, r->size);
}

static const struct tracker soft_dirty = {
	.clean = clear_refs,
	.report = read_soft_dirty,
	.coarse = pmd_is_one,
};

/* Is every page that the device wrote reported, and does the CPU see it? */
static int check_written(char *mem, size_t size, char value)
{
	size_t i, nr = size / pagesize, dirty = count_dirty(mem, size);

	if (dirty != nr)
		return because(1, "lost: %zu of %zu pages that were written",
			       nr - dirty, nr);
	for (i = 0; i < size; i += pagesize)
		if (__atomic_load_n(mem + i, __ATOMIC_RELAXED) != value)
			return because(1, "page %zu lacks what was written",
				       i / pagesize);
	return 0;
}

/* Pin part of a range for write, clear, let the device write, check, unpin. */
static int pin_clear_write(struct range *r, size_t from, size_t size,
			   unsigned int flags)
{
	struct pin p = {};
	int ret = pin_take(&p, r->mem + from, size, flags | PIN_WRITE);

	if (ret)
		return ret;
	clear_soft_dirty();
	ret = pin_store(&p, 0, size, 3);
	if (!ret)
		ret = check_written(r->mem + from, size, 3);
	pin_drop(&p);
	return ret;
}

/* Scenarios. Each returns 0, SKIP or, when something was lost, 1. */

/* What the other scenarios stand on: without a pin, clear_refs cleans. */
static int no_pin(struct range *r)
{
	size_t dirty;

	clear_soft_dirty();
	dirty = count_dirty(r->mem, r->size);
	if (dirty)
		return because(1, "%zu pages stayed dirty", dirty);
	touch(r->mem, r->size, 2);
	return check_written(r->mem, r->size, 2);
}

static int slow_pin(struct range *r)
{
	return pin_clear_write(r, 0, r->size, 0);
}

static int fast_pin(struct range *r)
{
	return pin_clear_write(r, 0, r->size, PIN_FAST);
}

static int one_page_pin(struct range *r)
{
	return pin_clear_write(r, r->size / 2, pagesize, 0);
}

/* What the CPU may only read, a device that pinned it before still writes. */
static int pin_then_readonly(struct range *r)
{
	struct pin p = {};
	int ret = pin_take(&p, r->mem, r->size, PIN_WRITE);

	if (ret)
		return ret;
	if (mprotect(r->mem, r->size, PROT_READ))
		ret = broken("mprotect");
	clear_soft_dirty();
	if (!ret)
		ret = pin_store(&p, 0, r->size, 4);
	if (!ret)
		ret = check_written(r->mem, r->size, 4);
	pin_drop(&p);
	return ret;
}

/* As above, but the protection is back before the entries are cleaned. */
static int pin_then_readonly_writable(struct range *r)
{
	struct pin p = {};
	int ret = pin_take(&p, r->mem, r->size, PIN_WRITE);

	if (ret)
		return ret;
	ret = protect_unprotect(r->mem, r->size);
	clear_soft_dirty();
	clear_soft_dirty();
	if (!ret)
		ret = pin_store(&p, 0, r->size, 5);
	if (!ret)
		ret = check_written(r->mem, r->size, 5);
	pin_drop(&p);
	return ret;
}

/* The pin comes after the clearing: GUP has to see that a write is tracked. */
static int clear_mprotect_pin(struct range *r)
{
	struct pin p = {};
	int ret;

	clear_soft_dirty();
	ret = protect_unprotect(r->mem, r->size);
	if (ret)
		return ret;
	ret = pin_take(&p, r->mem, r->size, PIN_WRITE | PIN_FAST);
	if (ret)
		return ret;
	ret = pin_store(&p, 0, r->size, 6);
	if (!ret)
		ret = check_written(r->mem, r->size, 6);
	pin_drop(&p);
	return ret;
}

/* A child shares or copies the memory while the device holds it. */
static int pin_then_fork(struct range *r)
{
	int pipefd[2], ret;
	struct pin p = {};
	pid_t pid;
	char c;

	ret = pin_take(&p, r->mem, r->size, PIN_WRITE);
	if (ret)
		return ret;
	if (pipe(pipefd)) {
		ret = broken("pipe");
		goto unpin;
	}
	pid = fork();
	if (!pid) {
		close(pipefd[1]);
		_exit(read(pipefd[0], &c, 1));
	}
	close(pipefd[0]);
	if (pid < 0)
		ret = broken("fork");
	clear_soft_dirty();
	if (!ret)
		ret = pin_store(&p, 0, r->size, 7);
	if (!ret)
		ret = check_written(r->mem, r->size, 7);
	close(pipefd[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
unpin:
	pin_drop(&p);
	return ret;
}

/* A device that may only read does not write; what the CPU writes is seen. */
static int readonly_pin(struct range *r)
{
	struct pin_longterm_test_write args = {
		.size = 1,
		.src = (uintptr_t)r->mem,
	};
	struct pin p = {};
	int ret = pin_take(&p, r->mem, r->size, 0);

	if (ret)
		return ret;
	clear_soft_dirty();
	if (!ioctl(p.fd, PIN_LONGTERM_TEST_WRITE, &args))
		ret = because(1, "wrote through a pin that is read-only");
	else if (errno != EACCES)
		ret = broken("PIN_LONGTERM_TEST_WRITE");
	touch(r->mem, r->size, 8);
	if (!ret)
		ret = check_written(r->mem, r->size, 8);
	pin_drop(&p);
	return ret;
}

/* Once the pin is dropped, the memory is tracked like any other. */
static int pin_dropped(struct range *r)
{
	struct pin p = {};
	size_t dirty;
	int ret;

	ret = pin_take(&p, r->mem, r->size, PIN_WRITE);
	if (ret)
		return ret;
	clear_soft_dirty();
	ret = pin_store(&p, 0, r->size, 9);
	pin_drop(&p);
	if (!ret)
		ret = check_written(r->mem, r->size, 9);
	if (ret)
		return ret;
	clear_soft_dirty();
	dirty = count_dirty(r->mem, r->size);
	if (dirty && r->unit == pagesize)
		return because(1, "%zu pages stayed dirty", dirty);
	touch(r->mem, r->size, 10);
	return check_written(r->mem, r->size, 10);
}

static int io_uring_pin(struct range *r)
{
	struct iovec iov = { .iov_base = r->mem, .iov_len = r->size };
	char *data = malloc(r->size);
	struct ring ring;
	int file, ret;

	ret = ring_open(&ring);
	if (ret)
		goto free;
	file = syscall(__NR_memfd_create, "soft_dirty_pin", 0);
	if (!data || file < 0) {
		ret = broken("memfd");
		goto close;
	}
	memset(data, 11, r->size);
	if (write(file, data, r->size) != (ssize_t)r->size)
		ret = broken("write");
	else
		ret = ring_register(&ring, &iov, 1);
	clear_soft_dirty();
	if (!ret)
		ret = ring_copy(&ring, IORING_OP_READ_FIXED, file, 0, r->mem,
				r->size);
	if (!ret)
		ret = check_written(r->mem, r->size, 11);
	close(file);
close:
	ring_close(&ring);
free:
	free(data);
	return ret;
}

/* Many buffers of one page each, and the device writes them one by one. */
static int io_uring_pages(struct range *r)
{
	size_t i, nr = range_nr(r), pinned = nr / 2;
	struct iovec *iov = calloc(pinned, sizeof(*iov));
	int file = -1, ret;
	struct ring ring;
	bool registered;

	ret = ring_open(&ring);
	if (ret)
		goto free;
	file = syscall(__NR_memfd_create, "soft_dirty_pin", 0);
	if (!iov || file < 0 || ftruncate(file, pagesize)) {
		ret = broken("memfd");
		goto close;
	}
	for (i = 0; i < pinned; i++) {
		iov[i].iov_base = r->mem + 2 * i * pagesize;
		iov[i].iov_len = pagesize;
	}
	ret = ring_register(&ring, iov, pinned);
	registered = !ret;
	for (i = 0; i < pinned && registered; i++)
		model_pin(r, 2 * i, 1, true, pmd_is_one(r));
	if (!ret)
		ret = clean(r, "cleaned");
	for (i = 0; i < pinned && !ret; i += 5) {
		char value = 30 + i % 50;

		if (pwrite(file, &value, 1, 0) != 1)
			ret = broken("pwrite");
		else
			ret = ring_copy(&ring, IORING_OP_READ_FIXED, file, i,
					iov[i].iov_base, pagesize);
		r->pages[2 * i].value = value;
	}
	if (!ret)
		ret = check(r, "the device wrote");
	if (!ret)
		ret = clean(r, "cleaned again");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = check(r, "the CPU wrote five pages");
	for (i = 0; i < pinned && registered; i++)
		model_unpin(r, 2 * i, 1, true);
close:
	if (file >= 0)
		close(file);
	ring_close(&ring);
free:
	free(iov);
	return ret ? ret : tracked(r, "cleaned when unregistered");
}

/* One buffer of all: of a folio that it fills, io_uring keeps but one pin. */
static int io_uring_whole(struct range *r)
{
	struct iovec iov = { .iov_base = r->mem, .iov_len = r->size };
	size_t nr = range_nr(r);
	struct ring ring;
	int ret;

	ret = ring_open(&ring);
	if (ret)
		return ret;
	ret = ring_register(&ring, &iov, 1);
	if (!ret) {
		model_pin(r, 0, nr, true, pmd_is_one(r));
		ret = clean_whole(r, "cleaned");
		if (!ret)
			ret = clean_whole(r, "cleaned again");
		model_unpin(r, 0, nr, true);
	}
	ring_close(&ring);
	return ret ? ret : tracked(r, "cleaned when unregistered");
}

/* Something disturbs the range after it was cleaned; then the device writes. */
static int pin_then(struct range *r, size_t first, size_t nr,
		    int (*disturb)(struct range *r))
{
	struct pin p = {};
	int ret = take(r, &p, first, nr, PIN_WRITE);

	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret)
		ret = disturb(r);
	if (!ret)
		ret = device_write(r, &p, 0, nr);
	if (!ret)
		ret = check(r, "the device wrote");
	if (!ret)
		ret = clean(r, "cleaned again");
	drop(r, &p);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

static int protect_first(struct range *r)
{
	return protect_unprotect(r->mem, pagesize);
}

/* What splits a PMD must not lose what is pinned in it. */
static int pin_then_split(struct range *r)
{
	return pin_then(r, 0, range_nr(r), protect_first);
}

/* What is clean stays so when its entries change, and nobody writes. */
static int clean_then(struct range *r, int (*disturb)(struct range *r))
{
	int ret = clean(r, "cleaned");

	if (!ret)
		ret = disturb(r);
	if (!ret)
		ret = check(r, "nobody wrote");
	cpu_writes_five(r);
	return ret ? ret : check(r, "after five writes");
}

static int clean_then_split(struct range *r)
{
	return clean_then(r, protect_first);
}

static int to_other_node(struct range *r)
{
	if (move_to_node(r, 1) <= 0 && move_to_node(r, 0) <= 0)
		return because(SKIP, "nothing migrates (numa=fake=2 ?)");
	return 0;
}

static int clean_then_migrated(struct range *r)
{
	return clean_then(r, to_other_node);
}

/* Reclaim leaves alone what is pinned, or at least what is known of it. */
static int pin_then_pageout(struct range *r)
{
	return pin_then(r, range_nr(r) / 2, 1, page_out);
}

/* What is mapped anew is what the device writes. */
static int pin_then_discard(struct range *r)
{
	size_t page = range_nr(r) / 2, i;
	struct pin p = {};
	int ret = take(r, &p, page, 1, PIN_WRITE);

	if (!ret && madvise(r->mem, r->size, MADV_DONTNEED))
		ret = lacking("MADV_DONTNEED");
	/* Before it is mapped there is nothing to report. */
	for (i = 0; i < r->size; i += pagesize)
		__atomic_load_n(r->mem + i, __ATOMIC_RELAXED);
	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret && madvise(r->mem, r->size, MADV_DONTNEED))
		ret = lacking("MADV_DONTNEED");
	for (i = 0; i < r->size; i += pagesize)
		__atomic_load_n(r->mem + i, __ATOMIC_RELAXED);
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = check(r, "the device wrote");
	drop(r, &p);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/* Of the two pages that written_twins() lets a device write, the first */
static size_t device_twin(struct range *r)
{
	return range_nr(r) / 2 + 3;
}

/* The CPU writes pages of the same content, two by two; and a device does. */
static int written_twins(struct range *r)
{
	struct pin p = {};
	int ret = take(r, &p, device_twin(r), 2, PIN_WRITE);

	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret)
		ret = device_write(r, &p, 0, 2);
	drop(r, &p);
	cpu_write(r, 5, 2);
	cpu_write(r, range_nr(r) / 4 * 3, 2);
	return ret;
}

/* What is shared from then on was written all the same. */
static int written_then_merged(struct range *r)
{
	int ret = written_twins(r);

	if (!ret)
		ret = merge(r, device_twin(r));
	if (!ret)
		ret = check(r, "merged");
	return ret ? ret : tracked(r, "cleaned when merged");
}

/* To be un-merged is no write, which userfaultfd's handler would have to allow. */
static int unmerge_write_protected(struct range *r)
{
	char *mem = r->mem + device_twin(r) * pagesize;
	int fd = uffd_register(r, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
			       UFFDIO_REGISTER_MODE_WP);
	uint64_t protected = 0;
	int ret;

	if (fd < 0)
		return SKIP;
	cpu_write(r, device_twin(r), 2);
	ret = uffd_protect(fd, r->mem, r->size, true);
	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret) {
		/* Since v5.14 it can be seen. */
		protected = pagemap(pagemap_fd, mem) & PM_UFFD_WP;
		ret = merge(r, device_twin(r));
	}
	if (!ret && madvise(r->mem, r->size, MADV_UNMERGEABLE))
		ret = broken("MADV_UNMERGEABLE");
	if (!ret && is_merged(r, device_twin(r)))
		ret = because(1, "the page is KSM's all the same");
	if (!ret && (pagemap(pagemap_fd, mem) & PM_UFFD_WP) != protected)
		ret = because(1, "the page is not write-protected any more");
	if (!ret)
		ret = check(r, "nobody wrote");
	uffd_protect(fd, r->mem, r->size, false);
	close(fd);
	return ret ? ret : tracked(r, "cleaned when un-merged");
}

static int merge_in_vain(struct range *r)
{
	int ret = merge_some(r);

	return ret || !is_merged(r, range_nr(r) - 1) ? ret :
	       because(SKIP, "the pin has not kept KSM off");
}

/*
 * KSM makes the last page its own, finds that the one before, of a THP that is
 * pinned, cannot be merged with it, and gives the last page back.
 */
static int half_merged(struct range *r)
{
	size_t nr = range_nr(r);

	if (madvise(r->mem + (nr - 1) * pagesize, pagesize, MADV_DONTNEED))
		return lacking("MADV_DONTNEED");
	r->thp = false;
	cpu_write(r, nr - 2, 2);
	return pin_then(r, nr / 2, 1, merge_in_vain);
}

/* What swapoff brings back was written before. */
static int written_then_swapoff(struct range *r)
{
	int ret = written_twins(r);

	if (!ret)
		ret = page_out(r);
	if (!ret && pfn_of(r->mem + device_twin(r) * pagesize))
		ret = because(SKIP, "nothing was paged out");
	if (!ret)
		ret = swap_off_on();
	if (!ret)
		ret = check(r, "swapped off");
	return ret ? ret : tracked(r, "cleaned when brought back");
}

/* Has khugepaged, or madvise(), map the range by a PMD again. */
static int collapse_range(struct range *r)
{
	static const char sleep[] =
		"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs";
	int i, ret = 0;

	if (!madvise(r->mem, r->size, MADV_COLLAPSE) || errno != EINVAL)
		return pmd_mapped(r->mem, r->size) ? 0 : lacking("MADV_COLLAPSE");
	if (r->flags & MAP_SHARED)
		return because(SKIP, "no MADV_COLLAPSE");
	if (!write_file(sleep, "10"))
		return because(SKIP, "no khugepaged");
	for (i = 0; i < 500 && !pmd_mapped(r->mem, r->size); i++)
		usleep(10000);
	write_file(sleep, "100000000");
	if (!pmd_mapped(r->mem, r->size))
		ret = because(1, "khugepaged does not collapse it");
	return ret;
}

/* A PMD that was split for a pin can be whole again after the unpin. */
static int unpin_collapse(struct range *r)
{
	size_t i, nr = range_nr(r), page = nr / 2;
	struct pin p = {};
	int ret = take(r, &p, page, 1, PIN_WRITE);

	if (!ret)
		ret = clean(r, "cleaned");
	/* While it is pinned that must fail, or lose nothing. */
	if (!ret && !madvise(r->mem, r->size, MADV_COLLAPSE))
		for (i = 0; i < nr; i++)
			r->pages[i].may = true;
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = check(r, "the device wrote");
	drop(r, &p);
	if (!ret)
		ret = tracked(r, "cleaned when unpinned");
	if (ret)
		return ret;
	/* Private memory is left alone if it has no writable PTE, shared if a dirty one. */
	if (!(r->flags & MAP_SHARED))
		cpu_writes_five(r);
	ret = collapse_range(r);
	if (ret)
		return ret;
	/* Of a PMD that is new, all is reported. */
	for (i = 0; i < nr; i++)
		r->pages[i].may = true;
	ret = check(r, "collapsed");
	if (!ret)
		ret = clean_whole(r, "cleaned when collapsed");
	return ret ? ret : tracked(r, "cleaned again");
}

/* What was written is not forgotten by a collapse, or there is none until it is clean. */
static int written_then_collapsed(struct range *r)
{
	size_t i, nr = range_nr(r), page = nr / 2;
	struct pin p = {};
	int ret = 0;

	/* Of shared memory the next fault would bring the PMD back, if it were one VMA. */
	if (mprotect(r->mem, pagesize, PROT_READ))
		ret = broken("mprotect");
	cpu_write(r, 1, nr - 1);
	if (!ret && mprotect(r->mem, pagesize, PROT_READ | PROT_WRITE))
		ret = broken("mprotect");
	r->thp = false;
	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret)
		ret = take(r, &p, page, 1, PIN_WRITE);
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	drop(r, &p);
	if (ret)
		return ret;
	cpu_writes_five(r);
	ret = collapse_range(r);
	if (ret > 0)
		return ret;
	for (i = 0; i < nr && !ret; i++)
		r->pages[i].may = true;
	ret = check(r, "collapsed, or not");
	if (!ret)
		ret = clean_whole(r, "cleaned again");
	if (!ret)
		ret = collapse_range(r);
	if (!ret)
		ret = check(r, "collapsed when clean");
	return ret ? ret : tracked(r, "cleaned when collapsed");
}

/* fork() copies for the child what is pinned, and shares the rest. */

struct forked {
	int result;
	uint64_t entries[];
};

static int fork_child(struct range *r, struct forked *f, int ready, int go)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t i;
	char c = 0;

	if (fd < 0)
		return 1;
	read_pagemap(fd, r->mem, range_nr(r), f->entries);
	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 1;
	for (i = 0; i < range_nr(r); i++)
		if (r->mem[i * pagesize] != r->pages[i].value)
			return 2;
	return 0;
}

/* Does the child have exactly one page that its parent has not? */
static int compare_pages(struct range *r, const uint64_t *before,
			 const uint64_t *now, const uint64_t *child)
{
	const uint64_t mask = PM_PRESENT | PM_PFN;
	size_t i, copied = 0, pinned = 0;

	for (i = 0; i < range_nr(r); i++) {
		if (!(before[i] & now[i] & child[i] & PM_PRESENT))
			return because(1, "page %zu is not there", i);
		if (!(before[i] & PM_PFN))
			return because(SKIP, "pagemap shows no PFNs");
		pinned += !!r->pages[i].pins;
		copied += (now[i] ^ child[i]) & mask ? 1 : 0;
		if (!r->pages[i].pins)
			continue;
		if (!((now[i] ^ child[i]) & mask))
			return because(1, "pinned page %zu is shared", i);
		if ((before[i] ^ now[i]) & mask)
			return because(1, "pinned page %zu was replaced", i);
	}
	if (copied != pinned)
		too_much("%zu pages were copied for the child, not %zu",
			 copied, pinned);
	return 0;
}

static int fork_copies(struct range *r, unsigned int flags)
{
	size_t nr = range_nr(r), size = sizeof(struct forked) + nr * 8;
	int ready[2] = { -1, -1 }, go[2] = { -1, -1 }, ret, status;
	uint64_t *before = calloc(2 * nr, sizeof(*before));
	uint64_t *now = before + nr;
	struct pin p = {};
	struct forked *f;
	pid_t pid;
	char c = 0;

	f = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		 -1, 0);
	if (!before || f == MAP_FAILED || pipe(ready) || pipe(go)) {
		ret = broken("fork");
		goto free;
	}
	ret = take(r, &p, nr / 2 + 1, 1, flags);
	if (ret)
		goto free;
	cpu_writes_five(r);
	read_pagemap(pagemap_fd, r->mem, nr, before);
	pid = fork();
	if (!pid) {
		close(ready[0]);
		close(go[1]);
		_exit(fork_child(r, f, ready[1], go[0]));
	}
	close(ready[1]);
	close(go[0]);
	ready[1] = -1;
	go[0] = -1;
	if (pid < 0 || read(ready[0], &c, 1) != 1)
		ret = broken("fork");
	read_pagemap(pagemap_fd, r->mem, nr, now);
	if (!ret)
		ret = compare_pages(r, before, now, f->entries);
	/* What either writes is not the child's; the pin is still the owner's. */
	cpu_write(r, 0, nr);
	if (!ret)
		ret = device_reads(r, &p);
	if (!ret && p.write)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = check(r, "all was written");
	if (write(go[1], &c, 1) != 1 && !ret)
		ret = broken("pipe");
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status && !ret)
		ret = because(1, "the child %s", WEXITSTATUS(status) == 2 ?
			      "sees what was written after the fork" : "failed");
free:
	drop(r, &p);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	close(go[1]);
	free(before);
	if (f != MAP_FAILED)
		munmap(f, size);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

static int fork_write_pin(struct range *r)
{
	return fork_copies(r, PIN_WRITE);
}

static int fork_read_pin(struct range *r)
{
	return fork_copies(r, PIN_FAST);
}

/* Waits for the parent; was nothing of what is written meanwhile its own, too? */
static int race_fork_child(struct range *r, int go)
{
	size_t i;
	char c;

	if (read(go, &c, 1) != 1)
		return 1;
	for (i = 0; i < range_nr(r); i++)
		if (r->mem[i * pagesize] != 12)
			return 2;
	return 0;
}

/* No huge page is left, as long as what is returned is mapped. */
static char *take_huge_pages(size_t *size)
{
	size_t nr = read_size("/proc/meminfo", "HugePages_Free: %lu", 1);
	char *mem = MAP_FAILED;

	*size = nr * hugetlbsize;
	if (nr)
		mem = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			   MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	return mem;
}

/* Asks on which node each page is. */
static int ask_for_nodes(struct range *r)
{
	int node;
	size_t i;

	for (i = 0; i < r->size; i += r->unit)
		if (syscall(SYS_get_mempolicy, &node, NULL, 0, r->mem + i,
			    MPOL_F_NODE | MPOL_F_ADDR))
			return errno == EFAULT ? broken("get_mempolicy") :
			       lacking("get_mempolicy");
	return 0;
}

/*
 * The kernel takes a reference to a page that is shared with a child just to look at
 * it: nobody gets another page, or is killed for want of one.
 */
static int look_at_shared(struct range *r)
{
	size_t i, nr = range_nr(r), size;
	uint64_t *before = calloc(2 * nr, sizeof(*before));
	uint64_t *now = before + nr;
	int go[2] = { -1, -1 }, ret = 0, status = 0;
	char *rest = take_huge_pages(&size), c = 0;
	pid_t pid = -1;

	if (!before || pipe(go)) {
		ret = broken("pipe");
		goto free;
	}
	touch(r->mem, r->size, 12);
	read_pagemap(pagemap_fd, r->mem, nr, before);
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(race_fork_child(r, go[0]));
	}
	if (pid < 0)
		ret = broken("fork");
	if (!ret)
		ret = ask_for_nodes(r);
	read_pagemap(pagemap_fd, r->mem, nr, now);
	for (i = 0; i < nr && !ret; i++)
		if ((before[i] ^ now[i]) & PM_PFN)
			ret = because(1, "page %zu was replaced", i);
	if (write(go[1], &c, 1) != 1 && !ret)
		ret = broken("pipe");
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status && !ret)
		ret = because(1, "the child failed (status %#x)", status);
free:
	close(go[0]);
	close(go[1]);
	if (rest != MAP_FAILED)
		munmap(rest, size);
	free(before);
	return ret;
}

#define FORK_RACE_ROUNDS	200

static int race_fork_round(struct racer *race, char *buf, long long *took)
{
	struct range *r = race->r;
	int go[2], status = 0, ret;
	long long start;
	size_t i;
	pid_t pid;

	if (pipe(go))
		return broken("pipe");
	pthread_barrier_wait(&race->start);
	start = now_us();
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(race_fork_child(r, go[0]));
	}
	*took = now_us() - start;
	pthread_barrier_wait(&race->end);
	close(go[0]);
	errno = race->error;
	ret = pid < 0 || errno ? broken("fork, GUP-fast") :
	      pin_store(&race->p, 0, r->size, 13);
	for (i = 0; !ret && i < r->size; i += pagesize)
		if (r->mem[i] != 13)
			ret = because(1, "the CPU does not see what the device wrote");
	touch(r->mem, r->size, 14);
	if (!ret)
		ret = pin_load(&race->p, buf);
	for (i = 0; !ret && i < r->size; i += pagesize)
		if (buf[i] != 14)
			ret = because(1, "the device does not see what the CPU wrote");
	if (write(go[1], "", 1) != 1 && !ret)
		ret = broken("pipe");
	close(go[1]);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status && !ret)
		ret = because(1, "the child %s", WEXITSTATUS(status) == 2 ?
			      "sees what was written after the fork" : "failed");
	pin_stop(&race->p);
	return ret;
}

/*
 * GUP-fast pins the range while fork() copies it. Whoever was first: what is
 * pinned is not shared with the child.
 */
static int race_fork(struct range *r)
{
	struct racer race = { .r = r };
	char *buf = malloc(r->size);
	long start = now_ms();
	long long took = 0;
	int round, ret;

	ret = buf ? pin_open(&race.p) : broken("malloc");
	if (!ret)
		ret = race_start(&race);
	if (ret)
		goto free;
	for (round = 0; !ret && next_round(round, FORK_RACE_ROUNDS, start);
	     round++) {
		/* A PMD again, which the last round split. */
		if (round && r->thp) {
			ret = remap(r);
			if (ret)
				break;
		}
		touch(r->mem, r->size, 12);
		/* Spread when in the course of the fork the pinner comes. */
		race.late = took * (round % 16) / 16;
		ret = race_fork_round(&race, buf, &took);
	}
	race_end(&race);
free:
	pin_drop(&race.p);
	free(buf);
	return ret;
}

#define PIPED_PAGES	16		/* as many as a pipe takes */
#define PIPED_ROUNDS	200

/* What is in a pipe stays as it was, when the child writes and its parent is gone. */
static int piped_fork_round(struct range *r, int pipefd[2], char *buf)
{
	size_t i, size = PIPED_PAGES * pagesize;
	int go[2], ret = pipe_splice(pipefd, r->mem, size);
	ssize_t n;
	pid_t pid;
	char c;

	if (!ret && pipe(go))
		ret = broken("pipe");
	if (ret)
		return ret;
	pid = fork();
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1) == 0)
			touch(r->mem, size, 13);
		_exit(0);
	}
	close(go[0]);
	munmap(r->area, r->area_size);
	close(go[1]);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		ret = broken("fork");
	for (i = 0; i < size && !ret; i += n) {
		n = read(pipefd[0], buf + i, size - i);
		if (n <= 0)
			ret = broken("read of the pipe");
	}
	for (i = 0; i < size && !ret; i += pagesize)
		if (buf[i] != 12)
			ret = because(1, "the pipe shows what the child wrote");
	return ret;
}

/* Pages that a pipe holds are tried to be migrated, in vain, while fork() is at them. */
static int race_migration_fork(struct range *r)
{
	unsigned long before = read_vmstat("pgmigrate_fail") +
			       read_vmstat("pgmigrate_success");
	char *buf = malloc(PIPED_PAGES * pagesize);
	struct racer race = { .r = r };
	long start = now_ms();
	int pipefd[2], round, ret;

	ret = buf ? pipe_open(pipefd, PIPED_PAGES * pagesize) : broken("malloc");
	if (ret)
		goto free;
	if (pthread_create(&race.thread, NULL, migrator, &race)) {
		ret = broken("pthread_create");
		goto close;
	}
	for (round = 0; !ret && next_round(round, PIPED_ROUNDS, start); round++) {
		if (round)
			ret = remap(r);
		if (ret)
			break;
		touch(r->mem, r->size, 12);
		ret = piped_fork_round(r, pipefd, buf);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(race.thread, NULL);
	if (!ret && read_vmstat("pgmigrate_fail") +
		    read_vmstat("pgmigrate_success") == before)
		ret = because(SKIP, "nothing tried to migrate");
close:
	close(pipefd[0]);
	close(pipefd[1]);
free:
	free(buf);
	return ret;
}

/* What smaps counts. */

static int smaps_is(struct range *r, size_t pinned, size_t to_write)
{
	unsigned long any = smaps_kb(r->mem, r->size, "Pinned");
	unsigned long write = smaps_kb(r->mem, r->size, "Pinned_Write");

	pinned *= pagesize / 1024;
	to_write *= pagesize / 1024;
	if (any == pinned && write == to_write)
		return check_words(r, "smaps");
	return because(1, "Pinned: %lu kB, not %zu; Pinned_Write: %lu kB, not %zu",
		       any, pinned, write, to_write);
}

static int smaps_counts(struct range *r)
{
	size_t nr = range_nr(r);
	struct pin one = {}, some = {}, all = {};
	int ret = needs_accounting();

	if (!ret)
		ret = smaps_is(r, 0, 0);
	if (!ret)
		ret = take(r, &one, nr / 2, 1, PIN_WRITE);
	if (!ret)
		ret = smaps_is(r, 1, 1);
	if (!ret)
		ret = take(r, &some, 1, 7, 0);
	if (!ret)
		ret = smaps_is(r, 8, 1);
	/* Over both; each page counts once. */
	if (!ret)
		ret = take(r, &all, 0, nr, PIN_FAST);
	if (!ret)
		ret = smaps_is(r, nr, 1);
	drop(r, &some);
	if (!ret)
		ret = smaps_is(r, nr, 1);
	drop(r, &one);
	drop(r, &all);
	if (!ret)
		ret = smaps_is(r, 0, 0);
	if (!ret)
		ret = take(r, &all, 0, nr, PIN_FAST | PIN_WRITE);
	if (!ret)
		ret = smaps_is(r, nr, nr);
	drop(r, &all);
	return ret ? ret : smaps_is(r, 0, 0);
}

/* Users of pins that are no gup_test: what they leave behind is nothing. */

static int vm_readv_writev(struct range *r)
{
	size_t half = r->size / 2, i;
	struct iovec from = { .iov_base = r->mem, .iov_len = half };
	struct iovec to = { .iov_base = r->mem + half, .iov_len = half };
	int ret;

	cpu_writes_five(r);
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)half ||
	    process_vm_writev(getpid(), &to, 1, &from, 1, 0) != (ssize_t)half)
		return lacking("process_vm_readv, process_vm_writev");
	for (i = 0; i < range_nr(r); i++)
		r->pages[i].value = r->mem[i * pagesize];
	ret = check(r, "copied");
	return ret ? ret : tracked(r, "cleaned");
}

/* Reads of a slow disk that begin before clear_refs and end after it. */

#define DIRECT_READS	4

static int direct_submit(aio_context_t *ctx, int fd, struct range *r)
{
	static struct iocb iocbs[DIRECT_READS];
	struct iocb *list[DIRECT_READS];
	int i;

	memset(iocbs, 0, sizeof(iocbs));
	for (i = 0; i < DIRECT_READS; i++) {
		iocbs[i].aio_lio_opcode = IOCB_CMD_PREAD;
		iocbs[i].aio_fildes = fd;
		iocbs[i].aio_buf = (uintptr_t)r->mem +
				   (i + 1) * r->size / (DIRECT_READS + 1) /
				   pagesize * pagesize;
		iocbs[i].aio_nbytes = pagesize;
		/* Apart, or they are merged. */
		iocbs[i].aio_offset = i * (1 << 20);
		list[i] = &iocbs[i];
	}
	return syscall(__NR_io_submit, *ctx, DIRECT_READS, list) ==
	       DIRECT_READS ? 0 : broken("io_submit");
}

static int direct_read(struct range *r)
{
	size_t i, nr = range_nr(r), lost = 0, late = 0, more = 0;
	struct io_event events[DIRECT_READS];
	bool *dirty = calloc(nr, sizeof(*dirty));
	char *copy = calloc(nr, 1);
	aio_context_t ctx = 0;
	int fd = -1, ret;

	if (!disk) {
		ret = because(SKIP, "no -d");
		goto free;
	}
	fd = open(disk, O_RDONLY | O_DIRECT);
	if (!dirty || !copy || fd < 0 ||
	    syscall(__NR_io_setup, DIRECT_READS, &ctx)) {
		ret = broken(disk);
		goto free;
	}
	/* The disk is empty: what it wrote is told from what was there. */
	cpu_write(r, 0, nr);
	ret = direct_submit(&ctx, fd, r);
	if (ret)
		goto free;
	clear_soft_dirty();
	for (i = 0; i < nr; i++)
		copy[i] = r->mem[i * pagesize];
	if (syscall(__NR_io_getevents, ctx, DIRECT_READS, DIRECT_READS, events,
		    NULL) != DIRECT_READS)
		ret = broken("io_getevents");
	read_soft_dirty(r, dirty);
	for (i = 0; i < nr; i++) {
		bool written = copy[i] != r->mem[i * pagesize];

		late += written;
		lost += written && !dirty[i];
		more += dirty[i];
		r->pages[i].value = r->mem[i * pagesize];
		r->pages[i].must = written;
		r->pages[i].may = dirty[i];
	}
	if (more > DIRECT_READS)
		too_much("%zu pages are reported, not %d", more, DIRECT_READS);
	if (ret)
		goto free;
	if (lost)
		ret = because(1, "lost: %zu of %zu pages that were written",
			      lost, late);
	else if (!late)
		ret = because(SKIP, "all reads had ended (the disk is not slow)");
free:
	if (ctx)
		syscall(__NR_io_destroy, ctx);
	if (fd >= 0)
		close(fd);
	free(dirty);
	free(copy);
	return ret ? ret : tracked(r, "cleaned after the reads");
}

/* Memory of a file that udmabuf gives to a device: another mapping here. */

static int map_memfd(struct range *r, unsigned int type, size_t size,
		     int advice)
{
	int fd = syscall(__NR_memfd_create, "soft_dirty_pin",
			 MFD_ALLOW_SEALING | type);
	int ret = map_range(r, size, size, MAP_PRIVATE);
	char *mem = MAP_FAILED;

	if (ret || fd < 0)
		goto close;
	if (!ftruncate(fd, size) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		mem = mmap(r->mem, size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, fd, 0);
close:
	if (mem == MAP_FAILED) {
		if (fd >= 0)
			close(fd);
		return ret ? ret : lacking("memfd");
	}
	r->flags = MAP_SHARED;
	r->file = fd;
	if (advice)
		madvise(r->mem, size, advice);
	touch(r->mem, r->size, 1);
	return 0;
}

static int map_memfd_base(struct range *r, int flags)
{
	(void)flags;
	return map_memfd(r, 0, BASE_PAGES * pagesize, MADV_NOHUGEPAGE);
}

static int map_memfd_thp(struct range *r, int flags)
{
	int ret;

	(void)flags;
	if (!thpsize)
		return because(SKIP, "no transparent huge pages");
	ret = map_memfd(r, 0, thpsize, MADV_HUGEPAGE);
	if (!ret && !pmd_mapped(r->mem, r->size))
		return because(SKIP, "got no PMD-mapped THP");
	r->large = true;
	r->thp = true;
	return ret;
}

static int map_memfd_hugetlb(struct range *r, int flags)
{
	int ret;

	(void)flags;
	if (!hugetlbsize)
		return because(SKIP, "no hugetlb");
	ret = map_memfd(r, MFD_HUGETLB, hugetlbsize, 0);
	r->unit = hugetlbsize;
	return ret;
}

static int give_to_udmabuf(struct range *r)
{
	/* Folios as a whole. */
	bool part = r->unit == pagesize && !r->thp;
	size_t nr = part ? 8 : range_nr(r), first = part ? 16 : 0, i;
	struct udmabuf_create create = {
		.memfd = r->file,
		.offset = first * pagesize,
		.size = nr * pagesize,
	};
	unsigned long before = read_vmstat("nr_foll_pin_acquired");
	int dev = open("/dev/udmabuf", O_RDWR), buf = -1, ret = 0;
	char *mem = MAP_FAILED;

	if (dev < 0)
		return lacking("/dev/udmabuf");
	buf = ioctl(dev, UDMABUF_CREATE, &create);
	close(dev);
	if (buf < 0)
		return lacking("UDMABUF_CREATE");
	if (read_vmstat("nr_foll_pin_acquired") == before) {
		close(buf);
		return because(SKIP, "udmabuf does not pin");
	}
	mem = mmap(NULL, create.size, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	if (mem == MAP_FAILED)
		ret = lacking("mmap of the udmabuf");
	model_pin(r, first, nr, true, false);
	if (!ret && r->unit == pagesize)
		ret = clean(r, "cleaned");
	else
		clear_soft_dirty();
	if (!ret) {
		touch(mem, create.size, 77);
		for (i = first; i < first + nr; i++)
			r->pages[i].value = 77;
		ret = check(r, "the device wrote");
	}
	if (!ret && r->unit == pagesize)
		ret = clean(r, "cleaned again");
	if (mem != MAP_FAILED)
		munmap(mem, create.size);
	close(buf);
	model_unpin(r, first, nr, true);
	if (ret || r->unit > pagesize)
		return ret ? ret : check_words(r, "closed");
	return tracked(r, "cleaned when closed");
}

/* The tables, and what runs them. */

#define TRACKED		1	/* clear_refs cleans it: not hugetlb */
#define RACE		2	/* one of the kinds that the races run on */
#define RACE_MIG	4	/* and that migrate as one or by single pages */
#define PRIVATE		8
#define HUGE		16	/* can be mapped by a PMD, or was */
#define MEMFD		32	/* for udmabuf, and only for that */
#define SHARED		128
#define GUP		64	/* what pins has no eye for a mapping's folios */
#define RACE_FORK	256	/* private, and of a size of its own */

static const struct kind {
	const char *name;
	int (*map)(struct range *r, int flags);
	int flags;
	int is;
} kinds[] = {
	{ "base pages", map_base, MAP_PRIVATE,
	  TRACKED | RACE | RACE_MIG | PRIVATE | GUP | RACE_FORK },
	{ "PMD-mapped THP", map_thp, MAP_PRIVATE,
	  TRACKED | RACE | RACE_MIG | PRIVATE | HUGE | GUP | RACE_FORK },
	{ "PTE-mapped THP", map_pte_thp, MAP_PRIVATE,
	  TRACKED | RACE | PRIVATE | HUGE | GUP | RACE_FORK },
	{ "shared memory", map_base, MAP_SHARED,
	  TRACKED | RACE | RACE_MIG | SHARED | GUP },
	{ "shared THP", map_thp, MAP_SHARED,
	  TRACKED | RACE | RACE_MIG | HUGE | SHARED | GUP },
	{ "mremap'ed base pages", map_moved_base, MAP_PRIVATE,
	  TRACKED | PRIVATE | GUP },
	{ "mremap'ed THP", map_moved_thp, MAP_PRIVATE,
	  TRACKED | PRIVATE | HUGE | GUP },
	{ "partially mremap'ed THP", map_part_moved_thp, MAP_PRIVATE,
	  TRACKED | PRIVATE | GUP },
	{ "hugetlb", map_hugetlb, MAP_PRIVATE, GUP | RACE_FORK },
	{ "shared hugetlb", map_hugetlb, MAP_SHARED, GUP },
	{ "memfd", map_memfd_base, 0, MEMFD },
	{ "memfd of a THP", map_memfd_thp, 0, MEMFD },
	{ "memfd of hugetlb", map_memfd_hugetlb, 0, MEMFD },
};

static const struct scenario {
	const char *name;
	int (*run)(struct range *r);
	int needs;
} scenarios[] = {
	{ "no pin", no_pin, TRACKED },
	{ "write pin by io_uring", io_uring_pin, GUP },
	{ "write pin", slow_pin, GUP },
	{ "write pin by GUP-fast", fast_pin, GUP },
	{ "write pin of one page", one_page_pin, GUP },
	{ "write pin, mprotect to read-only", pin_then_readonly, GUP },
	{ "write pin, mprotect to read-only and back",
	  pin_then_readonly_writable, GUP },
	{ "write pin after clear_refs and mprotect", clear_mprotect_pin, GUP },
	{ "write pin, fork", pin_then_fork, GUP },
	{ "read-only pin", readonly_pin, GUP },
	{ "write pin dropped", pin_dropped, GUP },

	{ OBJECTION_1, objection_1_pipes, TRACKED },
	{ OBJECTION_1B, objection_1_count, TRACKED },
	{ OBJECTION_2, objection_2, TRACKED | HUGE },
	{ OBJECTION_3, objection_3, TRACKED },

	{ "exact: no pin", exact_no_pin, TRACKED },
	{ "exact: one page", exact_one_page, TRACKED },
	{ "exact: one page by GUP-fast", exact_one_page_fast, TRACKED },
	{ "exact: whole range", exact_whole, TRACKED },
	{ "exact: whole range by GUP-fast", exact_whole_fast, TRACKED },
	{ "exact: read-only", exact_read_only, TRACKED },
	{ "exact: read-only by GUP-fast", exact_read_only_fast, TRACKED },
	{ "exact: every second page", exact_every_second, TRACKED },
	{ "exact: every second page by io_uring", io_uring_pages, TRACKED },
	{ "exact: whole range by io_uring", io_uring_whole, TRACKED },
	{ "exact: two pins, the writer goes first", exact_overlap_writer_first,
	  TRACKED },
	{ "exact: two pins, the reader goes first", exact_overlap_reader_first,
	  TRACKED },
	{ "exact: neighbours", exact_neighbours, TRACKED },
	{ "exact: mprotect to read-only", exact_mprotect, TRACKED },
	{ "exact: PMD split", pin_then_split, TRACKED },
	{ "exact: pageout", pin_then_pageout, TRACKED },
	{ "exact: cleaned, then PMD split", clean_then_split, TRACKED | HUGE },
	{ "exact: cleaned, then migrated", clean_then_migrated, TRACKED },
	{ "exact: unmapped and mapped again", pin_then_discard,
	  TRACKED | SHARED },
	{ "exact: written, then merged by KSM", written_then_merged,
	  TRACKED | PRIVATE },
	{ "exact: write-protected, then merged by KSM and un-merged",
	  unmerge_write_protected, TRACKED | PRIVATE },
	{ "exact: merged by KSM in vain", half_merged,
	  TRACKED | PRIVATE | HUGE },
	{ "exact: written, then swapoff", written_then_swapoff,
	  TRACKED | PRIVATE },
	{ "exact: random steps", random_steps, TRACKED },
	{ "exact: an allocation fails", allocations_fail, TRACKED },
	{ "exact: unpinned, collapsed", unpin_collapse, TRACKED | HUGE },
	{ "exact: written, then collapsed", written_then_collapsed,
	  TRACKED | HUGE },
	{ "exact: fork, write pin of one page", fork_write_pin,
	  TRACKED | PRIVATE },
	{ "exact: fork, read-only pin of one page", fork_read_pin,
	  TRACKED | PRIVATE },
	{ "what is shared is looked at", look_at_shared, RACE_FORK },
	{ "smaps and kpageflags count pins", smaps_counts, GUP },
	{ "process_vm_readv and process_vm_writev", vm_readv_writev, TRACKED },
	{ "O_DIRECT read in flight", direct_read, TRACKED },
	{ "udmabuf", give_to_udmabuf, MEMFD },

	{ "GUP-fast racing clear_refs", race_gup_fast, RACE },
	{ "GUP-fast of single pages racing clear_refs", race_single_pages,
	  RACE },
	{ "GUP-fast racing fork", race_fork, RACE_FORK },
	{ "migration racing fork of what is in a pipe", race_migration_fork,
	  RACE_FORK },
	{ "migration racing clear_refs", race_migration_cpu, RACE_MIG },
	{ "migration of a write pin racing clear_refs", race_migration_device,
	  RACE_MIG },
};

static bool wanted(const struct scenario *s, const struct kind *k, char *name,
		   size_t size)
{
	snprintf(name, size, "%s: %s", s->name, k->name);
	return !(s->needs & ~k->is) && asked_for(name);
}

static void run(const struct scenario *s, const struct kind *k,
		const char *name)
{
	struct range r = {};
	int ret;

	why[0] = '\0';
	excess[0] = '\0';
	r.map = k->map;
	ret = k->map(&r, k->flags);
	if (!ret)
		ret = model_start(&r);
	if (!ret)
		ret = judge(s->run(&r));
	/* Whatever held the pages, they have no pin any more. */
	if (!ret && r.pages) {
		memset(r.pages, 0, range_nr(&r) * sizeof(*r.pages));
		ret = check_words(&r, "at the end");
	}
	range_free(&r);
	report(name, ret);
}

static bool tracks_soft_dirty(void)
{
	struct range r = {};
	bool ok = !map_base(&r, MAP_PRIVATE) && !no_pin(&r);

	range_free(&r);
	return ok;
}

int main(int argc, char **argv)
{
	unsigned int i, nr_kinds = ARRAY_SIZE(kinds), plan = 0;
	unsigned int nr = ARRAY_SIZE(scenarios) * nr_kinds;
	char name[160];

	parse_options(argc, argv, "slow disk");
	ksft_print_header();

	tracker = &soft_dirty;
	pin_tracker_init();
	if (clear_refs_fd < 0)
		ksft_exit_skip("no /proc/self/clear_refs (CONFIG_PROC_PAGE_MONITOR)\n");
	if (!tracks_soft_dirty())
		ksft_exit_skip("no soft-dirty tracking (CONFIG_MEM_SOFT_DIRTY)\n");
	skip_all_if(dirty_tracking_lacks());

	for (i = 0; i < nr; i++)
		plan += wanted(&scenarios[i / nr_kinds], &kinds[i % nr_kinds],
			       name, sizeof(name));
	ksft_set_plan(plan + 1);

	for (i = 0; i < nr; i++)
		if (wanted(&scenarios[i / nr_kinds], &kinds[i % nr_kinds], name,
			   sizeof(name)))
			run(&scenarios[i / nr_kinds], &kinds[i % nr_kinds], name);
	report(words_name, words_are_zero());

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
