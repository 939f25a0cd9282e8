/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What has to be reported as written of memory that devices hold, whichever
 * interface reports it: a model of each base page, and scenarios that compare
 * what the kernel says with it after each step.
 *
 * A page must be reported that the CPU wrote, or that had a pin to write, since
 * it was last cleaned; cleaning does not free it from being reported while it
 * has such a pin. It may be reported
 * - if another page was written that is mapped by the same entry, or
 * - when it was cleaned while it had pins of which none is to write any more,
 *   but one was: an unpin does not say which kind it ends.
 * To miss a page that must be reported is a failure always. To report one that
 * may not is one on a kernel that counts pins by base page, or if exact is set;
 * else it is why the case is skipped.
 */
#ifndef PIN_TRACKER_H
#define PIN_TRACKER_H

#include <linux/fs.h>
#include <pthread.h>

#include "pin_memory.h"

struct tracker {
	int (*start)(struct range *r);
	void (*stop)(struct range *r);
	/* Cleans the range; what it says it found, if it says that, or NULL. */
	int (*clean)(struct range *r, bool *found);
	bool says_found;
	/* Is that page reported as written? */
	void (*report)(struct range *r, bool *dirty);
	/* Does one write by the CPU to a clean PMD have all of it reported? */
	bool (*coarse)(struct range *r);
	/* Splits every PMD of shared memory. */
	bool splits_shared;
};

static const struct tracker *tracker;
static char excess[WHY_SIZE];	/* the first such report of the case */

