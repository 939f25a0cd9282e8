/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the selftests of pinned memory have in common: memory by kind, what it
 * looks like from /proc, and who holds it (gup_test, io_uring, pipes).
 */
#ifndef PIN_MEMORY_H
#define PIN_MEMORY_H

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "../../../../mm/gup_test.h"
#include "../../../../mm/gup_test_device.h"

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PM_PFN		0x007fffffffffffffULL	/* of a pagemap entry */
#define PM_SOFT_DIRTY	0x0080000000000000ULL
#define PM_UFFD_WP	0x0200000000000000ULL
#define PM_SWAP		0x4000000000000000ULL
#define PM_PRESENT	0x8000000000000000ULL
/* Of a kpageflags entry */
#define KPF_KSM		0x0000000000200000ULL	/* 21 */
#define KPF_PINNED	0x0000080000000000ULL	/* 43 */

#ifndef BASE_PAGES
#define BASE_PAGES	256		/* in a range of base pages */
#endif

#define WHY_SIZE	200

#define SKIP		(-1)

static size_t pagesize, thpsize, hugetlbsize;
static int pagemap_fd = -1, kpageflags_fd = -1, clear_refs_fd = -1;
static bool accounting;			/* this kernel counts pins by base page */
static const char *disk;		/* -d: a slow one */
static bool exact;			/* -e: do not skip, too much is a failure */
static const char *only;		/* -k: cases whose name has this */
static char own_why[WHY_SIZE];

/* Of the last skip or failure; elsewhere if other processes note it, too. */
static char *why = own_why;

