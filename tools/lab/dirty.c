// SPDX-License-Identifier: GPL-2.0
/*
 * How much of a region is reported as dirty of how much was written, where a
 * device holds 1 % of its base pages for write and the CPU writes another 1 %.
 * A case for each way to ask and each kind of memory: it passes if the reports
 * name these pages and no others. What the last one named is behind the "#".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../mm/gup_test.h"
#include "../../mm/gup_test_device.h"
#include "pagemap_scan.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE	4096ul
#define HUGE	(2ul << 20)
#define SIZE	(256ul << 20)
#define PAGES	(SIZE / PAGE)
#define EACH	(PAGES / 100)	/* 1 % */
#define ROUNDS	3

#define SOFT_DIRTY	0x80000000000000ull
#define THP		"/sys/kernel/mm/transparent_hugepage/"

static void die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		die(file);
	close(fd);
}

static size_t huge_size(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	size_t kb, sum = 0;
	char line[256];

	if (!f)
		die("smaps_rollup");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "AnonHugePages: %zu", &kb) == 1 ||
		    sscanf(line, "ShmemPmdMapped: %zu", &kb) == 1)
			sum += kb << 10;
	fclose(f);
	return sum;
}

static char *map(bool shared, bool huge)
{
	char *area = mmap(NULL, SIZE + HUGE, PROT_READ | PROT_WRITE,
			  (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS,
			  -1, 0);
	char *mem = (char *)(((uintptr_t)area + HUGE - 1) & -HUGE);

	if (area == MAP_FAILED)
		die("mmap");
	if (mem != area)
		munmap(area, mem - area);
	munmap(mem + SIZE, area + HUGE - mem);
	if (madvise(mem, SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		die("madvise");
	memset(mem, 1, SIZE);
	if (huge_size() != (huge ? SIZE : 0)) {
		errno = huge ? ENOMEM : EINVAL;
		die("huge pages");
	}
	return mem;
}

/* A device holds each page of its own: a file for each */
static int devices[EACH];

static size_t held(unsigned int i)
{
	return i * 100ul + 7;
}

static size_t written(unsigned int i, unsigned int round)
{
	return i * 100ul + 31 + round * 13;
}

static void hold(char *mem)
{
	struct pin_longterm_test arg = {
		.size = PAGE,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE |
			 PIN_LONGTERM_TEST_FLAG_USE_FAST,
	};
	unsigned int i;

	for (i = 0; i < EACH; i++) {
		devices[i] = open("/sys/kernel/debug/gup_test", O_RDWR);
		if (devices[i] < 0)
			die("gup_test");
		arg.addr = (uintptr_t)mem + held(i) * PAGE;
		if (ioctl(devices[i], PIN_LONGTERM_TEST_START, &arg))
			die("PIN_LONGTERM_TEST_START");
	}
}

static void let_go(void)
{
	unsigned int i;

	for (i = 0; i < EACH; i++)
		close(devices[i]);
}

static void write_all(char *mem, unsigned int round)
{
	char what = round + 2;
	struct pin_longterm_test_write arg = {
		.size = 1,
		.src = (uintptr_t)&what,
	};
	unsigned int i;

	for (i = 0; i < EACH; i++) {
		mem[written(i, round) * PAGE] = what;
		if (ioctl(devices[i], PIN_LONGTERM_TEST_WRITE, &arg))
			die("PIN_LONGTERM_TEST_WRITE");
	}
}

/* The two ways: start to track, and forget or tell what was written. */
static bool dirty[PAGES];

static void soft_dirty_clear(char *mem)
{
	(void)mem;
	set("/proc/self/clear_refs", "4");
}

static void soft_dirty_ask(char *mem)
{
	static uint64_t entries[PAGES];
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t i;

	if (fd < 0 || pread(fd, entries, sizeof(entries),
			    (uintptr_t)mem / PAGE * 8) != sizeof(entries))
		die("pagemap");
	close(fd);
	for (i = 0; i < PAGES; i++)
		dirty[i] = entries[i] & SOFT_DIRTY;
	soft_dirty_clear(mem);
}

static void scan_ask(char *mem)
{
	static struct page_region found[PAGES];
	long i, n = scan_written(mem, SIZE, found, PAGES);
	size_t first, last;

	if (n < 0)
		die("PAGEMAP_SCAN");
	memset(dirty, 0, sizeof(dirty));
	for (i = 0; i < n; i++) {
		first = (found[i].start - (uintptr_t)mem) / PAGE;
		last = (found[i].end - (uintptr_t)mem) / PAGE;
		memset(dirty + first, true, last - first);
	}
}

static bool run(unsigned int n, const char *what, bool scan, bool shared,
		bool huge)
{
	char *mem = map(shared, huge);
	size_t reported = 0, missing, i;
	int uffd = -1;
	bool exact = true;
	unsigned int round;

	if (scan) {
		uffd = wp_async(mem, SIZE);
		if (uffd < 0)
			die("userfaultfd");
	}
	hold(mem);
	if (scan)
		scan_ask(mem);
	else
		soft_dirty_clear(mem);
	for (round = 0; round < ROUNDS && exact; round++) {
		write_all(mem, round);
		if (scan)
			scan_ask(mem);
		else
			soft_dirty_ask(mem);
		reported = 0;
		missing = 2 * EACH;
		for (i = 0; i < PAGES; i++)
			reported += dirty[i];
		for (i = 0; i < EACH; i++)
			missing -= dirty[held(i)] + dirty[written(i, round)];
		exact = !missing && reported == 2 * EACH;
	}
	printf("%sok %u %s, %s: %lu of %lu pages written # %zu reported, %zu missing\n",
	       exact ? "" : "not ", n, scan ? "PAGEMAP_SCAN" : "soft-dirty", what,
	       2 * EACH, PAGES, reported, missing);
	let_go();
	if (scan)
		close(uffd);
	munmap(mem, SIZE);
	return exact;
}

static const struct {
	const char *what;
	bool shared, huge;
} kinds[] = {
	{ "base pages", false, false },
	{ "THP", false, true },
	{ "shared memory", true, false },
	{ "shared THP", true, true },
};

int main(void)
{
	struct rlimit files = { EACH + 64, EACH + 64 };
	bool can_scan = have_scan(), good = true;
	unsigned int i, n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (setrlimit(RLIMIT_NOFILE, &files))
		die("RLIMIT_NOFILE");
	set(THP "enabled", "madvise");
	set(THP "shmem_enabled", "advise");
	/* A collapse in passing makes THPs soft-dirty, or clean if they are shared. */
	set(THP "khugepaged/scan_sleep_millisecs", "100000000");
	printf("KTAP version 1\n1..%zu\n", ARRAY_SIZE(kinds) * (1 + can_scan));
	for (i = 0; i < ARRAY_SIZE(kinds) * (1 + can_scan); i++) {
		unsigned int k = i % ARRAY_SIZE(kinds);

		good &= run(++n, kinds[k].what, i >= ARRAY_SIZE(kinds),
			    kinds[k].shared, kinds[k].huge);
	}
	return !good;
}