#define too_much(fmt, ...) \
	do { \
		if (!excess[0]) \
			snprintf(excess, sizeof(excess), fmt, ##__VA_ARGS__); \
	} while (0)

/* What a case that reported too much, but lost nothing, comes to. */
static inline int judge(int ret)
{
	if (ret || !excess[0])
		return ret;
	if (exact || accounting)
		return because(1, "%s", excess);
	return because(SKIP, "no exact tracking (CONFIG_PAGE_PIN, page_pin=on): %.140s",
		       excess);
}

static inline int needs_accounting(void)
{
	if (accounting)
		return 0;
	return because(exact ? 1 : SKIP,
		       "no exact tracking (CONFIG_PAGE_PIN, page_pin=on): smaps has no Pinned:");
}

#ifdef PAGEMAP_SCAN
#define REGIONS		64		/* of one PAGEMAP_SCAN */

/*
 * Scans from arg->start to arg->end, or until arg->max_pages are found. What is
 * found becomes true, if it is wanted at all. Returns how many bytes are done, or
 * -1.
 */
static inline ssize_t pagemap_scan(struct range *r, struct pm_scan_arg *arg,
				   bool *found)
{
	uintptr_t mem = (uintptr_t)r->mem, start = arg->start;
	struct page_region regions[REGIONS], *reg;
	long i, n;

	arg->size = sizeof(*arg);
	if (found) {
		arg->vec = (uintptr_t)regions;
		arg->vec_len = REGIONS;
	}
	do {
		n = ioctl(pagemap_fd, PAGEMAP_SCAN, arg);
		if (n < 0)
			return -1;
		for (reg = regions; found && reg < regions + n; reg++)
			for (i = (reg->start - mem) / pagesize;
			     i < (long)((reg->end - mem) / pagesize); i++)
				found[i] = true;
		arg->start = arg->walk_end;
	} while (!arg->max_pages && arg->start < arg->end);
	return arg->start - start;
}
#endif

/* The model. */

static inline int model_start(struct range *r)
{
	size_t i, nr = range_nr(r);

	r->pages = calloc(nr, sizeof(*r->pages));
	if (!r->pages)
		return broken("calloc");
	for (i = 0; i < nr; i++) {
		r->pages[i].value = r->mem[i * pagesize];
		r->pages[i].must = true;
		r->pages[i].may = true;
	}
	r->serial = 2;
	return tracker->start ? tracker->start(r) : 0;
}

/* As it was at the start of the case. */
static inline int remap(struct range *r)
{
	int flags = r->flags, ret;

	if (tracker->stop)
		tracker->stop(r);
	range_free(r);
	ret = r->map(r, flags);
	return ret ? ret : model_start(r);
}

/* A page is written, or can be from now on. */
static inline void model_write(struct range *r, size_t page, bool coarse)
{
	size_t per_unit = r->unit / pagesize, i = page - page % per_unit, end;

	end = i + per_unit;
	if (coarse) {
		i = 0;
		end = range_nr(r);
	}
	for (; i < end; i++)
		r->pages[i].may = true;
	r->pages[page].must = true;
}

/* coarse: when GUP looked, a write would have had all of the PMD reported. */
static inline void model_pin(struct range *r, size_t first, size_t nr,
			     bool write, bool coarse)
{
	size_t i;

	for (i = first; i < first + nr; i++) {
		r->pages[i].pins++;
		if (!write)
			continue;
		r->pages[i].write_pins++;
		r->pages[i].sticky = true;
		model_write(r, i, coarse);
	}
}

static inline void model_unpin(struct range *r, size_t first, size_t nr,
			       bool write)
{
	struct page_state *page;

	for (page = r->pages + first; page < r->pages + first + nr; page++) {
		page->write_pins -= write;
		if (!--page->pins)
			page->sticky = false;
	}
}

static inline void model_clean(struct range *r, size_t first, size_t nr)
{
	size_t i, j, per_unit = r->unit / pagesize, end = first + nr;

	for (i = first; i < end; i++) {
		r->pages[i].must = r->pages[i].write_pins;
		r->pages[i].may = false;
	}
	for (i = first; i < end; i++)
		for (j = i - i % per_unit; r->pages[i].sticky &&
		     j < i - i % per_unit + per_unit; j++)
			r->pages[j].may = true;
}

/* Compares with the model what was said of each page. */
static inline int compare(struct range *r, const bool *dirty, const char *when)
{
	size_t i, nr = range_nr(r), lost = 0, first = 0, want = 0, more = 0;

	for (i = 0; i < nr; i++) {
		if (r->pages[i].must && !dirty[i] && !lost++)
			first = i;
		want += r->pages[i].may;
		more += dirty[i] && !r->pages[i].may;
	}
	if (more)
		too_much("%s: %zu of %zu pages are reported, not %zu",
			 when, want + more, nr, want);
	if (lost)
		return because(1, "%s: lost: %zu of %zu pages, page %zu first",
			       when, lost, nr, first);
	return 0;
}

/* Does the kernel say of exactly the pages that are pinned that they are? */
static inline int check_words(struct range *r, const char *when)
{
	size_t i, nr = range_nr(r), bad = 0, first = 0;
	uint64_t *entries;
	bool pinned;

	if (!accounting)
		return 0;
	entries = calloc(nr, sizeof(*entries));
	if (!entries)
		return broken("calloc");
	read_pagemap(pagemap_fd, r->mem, nr, entries);
	for (i = 0; i < nr; i++) {
		pinned = entries[i] & PM_PRESENT &&
			 kpageflags(entries[i] & PM_PFN) & KPF_PINNED;
		if (pinned != !!r->pages[i].pins && !bad++)
			first = i;
	}
	free(entries);
	if (bad)
		return because(1, "%s: kpageflags: %zu pages wrong, page %zu (%u pins) first",
			       when, bad, first, r->pages[first].pins);
	return 0;
}

static inline int cpu_reads(struct range *r, const char *when)
{
	size_t i, nr = range_nr(r);
	char now;

	for (i = 0; i < nr; i++) {
		now = __atomic_load_n(r->mem + i * pagesize, __ATOMIC_RELAXED);
		if (now != r->pages[i].value)
			return because(1, "%s: the CPU reads %d in page %zu, not %d",
				       when, now, i, r->pages[i].value);
	}
	return 0;
}

/* The report, the bit in kpageflags, and what the CPU reads. */
static inline int check(struct range *r, const char *when)
{
	bool *dirty = calloc(range_nr(r), sizeof(*dirty));
	int ret;

	if (!dirty)
		return broken("calloc");
	tracker->report(r, dirty);
	ret = compare(r, dirty, when);
	free(dirty);
	if (!ret)
		ret = cpu_reads(r, when);
	return ret ? ret : check_words(r, when);
}

/* Steps. */

static inline int take(struct range *r, struct pin *p, size_t first, size_t nr,
		       unsigned int flags)
{
	bool coarse = tracker->coarse(r);
	int ret = pin_take(p, r->mem + first * pagesize, nr * pagesize, flags);

	if (!ret)
		model_pin(r, first, nr, flags & PIN_WRITE, coarse);
	return ret;
}

static inline void drop(struct range *r, struct pin *p)
{
	if (p->fd <= 0)
		return;
	model_unpin(r, (p->mem - r->mem) / pagesize, p->size / pagesize,
		    p->write);
	pin_drop(p);
}

static inline int clean(struct range *r, const char *when)
{
	bool *found = NULL;
	int ret;

	if (tracker->says_found) {
		found = calloc(range_nr(r), sizeof(*found));
		if (!found)
			return broken("calloc");
	}
	ret = tracker->clean(r, found);
	if (!ret && found)
		ret = compare(r, found, when);
	free(found);
	model_clean(r, 0, range_nr(r));
	return ret ? ret : check(r, when);
}

/* By itself: told to who reads, not to what tracks. */
static inline void cpu_store(struct range *r, size_t first, size_t nr)
{
	char value = r->serial = r->serial % 100 + 1;
	size_t i;

	touch(r->mem + first * pagesize, nr * pagesize, value);
	for (i = first; i < first + nr; i++)
		r->pages[i].value = value;
}

static inline void cpu_write(struct range *r, size_t first, size_t nr)
{
	bool coarse = tracker->coarse(r);
	size_t i;

	cpu_store(r, first, nr);
	for (i = first; i < first + nr; i++)
		model_write(r, i, coarse);
}

/* Counted from the first page of the pin. */
static inline int device_write(struct range *r, struct pin *p, size_t first,
			       size_t nr)
{
	size_t i, offset = (p->mem - r->mem) / pagesize;
	char value = r->serial = r->serial % 100 + 1;
	int ret = pin_store(p, first * pagesize, nr * pagesize, value);

	for (i = first; i < first + nr && !ret; i++)
		r->pages[offset + i].value = value;
	return ret;
}

/* Does the device read what was written last? */
static inline int device_reads(struct range *r, struct pin *p)
{
	size_t i, first = (p->mem - r->mem) / pagesize;
	char *buf = malloc(p->size);
	int ret;

	if (!buf)
		return broken("malloc");
	ret = pin_load(p, buf);
	for (i = 0; i < p->size / pagesize && !ret; i++)
		if (buf[i * pagesize] != r->pages[first + i].value)
			ret = because(1, "the device reads %d in page %zu, not %d",
				      buf[i * pagesize], first + i,
				      r->pages[first + i].value);
	free(buf);
	return ret;
}

/* Five pages, of which some are neighbours. */
static const size_t fifths[] = { 0, 3, 4, 7, 11 };

static inline size_t fifth(struct range *r, unsigned int i)
{
	size_t nr = range_nr(r);

	return i % 2 ? nr - 1 - fifths[i] : nr / 2 + fifths[i];
}

static inline void cpu_writes_five(struct range *r)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fifths); i++)
		cpu_write(r, fifth(r, i), 1);
}