/* Notes the reason, and is what the test returns. */
#define because(ret, fmt, ...) \
	(snprintf(why, WHY_SIZE, fmt, ##__VA_ARGS__), (ret))

static inline long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static inline long now_ms(void)
{
	return now_us() / 1000;
}

/* An operation of the test itself failed: that is a failure, not a skip. */
static inline int broken(const char *what)
{
	return because(1, "%s: %s", what, strerror(errno));
}

static inline int lacking(const char *what)
{
	return because(SKIP, "%s: %s", what, strerror(errno));
}

/* -e, -k NAME and, if the program says what disk it wants, -d DISK. */
static inline void parse_options(int argc, char **argv, const char *disk_is)
{
	const char *options = disk_is ? "ek:d:" : "ek:";
	int opt;

	while ((opt = getopt(argc, argv, options)) != -1) {
		switch (opt) {
		case 'd':
			disk = optarg;
			break;
		case 'e':
			exact = true;
			break;
		case 'k':
			only = optarg;
			break;
		default:
			fprintf(stderr, "usage: %s [-e] [-k part of a case's name]%s%s%s\n",
				argv[0], disk_is ? " [-d " : "",
				disk_is ?: "", disk_is ? "]" : "");
			exit(KSFT_FAIL);
		}
	}
}

static inline bool asked_for(const char *name)
{
	return !only || strstr(name, only);
}

/* What /proc says. */

static inline bool write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

static inline size_t read_size(const char *path, const char *format,
			       size_t unit)
{
	unsigned long value = 0;
	char line[512];
	FILE *f = fopen(path, "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, format, &value) == 1)
			break;
	if (f)
		fclose(f);
	return value * unit;
}

static inline long read_number(const char *path)
{
	long value = -1;
	FILE *f = fopen(path, "r");

	if (f && fscanf(f, "%ld", &value) != 1)
		value = -1;
	if (f)
		fclose(f);
	return value;
}

static inline unsigned long read_vmstat(const char *name)
{
	unsigned long value, ret = 0;
	char key[64];
	FILE *f;

	/* So that small numbers show, which CPUs keep for themselves. */
	write_file("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/vmstat", "r");
	while (f && fscanf(f, "%63s %lu", key, &value) == 2)
		if (!strcmp(key, name))
			ret = value;
	if (f)
		fclose(f);
	return ret;
}

/* Of the mappings that are in a range, the sum of what smaps says of a key. */
static inline unsigned long smaps_kb(const char *mem, size_t size,
				     const char *key)
{
	unsigned long start, end, kb, sum = 0;
	size_t len = strlen(key);
	bool here = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "r");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start < (uintptr_t)mem + size &&
			       (uintptr_t)mem < end;
		else if (here && !strncmp(line, key, len) &&
			 sscanf(line + len, ": %lu kB", &kb) == 1)
			sum += kb;
	}
	fclose(f);
	return sum;
}

/* Is all of a range, of one THP or more, mapped by PMDs? */
static inline bool pmd_mapped(const char *mem, size_t size)
{
	return thpsize && size >= thpsize &&
	       smaps_kb(mem, size, "AnonHugePages") +
	       smaps_kb(mem, size, "ShmemPmdMapped") >= size / 1024;
}

static inline void read_pagemap(int fd, const char *mem, size_t nr,
				uint64_t *entries)
{
	size_t bytes = nr * sizeof(*entries);
	off_t at = (uintptr_t)mem / pagesize * sizeof(*entries);

	if (pread(fd, entries, bytes, at) != (ssize_t)bytes)
		ksft_exit_fail_msg("pagemap: %s\n", strerror(errno));
}

static inline uint64_t read_u64(int fd, uint64_t index)
{
	uint64_t value = 0;

	if (pread(fd, &value, sizeof(value), index * sizeof(value)) !=
	    sizeof(value))
		return 0;
	return value;
}

static inline uint64_t kpageflags(uint64_t pfn)
{
	return read_u64(kpageflags_fd, pfn);
}

/* Of this process, or, after a fork, of the one that opened it. */
static inline uint64_t pagemap(int fd, const char *mem)
{
	return read_u64(fd, (uintptr_t)mem / pagesize);
}

static inline uint64_t pfn_of(const char *mem)
{
	uint64_t entry = pagemap(pagemap_fd, mem);

	return entry & PM_PRESENT ? entry & PM_PFN : 0;
}

static inline size_t count_pinned_range(uint64_t pfn, uint64_t end)
{
	static uint64_t flags[8192];
	size_t i, nr, pinned = 0;
	ssize_t n;

	for (; pfn < end; pfn += n / sizeof(*flags)) {
		nr = end - pfn < ARRAY_SIZE(flags) ? end - pfn : ARRAY_SIZE(flags);
		n = pread(kpageflags_fd, flags, nr * sizeof(*flags),
			  pfn * sizeof(*flags));
		if (n < (ssize_t)sizeof(*flags))
			break;
		for (i = 0; i < n / sizeof(*flags); i++)
			pinned += !!(flags[i] & KPF_PINNED);
	}
	return pinned;
}

/*
 * How many base pages of all memory does the kernel say are pinned? What a driver
 * has put at the end of the address space makes kpageflags long, so read RAM only.
 */
static inline size_t count_pinned(void)
{
	unsigned long long start, end, ram = 0;
	FILE *f = fopen("/proc/iomem", "r");
	size_t pinned = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (!strstr(line, ": System RAM") ||
		    sscanf(line, "%llx-%llx", &start, &end) != 2 || !end)
			continue;
		ram = end;
		pinned += count_pinned_range(start / pagesize,
					     (end + 1) / pagesize);
	}
	if (f)
		fclose(f);
	return ram ? pinned : count_pinned_range(0, UINT64_MAX);
}

/* Does what a shell line prints have that word in it? -1: it prints nothing. */
static inline int output_has(const char *command, const char *word)
{
	FILE *f = popen(command, "r");
	char line[512];
	int ret = -1;

	while (ret != 1 && f && fgets(line, sizeof(line), f))
		ret = !!strstr(line, word);
	if (f)
		pclose(f);
	return ret;
}

static inline int kallsyms_has(const char *symbol)
{
	return output_has("cat /proc/kallsyms 2>/dev/null", symbol);
}

static inline int config_has(const char *symbol)
{
	return output_has("{ zcat /proc/config.gz || cat /boot/config-$(uname -r); } 2>/dev/null",
			  symbol);
}

/*
 * Was this kernel made to report all that a device writes? One that was not
 * loses writes, which is what the tests find; its user has to hear that
 * it lacks the feature, not that a feature is broken. What the tests find must
 * not tell, or a kernel that breaks it would be taken for one without. Page
 * pin accounting may be off, by page_pin= or when the kernel was built, and
 * nothing lost: so ask if the source had it. "# CONFIG_PAGE_PIN is not set" will
 * do. NULL, or what is missing.
 */
