// SPDX-License-Identifier: GPL-2.0
/*
 * PAGEMAP_SCAN and asynchronous userfaultfd write-protection of memory that a
 * device holds: no write of a device that holds a write pin may be missing from
 * the pages that are "written", and no page may be among them that neither CPU
 * nor device wrote, or could have written.
 *
 * The scenarios are those of soft_dirty_pin; a table crosses them with kinds of
 * memory, and with ways to write-protect. The device is gup_test (debugfs,
 * CONFIG_GUP_TEST, with PIN_LONGTERM_TEST_WRITE). What this kernel lacks is
 * skipped. So is a case where the kernel only reports too much, if it does not
 * count pins by base page, and all of it if the kernel has no CONFIG_PAGE_PIN,
 * be it set or not; with -e the former is a failure, and the latter is run. Needs
 * root.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>

#include "pin_tracker.h"

#define FEW_PAGES	7		/* for max_pages; divides no THP */
#define ANSWER_MS	20000		/* how long a fault may take */

static int uffd = -1;

static void uffd_close(struct range *r)
{
	(void)r;
	if (uffd >= 0)
		close(uffd);
	uffd = -1;
}

static int uffd_open_for(struct range *r, uint64_t features, uint64_t mode)
{
	uffd = uffd_register(r, UFFD_FEATURE_WP_HUGETLBFS_SHMEM | features,
			     mode);
	return uffd < 0 ? SKIP : 0;
}

static int uffd_open(struct range *r, uint64_t features)
{
	return uffd_open_for(r, features, UFFDIO_REGISTER_MODE_WP);
}

static int uffd_start(struct range *r)
{
	return uffd_open(r, UFFD_FEATURE_WP_ASYNC |
			    UFFD_FEATURE_WP_UNPOPULATED);
}

/* As pagemap_scan(), of part of a range. */
static ssize_t scan(struct range *r, size_t from, size_t size, uint64_t flags,
		    uint64_t categories, size_t max, bool *found)
{
	struct pm_scan_arg arg = {
		.flags = flags,
		.start = (uintptr_t)r->mem + from,
		.end = (uintptr_t)r->mem + from + size,
		.max_pages = max,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = categories,
	};

	if (!found && !(flags & PM_SCAN_WP_MATCHING))
		return size;
	return pagemap_scan(r, &arg, found);
}

static void report_written(struct range *r, bool *dirty)
{
	if (scan(r, 0, r->size, 0, PAGE_IS_WRITTEN, 0, dirty) !=
	    (ssize_t)r->size)
		ksft_exit_fail_msg("PAGEMAP_SCAN: %s\n", strerror(errno));
}

#define PROTECT		(PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC)

static int clean_by_scan(struct range *r, bool *found)
{
	return scan(r, 0, r->size, PROTECT, PAGE_IS_WRITTEN, 0, found) ==
	       (ssize_t)r->size ? 0 : broken("PAGEMAP_SCAN");
}

/* To return more than one category takes another path through the kernel. */
static int clean_by_full_scan(struct range *r, bool *found)
{
	return scan(r, 0, r->size, PROTECT,
		    PAGE_IS_WRITTEN | PAGE_IS_PRESENT | PAGE_IS_SWAPPED, 0,
		    found) == (ssize_t)r->size ? 0 : broken("PAGEMAP_SCAN");
}

static int clean_by_uffd(struct range *r, bool *found)
{
	(void)found;
	return uffd_protect(uffd, r->mem, r->size, true);
}

/*
 * A write to a private PMD splits it, and is reported of one page; one of
 * shared memory is unmapped, and what is not mapped counts as written.
 */
static bool shared_pmd(struct range *r)
{
	return r->flags & MAP_SHARED && pmd_mapped(r->mem, r->size);
}

static const struct way {
	const char *name;
	struct tracker tracker;
} ways[] = {
	{ "PAGEMAP_SCAN", {
		.start = uffd_start,
		.stop = uffd_close,
		.clean = clean_by_scan,
		.says_found = true,
		.report = report_written,
		.coarse = shared_pmd,
	} },
	{ "PAGEMAP_SCAN of all categories", {
		.start = uffd_start,
		.stop = uffd_close,
		.clean = clean_by_full_scan,
		.says_found = true,
		.report = report_written,
		.coarse = shared_pmd,
	} },
	{ "PAGEMAP_SCAN without output", {
		.start = uffd_start,
		.stop = uffd_close,
		.clean = clean_by_scan,
		.report = report_written,
		.coarse = shared_pmd,
	} },
	{ "UFFDIO_WRITEPROTECT", {
		.start = uffd_start,
		.stop = uffd_close,
		.clean = clean_by_uffd,
		.report = report_written,
		.coarse = shared_pmd,
		.splits_shared = true,
	} },
};

