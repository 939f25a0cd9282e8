// SPDX-License-Identifier: GPL-2.0
/*
 * Soft-dirty tracking of memory that a device writes: after clear_refs, no
 * write of a device that holds a write pin may be missing from pagemap.
 *
 * Each scenario is one function; a table crosses it with the kinds of memory.
 * The device is io_uring reading into a fixed buffer, or gup_test (debugfs,
 * CONFIG_GUP_TEST, with PIN_LONGTERM_TEST_WRITE). A scenario or kind that this
 * kernel lacks is skipped. Needs root, and two NUMA nodes (numa=fake=2 will
 * do) or compaction for the races with migration.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"
#include "../../../../mm/gup_test.h"
#include "../../../../mm/gup_test_device.h"

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

#define PM_SOFT_DIRTY	0x0080000000000000ULL	/* bit 55 of a pagemap entry */
#define MPOL_MF_MOVE	2		/* linux/mempolicy.h */

#define BASE_PAGES	256		/* in a range of base pages */
#define GUP_RACE_ROUNDS	400
#define MIG_RACE_ROUNDS	300

#define SKIP		(-1)

static size_t pagesize, thpsize, hugetlbsize;
static int pagemap_fd, clear_refs_fd, gup_fd;
static bool gup_has_write;
static char why[160];			/* of the last skip or failure */

/* Notes the reason, and is what the test returns. */
#define because(ret, fmt, ...) \
	(snprintf(why, sizeof(why), fmt, ##__VA_ARGS__), (ret))

/* An operation of the test itself failed: that is a failure, not a skip. */
static int broken(const char *what)
{
	return because(1, "%s: %s", what, strerror(errno));
}

/* Soft-dirty tracking. */

static void clear_soft_dirty(void)
{
	if (pwrite(clear_refs_fd, "4", 1, 0) != 1)
		ksft_exit_fail_msg("clear_refs: %s\n", strerror(errno));
}

static size_t count_dirty(const char *mem, size_t size)
{
	size_t i, dirty = 0, nr = size / pagesize;
	off_t at = (uintptr_t)mem / pagesize * sizeof(uint64_t);
	uint64_t *pm = malloc(nr * sizeof(*pm));

	if (!pm || pread(pagemap_fd, pm, nr * sizeof(*pm), at) !=
	    (ssize_t)(nr * sizeof(*pm)))
		ksft_exit_fail_msg("pagemap: %s\n", strerror(errno));
	for (i = 0; i < nr; i++)
		dirty += !!(pm[i] & PM_SOFT_DIRTY);
	free(pm);
	return dirty;
}

/* Memory, by kind. */

struct range {
	char *mem;			/* what is tested */
	size_t size;
	char *area;			/* what is mapped for it */
	size_t area_size;
	int prot;
	bool always_dirty;		/* hugetlb is not tracked */
};

static void range_free(struct range *r)
{
	if (r->area)
		munmap(r->area, r->area_size);
	r->area = NULL;
}

/* Writes by the CPU: one byte of each page. */
static void touch(char *mem, size_t size, char value)
{
	size_t i;

	for (i = 0; i < size; i += pagesize)
		__atomic_store_n(mem + i, value, __ATOMIC_RELAXED);
}

static int map_range(struct range *r, size_t size, size_t align, int flags)
{
	r->area_size = size + align;
	r->area = mmap(NULL, r->area_size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (r->area == MAP_FAILED) {
		r->area = NULL;
		return because(SKIP, "mmap: %s", strerror(errno));
	}
	r->mem = r->area;
	if (align)
		r->mem = (char *)(((uintptr_t)r->area + align - 1) &
				  ~(align - 1));
	r->size = size;
	r->prot = PROT_READ | PROT_WRITE;
	return 0;
}

static int map_base_flags(struct range *r, int flags)
{
	int ret = map_range(r, BASE_PAGES * pagesize, 0, flags | MAP_ANONYMOUS);

	if (ret)
		return ret;
	madvise(r->area, r->area_size, MADV_NOHUGEPAGE);
	touch(r->mem, r->size, 1);
	return 0;
}

static int map_base(struct range *r)
{
	return map_base_flags(r, MAP_PRIVATE);
}

static int map_shared(struct range *r)
{
	return map_base_flags(r, MAP_SHARED);
}

/* Does smaps say that the range at mem is mapped by a PMD? */
static bool pmd_mapped(const char *mem)
{
	unsigned long start, end, kb, huge = 0;
	bool here = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "r");

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)mem && (uintptr_t)mem < end;
		else if (here &&
			 (sscanf(line, "AnonHugePages: %lu kB", &kb) == 1 ||
			  sscanf(line, "ShmemPmdMapped: %lu kB", &kb) == 1))
			huge += kb;
	}
	fclose(f);
	return huge >= thpsize / 1024;
}