static inline const char *dirty_tracking_lacks(void)
{
	if (accounting || kallsyms_has(" __page_pin_add") == 1)
		return NULL;
	switch (config_has("CONFIG_PAGE_PIN")) {
	case 1:
		return NULL;
	case 0:
		return "this kernel has no CONFIG_PAGE_PIN: it loses what devices write";
	default:
		return "no sign of CONFIG_PAGE_PIN, and no CONFIG_IKCONFIG_PROC to ask";
	}
}

/* Nothing is run, unless it is wanted all the same. */
static inline void skip_all_if(const char *lacks)
{
	if (!lacks || exact)
		return;
	printf("1..0 # SKIP %s\n", lacks);
	exit(KSFT_SKIP);
}

/* Soft-dirty tracking. */

static inline void clear_soft_dirty(void)
{
	if (pwrite(clear_refs_fd, "4", 1, 0) != 1)
		ksft_exit_fail_msg("clear_refs: %s\n", strerror(errno));
}

static inline size_t count_dirty(const char *mem, size_t size)
{
	size_t i, dirty = 0, nr = size / pagesize;
	uint64_t *pm = calloc(nr, sizeof(*pm));

	if (!pm)
		ksft_exit_fail_msg("no memory\n");
	read_pagemap(pagemap_fd, mem, nr, pm);
	for (i = 0; i < nr; i++)
		dirty += !!(pm[i] & PM_SOFT_DIRTY);
	free(pm);
	return dirty;
}

/* Memory, by kind. */

/* What is known of a base page, and what has to be reported of it. */
struct page_state {
	char value;			/* its first byte */
	bool must;			/* written since it was cleaned */
	bool may;			/* may be reported as written */
	bool sticky;			/* of the pins it has, one was to write */
	unsigned int pins, write_pins;
};

struct range {
	char *mem;			/* what is tested */
	size_t size;
	char *area;			/* what is mapped for it */
	size_t area_size;
	int flags;			/* MAP_SHARED ... */
	int file;			/* what is mapped; 0: anonymous */
	size_t unit;			/* what one page table entry maps at least */
	bool large;			/* of THPs */
	bool thp;			/* was mapped by a PMD to begin with */
	struct page_state *pages;
	char serial;			/* of the last write */
	int (*map)(struct range *r, int flags);
};

static inline size_t range_nr(const struct range *r)
{
	return r->size / pagesize;
}

static inline void range_free(struct range *r)
{
	if (r->area)
		munmap(r->area, r->area_size);
	r->area = NULL;
	if (r->file > 0)
		close(r->file);
	r->file = 0;
	free(r->pages);
	r->pages = NULL;
}

/* Writes by the CPU: one byte of each page. */
static inline void touch(char *mem, size_t size, char value)
{
	size_t i;

	for (i = 0; i < size; i += pagesize)
		__atomic_store_n(mem + i, value, __ATOMIC_RELAXED);
}

/*
 * Returns how many base pages are on that node afterwards, or -1. Pages that others map
 * as well move by MPOL_MF_MOVE_ALL only.
 */
static inline int migrate_range(struct range *r, int node, int flags)
{
	size_t i, nr = r->size / pagesize;
	void **pages = calloc(nr, sizeof(*pages));
	int *nodes = calloc(nr, sizeof(*nodes));
	int *status = calloc(nr, sizeof(*status));
	int ret = -1;

	for (i = 0; pages && nodes && i < nr; i++) {
		pages[i] = r->mem + i * pagesize;
		nodes[i] = node;
	}
	if (pages && nodes && status &&
	    syscall(__NR_move_pages, 0, nr, pages, nodes, status,
		    flags) >= 0)
		for (ret = 0, i = 0; i < nr; i++)
			ret += status[i] == node;
	free(pages);
	free(nodes);
	free(status);
	return ret;
}

static inline int move_to_node(struct range *r, int node)
{
	return migrate_range(r, node, MPOL_MF_MOVE);
}