/* Cleans some pages by a scan, and compares what it found. */
static int clean_part(struct range *r, size_t first, size_t nr, const char *when)
{
	bool *found = calloc(range_nr(r), sizeof(*found));
	size_t i;
	int ret = 0;

	if (!found)
		return broken("calloc");
	if (scan(r, first * pagesize, nr * pagesize, PROTECT, PAGE_IS_WRITTEN,
		 0, found) != (ssize_t)(nr * pagesize))
		ret = broken("PAGEMAP_SCAN");
	for (i = 0; i < range_nr(r) && !ret; i++) {
		if (i >= first && i < first + nr) {
			if (r->pages[i].must && !found[i])
				ret = because(1, "%s: lost: page %zu", when, i);
			else if (!r->pages[i].may && found[i])
				too_much("%s: page %zu is reported", when, i);
		} else if (found[i]) {
			ret = because(1, "%s: page %zu is not of that part",
				      when, i);
		}
	}
	free(found);
	model_clean(r, first, nr);
	return ret ? ret : check(r, when);
}

/* Scans that end amid a THP, of which pages on both sides are pinned. */
static int partial_ranges(struct range *r)
{
	size_t nr = range_nr(r), half = nr / 2;
	struct pin low = {}, high = {};
	int ret = take(r, &low, half - 2, 1, PIN_WRITE);

	if (!ret)
		ret = take(r, &high, half + 5, 1, PIN_WRITE);
	if (!ret)
		ret = clean_part(r, 0, half, "lower half");
	if (!ret)
		ret = device_write(r, &low, 0, 1);
	if (!ret)
		ret = clean_part(r, half, half, "upper half");
	if (!ret)
		ret = device_write(r, &high, 0, 1);
	if (!ret)
		ret = clean_part(r, 3, nr - 5, "all but the ends");
	cpu_writes_five(r);
	if (!ret)
		ret = clean_part(r, half - 3, 3, "three pages");
	drop(r, &low);
	drop(r, &high);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/* The same while the THP is mapped by a PMD, and pinned as a whole. */
static int partial_ranges_whole(struct range *r)
{
	size_t nr = range_nr(r), half = nr / 2;
	struct pin p = {};
	int ret = take(r, &p, 0, nr, PIN_WRITE);

	if (!ret)
		ret = clean_part(r, 1, half, "one half");
	if (!ret)
		ret = device_write(r, &p, 0, nr);
	if (!ret)
		ret = clean_part(r, 0, nr, "all");
	drop(r, &p);
	if (!ret)
		ret = clean_part(r, half, 9, "nine pages, unpinned");
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/* One page after the other is found, a few in each scan. */
static int few_by_few(struct range *r)
{
	size_t i, nr = range_nr(r), at = 0, n;
	bool *found = calloc(nr, sizeof(*found));
	struct pin some = {}, reader = {};
	char when[64];
	ssize_t done;
	int ret = take(r, &some, nr / 3, 3, PIN_WRITE);

	if (!ret)
		ret = take(r, &reader, nr / 2, 11, 0);
	while (!ret && found && at < nr) {
		memset(found, 0, nr);
		done = scan(r, at * pagesize, r->size - at * pagesize, PROTECT,
			    PAGE_IS_WRITTEN, FEW_PAGES, found);
		if (done <= 0) {
			ret = done ? broken("PAGEMAP_SCAN") :
			      because(1, "PAGEMAP_SCAN gets no further");
			break;
		}
		done /= pagesize;
		snprintf(when, sizeof(when), "scanned %zu+%zd", at, done);
		for (n = 0, i = 0; i < nr; i++) {
			n += found[i];
			if (found[i] && (i < at || i >= at + done))
				ret = because(1, "%s: page %zu was found", when, i);
			else if (i >= at && i < at + done &&
				 r->pages[i].must && !found[i])
				ret = because(1, "%s: lost: page %zu", when, i);
		}
		if (n > FEW_PAGES)
			ret = because(1, "%s: %zu pages were found", when, n);
		model_clean(r, at, done);
		at += done;
		if (!ret)
			ret = check(r, when);
	}
	if (!ret)
		ret = device_write(r, &some, 0, 3);
	if (!ret)
		ret = clean(r, "cleaned");
	drop(r, &some);
	drop(r, &reader);
	free(found);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/*
 * Shared memory that is not mapped is there all the same, and what a device
 * pinned of it is written. Of the rest is reported, as the interface has it,
 * what no entry says to be clean; but not of hugetlb.
 */
static int unmap_range(struct range *r, size_t first, size_t nr, int advice)
{
	size_t i;

	if (madvise(r->mem + first * pagesize, nr * pagesize, advice))
		return lacking(advice == MADV_DONTNEED ? "MADV_DONTNEED" :
			       "MADV_PAGEOUT");
	/* Of shared memory a part of a PMD takes all of it along. */
	for (i = 0; i < range_nr(r) && r->unit == pagesize; i++)
		if (r->thp || (i >= first && i < first + nr))
			r->pages[i].may = true;
	return 0;
}

static int unmapped(struct range *r, int advice)
{
	size_t nr = range_nr(r), part = nr / 3;
	struct pin p = {};
	int i, ret = take(r, &p, part + 1, 3, PIN_WRITE);

	if (!ret)
		ret = clean(r, "cleaned");
	/* A part, for which a page table stays, and all of it. */
	for (i = 0; i < 2 && !ret; i++) {
		if (i || r->unit != pagesize)
			ret = unmap_range(r, 0, nr, advice);
		else
			ret = unmap_range(r, part, part, advice);
		if (!ret)
			ret = device_write(r, &p, 0, 3);
		if (!ret)
			ret = clean(r, "cleaned while not mapped");
		if (!ret)
			ret = unmap_range(r, 0, nr, advice);
		if (!ret)
			ret = device_write(r, &p, 0, 3);
		if (!ret)
			ret = check(r, "the device wrote what is not mapped");
		cpu_writes_five(r);
		if (!ret)
			ret = clean(r, "cleaned when mapped again");
	}
	if (!ret)
		ret = device_reads(r, &p);
	drop(r, &p);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

static int unmapped_discarded(struct range *r)
{
	return unmapped(r, MADV_DONTNEED);
}

static int unmapped_paged_out(struct range *r)
{
	return unmapped(r, MADV_PAGEOUT);
}

/* As it is mapped it is protected, but for what a device may write. */
static int unmapped_continued(struct range *r)
{
	struct uffdio_continue cont = {
		.range = { (uintptr_t)r->mem, r->size },
		.mode = UFFDIO_CONTINUE_MODE_WP,
	};
	size_t nr = range_nr(r);
	struct pin p = {};
	/* Before: GUP does not wait for who is to handle a fault. */
	int ret = take(r, &p, nr / 2, 3, PIN_WRITE);

	uffd_close(r);
	if (!ret)
		ret = uffd_open_for(r, UFFD_FEATURE_WP_ASYNC |
				    UFFD_FEATURE_WP_UNPOPULATED |
				    UFFD_FEATURE_MINOR_SHMEM |
				    UFFD_FEATURE_MINOR_HUGETLBFS,
				    UFFDIO_REGISTER_MODE_WP |
				    UFFDIO_REGISTER_MODE_MINOR);
	if (!ret && madvise(r->mem, r->size, MADV_DONTNEED))
		ret = lacking("MADV_DONTNEED");
	if (!ret && ioctl(uffd, UFFDIO_CONTINUE, &cont))
		ret = lacking("UFFDIO_CONTINUE");
	if (ret)
		goto drop;
	model_clean(r, 0, nr);
	ret = check(r, "mapped by UFFDIO_CONTINUE");
	if (!ret)
		ret = device_write(r, &p, 0, 3);
	if (!ret)
		ret = check(r, "the device wrote");
	cpu_writes_five(r);
	if (!ret)
		ret = clean(r, "cleaned");
drop:
	drop(r, &p);
	return ret;
}

/* Nobody writes what is merged. */
static int merged_by_ksm(struct range *r)
{
	int ret = clean(r, "cleaned");

	if (!ret)
		ret = merge(r, range_nr(r) / 2);
	if (!ret)
		ret = check(r, "merged");
	cpu_writes_five(r);
	return ret ? ret : check(r, "after five writes");
}

/* Without UFFD_FEATURE_WP_ASYNC: a write waits until it is let go. */

struct writer {
	char *mem;
	pthread_t thread;
};

static void *write_one(void *arg)
{
	struct writer *w = arg;

	__atomic_store_n(w->mem, 99, __ATOMIC_RELAXED);
	return NULL;
}

static int write_faults(struct range *r, size_t page)
{
	struct pollfd fault = { .fd = uffd, .events = POLLIN };
	char *mem = r->mem + page * pagesize;
	char *start = r->mem + page * pagesize / r->unit * r->unit;
	struct writer w = { .mem = mem };
	struct uffd_msg msg;
	int ret = 0;

	if (pthread_create(&w.thread, NULL, write_one, &w))
		return broken("pthread_create");
	if (poll(&fault, 1, ANSWER_MS) != 1 ||
	    read(uffd, &msg, sizeof(msg)) != sizeof(msg))
		ret = because(1, "page %zu: the CPU's write did not fault", page);
	else if (msg.event != UFFD_EVENT_PAGEFAULT ||
		 !(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP))
		ret = because(1, "page %zu: not a write-protection fault", page);
	else if (*mem == 99)
		ret = because(1, "page %zu was written", page);
	if (uffd_protect(uffd, start, r->unit, false) && !ret)
		ret = 1;
	pthread_join(w.thread, NULL);
	if (!ret && *mem != 99)
		ret = because(1, "page %zu was not written", page);
	return ret;
}

static int synchronous(struct range *r, unsigned int flags)
{
	size_t nr = range_nr(r), page = nr / 2;
	struct pin p = {};
	char *buf = NULL;
	int ret;

	uffd_close(r);
	ret = uffd_open(r, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (!ret)
		ret = pin_take(&p, r->mem + page * pagesize, pagesize, flags);
	if (!ret)
		ret = uffd_protect(uffd, r->mem, r->size, true);
	if (!ret && p.write)
		ret = pin_store(&p, 0, pagesize, 55);
	if (!ret && p.write && r->mem[page * pagesize] != 55)
		ret = because(1, "the CPU does not see what the device wrote");
	if (!ret)
		ret = write_faults(r, page);
	if (!ret && r->unit == pagesize)
		ret = write_faults(r, page + 1);
	buf = malloc(pagesize);
	if (!ret && buf)
		ret = pin_load(&p, buf);
	if (!ret && buf && *buf != 99)
		ret = because(1, "the device does not see what the CPU wrote");
	/* Again, from what is writable and dirty. */
	r->mem[page * pagesize] = 1;
	if (!ret)
		ret = uffd_protect(uffd, r->mem, r->size, true);
	if (!ret)
		ret = write_faults(r, page);
	free(buf);
	pin_drop(&p);
	/* What waits at the end of a failed case is let go. */
	uffd_close(r);
	return ret;
}

static int synchronous_write_pin(struct range *r)
{
	return synchronous(r, PIN_WRITE);
}

static int synchronous_read_pin(struct range *r)
{
	return synchronous(r, 0);
}

/* The tables, and what runs them. */

#define ALL		1
#define PAGES		2	/* its entries map base pages, or can */
#define HUGE		4	/* can be mapped by a PMD, or was */
#define MIGRATES	8
#define SHARED		16
#define PRIVATE		32

#define SCAN		1		/* of ways: the first */
#define UFFD		8		/* the last */
#define EVERY		15

static const struct kind {
	const char *name;
	int (*map)(struct range *r, int flags);
	int flags;
	int is;
} kinds[] = {
	{ "base pages", map_base, MAP_PRIVATE,
	  ALL | PAGES | MIGRATES | PRIVATE },
	{ "PMD-mapped THP", map_thp, MAP_PRIVATE,
	  ALL | PAGES | HUGE | MIGRATES | PRIVATE },
	{ "PTE-mapped THP", map_pte_thp, MAP_PRIVATE,
	  ALL | PAGES | HUGE | PRIVATE },
	{ "shared memory", map_base, MAP_SHARED,
	  ALL | PAGES | MIGRATES | SHARED },
	{ "shared THP", map_thp, MAP_SHARED,
	  ALL | PAGES | HUGE | MIGRATES | SHARED },
	{ "hugetlb", map_hugetlb, MAP_PRIVATE, ALL | MIGRATES },
	{ "shared hugetlb", map_hugetlb, MAP_SHARED, ALL | MIGRATES | SHARED },
};

static const struct scenario {
	const char *name;
	int (*run)(struct range *r);
	int needs;
	int ways;
} scenarios[] = {
	{ "no pin", exact_no_pin, ALL, EVERY },
	{ "one page", exact_one_page, ALL, EVERY },
	{ "one page by GUP-fast", exact_one_page_fast, ALL, EVERY },
	{ "whole range", exact_whole, ALL, EVERY },
	{ "whole range by GUP-fast", exact_whole_fast, ALL, EVERY },
	{ "read-only", exact_read_only, ALL, EVERY },
	{ "read-only by GUP-fast", exact_read_only_fast, ALL, EVERY },
	{ "every second page", exact_every_second, PAGES, EVERY },
	{ "two pins, the writer goes first", exact_overlap_writer_first,
	  ALL, EVERY },
	{ "two pins, the reader goes first", exact_overlap_reader_first,
	  ALL, EVERY },
	{ "neighbours", exact_neighbours, ALL, EVERY },
	{ "mprotect to read-only", exact_mprotect, ALL, EVERY },
	{ "random steps", random_steps, ALL, EVERY },
	{ OBJECTION_1, objection_1_pipes, PAGES, EVERY },
	{ OBJECTION_1B, objection_1_count, PAGES, EVERY },
	{ OBJECTION_2, objection_2, HUGE, EVERY },
	{ OBJECTION_3, objection_3, ALL, EVERY },
	{ "parts of a range", partial_ranges, PAGES, SCAN },
	{ "parts of a range that is pinned", partial_ranges_whole, PAGES, SCAN },
	{ "few pages at a time", few_by_few, PAGES, SCAN },
	{ "not mapped, MADV_DONTNEED", unmapped_discarded, SHARED, EVERY },
	{ "not mapped, MADV_PAGEOUT", unmapped_paged_out, SHARED | PAGES, EVERY },
	{ "not mapped, UFFDIO_CONTINUE", unmapped_continued, SHARED, EVERY },
	{ "merged by KSM", merged_by_ksm, PRIVATE, EVERY },
	{ "an allocation fails", allocations_fail, ALL, EVERY },
	{ "synchronous, write pin", synchronous_write_pin, ALL, SCAN },
	{ "synchronous, read-only pin", synchronous_read_pin, ALL, SCAN },
	{ "racing GUP-fast", race_gup_fast, ALL, SCAN | UFFD },
	{ "racing GUP-fast of single pages", race_single_pages, ALL, SCAN | UFFD },
	{ "racing migration", race_migration_cpu, MIGRATES, SCAN | UFFD },
	{ "racing migration of a write pin", race_migration_device,
	  MIGRATES, SCAN | UFFD },
};

static bool wanted(const struct way *w, const struct scenario *s,
		   const struct kind *k, char *name, size_t size)
{
	snprintf(name, size, "%s, %s: %s", w->name, s->name, k->name);
	return !(s->needs & ~k->is) && s->ways & 1 << (w - ways) &&
	       asked_for(name);
}

static void run(const struct way *w, const struct scenario *s,
		const struct kind *k, const char *name)
{
	struct range r = { .map = k->map };
	int ret;

	why[0] = '\0';
	excess[0] = '\0';
	tracker = &w->tracker;
	ret = k->map(&r, k->flags);
	if (!ret)
		ret = model_start(&r);
	if (!ret)
		ret = judge(s->run(&r));
	tracker->stop(&r);
	range_free(&r);
	report(name, ret);
}

/* Calls fn for each case that was asked for; returns how many there are. */
static unsigned int each(void (*fn)(const struct way *w,
				    const struct scenario *s,
				    const struct kind *k, const char *name))
{
	unsigned int i, j, k, n = 0;
	char name[192];

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		for (j = 0; j < ARRAY_SIZE(scenarios); j++)
			for (k = 0; k < ARRAY_SIZE(kinds); k++) {
				if (!wanted(&ways[i], &scenarios[j], &kinds[k],
					    name, sizeof(name)))
					continue;
				n++;
				if (fn)
					fn(&ways[i], &scenarios[j], &kinds[k],
					   name);
			}
	return n;
}

/* Does the kernel have all of the interface? */
static bool scans(void)
{
	struct range r = {};
	bool *found, ok;

	if (map_base(&r, MAP_PRIVATE))
		return false;
	found = calloc(range_nr(&r), sizeof(*found));
	ok = found && !uffd_start(&r) && !clean_by_scan(&r, found);
	uffd_close(&r);
	range_free(&r);
	free(found);
	return ok;
}

int main(int argc, char **argv)
{
	parse_options(argc, argv, NULL);
	ksft_print_header();

	pin_tracker_init();
	if (!scans())
		ksft_exit_skip("no PAGEMAP_SCAN, or no asynchronous write-protection (%s)\n",
			       why);
	skip_all_if(dirty_tracking_lacks());
	ksft_set_plan(each(NULL) + 1);
	each(run);
	report(words_name, words_are_zero());

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