/* Without a pin. */
static inline int tracked(struct range *r, const char *when)
{
	int ret = clean(r, when);

	if (ret)
		return ret;
	cpu_writes_five(r);
	ret = check(r, "after five writes");
	return ret ? ret : clean(r, "cleaned again");
}

/*
 * To clean a range that is all pinned to write, or where nothing is, is no
 * reason to split its PMD.
 */
static inline int clean_whole(struct range *r, const char *when)
{
	bool before = pmd_mapped(r->mem, r->size);
	int ret = clean(r, when);

	if (!ret && before && !pmd_mapped(r->mem, r->size) &&
	    !(tracker->splits_shared && r->flags & MAP_SHARED))
		ret = because(1, "%s: the PMD was split", when);
	return ret;
}

/* Scenarios. */

static inline int exact_no_pin(struct range *r)
{
	int ret = clean_whole(r, "cleaned");

	if (!ret)
		ret = tracked(r, "cleaned again");
	cpu_write(r, 0, range_nr(r));
	return ret ? ret : tracked(r, "after it was written");
}

static inline int one_page(struct range *r, unsigned int flags)
{
	size_t page = range_nr(r) / 2 + 1;
	struct pin p = {};
	int ret = take(r, &p, page, 1, flags);

	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = check(r, "the device wrote");
	if (!ret)
		cpu_write(r, page + 1, 1);
	if (!ret)
		ret = check(r, "the CPU wrote another page");
	if (!ret)
		ret = clean(r, "cleaned again");
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = clean(r, "cleaned once more");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = check(r, "the CPU wrote five pages");
	drop(r, &p);
	if (!ret)
		ret = check(r, "unpinned");
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

static inline int exact_one_page(struct range *r)
{
	return one_page(r, PIN_WRITE);
}

static inline int exact_one_page_fast(struct range *r)
{
	return one_page(r, PIN_WRITE | PIN_FAST);
}

static inline int whole(struct range *r, unsigned int flags)
{
	size_t nr = range_nr(r);
	struct pin p = {};
	int ret = take(r, &p, 0, nr, flags);

	if (!ret)
		ret = clean_whole(r, "cleaned");
	if (!ret)
		ret = device_write(r, &p, 0, nr);
	if (!ret)
		ret = check(r, "the device wrote");
	if (!ret)
		ret = clean_whole(r, "cleaned again");
	if (!ret)
		ret = device_write(r, &p, nr / 2, 1);
	if (!ret)
		ret = check(r, "the device wrote one page");
	drop(r, &p);
	if (!ret)
		ret = tracked(r, "cleaned when unpinned");
	return ret;
}

static inline int exact_whole(struct range *r)
{
	return whole(r, PIN_WRITE);
}

static inline int exact_whole_fast(struct range *r)
{
	return whole(r, PIN_WRITE | PIN_FAST);
}

static inline int read_only(struct range *r, unsigned int flags)
{
	struct pin p = {};
	int ret = take(r, &p, 0, range_nr(r), flags);

	if (!ret)
		ret = clean_whole(r, "cleaned");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = check(r, "the CPU wrote five pages");
	if (!ret)
		ret = device_reads(r, &p);
	if (!ret)
		ret = clean(r, "cleaned again");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = device_reads(r, &p);
	if (!ret)
		ret = check(r, "the CPU wrote them again");
	drop(r, &p);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

static inline int exact_read_only(struct range *r)
{
	return read_only(r, 0);
}

static inline int exact_read_only_fast(struct range *r)
{
	return read_only(r, PIN_FAST);
}

/* Every second page of the range has a pin of its own. */
static inline int exact_every_second(struct range *r)
{
	size_t i, nr = range_nr(r) / 2;
	struct pin *pins = calloc(nr, sizeof(*pins));
	int ret = pins ? 0 : broken("calloc");

	for (i = 0; i < nr && !ret; i++)
		ret = take(r, &pins[i], 2 * i + 1, 1, PIN_WRITE);
	if (!ret)
		ret = clean(r, "cleaned");
	for (i = 0; i < nr && !ret; i++)
		ret = device_write(r, &pins[i], 0, 1);
	if (!ret)
		ret = clean(r, "cleaned again");
	/* Then every fourth. */
	for (i = 0; i < nr && !ret; i += 2)
		drop(r, &pins[i]);
	if (!ret)
		ret = clean(r, "half of the pins dropped");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = check(r, "the CPU wrote five pages");
	for (i = 0; pins && i < nr; i++)
		drop(r, &pins[i]);
	free(pins);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/* Two kinds of pins on a page, dropped in either order. */
static inline int overlap(struct range *r, bool writer_first)
{
	size_t nr = range_nr(r), page = nr / 3;
	struct pin reader = {}, writer = {};
	int ret = take(r, &reader, 0, nr, 0);

	if (!ret)
		ret = take(r, &writer, page, 1, PIN_WRITE);
	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret)
		ret = device_write(r, &writer, 0, 1);
	if (!ret)
		ret = clean(r, "cleaned again");
	if (!ret)
		ret = device_reads(r, &reader);
	drop(r, writer_first ? &writer : &reader);
	if (!ret)
		ret = clean(r, "one pin dropped");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = check(r, "the CPU wrote five pages");
	if (!ret)
		ret = device_reads(r, writer_first ? &reader : &writer);
	drop(r, writer_first ? &reader : &writer);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

static inline int exact_overlap_writer_first(struct range *r)
{
	return overlap(r, true);
}

static inline int exact_overlap_reader_first(struct range *r)
{
	return overlap(r, false);
}

/* What is right of a page's neighbours when their PMD is split for it. */
static inline int exact_neighbours(struct range *r)
{
	size_t nr = range_nr(r), page = nr / 2 + 2;
	struct pin p = {}, all = {};
	int ret = clean(r, "cleaned");

	/* All of it clean, and a pin that does not dirty it. */
	if (!ret)
		ret = take(r, &p, page, 1, 0);
	if (!ret)
		ret = check(r, "one page pinned to read");
	if (!ret)
		ret = clean_whole(r, "cleaned again");
	drop(r, &p);

	/* All pinned, then all but one dropped: the split comes while dirty. */
	if (!ret)
		ret = take(r, &all, 0, nr, PIN_WRITE);
	if (!ret)
		ret = take(r, &p, page, 1, PIN_WRITE);
	if (!ret)
		ret = clean_whole(r, "all pinned");
	drop(r, &all);
	if (!ret)
		ret = check(r, "all but one unpinned");
	if (!ret)
		ret = clean(r, "one page pinned");
	if (!ret)
		ret = clean(r, "cleaned while clean but for one page");

	/* Neighbours dirty before the clean, clean after it, dirty again. */
	if (!ret)
		cpu_write(r, page - 1, 1);
	if (!ret)
		cpu_write(r, page + 1, 2);
	if (!ret)
		ret = check(r, "the CPU wrote neighbours");
	if (!ret)
		ret = clean(r, "neighbours cleaned");
	if (!ret)
		cpu_write(r, page + 1, 1);
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = check(r, "both wrote");
	drop(r, &p);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/* A device writes what the CPU may only read. */
static inline int exact_mprotect(struct range *r)
{
	size_t i, nr = range_nr(r), page = nr / 2;
	struct pin p = {}, reader = {};
	int ret = take(r, &p, page, 1, PIN_WRITE);

	if (!ret)
		ret = take(r, &reader, page + 1, 3, 0);
	if (!ret && mprotect(r->mem, r->size, PROT_READ))
		ret = broken("mprotect");
	if (!ret)
		ret = clean(r, "cleaned while read-only");
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = clean(r, "cleaned again");
	if (!ret && mprotect(r->mem, r->size, PROT_READ | PROT_WRITE))
		ret = broken("mprotect");
	/* A batch of PTEs of which one is dirty can become dirty, pin or not. */
	for (i = 0; i < nr && r->large; i++)
		r->pages[i].may = true;
	if (!ret)
		ret = check(r, "writable");
	if (!ret)
		ret = clean(r, "cleaned while writable");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = device_write(r, &p, 0, 1);
	if (!ret)
		ret = device_reads(r, &reader);
	if (!ret)
		ret = check(r, "both wrote");
	drop(r, &reader);
	drop(r, &p);
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/* The three objections of January 2021 to leaving pinned pages dirty. */

#define OBJECTION_1 "objection 1: a reference is not a pin"
#define OBJECTION_1B "objection 1: 1100 references are not a pin"
#define OBJECTION_2 \
	"objection 2: one pinned page of a THP does not keep 511 dirty nor stop their tracking"
#define OBJECTION_3 \
	"objection 3: a read-only pin does not stop the tracking of CPU writes"

/*
 * Objection 1: a raised reference count looks like a pin. What CRIU's pre-dump
 * does: all pages are in pipes while it cleans them.
 */
static inline int objection_1_pipes(struct range *r)
{
	size_t i, chunk = r->size / 4, opened = 0;
	int pipes[4][2], ret = 0;
	struct pin p = {};

	/* Some pin in the past must not matter; without one, none is looked for. */
	ret = take(r, &p, 0, 1, PIN_WRITE);
	drop(r, &p);
	for (i = 0; i < 4 && !ret; i++) {
		ret = pipe_open(pipes[i], chunk);
		if (ret)
			break;
		opened++;
		ret = pipe_splice(pipes[i], r->mem + i * chunk, chunk);
	}
	if (!ret)
		ret = tracked(r, "cleaned while in pipes");
	if (!ret)
		cpu_writes_five(r);
	if (!ret)
		ret = check(r, "written while in pipes");
	for (i = 0; i < opened; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	return ret ? ret : tracked(r, "cleaned without pipes");
}

/* As many references as pins of one base page would make it look pinned. */
static inline int objection_1_count(struct range *r)
{
	size_t i, page = range_nr(r) / 2;
	int pipefd[2], ret;
	struct pin p = {};

	ret = take(r, &p, 0, 1, PIN_WRITE);
	drop(r, &p);
	if (!ret)
		ret = pipe_open(pipefd, 2048 * pagesize);
	if (ret)
		return ret;
	for (i = 0; i < 1100 && !ret; i++)
		ret = pipe_splice(pipefd, r->mem + page * pagesize, pagesize);
	if (!ret)
		ret = clean(r, "cleaned");
	if (!ret)
		cpu_write(r, page + 1, 1);
	if (!ret)
		ret = check(r, "another page was written");
	if (!ret)
		cpu_write(r, page, 1);
	if (!ret)
		ret = check(r, "the page was written");
	if (!ret)
		ret = clean(r, "cleaned again");
	close(pipefd[0]);
	close(pipefd[1]);
	return ret ? ret : tracked(r, "cleaned without references");
}

/* Objection 2: one pinned page of a THP makes 511 dirty, or untracked. */
static inline int objection_2(struct range *r)
{
	size_t i, nr = range_nr(r), page = nr / 2;
	struct pin p = {};
	int ret = take(r, &p, page, 1, PIN_WRITE);

	if (!ret)
		ret = clean(r, "cleaned");
	for (i = 0; i < nr && !ret; i += i < 8 ? 1 : 37) {
		if (i == page)
			continue;
		cpu_write(r, i, 1);
		ret = check(r, "a neighbour was written");
	}
	if (!ret)
		ret = clean(r, "cleaned again");
	drop(r, &p);
	return ret;
}

/* Objection 3: a pin to read stops the tracking of what the CPU writes. */
static inline int objection_3(struct range *r)
{
	size_t i, nr = range_nr(r);
	struct pin p = {};
	int ret = take(r, &p, 0, nr, 0);

	if (!ret)
		ret = clean(r, "cleaned");
	for (i = 0; i < nr && !ret; i += 61) {
		cpu_write(r, i, 1);
		ret = check(r, "a page was written");
	}
	if (!ret)
		ret = device_reads(r, &p);
	if (!ret)
		ret = clean(r, "cleaned again");
	if (!ret)
		cpu_write(r, 1, nr - 1);
	if (!ret)
		ret = check(r, "all but one page written");
	if (!ret)
		ret = device_reads(r, &p);
	drop(r, &p);
	return ret;
}

/* Steps by chance, the same in each run. */

#define RANDOM_STEPS	250
#define RANDOM_PINS	6

static unsigned int rnd_state;

static inline unsigned int rnd(unsigned int below)
{
	rnd_state = rnd_state * 1103515245u + 12345u;
	return (rnd_state >> 16) % below;
}

static inline int random_steps(struct range *r)
{
	static const unsigned int lengths[] = { 1, 1, 2, 5, 64, 1u << 20 };
	struct pin pins[RANDOM_PINS] = {};
	size_t first, len, nr = range_nr(r);
	int i, ret = clean(r, "cleaned");
	char when[64];
	struct pin *p;

	rnd_state = 1;
	for (i = 0; i < RANDOM_STEPS && !ret; i++) {
		len = lengths[rnd(ARRAY_SIZE(lengths))];
		len = len < nr ? len : nr;
		first = rnd(nr - len + 1);
		p = &pins[rnd(RANDOM_PINS)];
		switch (rnd(6)) {
		case 0:
			snprintf(when, sizeof(when), "step %d, clean", i);
			ret = clean(r, when);
			break;
		case 1:
			snprintf(when, sizeof(when), "step %d, CPU writes %zu+%zu",
				 i, first, len);
			cpu_write(r, first, len);
			break;
		case 2:
			snprintf(when, sizeof(when), "step %d, unpin", i);
			drop(r, p);
			break;
		case 3:
			snprintf(when, sizeof(when), "step %d, device writes", i);
			if (p->fd > 0 && p->write)
				ret = device_write(r, p, 0, 1 + rnd(p->size / pagesize));
			break;
		default:
			snprintf(when, sizeof(when), "step %d, pin %zu+%zu",
				 i, first, len);
			drop(r, p);
			ret = take(r, p, first, len, rnd(4));
			break;
		}
		if (!ret)
			ret = check(r, when);
	}
	for (i = 0; i < RANDOM_PINS; i++) {
		if (pins[i].fd > 0 && !ret)
			ret = device_reads(r, &pins[i]);
		drop(r, &pins[i]);
	}
	return ret ? ret : tracked(r, "cleaned when unpinned");
}

/*
 * While the range is cleaned, the nth allocation fails. What was done before that is
 * not undone, so that any page may be clean now; but none is lost of what a device may
 * write, or what is written from then on.
 */
static inline int clean_when_short(struct range *r, struct pin *p,
				   unsigned int nth, bool *fired)
{
	size_t i, nr = range_nr(r);
	int ret, error;

	fail_nth(nth);
	ret = tracker->clean(r, NULL);
	error = errno;
	*fired = failed_nth();
	if (ret && (!*fired || error != ENOMEM))
		return ret;
	model_clean(r, 0, nr);
	for (i = 0; *fired && i < nr; i++)
		r->pages[i].may = true;
	ret = device_write(r, p, 0, 3);
	if (!ret)
		ret = check(r, "the device wrote after an allocation failed");
	if (!ret)
		ret = device_reads(r, p);
	/* Of shared memory it is the pin that is reported, not the entry, as yet. */
	drop(r, p);
	if (!ret)
		ret = check(r, "unpinned");
	return ret ? ret : tracked(r, "cleaned when there was memory again");
}

static inline int allocations_fail_with(struct range *r, size_t first)
{
	int ret = no_faults ? because(SKIP, "%s", no_faults) : 0;
	unsigned int nth;
	bool fired = true;
	struct pin p = {};

	for (nth = 1; !ret && fired && nth <= MOST_FAULTS; nth++) {
		if (nth > 1)
			ret = remap(r);
		if (!ret)
			ret = take(r, &p, first, 3, PIN_WRITE);
		if (!ret)
			ret = clean_when_short(r, &p, nth, &fired);
		drop(r, &p);
	}
	if (!ret && fired)
		ret = because(1, "still allocates after %u times", nth);
	if (!ret)
		ksft_print_msg("%u allocations\n", nth - 2);
	return ret;
}

static inline int map_few_thps(struct range *r, int flags)
{
	return map_thps(r, 3, flags);
}

/* Also where the first of a few THPs is clean already when one fails. */
static inline int allocations_fail(struct range *r)
{
	int ret = allocations_fail_with(r, range_nr(r) / 2);

	if (ret || excess[0] || r->map != map_thp)
		return ret;
	r->map = map_few_thps;
	ret = remap(r);
	if (!ret)
		ret = allocations_fail_with(r, thpsize / pagesize / 2);
	/* A write is reported with all of its THP where that is not split. */
	excess[0] = '\0';
	return ret;
}

#define GUP_RACE_ROUNDS	400
#define ONE_RACE_ROUNDS	300
#define MIG_RACE_ROUNDS	300
#define RACE_MS		10000

/* Races: a second thread works on the range while this one cleans. */

/*
 * All of a race's rounds, or as many as go into RACE_MS: on an emulated machine with
 * more CPUs than are free on its host, each flush of a TLB waits for a time slice, and
 * all take minutes.
 */
static inline bool next_round(int round, int rounds, long start)
{
	return !round || (round < rounds && now_ms() < start + RACE_MS);
}

static inline void race_clean(struct range *r)
{
	bool *found = tracker->says_found ? calloc(range_nr(r), 1) : NULL;

	if (tracker->clean(r, found))
		ksft_exit_fail_msg("%s\n", why);
	free(found);
}

static inline size_t count_reported(struct range *r)
{
	size_t i, nr = range_nr(r), reported = 0;
	bool *dirty = calloc(nr, sizeof(*dirty));

	if (!dirty)
		ksft_exit_fail_msg("no memory\n");
	tracker->report(r, dirty);
	for (i = 0; i < nr; i++)
		reported += dirty[i];
	free(dirty);
	return reported;
}

struct racer {
	struct range *r;
	struct pin p;
	pthread_t thread;
	pthread_barrier_t start, end;
	long long late;			/* us, of the pinner */
	bool stop;
	int error;
};

static inline void *fast_pinner(void *arg)
{
	struct racer *race = arg;
	long long start;

	for (;;) {
		pthread_barrier_wait(&race->start);
		if (race->stop)
			return NULL;
		start = now_us();
		while (now_us() < start + race->late)
			;
		race->error = pin_again(&race->p, race->r->mem, race->r->size,
					PIN_WRITE | PIN_FAST) ? errno : 0;
		pthread_barrier_wait(&race->end);
	}
}

static inline int race_start(struct racer *race)
{
	pthread_barrier_init(&race->start, NULL, 2);
	pthread_barrier_init(&race->end, NULL, 2);
	return pthread_create(&race->thread, NULL, fast_pinner, race) ?
	       broken("pthread_create") : 0;
}

static inline void race_end(struct racer *race)
{
	race->stop = true;
	pthread_barrier_wait(&race->start);
	pthread_join(race->thread, NULL);
}

/*
 * GUP-fast pins while the range is cleaned. Whoever was first: either the
 * entries stay dirty, or GUP faults and makes them dirty.
 */
static inline int race_gup_fast(struct range *r)
{
	struct racer race = { .r = r };
	size_t nr = r->size / pagesize, lost = 0;
	long long took = 0;
	long start = now_ms();
	int round, ret;

	ret = pin_take(&race.p, r->mem, r->size, PIN_WRITE);
	if (ret)
		return ret;
	pin_stop(&race.p);

	ret = race_start(&race);
	if (ret) {
		pin_drop(&race.p);
		return ret;
	}
	for (round = 0; !ret && !lost && next_round(round, GUP_RACE_ROUNDS, start);
	     round++) {
		/* Writable entries, or GUP would not be fast. */
		touch(r->mem, r->size, 12);
		/*
		 * The two start in step. Spread who comes first, over the time
		 * that it takes to come to the range and to clean it.
		 */
		race.late = took * (round % 16) / 16;
		pthread_barrier_wait(&race.start);
		if (round % 16 == 0)
			usleep(10);
		took = now_us();
		race_clean(r);
		took = now_us() - took;
		pthread_barrier_wait(&race.end);
		errno = race.error;
		ret = errno ? broken("GUP-fast") :
		      pin_store(&race.p, 0, r->size, 13);
		/* Pinned shared memory would be reported, whatever its entries say. */
		pin_stop(&race.p);
		lost += nr - count_reported(r);
	}
	race_end(&race);
	pin_drop(&race.p);
	if (!ret && lost)
		ret = because(1, "lost: %zu of %zu pages that were written",
			      lost, nr * round);
	return ret;
}

/*
 * Single pages are pinned by GUP-fast, written and unpinned, over and over, by
 * one thread while the other one cleans. How to judge that: what a checkpoint
 * does is to clean, then to copy the memory, later to ask what was written
 * since. It is right if each page that now differs from the copy is reported.
 * A write from before the copy is in the copy, so it does not matter if it came
 * before or after the page was cleaned, which nobody could tell; and a write
 * from after the copy is one that came after the cleaning ended. So: clean,
 * copy, end the round, let the device write once more through the pins that
 * are left, ask. The writes are numbered, so that none leaves a page as it was.
 * Nothing but those pages was written: no other one may be reported.
 */
#define SINGLES		16

struct single {
	struct pin p;
	size_t page;
	bool held;
};

struct single_race {
	struct range *r;
	struct single singles[SINGLES];
	pthread_t thread;
	pthread_barrier_t start, end;
	bool stop, enough;
	uint32_t serial;
	int error;
};

static inline int single_write(struct single_race *race, struct single *s)
{
	struct pin_longterm_test_write args = {
		.size = sizeof(race->serial),
		.src = (uintptr_t)&race->serial,
	};

	race->serial++;
	return ioctl(s->p.fd, PIN_LONGTERM_TEST_WRITE, &args);
}

static inline void *single_pinner(void *arg)
{
	struct single_race *race = arg;
	struct single *s;
	unsigned int i;

	for (;;) {
		pthread_barrier_wait(&race->start);
		if (race->stop)
			return NULL;
		for (i = 0; !__atomic_load_n(&race->enough, __ATOMIC_ACQUIRE) ||
		     i < SINGLES; i++) {
			s = &race->singles[i % SINGLES];
			if (!s->held &&
			    pin_again(&s->p, race->r->mem + s->page * pagesize,
				      pagesize, PIN_WRITE | PIN_FAST))
				race->error = errno;
			if (single_write(race, s))
				race->error = errno;
			if (s->held)
				pin_stop(&s->p);
			s->held = !s->held;
		}
		pthread_barrier_wait(&race->end);
	}
}

static inline uint32_t single_read(struct range *r, size_t page)
{
	return __atomic_load_n((uint32_t *)(r->mem + page * pagesize),
			       __ATOMIC_RELAXED);
}

/* One round, of which lost is how many of the written pages no report has. */
static inline int single_round(struct single_race *race, int round,
			       size_t *written, size_t *lost)
{
	size_t i, j, nr = range_nr(race->r), more = 0;
	size_t per_unit = race->r->unit / pagesize;
	bool *dirty = calloc(nr, sizeof(*dirty));
	uint32_t copy[SINGLES];
	struct single *s;

	if (!dirty)
		return broken("calloc");
	for (i = 0; i < SINGLES; i++) {
		s = &race->singles[i];
		s->page = i * (nr / SINGLES) + rnd(nr / SINGLES);
		s->held = false;
	}
	race->enough = false;
	pthread_barrier_wait(&race->start);
	if (round % 4)
		usleep(round % 4 * 20);
	race_clean(race->r);
	for (i = 0; i < SINGLES; i++)
		copy[i] = single_read(race->r, race->singles[i].page);
	__atomic_store_n(&race->enough, true, __ATOMIC_RELEASE);
	pthread_barrier_wait(&race->end);

	for (i = 0; i < SINGLES; i++)
		if (race->singles[i].held &&
		    single_write(race, &race->singles[i]))
			race->error = errno;
	tracker->report(race->r, dirty);
	for (i = 0; i < SINGLES; i++) {
		s = &race->singles[i];
		if (single_read(race->r, s->page) != copy[i]) {
			++*written;
			*lost += !dirty[s->page];
		}
		if (s->held)
			pin_stop(&s->p);
	}
	for (i = 0; i < SINGLES; i++) {
		s = &race->singles[i];
		for (j = 0; j < per_unit; j++)
			dirty[s->page - s->page % per_unit + j] = false;
	}
	for (i = 0; i < nr; i++)
		more += dirty[i];
	/* A pin of one page can, while none of a PMD was there, dirty all of it. */
	if (more && !race->r->thp)
		too_much("%zu pages are reported that nobody held or wrote",
			 more);
	free(dirty);
	errno = race->error;
	return errno ? broken("gup_test") : 0;
}

static inline int race_single_pages(struct range *r)
{
	struct single_race race = { .r = r, .serial = 1000 };
	size_t i, lost = 0, written = 0;
	long start = now_ms();
	int round, ret = 0;

	rnd_state = 1;
	for (i = 0; i < SINGLES && !ret; i++)
		ret = pin_open(&race.singles[i].p);
	if (ret)
		goto drop;
	pthread_barrier_init(&race.start, NULL, 2);
	pthread_barrier_init(&race.end, NULL, 2);
	if (pthread_create(&race.thread, NULL, single_pinner, &race)) {
		ret = broken("pthread_create");
		goto drop;
	}
	for (round = 0; !ret && !lost && next_round(round, ONE_RACE_ROUNDS, start);
	     round++) {
		/* A PMD again, which the last round split, and writable. */
		if (round && r->thp) {
			ret = remap(r);
			if (ret)
				break;
		}
		touch(r->mem, r->size, 12);
		ret = single_round(&race, round, &written, &lost);
	}
	race.stop = true;
	pthread_barrier_wait(&race.start);
	pthread_join(race.thread, NULL);
	if (!ret && lost)
		ret = because(1, "lost: %zu of %zu pages that were written",
			      lost, written);
drop:
	for (i = 0; i < SINGLES; i++)
		pin_drop(&race.singles[i].p);
	return ret;
}

/* Moves the range to and fro: between two nodes, else by compaction. */
static inline void *migrator(void *arg)
{
	struct racer *race = arg;
	int node = 0, fd = -1;

	if (access("/sys/devices/system/node/node1", F_OK))
		fd = open("/proc/sys/vm/compact_memory", O_WRONLY);
	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		if (fd >= 0) {
			if (write(fd, "1", 1) != 1)
				break;
			continue;
		}
		node = !node;
		if (move_to_node(race->r, node) < 0)
			break;
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

/* Entries that are readable and, mostly, not writable. */
static inline void map_readable(struct range *r)
{
	size_t i;

	protect_unprotect(r->mem, r->size);
	for (i = 0; i < r->size; i += pagesize)
		asm volatile("" : : "r" (r->mem[i]));
}

/* Cleans while pages migrate; pinned: the device writes, else the CPU does. */
static inline int race_migration(struct range *r, bool pinned)
{
	const char *event = pinned ? "pgmigrate_fail" : "pgmigrate_success";
	unsigned long before = read_vmstat(event);
	struct racer race = { .r = r };
	struct pin p = {};
	size_t nr = r->size / pagesize, lost = 0;
	long start = now_ms();
	int round, ret = 0;

	if (pinned) {
		ret = pin_take(&p, r->mem, r->size, PIN_WRITE);
		if (ret)
			return ret;
	}
	if (pthread_create(&race.thread, NULL, migrator, &race)) {
		ret = broken("pthread_create");
		goto unpin;
	}
	for (round = 0; !ret && !lost && next_round(round, MIG_RACE_ROUNDS, start);
	     round++) {
		/*
		 * Entries to be met in flight. Of writable ones, which only the
		 * CPU is to write, the end of the migration forgets uffd-wp.
		 * What only a device writes keeps its entry, most of the time;
		 * and to read all of it waits for many a migration.
		 */
		if (!pinned)
			touch(r->mem, r->size, 14);
		else if (round % 30 == 0)
			map_readable(r);
		race_clean(r);
		if (pinned)
			ret = pin_store(&p, 0, r->size, 15);
		else
			touch(r->mem, r->size, 15);
		lost += nr - count_reported(r);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(race.thread, NULL);
	if (!ret && lost)
		ret = because(1, "lost: %zu of %zu pages that were written",
			      lost, nr * round);
	else if (!ret && read_vmstat(event) == before)
		ret = because(SKIP, "nothing tried to migrate");
unpin:
	pin_drop(&p);
	return ret;
}

static inline int race_migration_cpu(struct range *r)
{
	return race_migration(r, false);
}

static inline int race_migration_device(struct range *r)
{
	return race_migration(r, true);
}

/* All that the cases pinned is unpinned. Some is freed behind their backs. */
static inline int words_are_zero(void)
{
	int i, ret = needs_accounting();
	size_t pinned = 0;

	for (i = 0; i < 50 && !ret; i++) {
		pinned = count_pinned();
		if (!pinned)
			return 0;
		usleep(100000);
	}
	return ret ? ret : because(1, "%zu base pages count as pinned", pinned);
}

#define words_name	"all pin words are zero"

static inline void pin_tracker_init(void)
{
	static struct setting needed[] = {
		{ "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		  "advise" },
		{ "/proc/sys/vm/nr_hugepages", "4", true },
		{ "/sys/kernel/mm/ksm/run", "0" },
		{ "/sys/kernel/mm/ksm/sleep_millisecs", "1" },
		{ "/sys/kernel/mm/ksm/pages_to_scan", "10000" },
		NO_KHUGEPAGED,	/* but when a case wants one */
		{}
	};

	pin_memory_init();
	change_settings(needed);
	gup_lacks = gup_test_lacks();
	no_faults = faults_lack();
	why[0] = '\0';
}

#endif	/* PIN_TRACKER_H */