static inline int map_range(struct range *r, size_t size, size_t align,
			    int flags)
{
	r->area_size = size + align;
	r->area = mmap(NULL, r->area_size, PROT_READ | PROT_WRITE,
		       flags | MAP_ANONYMOUS, -1, 0);
	if (r->area == MAP_FAILED) {
		r->area = NULL;
		return lacking("mmap");
	}
	r->mem = r->area;
	if (align)
		r->mem = (char *)(((uintptr_t)r->area + align - 1) &
				  ~(align - 1));
	r->size = size;
	r->flags = flags;
	r->unit = pagesize;
	r->large = false;
	r->thp = false;
	return 0;
}

static inline int map_base_size(struct range *r, size_t size, int flags)
{
	int ret = map_range(r, size, 0, flags);

	if (ret)
		return ret;
	madvise(r->area, r->area_size, MADV_NOHUGEPAGE);
	touch(r->mem, r->size, 1);
	return 0;
}

static inline int map_base(struct range *r, int flags)
{
	return map_base_size(r, BASE_PAGES * pagesize, flags);
}

static inline int map_thps(struct range *r, size_t nr, int flags)
{
	int ret;

	if (!thpsize)
		return because(SKIP, "no transparent huge pages");
	ret = map_range(r, nr * thpsize, thpsize, flags);
	if (ret)
		return ret;
	/* Only the THPs: what smaps says is then about them alone. */
	madvise(r->mem, r->size, MADV_HUGEPAGE);
	touch(r->mem, r->size, 1);
	if (!pmd_mapped(r->mem, r->size))
		return because(SKIP, "got no PMD-mapped THP");
	r->large = true;
	r->thp = true;
	return 0;
}

static inline int map_thp(struct range *r, int flags)
{
	return map_thps(r, 1, flags);
}

static inline int protect_unprotect(char *mem, size_t size)
{
	return mprotect(mem, size, PROT_READ) ||
	       mprotect(mem, size, PROT_READ | PROT_WRITE) ?
	       broken("mprotect") : 0;
}

static inline int page_out(struct range *r)
{
	return madvise(r->mem, r->size, MADV_PAGEOUT) ?
	       lacking("MADV_PAGEOUT") : 0;
}

/* A change of protection in the middle splits the PMD, not the THP. */
static inline int split_pmd(struct range *r, size_t middle)
{
	int ret = protect_unprotect(r->mem + middle, pagesize);

	if (ret)
		return ret;
	r->thp = false;
	return pmd_mapped(r->mem, r->size) ?
	       because(1, "the PMD was not split") : 0;
}

static inline int map_pte_thp(struct range *r, int flags)
{
	int ret = map_thp(r, flags);

	if (!ret)
		ret = split_pmd(r, pagesize);
	if (!ret)
		touch(r->mem, r->size, 2);
	return ret;
}

static inline int move(struct range *r, size_t skip)
{
	struct range to = {};
	int ret = map_range(&to, r->size, r->size, r->flags);

	if (ret)
		return ret;
	r->mem += skip;
	r->size -= skip;
	if (mremap(r->mem, r->size, r->size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   to.mem) == MAP_FAILED) {
		range_free(&to);
		return broken("mremap");
	}
	range_free(r);
	r->area = to.area;
	r->area_size = to.area_size;
	r->mem = to.mem;
	r->thp = r->thp && !skip;
	return 0;
}

static inline int map_moved_base(struct range *r, int flags)
{
	int ret = map_base(r, flags);

	return ret ? ret : move(r, 0);
}

static inline int map_moved_thp(struct range *r, int flags)
{
	int ret = map_thp(r, flags);

	return ret ? ret : move(r, 0);
}

static inline int map_part_moved_thp(struct range *r, int flags)
{
	int ret = map_thp(r, flags);

	return ret ? ret : move(r, thpsize / 2);
}

static inline int map_hugetlb_pages(struct range *r, size_t nr, int flags)
{
	int ret;

	if (!hugetlbsize)
		return because(SKIP, "no hugetlb");
	ret = map_range(r, nr * hugetlbsize, 0, flags | MAP_HUGETLB);
	if (ret)
		return because(SKIP, "no free huge page");
	r->unit = hugetlbsize;
	touch(r->mem, r->size, 1);
	return 0;
}

static inline int map_hugetlb(struct range *r, int flags)
{
	return map_hugetlb_pages(r, 1, flags);
}