static int map_thp_flags(struct range *r, int flags)
{
	int ret;

	if (!thpsize)
		return because(SKIP, "no transparent huge pages");
	ret = map_range(r, thpsize, thpsize, flags | MAP_ANONYMOUS);
	if (ret)
		return ret;
	/* Only the THP: what smaps says is then about it alone. */
	madvise(r->mem, r->size, MADV_HUGEPAGE);
	touch(r->mem, r->size, 1);
	if (!pmd_mapped(r->mem))
		return because(SKIP, "got no PMD-mapped THP");
	return 0;
}

static int map_thp(struct range *r)
{
	return map_thp_flags(r, MAP_PRIVATE);
}

static int map_shared_thp(struct range *r)
{
	return map_thp_flags(r, MAP_SHARED);
}

static int map_pte_thp(struct range *r)
{
	int ret = map_thp(r);

	if (ret)
		return ret;
	/* A change of protection in the middle splits the PMD, not the THP. */
	if (mprotect(r->mem + pagesize, pagesize, PROT_READ) ||
	    mprotect(r->mem + pagesize, pagesize, PROT_READ | PROT_WRITE))
		return broken("mprotect");
	touch(r->mem, r->size, 2);
	return pmd_mapped(r->mem) ? because(1, "the PMD was not split") : 0;
}

static int move(struct range *r, size_t skip)
{
	struct range to = {};
	int ret = map_range(&to, r->size, r->size, MAP_PRIVATE | MAP_ANONYMOUS);

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
	return 0;
}

static int map_moved_base(struct range *r)
{
	int ret = map_base(r);

	return ret ? ret : move(r, 0);
}

static int map_moved_thp(struct range *r)
{
	int ret = map_thp(r);

	return ret ? ret : move(r, 0);
}

static int map_part_moved_thp(struct range *r)
{
	int ret = map_thp(r);

	return ret ? ret : move(r, thpsize / 2);
}

static int map_hugetlb_flags(struct range *r, int flags)
{
	int ret;

	if (!hugetlbsize)
		return because(SKIP, "no hugetlb");
	ret = map_range(r, hugetlbsize, 0, flags | MAP_ANONYMOUS | MAP_HUGETLB);
	if (ret)
		return because(SKIP, "no free huge page");
	r->always_dirty = true;
	touch(r->mem, r->size, 1);
	return 0;
}

static int map_hugetlb(struct range *r)
{
	return map_hugetlb_flags(r, MAP_PRIVATE);
}

static int map_shared_hugetlb(struct range *r)
{
	return map_hugetlb_flags(r, MAP_SHARED);
}

/* gup_test as the device. */

static int gup_pin(char *mem, size_t size, unsigned int flags)
{
	struct pin_longterm_test args = {
		.addr = (uintptr_t)mem,
		.size = size,
		.flags = flags,
	};

	if (gup_fd < 0)
		return because(SKIP, "no gup_test (CONFIG_GUP_TEST, debugfs)");
	if (!gup_has_write)
		return because(SKIP, "gup_test has no PIN_LONGTERM_TEST_WRITE");
	return ioctl(gup_fd, PIN_LONGTERM_TEST_START, &args) ?
	       broken("PIN_LONGTERM_TEST_START") : 0;
}

