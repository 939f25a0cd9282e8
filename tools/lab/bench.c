// SPDX-License-Identifier: GPL-2.0
/*
 * What the series' hooks cost, in instructions. Runs as the guest of QEMU's
 * -icount shift=0, where the TSC counts the guest's instructions. What an
 * interrupt adds is left out by taking the best of a few rounds.
 * Each line printed: name<tab>instructions (or what the name says) for one page
 * or huge page.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "../../mm/gup_test.h"
#include "pagemap_scan.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE	4096ul
#define HUGE	(2ul << 20)
#define ROUNDS	10
#define FAIR_SERVER "/sys/kernel/debug/sched/fair_server/cpu0/runtime"

#define PIPES	64

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

static unsigned long length = 64ul << 20;	/* of what is measured on */
static uint64_t begin;

static void start(void)
{
	begin = __rdtsc();
}

static uint64_t stop(void)
{
	return __rdtsc() - begin;
}

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die(file);
	close(fd);
}

/* The number after @key in a file like /proc/vmstat */
static long get(const char *file, const char *key)
{
	char line[256];
	FILE *f = fopen(file, "r");
	long n = -1;

	if (!f)
		die(file);
	while (n < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			n = atol(line + strlen(key));
	fclose(f);
	return n;
}

/* No read before the write: it would map the zero page. */
static void touch(char *mem, unsigned long step)
{
	unsigned long i;

	for (i = 0; i < length; i += step) {
		mem[i] = 1;
		asm volatile("" : : : "memory");
	}
}

static void look(char *mem, unsigned long step)
{
	unsigned long i;

	for (i = 0; i < length; i += step)
		asm volatile("" : : "r" (mem[i]));
}

static char *map_hugetlb(void)
{
	char *mem = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap of hugetlb");
	touch(mem, HUGE);
	return mem;
}

/* length bytes, populated with pages of @step bytes */
static char *map(unsigned long step)
{
	char *mem = mmap(NULL, length + HUGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *use = (char *)(((uintptr_t)mem + HUGE - 1) & -HUGE);

	if (mem == MAP_FAILED)
		die("mmap");
	munmap(mem, use - mem);
	munmap(use + length, mem + HUGE - use);
	if (madvise(use, length, step == HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		die("madvise");
	touch(use, step);
	if (step == HUGE && get("/proc/self/smaps_rollup", "AnonHugePages:") <
	    (long)(length >> 10)) {
		errno = ENOMEM;
		die("huge pages");
	}
	return use;
}

/* A child that does nothing until it is let go: *@go is the pipe to close */
static pid_t fork_idle(int *go)
{
	int fds[2];
	pid_t pid;
	char c;

	if (pipe(fds))
		die("pipe");
	pid = fork();
	if (!pid) {
		close(fds[1]);
		_exit(read(fds[0], &c, 1) != 0);
	}
	if (pid < 0)
		die("fork");
	close(fds[0]);
	*go = fds[1];
	return pid;
}

static void let_go(pid_t pid, int go)
{
	close(go);
	if (waitpid(pid, NULL, 0) != pid)
		die("waitpid");
}

static uint64_t do_fork(char *mem, unsigned long step)
{
	uint64_t spent;
	pid_t pid;

	(void)mem;
	(void)step;
	start();
	pid = fork();
	if (!pid)
		_exit(0);
	spent = stop();
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork");
	return spent;
}

static uint64_t write_reuse(char *mem, unsigned long step)
{
	int go;
	pid_t pid = fork_idle(&go);

	let_go(pid, go);
	start();
	touch(mem, step);
	return stop();
}

static uint64_t write_copy(char *mem, unsigned long step)
{
	uint64_t spent;
	int go;
	pid_t pid = fork_idle(&go);

	start();
	touch(mem, step);
	spent = stop();
	let_go(pid, go);
	return spent;
}

/* Which page frames a process has at @mem; @pid 0 is this one */
static uint64_t *frames(pid_t pid, char *mem)
{
	size_t size = length / PAGE * sizeof(uint64_t);
	uint64_t *pfns = malloc(size);
	char path[64] = "/proc/self/pagemap";
	int fd;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	if (!pfns || fd < 0 ||
	    pread(fd, pfns, size, (uintptr_t)mem / PAGE * 8) != (ssize_t)size)
		die(path);
	close(fd);
	return pfns;
}

/* How many of them differ; frees both */
static uint64_t differ(uint64_t *a, uint64_t *b)
{
	uint64_t i, n = 0;

	for (i = 0; i < length / PAGE; i++)
		n += (a[i] ^ b[i]) << 9 != 0;	/* without the flags */
	free(a);
	free(b);
	return n;
}

static uint64_t read_fault(char *mem, unsigned long step)
{
	if (madvise(mem, length, MADV_DONTNEED))
		die("MADV_DONTNEED");
	start();
	look(mem, step);
	return stop();
}

/* The caller unmaps it once more, which does nothing. */
static uint64_t unmap(char *mem, unsigned long step)
{
	(void)step;
	start();
	munmap(mem, length);
	return stop();
}

static void *sleeper(void *fd)
{
	char c;

	return (void *)read(*(int *)fd, &c, 1);
}

/* Shared with a child, and the memory is one that another CPU may run on */
static uint64_t unmap_shared(char *mem, unsigned long step)
{
	uint64_t spent;
	pthread_t thread;
	int fds[2], go;
	pid_t pid;

	if (pipe(fds))
		die("pipe");
	errno = pthread_create(&thread, NULL, sleeper, &fds[0]);
	if (errno)
		die("pthread_create");
	pid = fork_idle(&go);
	spent = unmap(mem, step);
	let_go(pid, go);
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	return spent;
}

/* From the child's last word to its parent's hearing of its end */
static uint64_t do_exit(char *mem, unsigned long step)
{
	uint64_t *said = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t spent;
	pid_t pid;

	if (said == MAP_FAILED)
		die("mmap");
	munmap(mem, length);
	pid = fork();
	if (!pid) {
		map(step);
		*said = __rdtsc();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork");
	spent = __rdtsc() - *said;
	munmap(said, PAGE);
	return spent;
}

/* All memory in pipes, as CRIU's pre-dump has it; *@pipes are theirs */
static void fill_pipes(char *mem, int (*pipes)[2])
{
	struct iovec iov = { mem, length / PIPES };
	int i;

	for (i = 0; i < PIPES; i++, iov.iov_base += iov.iov_len)
		if (pipe(pipes[i]) ||
		    fcntl(pipes[i][1], F_SETPIPE_SZ, iov.iov_len) < 0 ||
		    vmsplice(pipes[i][1], &iov, 1, 0) != (ssize_t)iov.iov_len)
			die("vmsplice");
}

static void close_pipes(int (*pipes)[2])
{
	int i;

	for (i = 0; i < PIPES; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}

static uint64_t fork_piped(char *mem, unsigned long step)
{
	int pipes[PIPES][2];
	uint64_t spent;

	fill_pipes(mem, pipes);
	spent = do_fork(mem, step);
	close_pipes(pipes);
	return spent;
}

/* KiB that parent and child do not share */
static uint64_t fork_piped_memory(char *mem, unsigned long step)
{
	int pipes[PIPES][2], go;
	uint64_t n;
	pid_t pid;

	(void)step;
	fill_pipes(mem, pipes);
	pid = fork_idle(&go);
	n = differ(frames(0, mem), frames(pid, mem));
	let_go(pid, go);
	close_pipes(pipes);
	return n * (PAGE >> 10);
}

/*
 * Out to swap, and read ahead into the swap cache: then no figure contains a
 * wait for the disk, which the TSC would count as well.
 */
static void swap_cached(char *mem)
{
	unsigned char *in = malloc(length / PAGE);
	unsigned long i;

	if (!in)
		die("malloc");
	/* Again, as a page on its way to the LRU lists is passed over. */
	do {
		if (madvise(mem, length, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
		while (get("/proc/vmstat", "nr_writeback ") > 0)
			usleep(1000);
	} while (get("/proc/self/smaps_rollup", "Swap:") < (long)(length >> 10));
	if (madvise(mem, length, MADV_WILLNEED))
		die("MADV_WILLNEED");
	for (i = 0; i < length / PAGE;) {
		usleep(1000);
		if (mincore(mem, length, in))
			die("mincore");
		for (i = 0; i < length / PAGE && (in[i] & 1); i++)
			;
	}
	free(in);
}

static uint64_t swapin_read(char *mem, unsigned long step)
{
	swap_cached(mem);
	start();
	look(mem, step);
	return stop();
}

static uint64_t swapin_then_write(char *mem, unsigned long step)
{
	swap_cached(mem);
	look(mem, step);
	start();
	touch(mem, step);
	return stop();
}

static uint64_t swapin_then_write_copies(char *mem, unsigned long step)
{
	uint64_t *before;

	swap_cached(mem);
	look(mem, step);
	before = frames(0, mem);
	touch(mem, step);
	return differ(before, frames(0, mem));
}

/* The THPs stay, and are mapped by PTEs from now on. */
static void map_by_ptes(char *mem)
{
	unsigned long i;

	for (i = 0; i < length; i += HUGE)
		if (mprotect(mem + i, PAGE, PROT_READ) ||
		    mprotect(mem + i, PAGE, PROT_READ | PROT_WRITE))
			die("mprotect");
	if (get("/proc/self/smaps_rollup", "AnonHugePages:")) {
		errno = EBUSY;
		die("PTE-mapped huge pages");
	}
}

/* Write pins, io_uring fixed buffers, on the second base page of each THP */
static int pin_one_each(char *mem)
{
	struct iovec *iov = malloc(length / HUGE * sizeof(*iov));
	struct io_uring_params params = { 0 };
	int ring = syscall(__NR_io_uring_setup, 1, &params);
	unsigned int i;

	if (ring < 0 || !iov)
		die("io_uring_setup");
	for (i = 0; i < length / HUGE; i++) {
		iov[i].iov_base = mem + i * HUGE + PAGE;
		iov[i].iov_len = PAGE;
	}
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, iov,
		    length / HUGE))
		die("IORING_REGISTER_BUFFERS");
	free(iov);
	return ring;
}

static void unpin_each(int ring)
{
	if (syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS,
		    NULL, 0))
		die("IORING_UNREGISTER_BUFFERS");
	close(ring);
}

static uint64_t clear_bits(char *mem, unsigned long step)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	uint64_t spent;

	if (fd < 0)
		die("clear_refs");
	touch(mem, step);
	start();
	if (write(fd, "4", 1) != 1)
		die("clear_refs");
	spent = stop();
	close(fd);
	return spent;
}

/* The second time, what the first one splits has been split. */
static uint64_t clear_again(char *mem, unsigned long step)
{
	clear_bits(mem, step);
	return clear_bits(mem, step);
}

/* The same by PAGEMAP_SCAN, which reports what was written as well */
static uint64_t do_scan(char *mem, unsigned long step, int times)
{
	struct page_region *found = malloc(length / PAGE * sizeof(*found));
	int uffd = wp_async(mem, length);
	uint64_t spent = 0;

	if (uffd < 0 || !found)
		die("userfaultfd");
	while (times--) {
		touch(mem, step);
		start();
		if (scan_written(mem, length, found, length / PAGE) < 0)
			die("PAGEMAP_SCAN");
		spent = stop();
	}
	free(found);
	close(uffd);
	return spent;
}

static uint64_t scan(char *mem, unsigned long step)
{
	return do_scan(mem, step, 1);
}

static uint64_t scan_again(char *mem, unsigned long step)
{
	return do_scan(mem, step, 2);
}

/* mm/gup_test.h, and 5.10's mm/gup_benchmark.c: what they have in common */
struct gup {
	uint64_t get_delta_usec, put_delta_usec, addr, size;
	uint32_t nr_pages_per_call, flags;
	uint64_t more[10];
};

/* _IOWR('g', nr, ...): gup_test's argument is shorter than gup_benchmark's */
static uint64_t gup(char *mem, bool fast)
{
	struct gup arg = {
		.addr = (uintptr_t)mem, .size = length, .nr_pages_per_call = 512,
		.flags = 1,	/* FOLL_WRITE */
	};
	int fd = open("/sys/kernel/debug/gup_benchmark", O_RDWR);
	unsigned int nr = fast ? 1 : 2, size = sizeof(arg);
	uint64_t spent;

	if (fd < 0) {
		fd = open("/sys/kernel/debug/gup_test", O_RDWR);
		nr = fast ? 1 : 4;
		size = 80;
	}
	if (fd < 0)
		die("gup_test");
	start();
	if (ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'g', nr, size), &arg))
		die("gup_test");
	spent = stop();
	close(fd);
	return spent;
}

static uint64_t gup_fast_get(char *mem, unsigned long step)
{
	(void)step;
	return gup(mem, true);
}

static uint64_t gup_get(char *mem, unsigned long step)
{
	(void)step;
	return gup(mem, false);
}

enum pin_what { PIN = 1, UNPIN = 2 };

static uint64_t pin_range(int fd, char *mem, size_t size, int flags, int what)
{
	struct pin_longterm_test arg = {
		.addr = (uintptr_t)mem,
		.size = size,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE | flags,
	};
	uint64_t spent, total = 0;

	start();
	if (ioctl(fd, PIN_LONGTERM_TEST_START, &arg))
		die("PIN_LONGTERM_TEST_START");
	spent = stop();
	if (what & PIN)
		total += spent;
	start();
	if (ioctl(fd, PIN_LONGTERM_TEST_STOP))
		die("PIN_LONGTERM_TEST_STOP");
	spent = stop();
	if (what & UNPIN)
		total += spent;
	return total;
}

/* Without what the calls themselves cost */
static uint64_t pin(char *mem, int flags, int what)
{
	int fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	uint64_t spent;

	if (fd < 0)
		die("gup_test");
	spent = pin_range(fd, mem, length, flags, what);
	spent -= pin_range(fd, mem, PAGE, flags, what);
	close(fd);
	return spent;
}

static uint64_t gup_fast_pin(char *mem, unsigned long step)
{
	(void)step;
	return pin(mem, PIN_LONGTERM_TEST_FLAG_USE_FAST, PIN);
}

static uint64_t gup_fast_pin_unpin(char *mem, unsigned long step)
{
	(void)step;
	return pin(mem, PIN_LONGTERM_TEST_FLAG_USE_FAST, PIN | UNPIN);
}

static uint64_t gup_pin_unpin(char *mem, unsigned long step)
{
	(void)step;
	return pin(mem, 0, PIN | UNPIN);
}

static uint64_t unpin(char *mem, unsigned long step)
{
	(void)step;
	return pin(mem, 0, UNPIN);
}

static const struct {
	const char *name;
	uint64_t (*run)(char *mem, unsigned long step);
	unsigned long step;	/* size of the pages that it is done on */
	unsigned long unit;	/* bytes that one of its operations covers */
	/* What is measured if not the time, and on what: bits */
	enum { COUNT = 1, HUGETLB = 2, BY_PTES = 4, SCAN = 8, PINNED = 16 } what;
} benches[] = {
	{ "fork",				do_fork,	PAGE, PAGE },
	{ "fork",				do_fork,	HUGE, HUGE },
	{ "fork",				do_fork,	HUGE, HUGE, HUGETLB },
	{ "write fault that reuses",		write_reuse,	PAGE, PAGE },
	{ "write fault that reuses",		write_reuse,	HUGE, HUGE },
	{ "write fault that copies",		write_copy,	PAGE, PAGE },
	{ "write fault that copies",		write_copy,	HUGE, HUGE },
	{ "read fault",				read_fault,	PAGE, PAGE },
	{ "read fault",				read_fault,	HUGE, HUGE },
	{ "munmap",				unmap,		PAGE, PAGE },
	{ "munmap",				unmap,		HUGE, HUGE },
	{ "munmap, shared, two threads",	unmap_shared,	PAGE, PAGE },
	{ "munmap, shared, two threads",	unmap_shared,	HUGE, HUGE },
	{ "exit",				do_exit,	PAGE, PAGE },
	{ "exit",				do_exit,	HUGE, HUGE },
	{ "fork, all in pipes",			fork_piped,	PAGE, PAGE },
	{ "fork, all in pipes",			fork_piped,	HUGE, PAGE },
	{ "fork, all in pipes: KiB",		fork_piped_memory, PAGE, PAGE, COUNT },
	{ "fork, all in pipes: KiB",		fork_piped_memory, HUGE, PAGE, COUNT },
	{ "GUP-fast get and release",		gup_fast_get,	PAGE, PAGE },
	{ "GUP-fast get and release",		gup_fast_get,	HUGE, PAGE },
	{ "GUP get and release",		gup_get,	PAGE, PAGE },
	{ "GUP get and release",		gup_get,	HUGE, PAGE },
	{ "clear_refs",				clear_bits,	PAGE, PAGE },
	{ "clear_refs",				clear_bits,	HUGE, HUGE },
	{ "clear_refs",				clear_bits,	HUGE, HUGE, BY_PTES },
	{ "clear_refs again",			clear_again,	HUGE, HUGE, BY_PTES },
	{ "PAGEMAP_SCAN",			scan,		PAGE, PAGE, SCAN },
	{ "PAGEMAP_SCAN",			scan,		HUGE, HUGE, SCAN },
	{ "PAGEMAP_SCAN again",			scan_again,	HUGE, HUGE, SCAN },
	/* From here on this process has pinned memory, which its mm remembers. */
	{ "GUP-fast pin",			gup_fast_pin,	PAGE, PAGE },
	{ "GUP-fast pin",			gup_fast_pin,	HUGE, PAGE },
	{ "GUP-fast pin and unpin",		gup_fast_pin_unpin, PAGE, PAGE },
	{ "GUP-fast pin and unpin",		gup_fast_pin_unpin, HUGE, HUGE },
	{ "GUP-fast pin and unpin",		gup_fast_pin_unpin, HUGE, HUGE, HUGETLB },
	{ "GUP pin and unpin",			gup_pin_unpin,	PAGE, PAGE },
	{ "GUP pin and unpin",			gup_pin_unpin,	HUGE, HUGE },
	{ "GUP pin and unpin",			gup_pin_unpin,	HUGE, HUGE, HUGETLB },
	{ "unpin",				unpin,		PAGE, PAGE },
	{ "unpin",				unpin,		HUGE, HUGE },
	{ "unpin",				unpin,		HUGE, HUGE, HUGETLB },
	{ "fork, pins elsewhere",		do_fork,	PAGE, PAGE },
	{ "fork, pins elsewhere",		do_fork,	HUGE, HUGE },
	{ "fork, one pin each",			do_fork,	HUGE, HUGE, PINNED },
	{ "clear_refs, pins elsewhere",		clear_bits,	PAGE, PAGE },
	{ "clear_refs, pins elsewhere",		clear_bits,	HUGE, HUGE },
	{ "clear_refs, pins elsewhere",		clear_bits,	HUGE, HUGE, BY_PTES },
	{ "clear_refs, one pin each",		clear_bits,	HUGE, HUGE, PINNED },
	{ "clear_refs again, one pin each",	clear_again,	HUGE, HUGE, PINNED },
	{ "PAGEMAP_SCAN, one pin each",		scan,		HUGE, HUGE, SCAN | PINNED },
	{ "PAGEMAP_SCAN again, one pin each",	scan_again,	HUGE, HUGE, SCAN | PINNED },
	/* Last, as the disk's interrupts come when they come. */
	{ "swap-in, read",			swapin_read,	PAGE, PAGE },
	{ "swap-in, then write",		swapin_then_write, PAGE, PAGE },
	{ "swap-in, then write: copies",	swapin_then_write_copies, PAGE, PAGE, COUNT },
};

/*
 * How that grows. Of these, the instructions of the whole operation are printed: on
 * 2^10 to 2^18 base pages, alone; and on 2^12 ones that idle children share, 1 to 64.
 */
static const struct {
	const char *name;
	uint64_t (*run)(char *mem, unsigned long step);
	unsigned long step;
	enum { PAGES = 1, PROCESSES = 2 } by;
	unsigned int what;
} growing[] = {
	{ "fork, base pages",		do_fork,	PAGE, PAGES | PROCESSES },
	{ "fork, THP",			do_fork,	HUGE, PAGES | PROCESSES },
	{ "write fault that copies, base pages", write_copy, PAGE, PROCESSES },
	{ "write fault that copies, THP", write_copy,	HUGE, PROCESSES },
	{ "munmap, base pages",		unmap,		PAGE, PAGES | PROCESSES },
	{ "munmap, THP",		unmap,		HUGE, PAGES | PROCESSES },
	{ "GUP-fast pin and unpin, base pages", gup_fast_pin_unpin, PAGE, PAGES },
	{ "GUP-fast pin and unpin, THP", gup_fast_pin_unpin, HUGE, PAGES },
	{ "clear_refs, pins elsewhere, base pages", clear_bits, PAGE, PAGES },
	{ "clear_refs, pins elsewhere, THP", clear_bits, HUGE, PAGES },
	{ "fork, one pin each, THP",	do_fork,	HUGE, PAGES, PINNED },
	{ "clear_refs, one pin each, THP", clear_bits,	HUGE, PAGES, PINNED },
	{ "PAGEMAP_SCAN, base pages",	scan,		PAGE, PAGES, SCAN },
	{ "PAGEMAP_SCAN, one pin each, THP", scan,	HUGE, PAGES, SCAN | PINNED },
};

static void grow(const char *name, unsigned long n, unsigned int i,
		 unsigned int children)
{
	/* The large ones take long, and differ little. */
	unsigned int r, rounds = length > 64ul << 20 ? 1 : 3, c;
	uint64_t best = 0, spent;
	pid_t pids[64];
	int goes[64];

	for (r = 0; r < rounds; r++) {
		char *mem = map(growing[i].step);
		int ring = growing[i].what & PINNED ? pin_one_each(mem) : -1;

		for (c = 0; c < children; c++)
			pids[c] = fork_idle(&goes[c]);
		spent = growing[i].run(mem, growing[i].step);
		while (c--)
			let_go(pids[c], goes[c]);
		if (ring >= 0)
			unpin_each(ring);
		if (!r || spent < best)
			best = spent;
		munmap(mem, length);
	}
	printf("%s\t%s\t%lu\t%lu\n", name, growing[i].name, n, best);
}

static void growth(bool can_scan)
{
	unsigned long n;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(growing); i++) {
		if ((growing[i].what & SCAN) && !can_scan)
			continue;
		for (n = 1 << 10; growing[i].by & PAGES && n <= 1 << 18; n <<= 1) {
			length = n * PAGE;
			grow("pages", n, i, 0);
		}
		length = PAGE << 12;
		for (n = 1; growing[i].by & PROCESSES && n <= 64; n <<= 1)
			grow("processes", n, i, n);
	}
}

/* bench: the figures; bench growth: how they grow */
int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = 1 };
	bool can_scan = have_scan();
	unsigned int i, r;

	/*
	 * Nothing else shall run while a clock runs: children are ordinary,
	 * and no figure is printed, which brings interrupts, before the end.
	 */
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	set("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	/* Newer kernels let ordinary ones in all the same, after a second. */
	if (!access(FAIR_SERVER, F_OK))
		set(FAIR_SERVER, "0");
	set("/proc/sys/vm/page-cluster", "0");
	set("/sys/kernel/mm/transparent_hugepage/khugepaged/defrag", "0");
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param))
		die("sched_setscheduler");

	if (argc > 1 && !strcmp(argv[1], "growth")) {
		growth(can_scan);
		return 0;
	}
	for (i = 0; i < ARRAY_SIZE(benches); i++) {
		bool hugetlb = benches[i].what & HUGETLB;
		bool most = benches[i].what & COUNT;
		bool by_ptes = benches[i].what & BY_PTES;
		bool pinned = benches[i].what & PINNED;
		uint64_t best = 0;

		if ((benches[i].what & SCAN) && !can_scan)
			continue;
		if (hugetlb)
			set("/proc/sys/vm/nr_hugepages", "32");
		for (r = 0; r < ROUNDS; r++) {
			char *mem = hugetlb ? map_hugetlb() :
					      map(benches[i].step);
			int ring = pinned ? pin_one_each(mem) : -1;
			uint64_t spent;

			if (by_ptes)
				map_by_ptes(mem);
			spent = benches[i].run(mem, benches[i].step);
			if (pinned)
				unpin_each(ring);
			/* Of a count the worst counts. */
			if (!r || (most ? spent > best : spent < best))
				best = spent;
			munmap(mem, length);
		}
		if (hugetlb)
			set("/proc/sys/vm/nr_hugepages", "0");
		printf("%s, %s\t%.2f\n", benches[i].name,
		       benches[i].step == PAGE ? "base pages" :
		       benches[i].unit == PAGE ? "THP, a page" :
		       hugetlb ? "hugetlb, each" :
		       by_ptes ? "PTE-mapped THP, each" : "THP, each",
		       (double)best / (length / benches[i].unit));
	}
	return 0;
}