/* gup_test as the device: one range for each time that it is opened. */

struct pin {
	int fd;				/* 0: none */
	char *mem;
	size_t size;
	bool write;
};

#define PIN_WRITE	PIN_LONGTERM_TEST_FLAG_USE_WRITE
#define PIN_FAST	PIN_LONGTERM_TEST_FLAG_USE_FAST

static const char *gup_lacks;		/* what keeps it from being the device */

/* May be called by a thread: says nothing, and sets errno. */
static inline int pin_again(struct pin *p, char *mem, size_t size,
			    unsigned int flags)
{
	struct pin_longterm_test args = {
		.addr = (uintptr_t)mem,
		.size = size,
		.flags = flags,
	};

	p->mem = mem;
	p->size = size;
	p->write = flags & PIN_WRITE;
	return ioctl(p->fd, PIN_LONGTERM_TEST_START, &args);
}

static inline int pin_open(struct pin *p)
{
	if (gup_lacks)
		return because(SKIP, "%s", gup_lacks);
	p->fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	if (p->fd >= 0)
		return 0;
	p->fd = 0;
	return broken("gup_test");
}

/* By hand: a child may have the file open, too. */
static inline void pin_stop(struct pin *p)
{
	ioctl(p->fd, PIN_LONGTERM_TEST_STOP);
}

static inline void pin_drop(struct pin *p)
{
	if (p->fd > 0) {
		pin_stop(p);
		close(p->fd);
	}
	p->fd = 0;
}

static inline int pin_take(struct pin *p, char *mem, size_t size,
			   unsigned int flags)
{
	int ret = pin_open(p);

	if (!ret && pin_again(p, mem, size, flags)) {
		ret = broken("PIN_LONGTERM_TEST_START");
		pin_drop(p);
	}
	return ret;
}

/* The device writes all bytes of the pinned pages from an offset on. */
static inline int pin_store(struct pin *p, size_t offset, size_t size,
			    char value)
{
	static size_t buf_size;
	static char *buf;
	struct pin_longterm_test_write args = {
		.offset = offset,
		.size = size,
	};

	if (size > buf_size) {
		free(buf);
		buf = malloc(size);
		buf_size = buf ? size : 0;
	}
	if (!buf)
		return broken("malloc");
	memset(buf, value, size);
	args.src = (uintptr_t)buf;
	return ioctl(p->fd, PIN_LONGTERM_TEST_WRITE, &args) ?
	       broken("PIN_LONGTERM_TEST_WRITE") : 0;
}

/* What the device reads, of all that is pinned. */
static inline int pin_load(struct pin *p, char *buf)
{
	uint64_t to = (uintptr_t)buf;

	return ioctl(p->fd, PIN_LONGTERM_TEST_READ, &to) ?
	       broken("PIN_LONGTERM_TEST_READ") : 0;
}

/* io_uring as the device: one ring, fixed buffers, one request at a time. */

struct ring {
	int fd;
	char *rings;
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
	size_t rings_size, sqes_size;
};

/* Who else has it open, or a worker of the kernel, may unpin the buffers later. */
static inline void ring_leave(struct ring *ring)
{
	if (ring->rings)
		munmap(ring->rings, ring->rings_size);
	if (ring->sqes)
		munmap(ring->sqes, ring->sqes_size);
	close(ring->fd);
	ring->fd = -1;
}

static inline void ring_close(struct ring *ring)
{
	syscall(__NR_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS,
		NULL, 0);
	ring_leave(ring);
}

static inline int ring_open(struct ring *ring)
{
	size_t sq, cq;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(__NR_io_uring_setup, 1, &ring->p);
	if (ring->fd < 0)
		return lacking("no io_uring");
	if (!(ring->p.features & IORING_FEAT_SINGLE_MMAP)) {
		ring_leave(ring);
		return because(SKIP, "io_uring of before 5.4");
	}
	sq = ring->p.sq_off.array + ring->p.sq_entries * sizeof(__u32);
	cq = ring->p.cq_off.cqes +
	     ring->p.cq_entries * sizeof(struct io_uring_cqe);
	ring->rings_size = sq > cq ? sq : cq;
	ring->sqes_size = ring->p.sq_entries * sizeof(*ring->sqes);
	ring->rings = mmap(NULL, ring->rings_size, PROT_READ | PROT_WRITE,
			   MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, ring->sqes_size, PROT_READ | PROT_WRITE,
			  MAP_SHARED, ring->fd, IORING_OFF_SQES);
	if (ring->rings == MAP_FAILED)
		ring->rings = NULL;
	if ((void *)ring->sqes == MAP_FAILED)
		ring->sqes = NULL;
	if (!ring->rings || !ring->sqes) {
		ring_leave(ring);
		return broken("mmap of the ring");
	}
	return 0;
}