static void gup_unpin(void)
{
	if (gup_fd >= 0)
		ioctl(gup_fd, PIN_LONGTERM_TEST_STOP);
}

/* The device writes one byte of each of the pinned pages. */
static int gup_write(size_t size, char value)
{
	struct pin_longterm_test_write args = {
		.size = 1,
		.src = (uintptr_t)&value,
	};

	for (; args.offset < size; args.offset += pagesize)
		if (ioctl(gup_fd, PIN_LONGTERM_TEST_WRITE, &args))
			return broken("PIN_LONGTERM_TEST_WRITE");
	return 0;
}

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
	int ret = gup_pin(r->mem + from, size,
			  flags | PIN_LONGTERM_TEST_FLAG_USE_WRITE);

	if (ret)
		return ret;
	clear_soft_dirty();
	ret = gup_write(size, 3);
	if (!ret)
		ret = check_written(r->mem + from, size, 3);
	gup_unpin();
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
	return pin_clear_write(r, 0, r->size, PIN_LONGTERM_TEST_FLAG_USE_FAST);
}

static int one_page_pin(struct range *r)
{
	return pin_clear_write(r, r->size / 2, pagesize, 0);
}

/* What the CPU may only read, a device that pinned it before still writes. */
static int pin_then_readonly(struct range *r)
{
	int ret = gup_pin(r->mem, r->size, PIN_LONGTERM_TEST_FLAG_USE_WRITE);

	if (ret)
		return ret;
	if (mprotect(r->mem, r->size, PROT_READ))
		ret = broken("mprotect");
	clear_soft_dirty();
	if (!ret)
		ret = gup_write(r->size, 4);
	if (!ret)
		ret = check_written(r->mem, r->size, 4);
	gup_unpin();
	return ret;
}

/* As above, but the protection is back before the entries are cleaned. */
static int pin_then_readonly_writable(struct range *r)
{
	int ret = gup_pin(r->mem, r->size, PIN_LONGTERM_TEST_FLAG_USE_WRITE);

	if (ret)
		return ret;
	if (mprotect(r->mem, r->size, PROT_READ) ||
	    mprotect(r->mem, r->size, PROT_READ | PROT_WRITE))
		ret = broken("mprotect");
	clear_soft_dirty();
	clear_soft_dirty();
	if (!ret)
		ret = gup_write(r->size, 5);
	if (!ret)
		ret = check_written(r->mem, r->size, 5);
	gup_unpin();
	return ret;
}

/* The pin comes after the clearing: GUP has to see that a write is tracked. */
static int clear_mprotect_pin(struct range *r)
{
	int ret;

	clear_soft_dirty();
	if (mprotect(r->mem, r->size, PROT_READ) ||
	    mprotect(r->mem, r->size, PROT_READ | PROT_WRITE))
		return broken("mprotect");
	ret = gup_pin(r->mem, r->size, PIN_LONGTERM_TEST_FLAG_USE_WRITE |
		      PIN_LONGTERM_TEST_FLAG_USE_FAST);
	if (ret)
		return ret;
	ret = gup_write(r->size, 6);
	if (!ret)
		ret = check_written(r->mem, r->size, 6);
	gup_unpin();
	return ret;
}