static inline int ring_register(struct ring *ring, const struct iovec *iov,
				unsigned int nr)
{
	return syscall(__NR_io_uring_register, ring->fd,
		       IORING_REGISTER_BUFFERS, iov, nr) ?
	       lacking("IORING_REGISTER_BUFFERS") : 0;
}

/* Copies size bytes between the file and a fixed buffer's mem, and waits. */
static inline int ring_copy(struct ring *ring, int opcode, int file, int index,
			    char *mem, size_t size)
{
	unsigned int *sq_tail = (void *)(ring->rings + ring->p.sq_off.tail);
	unsigned int *sq_mask = (void *)(ring->rings + ring->p.sq_off.ring_mask);
	unsigned int *sq_array = (void *)(ring->rings + ring->p.sq_off.array);
	unsigned int *cq_head = (void *)(ring->rings + ring->p.cq_off.head);
	unsigned int *cq_mask = (void *)(ring->rings + ring->p.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (void *)(ring->rings + ring->p.cq_off.cqes);
	int res;

	memset(ring->sqes, 0, sizeof(*ring->sqes));
	ring->sqes->opcode = opcode;
	ring->sqes->fd = file;
	ring->sqes->addr = (uintptr_t)mem;
	ring->sqes->len = size;
	ring->sqes->buf_index = index;
	sq_array[*sq_tail & *sq_mask] = 0;
	/* Pairs with the kernel's acquire of the tail. */
	__atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) != 1)
		return broken("io_uring_enter");
	res = cqes[*cq_head & *cq_mask].res;
	__atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
	if (res != (int)size) {
		errno = res < 0 ? -res : EIO;
		return broken(opcode == IORING_OP_READ_FIXED ?
			      "IORING_OP_READ_FIXED" :
			      "IORING_OP_WRITE_FIXED");
	}
	return 0;
}

/* Swap: the first that there is, or "". */
static inline const char *swap_path(void)
{
	static char path[128];
	FILE *f = path[0] ? NULL : fopen("/proc/swaps", "r");

	if (f && fscanf(f, "%*[^\n] %127s", path) != 1)
		path[0] = '\0';
	if (f)
		fclose(f);
	return path;
}

/* Brings in all that it holds. */
static inline int swap_off_on(void)
{
	const char *path = swap_path();

	if (!path[0])
		return because(SKIP, "no swap");
	/* What somebody else has there would take its time. */
	if (read_size("/proc/meminfo", "SwapTotal: %lu kB", 1024) -
	    read_size("/proc/meminfo", "SwapFree: %lu kB", 1024) > 256 << 20)
		return because(SKIP, "much is swapped");
	if (swapoff(path))
		return lacking("swapoff");
	return swapon(path, 0) ? broken("swapon") : 0;
}

/* userfaultfd. */

/* One that has the range in that mode, or -1. */
static inline int uffd_register(struct range *r, uint64_t features, int mode)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (uintptr_t)r->mem, r->size },
		.mode = mode,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg)) {
		lacking("userfaultfd in that mode");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static inline int uffd_protect(int fd, const char *mem, size_t size,
			       bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)mem, size },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ?
	       broken("UFFDIO_WRITEPROTECT") : 0;
}

/* KSM. */

static inline bool is_ksm(const char *mem)
{
	uint64_t pfn = pfn_of(mem);

	return pfn && kpageflags(pfn) & KPF_KSM;
}

static inline long ksm_stat(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/mm/ksm/%s", name);
	return read_number(path);
}