/* A child shares or copies the memory while the device holds it. */
static int pin_then_fork(struct range *r)
{
	int pipefd[2], ret;
	pid_t pid;
	char c;

	ret = gup_pin(r->mem, r->size, PIN_LONGTERM_TEST_FLAG_USE_WRITE);
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
		ret = gup_write(r->size, 7);
	if (!ret)
		ret = check_written(r->mem, r->size, 7);
	close(pipefd[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
unpin:
	gup_unpin();
	return ret;
}

/* A device that may only read does not write; what the CPU writes is seen. */
static int readonly_pin(struct range *r)
{
	struct pin_longterm_test_write args = {
		.size = 1,
		.src = (uintptr_t)r->mem,
	};
	int ret = gup_pin(r->mem, r->size, 0);

	if (ret)
		return ret;
	clear_soft_dirty();
	if (!ioctl(gup_fd, PIN_LONGTERM_TEST_WRITE, &args))
		ret = because(1, "wrote through a pin that is read-only");
	else if (errno != EACCES)
		ret = broken("PIN_LONGTERM_TEST_WRITE");
	touch(r->mem, r->size, 8);
	if (!ret)
		ret = check_written(r->mem, r->size, 8);
	gup_unpin();
	return ret;
}

/* Once the pin is dropped, the memory is tracked like any other. */
static int pin_dropped(struct range *r)
{
	size_t dirty;
	int ret;

	ret = gup_pin(r->mem, r->size, PIN_LONGTERM_TEST_FLAG_USE_WRITE);
	if (ret)
		return ret;
	clear_soft_dirty();
	ret = gup_write(r->size, 9);
	gup_unpin();
	if (!ret)
		ret = check_written(r->mem, r->size, 9);
	if (ret)
		return ret;
	clear_soft_dirty();
	dirty = count_dirty(r->mem, r->size);
	if (dirty && !r->always_dirty)
		return because(1, "%zu pages stayed dirty", dirty);
	touch(r->mem, r->size, 10);
	return check_written(r->mem, r->size, 10);
}

/* io_uring as the device: one ring, one fixed buffer, one read at a time. */

struct ring {
	int fd;
	char *rings;
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
	size_t rings_size, sqes_size;
};

static void ring_close(struct ring *ring)
{
	if (ring->rings)
		munmap(ring->rings, ring->rings_size);
	if (ring->sqes)
		munmap(ring->sqes, ring->sqes_size);
	close(ring->fd);
}

static int ring_open(struct ring *ring)
{
	size_t sq, cq;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(__NR_io_uring_setup, 1, &ring->p);
	if (ring->fd < 0)
		return because(SKIP, "no io_uring: %s", strerror(errno));
	if (!(ring->p.features & IORING_FEAT_SINGLE_MMAP)) {
		ring_close(ring);
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
		ring_close(ring);
		return broken("mmap of the ring");
	}
	return 0;
}

/* Submits one READ_FIXED of size bytes of the file to mem, and waits. */
static int ring_read(struct ring *ring, int file, char *mem, size_t size)
{
	unsigned int *sq_tail = (void *)(ring->rings + ring->p.sq_off.tail);
	unsigned int *sq_mask = (void *)(ring->rings + ring->p.sq_off.ring_mask);
	unsigned int *sq_array = (void *)(ring->rings + ring->p.sq_off.array);
	unsigned int *cq_head = (void *)(ring->rings + ring->p.cq_off.head);
	unsigned int *cq_mask = (void *)(ring->rings + ring->p.cq_off.ring_mask);
	struct io_uring_cqe *cqes = (void *)(ring->rings + ring->p.cq_off.cqes);
	int res;

	memset(ring->sqes, 0, sizeof(*ring->sqes));
	ring->sqes->opcode = IORING_OP_READ_FIXED;
	ring->sqes->fd = file;
	ring->sqes->addr = (uintptr_t)mem;
	ring->sqes->len = size;
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
		return broken("IORING_OP_READ_FIXED");
	}
	return 0;
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
	else if (syscall(__NR_io_uring_register, ring.fd,
			 IORING_REGISTER_BUFFERS, &iov, 1))
		ret = because(SKIP, "IORING_REGISTER_BUFFERS: %s",
			      strerror(errno));
	clear_soft_dirty();
	if (!ret)
		ret = ring_read(&ring, file, r->mem, r->size);
	if (!ret)
		ret = check_written(r->mem, r->size, 11);
	close(file);
close:
	ring_close(&ring);
free:
	free(data);
	return ret;
}

/* Races: a second thread works on the range while this one clears. */

struct racer {
	struct range *r;
	pthread_t thread;
	pthread_barrier_t start, end;
	bool stop;
	int ret;
};

static void *fast_pinner(void *arg)
{
	struct racer *race = arg;

	for (;;) {
		pthread_barrier_wait(&race->start);
		if (race->stop)
			return NULL;
		race->ret = gup_pin(race->r->mem, race->r->size,
				    PIN_LONGTERM_TEST_FLAG_USE_WRITE |
				    PIN_LONGTERM_TEST_FLAG_USE_FAST);
		pthread_barrier_wait(&race->end);
	}
}

/*
 * GUP-fast pins while clear_refs runs. Whoever was first: either the entries
 * stay dirty, or GUP faults and makes them dirty.
 */
static int race_gup_fast(struct range *r)
{
	struct racer race = { .r = r };
	size_t nr = r->size / pagesize, lost = 0;
	int round, ret;

	ret = gup_pin(r->mem, r->size, PIN_LONGTERM_TEST_FLAG_USE_WRITE);
	if (ret)
		return ret;
	gup_unpin();

	pthread_barrier_init(&race.start, NULL, 2);
	pthread_barrier_init(&race.end, NULL, 2);
	if (pthread_create(&race.thread, NULL, fast_pinner, &race))
		return broken("pthread_create");
	for (round = 0; round < GUP_RACE_ROUNDS && !ret; round++) {
		/* Writable entries, or GUP would not be fast. */
		touch(r->mem, r->size, 12);
		pthread_barrier_wait(&race.start);
		/* The two start in step: spread who comes first. */
		if (round % 4)
			usleep(round % 4 * 10);
		clear_soft_dirty();
		pthread_barrier_wait(&race.end);
		ret = race.ret;
		if (!ret)
			ret = gup_write(r->size, 13);
		lost += nr - count_dirty(r->mem, r->size);
		gup_unpin();
	}
	race.stop = true;
	pthread_barrier_wait(&race.start);
	pthread_join(race.thread, NULL);
	if (!ret && lost)
		ret = because(1, "lost: %zu of %zu pages that were written",
			      lost, nr * round);
	return ret;
}

static unsigned long read_vmstat(const char *name)
{
	unsigned long value, ret = 0;
	char key[64];
	FILE *f = fopen("/proc/vmstat", "r");

	while (f && fscanf(f, "%63s %lu", key, &value) == 2)
		if (!strcmp(key, name))
			ret = value;
	if (f)
		fclose(f);
	return ret;
}

/* Moves the range to and fro: between two nodes, else by compaction. */
static void *migrator(void *arg)
{
	struct racer *race = arg;
	size_t i, nr = race->r->size / pagesize;
	void **pages = calloc(nr, sizeof(*pages));
	int *nodes = calloc(nr, sizeof(*nodes));
	int *status = calloc(nr, sizeof(*status));
	int node = 0, fd = -1;

	for (i = 0; pages && i < nr; i++)
		pages[i] = race->r->mem + i * pagesize;
	if (access("/sys/devices/system/node/node1", F_OK))
		fd = open("/proc/sys/vm/compact_memory", O_WRONLY);
	while (pages && nodes && status &&
	       !__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		if (fd >= 0) {
			if (write(fd, "1", 1) != 1)
				break;
			continue;
		}
		node = !node;
		for (i = 0; i < nr; i++)
			nodes[i] = node;
		if (syscall(__NR_move_pages, 0, nr, pages, nodes, status,
			    MPOL_MF_MOVE) < 0)
			break;
	}
	if (fd >= 0)
		close(fd);
	free(pages);
	free(nodes);
	free(status);
	return NULL;
}

/* Clears while pages migrate; pinned: the device writes, else the CPU does. */
static int race_migration(struct range *r, bool pinned)
{
	const char *event = pinned ? "pgmigrate_fail" : "pgmigrate_success";
	unsigned long before = read_vmstat(event);
	struct racer race = { .r = r };
	size_t nr = r->size / pagesize, lost = 0;
	int round, ret = 0;

	if (pinned) {
		ret = gup_pin(r->mem, r->size,
			      PIN_LONGTERM_TEST_FLAG_USE_WRITE);
		if (ret)
			return ret;
	}
	if (pthread_create(&race.thread, NULL, migrator, &race)) {
		ret = broken("pthread_create");
		goto unpin;
	}
	for (round = 0; round < MIG_RACE_ROUNDS && !ret; round++) {
		/* Writable entries, which clear_refs then meets in flight. */
		if (!pinned)
			touch(r->mem, r->size, 14);
		clear_soft_dirty();
		if (pinned)
			ret = gup_write(r->size, 15);
		else
			touch(r->mem, r->size, 15);
		lost += nr - count_dirty(r->mem, r->size);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(race.thread, NULL);
	if (!ret && lost)
		ret = because(1, "lost: %zu of %zu pages that were written",
			      lost, nr * round);
	else if (!ret && read_vmstat(event) == before)
		ret = because(SKIP, "nothing tried to migrate");
unpin:
	if (pinned)
		gup_unpin();
	return ret;
}

static int race_migration_cpu(struct range *r)
{
	return race_migration(r, false);
}

static int race_migration_device(struct range *r)
{
	return race_migration(r, true);
}

/* The tables, and what runs them. */

#define TRACKED		1	/* clear_refs cleans it: not hugetlb */
#define RACE		2	/* one of the kinds that the races run on */
#define RACE_MIG	4	/* and that migrate as one or by single pages */

static const struct kind {
	const char *name;
	int (*map)(struct range *r);
	int is;
} kinds[] = {
	{ "base pages", map_base, TRACKED | RACE | RACE_MIG },
	{ "PMD-mapped THP", map_thp, TRACKED | RACE | RACE_MIG },
	{ "PTE-mapped THP", map_pte_thp, TRACKED | RACE },
	{ "shared memory", map_shared, TRACKED | RACE | RACE_MIG },
	{ "shared THP", map_shared_thp, TRACKED | RACE },
	{ "mremap'ed base pages", map_moved_base, TRACKED },
	{ "mremap'ed THP", map_moved_thp, TRACKED },
	{ "partially mremap'ed THP", map_part_moved_thp, TRACKED },
	{ "hugetlb", map_hugetlb, 0 },
	{ "shared hugetlb", map_shared_hugetlb, 0 },
};

static const struct scenario {
	const char *name;
	int (*run)(struct range *r);
	int needs;
} scenarios[] = {
	{ "no pin", no_pin, TRACKED },
	{ "write pin by io_uring", io_uring_pin, 0 },
	{ "write pin", slow_pin, 0 },
	{ "write pin by GUP-fast", fast_pin, 0 },
	{ "write pin of one page", one_page_pin, 0 },
	{ "write pin, mprotect to read-only", pin_then_readonly, 0 },
	{ "write pin, mprotect to read-only and back",
	  pin_then_readonly_writable, 0 },
	{ "write pin after clear_refs and mprotect", clear_mprotect_pin, 0 },
	{ "write pin, fork", pin_then_fork, 0 },
	{ "read-only pin", readonly_pin, 0 },
	{ "write pin dropped", pin_dropped, 0 },
	{ "GUP-fast racing clear_refs", race_gup_fast, RACE },
	{ "migration racing clear_refs", race_migration_cpu, RACE_MIG },
	{ "migration of a write pin racing clear_refs", race_migration_device,
	  RACE_MIG },
};

static void run(const struct scenario *s, const struct kind *k)
{
	struct range r = {};
	int ret;

	why[0] = '\0';
	ret = k->map(&r);
	if (!ret)
		ret = s->run(&r);
	range_free(&r);

	if (ret)
		ksft_print_msg("%s\n", why);
	if (ret == SKIP)
		ksft_test_result_skip("%s: %s\n", s->name, k->name);
	else
		ksft_test_result(!ret, "%s: %s\n", s->name, k->name);
}

static size_t read_size(const char *path, const char *format, size_t unit)
{
	unsigned long value = 0;
	char line[128];
	FILE *f = fopen(path, "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, format, &value) == 1)
			break;
	if (f)
		fclose(f);
	return value * unit;
}

/* Settings that some kinds of memory need; put back at exit. */
static struct setting {
	const char *path;
	const char *value;
	char old[32];
} settings[] = {
	{ "/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise", "" },
	{ "/proc/sys/vm/nr_hugepages", "4", "" },
};

static bool write_setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

static void restore_settings(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		if (settings[i].old[0])
			write_setting(settings[i].path, settings[i].old);
}

/* More huge pages than asked for, or shmem THPs for all, will do as well. */
static void change_settings(void)
{
	char line[128], *chosen;
	unsigned int i;
	FILE *f;

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		f = fopen(settings[i].path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%127[^\n]", line) != 1)
			line[0] = '\0';
		fclose(f);
		/* Either a number, or words of which one is in brackets. */
		chosen = strchr(line, '[');
		chosen = strtok(chosen ? chosen : line, "[]");
		if (!chosen || atoi(chosen) >= 4 || !strcmp(chosen, "always"))
			continue;
		if (write_setting(settings[i].path, settings[i].value))
			snprintf(settings[i].old, sizeof(settings[i].old), "%s",
				 chosen);
	}
	atexit(restore_settings);
}

static bool tracks_soft_dirty(void)
{
	struct range r = {};
	bool ok = !map_base(&r) && !no_pin(&r);

	range_free(&r);
	return ok;
}

static bool gup_test_writes(void)
{
	struct range r = {};
	bool ok = false;

	if (gup_fd < 0)
		return false;
	gup_has_write = true;
	if (!map_base(&r) &&
	    !gup_pin(r.mem, r.size, PIN_LONGTERM_TEST_FLAG_USE_WRITE))
		ok = !gup_write(r.size, 1);
	gup_unpin();
	range_free(&r);
	return ok;
}

int main(void)
{
	unsigned int i, j, plan = 0;

	ksft_print_header();

	pagesize = getpagesize();
	thpsize = read_size("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
			    "%lu", 1);
	hugetlbsize = read_size("/proc/meminfo", "Hugepagesize: %lu kB", 1024);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	clear_refs_fd = open("/proc/self/clear_refs", O_WRONLY);
	if (pagemap_fd < 0 || clear_refs_fd < 0)
		ksft_exit_skip("no /proc/self/pagemap or clear_refs (CONFIG_PROC_PAGE_MONITOR)\n");
	if (!tracks_soft_dirty())
		ksft_exit_skip("no soft-dirty tracking (CONFIG_MEM_SOFT_DIRTY)\n");
	change_settings();
	gup_fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	gup_has_write = gup_test_writes();

	for (i = 0; i < ARRAY_SIZE(scenarios); i++)
		for (j = 0; j < ARRAY_SIZE(kinds); j++)
			if (!(scenarios[i].needs & ~kinds[j].is))
				plan++;
	ksft_set_plan(plan);

	for (i = 0; i < ARRAY_SIZE(scenarios); i++)
		for (j = 0; j < ARRAY_SIZE(kinds); j++)
			if (!(scenarios[i].needs & ~kinds[j].is))
				run(&scenarios[i], &kinds[j]);

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