/* Lets ksmd go over all that is mergeable, often enough to merge it. */
static inline int ksm_scan(void)
{
	long from = ksm_stat("full_scans");
	int i, ret = 0;

	if (from < 0 || !write_file("/sys/kernel/mm/ksm/run", "1"))
		return because(SKIP, "no KSM");
	for (i = 0; i < 5000 && ksm_stat("full_scans") < from + 4; i++)
		usleep(1000);
	if (i == 5000)
		ret = because(SKIP, "ksmd is too slow");
	write_file("/sys/kernel/mm/ksm/run", "0");
	return ret;
}

/*
 * Is that page the same as another one of the range? What kpageflags says of KSM is no
 * answer on 6.12, where it says so of all that is anonymous.
 */
static inline bool is_merged(const struct range *r, size_t page)
{
	uint64_t pfn = pfn_of(r->mem + page * pagesize);
	size_t i;

	for (i = 0; pfn && i < r->size / pagesize; i++)
		if (i != page && pfn_of(r->mem + i * pagesize) == pfn)
			return true;
	return false;
}

/* Has pages of a range merged that can be. */
static inline int merge_some(struct range *r)
{
	if (madvise(r->mem, r->size, MADV_MERGEABLE))
		return lacking("MADV_MERGEABLE");
	return ksm_scan();
}

/* The same; that page has to be among them. */
static inline int merge(struct range *r, size_t page)
{
	int ret = merge_some(r);

	return ret || is_merged(r, page) ? ret :
	       because(SKIP, "ksmd merged nothing");
}

/* A pipe that holds references to pages. */

static inline int pipe_open(int pipefd[2], size_t size)
{
	if (pipe(pipefd))
		return broken("pipe");
	if (fcntl(pipefd[1], F_SETPIPE_SZ, size) >= (int)size)
		return 0;
	close(pipefd[0]);
	close(pipefd[1]);
	return lacking("F_SETPIPE_SZ");
}

static inline int pipe_splice(int pipefd[2], char *mem, size_t size)
{
	struct iovec iov = { .iov_base = mem, .iov_len = size };
	ssize_t n;

	while (iov.iov_len) {
		n = vmsplice(pipefd[1], &iov, 1, SPLICE_F_NONBLOCK);
		if (n <= 0)
			return broken("vmsplice");
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= n;
	}
	return 0;
}

/* On the CPU that it runs on now; so will what it forks. */
static inline void stay_here(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu < 0 ? 0 : cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* A cgroup of the test's own, whose memory can be reclaimed, and limited, by itself. */

static char group[64];			/* its folder, or "" */

static inline bool write_in_group(const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return group[0] && write_file(path, value);
}

static inline long number_in_group(const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return read_number(path);
}

static inline void remove_group(void)
{
	if (group[0])
		rmdir(group);
}

/* Nobody is in it yet. */
static inline void make_group(const char *name)
{
	static const char top[] = "/sys/fs/cgroup";
	char path[128];

	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	snprintf(group, sizeof(group), "%s/%.40s.%d", top, name, getpid());
	snprintf(path, sizeof(path), "%s/memory.high", group);
	if (mkdir(group, 0700)) {
		group[0] = '\0';
	} else if (access(path, W_OK)) {
		rmdir(group);
		group[0] = '\0';
	}
	atexit(remove_group);
}

/* Settings that some cases need; put back at exit. */

struct setting {
	const char *path;
	const char *value;
	bool more;			/* more will do as well */
	char old[32];
};

static struct setting *settings[2];	/* lists; the last one of each has no path */

/* A collapse in passing would make THPs soft-dirty, or clean if they are shared. */
#define NO_KHUGEPAGED \
	{ "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", \
	  "100000000", true }

static inline void restore_settings(void)
{
	struct setting *s;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		for (s = settings[i]; s && s->path; s++)
			if (s->old[0])
				write_file(s->path, s->old);
}

static inline void change_settings(struct setting *list)
{
	char line[128], *chosen;
	struct setting *s;
	FILE *f;

	settings[!!settings[0]] = list;
	for (s = list; s->path; s++) {
		f = fopen(s->path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%127[^\n]", line) != 1)
			line[0] = '\0';
		fclose(f);
		/* Either a number, or words of which one is in brackets. */
		chosen = strchr(line, '[');
		chosen = strtok(chosen ? chosen : line, "[]");
		if (!chosen || !strcmp(chosen, "always") ||
		    (s->more && atol(chosen) >= atol(s->value)))
			continue;
		if (write_file(s->path, s->value))
			snprintf(s->old, sizeof(s->old), "%s", chosen);
	}
	if (list == settings[0])
		atexit(restore_settings);
}

/* Fault injection: of what this thread allocates in the kernel, one fails. */

static int fail_nth_fd = -1;
static const char *no_faults;	/* what keeps allocations from failing */

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define FAIL_PAGE	"/sys/kernel/debug/fail_page_alloc/"

static inline const char *faults_lack(void)
{
	/* What is hit fails, whatever it is for. */
	static struct setting needed[] = {
		{ FAILSLAB "ignore-gfp-wait", "N" },
		{ FAILSLAB "verbose", "0" },
		{ FAIL_PAGE "ignore-gfp-wait", "N" },
		{ FAIL_PAGE "ignore-gfp-highmem", "N" },
		{ FAIL_PAGE "min-order", "0" },
		{ FAIL_PAGE "verbose", "0" },
		{ "/sys/kernel/debug/fail_make_request/verbose", "0" },
		{}
	};

	fail_nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fail_nth_fd >= 0 && !access(FAILSLAB "verbose", W_OK) &&
	    !access(FAIL_PAGE "verbose", W_OK)) {
		change_settings(needed);
		return NULL;
	}
	return "no fault injection (CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC, debugfs)";
}

/* The nth from now on; 0: none. */
static inline void fail_nth(unsigned int nth)
{
	char line[16];
	int n = snprintf(line, sizeof(line), "%u", nth);

	if (pwrite(fail_nth_fd, line, n, 0) != n)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
}

/* Was there an nth? None fails any more. */
static inline bool failed_nth(void)
{
	char line[16] = "";

	if (pread(fail_nth_fd, line, sizeof(line) - 1, 0) <= 0)
		ksft_exit_fail_msg("fail-nth: %s\n", strerror(errno));
	fail_nth(0);
	return !atoi(line);
}

#define MOST_FAULTS	1000	/* nothing here allocates as often */

/* Can gup_test be the device here? */
static inline const char *gup_test_lacks(void)
{
	struct range r = {};
	struct pin p = {};
	const char *lacks = NULL;

	if (access("/sys/kernel/debug/gup_test", R_OK | W_OK))
		lacks = "no gup_test to act as a device (CONFIG_GUP_TEST, debugfs)";
	else if (map_base(&r, MAP_PRIVATE) ||
		 pin_take(&p, r.mem, r.size, PIN_WRITE))
		lacks = "gup_test cannot act as a device: it has no PIN_LONGTERM_TEST_START";
	else if (pin_store(&p, 0, r.size, 1))
		lacks = "gup_test cannot act as a device: it has no PIN_LONGTERM_TEST_WRITE";
	pin_drop(&p);
	range_free(&r);
	return lacks;
}

static inline bool kernel_accounts(void)
{
	char line[256], c;
	bool ret = false;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof(line), f))
		ret |= sscanf(line, "Pinned: %*u k%c", &c) == 1;
	if (f)
		fclose(f);
	return ret && kpageflags_fd >= 0;
}

static inline void pin_memory_init(void)
{
	pagesize = getpagesize();
	thpsize = read_size("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
			    "%lu", 1);
	hugetlbsize = read_size("/proc/meminfo", "Hugepagesize: %lu kB", 1024);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	kpageflags_fd = open("/proc/kpageflags", O_RDONLY);
	if (pagemap_fd < 0)
		ksft_exit_skip("no /proc/self/pagemap (CONFIG_PROC_PAGE_MONITOR)\n");
	clear_refs_fd = open("/proc/self/clear_refs", O_WRONLY);
	accounting = kernel_accounts();
}

/* How a case ends. */
static inline void report(const char *name, int ret)
{
	if (ret)
		ksft_print_msg("%s\n", why);
	if (ret == SKIP)
		ksft_test_result_skip("%s\n", name);
	else
		ksft_test_result(!ret, "%s\n", name);
	fflush(stdout);
}

#endif	/* PIN_MEMORY_H */
