// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations of several processes and a device on the same memory, and a
 * model of what has to come of them. After each operation:
 *
 * - a process reads what it wrote, and a device and its owner agree;
 * - nobody sees what another private mapping wrote after the two parted;
 * - every page that was written since clear_refs is soft-dirty; on kernels with
 *   PAGEMAP_SCAN, every page written since the last scan is found by it;
 * - on kernels that count pins by base page, no other page is.
 *
 * Memory is of one kind at a time, a few pages of it or one THP. An episode is a
 * list of operations on fresh memory by fresh processes; all of it, and the
 * kind, comes from a seed, one more for each episode. One operation runs at a
 * time. The first episode that breaks a promise for a kind of memory is played
 * again with fewer and fewer operations, and what is left of it is printed; the
 * promise is then not asked again of this kind, but the others are.
 *
 * The model says what may be seen, not which page is where: a frame is what one
 * private mapping wrote, or what all see of shared memory. fork() makes new
 * frames with the old values. A pin is of frames, and stays so when their owner
 * lets go of them. A plain reference (vmsplice) promises less: it may show what
 * the frame held when it was taken, or later.
 *
 * The device is gup_test (debugfs, CONFIG_GUP_TEST, with
 * PIN_LONGTERM_TEST_WRITE), io_uring, and a disk (pin_disk.h) with a direct read in
 * flight. Operations that this kernel or machine lacks are left out. Without the
 * series all of it is skipped, unless -e is given. Needs root, and swap for most that
 * it can find.
 */
#define _GNU_SOURCE
#include <linux/aio_abi.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pin_disk.h"
#include "pin_tracker.h"

#define PROCS		4		/* at a time */
#define PINS		5		/* by gup_test; one more is io_uring's */
#define RING		PINS
#define DIRECT		(PINS + 1)	/* the read in flight */
#define PIPES		2
#define PIPE_PAGES	16
#define SMALL		16		/* pages of what is no huge page */
#define MAX_PAGES	512
#define FRAMES		65536
#define TOKENS		262144
#define MAX_OPS		512
#define ANSWER_MS	600000		/* how long an operation may take */
#define REPLAYS		150		/* to find a short list of operations */
#define SHORTEN_S	60		/* and for how long */

#define TWINS		UINT32_MAX	/* frame of a token that was written twice */

/* The promises. */
enum { AGREE, SECRET, MISSED, EXACT, PROMISES, KEPT = PROMISES };

static const char * const promises[] = {
	"processes and devices see what was written",
	"no one sees what another private mapping wrote",
	"no written page is missing from a dirty report",
	"no other page is reported as dirty",
};

/* Kinds of memory, and of operations those that they are for. */
#define PRIVATE		1
#define SHARED		2
#define HUGETLB		4
#define THP		8
#define SPLIT		16		/* mapped by PTEs to begin with */
#define ANY		(PRIVATE | SHARED | HUGETLB)
#define PAGEABLE	(PRIVATE | SHARED)

static const struct kind {
	const char *name;
	int is;
} kinds[] = {
	{ "base pages", PRIVATE },
	{ "THP", PRIVATE | THP },
	{ "PTE-mapped THP", PRIVATE | THP | SPLIT },
	{ "shared memory", SHARED },
	{ "shared THP", SHARED | THP },
	{ "hugetlb", PRIVATE | HUGETLB },
	{ "shared hugetlb", SHARED | HUGETLB },
};

#define KINDS		ARRAY_SIZE(kinds)

/* The model. All of it is shared by all processes of an episode. */

struct frame {
	uint32_t token;			/* what it holds */
	uint32_t birth;			/* the first token that is later */
	uint16_t pins, write_pins;
	bool sticky;			/* since it had none, a pin was to write */
	bool lazy;			/* MADV_FREE: may hold 0 instead */
	bool freed;			/* was lazy once: reclaim may have taken it */
};

/* A page of a process. */
struct slot {
	uint32_t frame;
	bool readonly;
	bool cpu, device;		/* wrote since it was cleaned */
	bool watched;			/* a device's writes are to be reported */
	bool gone;			/* its entry went: shared memory only */
	bool may;			/* may be reported as dirty */
	/* The same for PAGEMAP_SCAN. */
	bool scan_cpu, scan_device, scan_watched, scan_may;
};

struct proc {
	bool alive;
	pid_t pid;
	bool scans;			/* by asynchronous write-protection */
	bool pmd;			/* was mapped by one, last time */
	bool split;			/* the PMD, for good */
	bool fresh;			/* where a fault can bring a PMD */
	int place[2];			/* which area either half is in */
	struct slot slots[MAX_PAGES];
};

/* A pin of gup_test, the fixed buffer of io_uring, or a direct read in flight. */
struct hold {
	bool used, write;
	char *mem;
	size_t first, nr;
	uint64_t pfn;			/* of the first page */
	uint32_t frames[MAX_PAGES];
};

struct spliced {
	size_t first, nr;
	uint32_t frames[PIPE_PAGES], tokens[PIPE_PAGES];
	bool lazy[PIPE_PAGES];
};

struct op {
	uint8_t what, who;
	uint16_t first, nr;
	uint32_t arg;
};

static struct world {
	/* Of the run. */
	uint64_t done[64];		/* how often did each operation something */
	uint64_t pairs[64];		/* bit of the operation that came next */
	uint64_t total;

	/* Of the episode. */
	int kind;
	bool ignore[PROMISES];		/* known to be broken here */
	struct op ops[MAX_OPS];
	char said[MAX_OPS][64];		/* what they did */
	bool idle[MAX_OPS];		/* that was nothing, it seems */
	size_t nr_ops;
	int broken;			/* a promise, or -1 */
	size_t step;
	char why[WHY_SIZE];

	/* The model. */
	size_t nr;			/* pages */
	char *base[2];			/* areas that the memory can be in */
	struct proc procs[PROCS];
	struct hold holds[PINS + 2];
	int reader;			/* whose direct read it is */
	struct spliced pipes[PIPES];
	uint32_t nr_frames, nr_tokens;
	struct frame frames[FRAMES];
	uint32_t token_frame[TOKENS];	/* which it was written to */
} *w;

static struct {
	int to[2], from[2];
	int pidfd;
} lines[PROCS];

static struct proc *me;			/* NULL: the driver of the episode */
static int my_uffd = -1;
static struct pin pins[PINS];
static struct ring ring = { .fd = -1 };
static int ring_file = -1;
static int pipe_fds[PIPES][2];
static char *buffer;			/* for what a device reads, or a disk */
static aio_context_t io_ctx;
static bool tracks;			/* CONFIG_MEM_SOFT_DIRTY */
static bool has_ring, has_ksm, has_nodes, has_scan, has_root;

static int is(int what)
{
	return kinds[w->kind].is & what;
}

static char text[WHY_SIZE];		/* of fail() */

/* A promise is broken: 1, or 0 if that is known and nothing follows from it. */
static int broken_promise(int promise)
{
	if (promise >= MISSED && w->ignore[promise])
		return 0;
	memcpy(w->why, text, sizeof(w->why));
	w->broken = promise;
	return 1;
}

#define fail(promise, fmt, ...) \
	(snprintf(text, sizeof(text), fmt, ##__VA_ARGS__), \
	 broken_promise(promise))

static size_t said_left(void)
{
	return sizeof(w->said[0]) - strlen(w->said[w->step]);
}

/* Tells what this step does. */
#define say(fmt, ...) \
	snprintf(w->said[w->step] + sizeof(w->said[0]) - said_left(), \
		 said_left(), fmt, ##__VA_ARGS__)

static int index_of(const struct proc *p)
{
	return p - w->procs;
}

static char *at(size_t page)
{
	return w->base[me->place[page >= w->nr / 2]] + page * pagesize;
}

static bool one_area(void)
{
	return me->place[0] == me->place[1];
}

static uint32_t new_frame(uint32_t token, bool lazy)
{
	struct frame *f = &w->frames[w->nr_frames];

	memset(f, 0, sizeof(*f));
	f->token = token;
	f->birth = w->nr_tokens;
	f->lazy = lazy;
	return w->nr_frames++;
}

static bool room_for(size_t nr)
{
	return w->nr_frames + nr <= FRAMES && w->nr_tokens + nr <= TOKENS;
}

static uint32_t new_token(uint32_t frame)
{
	w->token_frame[w->nr_tokens] = frame;
	return w->nr_tokens++;
}

static void set_token(uint32_t frame, uint32_t token)
{
	w->frames[frame].token = token;
	w->frames[frame].lazy = false;
}

/* Of a page somebody sees that value. */
static int observe(const char *who, size_t page, uint32_t frame, uint32_t now)
{
	struct frame *f = &w->frames[frame];
	uint32_t writer;

	if (now == f->token)
		return 0;
	if (f->lazy && !now) {
		f->token = 0;
		f->lazy = false;
		return 0;
	}
	writer = now < w->nr_tokens ? w->token_frame[now] : frame;
	if (now >= f->birth && writer != frame && writer != TWINS)
		return fail(SECRET, "%s sees in page %zu what another mapping wrote (%u, not %u)",
			    who, page, now, f->token);
	return fail(AGREE, "%s sees %u in page %zu, not %u", who, now, page,
		    f->token);
}

static void may_all(struct proc *p)
{
	size_t i;

	for (i = 0; i < w->nr; i++) {
		p->slots[i].may = true;
		p->slots[i].scan_may = true;
	}
}

static void all_may_all(void)
{
	struct proc *p;

	for (p = w->procs; p < w->procs + PROCS; p++)
		if (p->alive)
			may_all(p);
}

/* What is known of a page, by either tracking, is gone. */
static void nobody_wrote(struct slot *s)
{
	s->cpu = false;
	s->device = false;
	s->scan_cpu = false;
	s->scan_device = false;
}

/* The next fault can bring a PMD. */
static void mapped_anew(void)
{
	me->fresh = true;
	me->split = false;
}

/* An entry of shared memory goes, and takes along what it says. */
static void entry_gone(struct slot *s)
{
	s->cpu = false;
	s->scan_cpu = false;
	s->gone = true;
	if (w->frames[s->frame].write_pins)
		return;
	s->device = false;
	s->scan_device = false;
}

static void entries_gone(struct proc *p)
{
	size_t i;

	for (i = 0; is(SHARED) && i < w->nr; i++)
		entry_gone(&p->slots[i]);
}

static void cpu_wrote(size_t page, uint32_t token)
{
	struct slot *s = &me->slots[page];

	set_token(s->frame, token);
	s->cpu = true;
	s->may = true;
	s->scan_cpu = true;
	s->scan_may = true;
}

/* Is all of it mapped by one PMD? What was split stays so, with exceptions. */
static bool one_pmd(void)
{
	size_t size = w->nr * pagesize;

	if (!is(THP) || !one_area() || me->split)
		return false;
	/* It is all that this process has of that. */
	if (read_size("/proc/self/smaps_rollup", is(SHARED) ?
		      "ShmemPmdMapped: %lu kB" : "AnonHugePages: %lu kB",
		      1024) >= size)
		return true;
	me->split = !is(SHARED) && !me->fresh;
	return false;
}

/* Would a write fault dirty more than the page that is written? */
static bool coarse(const struct op *o)
{
	size_t i;

	if (one_pmd())
		return true;
	/* What is missing of a THP in shared memory, a write maps as a whole. */
	for (i = o->first; i < (size_t)o->first + o->nr; i++)
		if (is(SHARED) && is(THP) &&
		    !(read_u64(pagemap_fd, (uintptr_t)at(i) / pagesize) &
		      PM_PRESENT))
			return true;
	return false;
}

/* What a write fault did to the entries of the others. */
static void after_fault(bool before)
{
	bool now = one_pmd();

	if (before || now)
		may_all(me);
	if (before && !now)
		entries_gone(me);
}

static bool contiguous(const struct op *o)
{
	return one_area() || o->first >= w->nr / 2 ||
	       o->first + o->nr <= w->nr / 2;
}

/* Calls for one range, or for both parts if they are apart; false: none went. */
static bool pieces(const struct op *o, bool (*fn)(char *mem, size_t size, int arg),
		   int arg)
{
	size_t half = w->nr / 2, end = o->first + o->nr;

	if (contiguous(o))
		return fn(at(o->first), o->nr * pagesize, arg);
	return fn(at(o->first), (half - o->first) * pagesize, arg) &&
	       fn(at(half), (end - half) * pagesize, arg);
}

static bool advise(char *mem, size_t size, int advice)
{
	return !madvise(mem, size, advice);
}

static bool protect(char *mem, size_t size, int prot)
{
	return !mprotect(mem, size, prot);
}

/* The operations. Each returns 0, 1 if a promise is broken, or SKIP: no effect. */

static void say_range(size_t first, size_t nr)
{
	if (nr == 1)
		say(" page %zu", first);
	else
		say(" pages %zu to %zu", first, first + nr - 1);
}

static void say_pages(const struct op *o)
{
	say_range(o->first, o->nr);
}

static int op_write(const struct op *o)
{
	bool pmd = coarse(o);
	size_t i, written = 0;
	uint32_t token;

	if (!room_for(o->nr))
		return SKIP;
	for (i = o->first; i < o->first + o->nr; i++) {
		if (me->slots[i].readonly)
			continue;
		token = new_token(me->slots[i].frame);
		__atomic_store_n((uint32_t *)at(i), token, __ATOMIC_RELAXED);
		cpu_wrote(i, token);
		written++;
	}
	if (!written)
		return SKIP;
	after_fault(pmd);
	say_pages(o);
	return 0;
}

static int op_read(const struct op *o)
{
	char who[32];
	size_t i;
	int ret = 0;

	snprintf(who, sizeof(who), "process %d", index_of(me));
	for (i = o->first; i < o->first + o->nr && !ret; i++)
		ret = observe(who, i, me->slots[i].frame,
			      __atomic_load_n((uint32_t *)at(i), __ATOMIC_RELAXED));
	say_pages(o);
	return ret;
}

static void serve(void);

/* A new process, of the model, too. */
static void become(struct proc *p)
{
	me = p;
	if (my_uffd >= 0)
		close(my_uffd);
	my_uffd = -1;
	close(pagemap_fd);
	close(clear_refs_fd);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	clear_refs_fd = open("/proc/self/clear_refs", O_WRONLY);
	/* Nor does it answer for the disk: when it dies, its reads have to end. */
	if (pin_disk.server >= 0)
		close(pin_disk.server);
	pin_disk.server = -1;
	io_ctx = 0;
}

static int op_fork(const struct op *o)
{
	struct proc *p = w->procs;
	struct slot *s;
	size_t i;
	pid_t pid;

	(void)o;
	while (p < w->procs + PROCS && p->alive)
		p++;
	if (p == w->procs + PROCS || !room_for(w->nr))
		return SKIP;
	pid = fork();
	if (pid < 0)
		return SKIP;
	if (!pid) {
		become(p);
		serve();
	}
	p->pid = pid;
	memcpy(p->place, me->place, sizeof(p->place));
	for (i = 0; i < w->nr; i++) {
		struct frame *f = &w->frames[me->slots[i].frame];

		s = &p->slots[i];
		memset(s, 0, sizeof(*s));
		s->readonly = me->slots[i].readonly;
		/* Its tracking begins with the first time that it cleans. */
		s->may = true;
		s->frame = is(SHARED) ? me->slots[i].frame :
			   new_frame(f->token, f->lazy);
	}
	p->scans = false;
	p->pmd = me->pmd;
	p->split = me->split;
	p->fresh = me->fresh;
	p->alive = true;
	say(" process %d", index_of(p));
	return 0;
}

static int op_discard(const struct op *o)
{
	struct op all = { .nr = w->nr };
	size_t i;

	/* Huge pages go as a whole or, without an error, not at all. */
	if (is(HUGETLB))
		o = &all;
	if (!room_for(o->nr) || !pieces(o, advise, MADV_DONTNEED))
		return SKIP;
	mapped_anew();
	for (i = o->first; i < (size_t)o->first + o->nr; i++) {
		struct slot *s = &me->slots[i];

		if (is(SHARED)) {
			entry_gone(s);
		} else {
			s->frame = new_frame(0, false);
			nobody_wrote(s);
			s->watched = false;
			s->scan_watched = false;
		}
		s->scan_may = true;
	}
	say_pages(o);
	return 0;
}

static int op_lazyfree(const struct op *o)
{
	size_t i;

	if (!pieces(o, advise, MADV_FREE))
		return SKIP;
	mapped_anew();
	for (i = o->first; i < (size_t)o->first + o->nr; i++) {
		struct slot *s = &me->slots[i];

		/* What goes takes along what is known of it. */
		w->frames[s->frame].lazy = true;
		w->frames[s->frame].freed = true;
		nobody_wrote(s);
		s->scan_may = true;
	}
	say_pages(o);
	return 0;
}

/* Advice that changes nothing of what is seen or reported */
static int advised(const struct op *o, int advice)
{
	if (!pieces(o, advise, advice))
		return SKIP;
	say_pages(o);
	return 0;
}

static int op_pageout(const struct op *o)
{
	return advised(o, MADV_PAGEOUT);
}

static int op_willneed(const struct op *o)
{
	return advised(o, MADV_WILLNEED);
}

static int op_collapse(const struct op *o)
{
	struct proc *p;
	bool done;

	(void)o;
	if (!is(THP) || !one_area())
		return SKIP;
	done = !madvise(at(0), w->nr * pagesize, MADV_COLLAPSE);
	me->split = false;
	/* What is new is dirty; of shared memory all that mapped it is gone. */
	may_all(me);
	for (p = w->procs; p < w->procs + PROCS; p++)
		if (p->alive)
			entries_gone(p);
	if (!done)
		say(" (failed)");
	else
		say(" all");
	return 0;
}

static int op_hugepage(const struct op *o)
{
	struct op all = { .nr = w->nr };
	bool no = o->arg & 1;

	if (!pieces(&all, advise, no ? MADV_NOHUGEPAGE : MADV_HUGEPAGE))
		return SKIP;
	say("%s", no ? " off" : " on");
	return 0;
}

/* PTEs of one folio that change as one share a dirty bit, which dirties them. */
static void may_share_dirty(size_t page)
{
	me->slots[page].may |= is(THP);
}

static int op_protect(const struct op *o)
{
	/* To read-only, to writable, or to and fro. */
	int how = o->arg % 3;
	bool readonly = how == 0;
	size_t i;

	if (how != 1 && !pieces(o, protect, PROT_READ))
		return SKIP;
	if (how && !pieces(o, protect, PROT_READ | PROT_WRITE))
		return SKIP;
	for (i = o->first; i < (size_t)o->first + o->nr; i++) {
		me->slots[i].readonly = readonly;
		may_share_dirty(i);
	}
	say("%s", how == 0 ? " to read-only" : how == 1 ? " to writable" :
	    " to and fro");
	say_pages(o);
	return 0;
}

/* What is left behind must not become somebody's heap. */
static void reserve(char *mem, size_t size)
{
	mmap(mem, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
	     MAP_NORESERVE, -1, 0);
}

static int op_mremap(const struct op *o)
{
	size_t half = w->nr / 2, first = 0, nr = half;
	int part = is(HUGETLB) ? 2 : o->arg % 3, place;
	char *from;

	/* It would no longer be write-protected. */
	if (me->scans)
		return SKIP;
	if (part == 1)
		first = half;
	if (part == 2) {
		if (!one_area())
			return SKIP;
		nr = w->nr;
	}
	from = at(first);
	place = !me->place[part == 1];
	if (mremap(from, nr * pagesize, nr * pagesize, MREMAP_MAYMOVE |
		   MREMAP_FIXED, w->base[place] + first * pagesize) == MAP_FAILED)
		return SKIP;
	reserve(from, nr * pagesize);
	if (part != 1)
		me->place[0] = place;
	if (part != 0)
		me->place[1] = place;
	may_all(me);
	if (is(THP))
		entries_gone(me);
	say_range(first, nr);
	return 0;
}

/* Another mapping takes the place of a half. */
static int op_map_over(const struct op *o)
{
	size_t half = w->nr / 2, first = o->arg % 2 * half, i;
	char *mem = at(first);

	if (me->scans || !room_for(half))
		return SKIP;
	if (mmap(mem, half * pagesize, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		 MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return SKIP;
	madvise(mem, half * pagesize, is(THP) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (i = first; i < first + half; i++) {
		memset(&me->slots[i], 0, sizeof(me->slots[i]));
		me->slots[i].frame = new_frame(0, false);
	}
	mapped_anew();
	may_all(me);
	say_range(first, half);
	return 0;
}

static int op_migrate(const struct op *o)
{
	void *pages[MAX_PAGES];
	int nodes[MAX_PAGES], status[MAX_PAGES];
	size_t i;

	for (i = 0; i < o->nr; i++) {
		pages[i] = at(o->first + i);
		nodes[i] = o->arg & 1;
	}
	if (syscall(__NR_move_pages, 0, (long)o->nr, pages, nodes, status,
		    MPOL_MF_MOVE | (has_root ? MPOL_MF_MOVE_ALL : 0)) < 0)
		return SKIP;
	/* What is dirty by another bit comes back as soft-dirty. */
	all_may_all();
	say(" to node %u", o->arg & 1);
	say_pages(o);
	return 0;
}

static int op_compact(const struct op *o)
{
	(void)o;
	if (!write_file("/proc/sys/vm/compact_memory", "1"))
		return SKIP;
	all_may_all();
	return 0;
}

/* Two pages become the same, and one. */
static int op_ksm(const struct op *o)
{
	size_t other = (o->first + 1 + o->arg % (w->nr - 1)) % w->nr;
	struct op all = { .nr = w->nr };
	bool pmd = one_pmd();
	uint32_t token;

	if (me->slots[o->first].readonly || me->slots[other].readonly ||
	    !room_for(1) || !pieces(&all, advise, MADV_MERGEABLE))
		return SKIP;
	token = new_token(TWINS);
	*(uint32_t *)at(o->first) = token;
	*(uint32_t *)at(other) = token;
	cpu_wrote(o->first, token);
	cpu_wrote(other, token);
	after_fault(pmd);
	say(" pages %u and %zu", o->first, other);
	ksm_scan();
	return 0;
}

/* Write-protects, and takes it back. */
static int op_uffd(const struct op *o)
{
	struct range r = { .mem = at(o->first), .size = o->nr * pagesize };
	int fd, ret = SKIP;
	size_t i;

	if (me->scans || !contiguous(o))
		return SKIP;
	fd = uffd_register(&r, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
			   UFFDIO_REGISTER_MODE_WP);
	if (fd < 0)
		return SKIP;
	if (!uffd_protect(fd, r.mem, r.size, true)) {
		say_pages(o);
		ret = 0;
	}
	for (i = o->first; i < (size_t)o->first + o->nr; i++)
		may_share_dirty(i);
	uffd_protect(fd, r.mem, r.size, false);
	close(fd);
	return ret;
}

/* Dirty reports. */

static void read_entries(uint64_t *entries)
{
	size_t half = w->nr / 2;

	read_pagemap(pagemap_fd, at(0), one_area() ? w->nr : half, entries);
	if (!one_area())
		read_pagemap(pagemap_fd, at(half), half, entries + half);
}

static int op_clear(const struct op *o)
{
	static uint64_t entries[MAX_PAGES];
	size_t i;

	(void)o;
	read_entries(entries);
	if (pwrite(clear_refs_fd, "4", 1, 0) != 1)
		return SKIP;
	for (i = 0; i < w->nr; i++) {
		struct slot *s = &me->slots[i];
		struct frame *f = &w->frames[s->frame];

		s->cpu = false;
		s->device = false;
		s->gone = is(SHARED) && !(entries[i] & PM_PRESENT);
		s->watched = f->write_pins;
		s->may = f->sticky;
	}
	/* This split comes before the pages are cleaned. */
	me->pmd = one_pmd();
	return 0;
}

#ifdef PAGEMAP_SCAN
/* Which pages are written since the last scan that cleaned? */
static int scan(bool clean)
{
	struct range r = { .mem = at(0), .size = w->nr * pagesize };
	struct pm_scan_arg arg = {
		.flags = clean ? PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC : 0,
		.start = (uintptr_t)r.mem,
		.end = (uintptr_t)r.mem + r.size,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	bool found[MAX_PAGES] = {};
	size_t i;
	int ret = 0;

	if (pagemap_scan(&r, &arg, found) != (ssize_t)r.size)
		return fail(MISSED, "PAGEMAP_SCAN: %s", strerror(errno));
	for (i = 0; i < w->nr && !ret; i++) {
		struct slot *s = &me->slots[i];

		if ((s->scan_cpu || s->scan_device) && !found[i])
			ret = fail(MISSED, "PAGEMAP_SCAN does not find page %zu, which was written",
				   i);
		/* What reclaim took away, or is not mapped, counts as written. */
		else if (found[i] && !s->scan_may && !is(SHARED | HUGETLB) &&
			 !w->frames[s->frame].freed && (accounting || exact))
			ret = fail(EXACT, "PAGEMAP_SCAN finds page %zu, which nobody wrote",
				   i);
	}
	for (i = 0; i < w->nr && clean; i++) {
		struct slot *s = &me->slots[i];

		s->scan_cpu = false;
		s->scan_device = false;
		s->scan_may = w->frames[s->frame].sticky;
		/*
		 * What is protected already, a scan leaves alone: another
		 * process may have pinned it since, as it may have written it.
		 */
		s->scan_watched = w->frames[s->frame].write_pins &&
				  (s->scan_watched || found[i]);
	}
	return ret;
}

static int op_scan(const struct op *o)
{
	(void)o;
	return me->scans ? scan(true) : SKIP;
}

static void start_scans(void)
{
	struct range r = { .mem = at(0), .size = w->nr * pagesize };

	my_uffd = uffd_register(&r, UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
				UFFD_FEATURE_WP_ASYNC |
				UFFD_FEATURE_WP_UNPOPULATED,
				UFFDIO_REGISTER_MODE_WP);
	me->scans = my_uffd >= 0;
}
#else
static int scan(bool clean)
{
	(void)clean;
	return 0;
}

static int op_scan(const struct op *o)
{
	(void)o;
	return SKIP;
}

static void start_scans(void)
{
}
#endif

/* The device. */

/* To read what is not mapped can bring a PMD, too, and as new memory it is dirty. */
static void after_pin(bool write, bool before)
{
	if (write)
		after_fault(before);
	else if (!before && one_pmd())
		may_all(me);
}

static int hold(const struct op *o, struct hold *h, bool write, bool pmd)
{
	size_t i;

	h->used = true;
	h->write = write;
	h->mem = at(o->first);
	h->first = o->first;
	h->nr = o->nr;
	h->pfn = pfn_of(h->mem);
	for (i = 0; i < h->nr; i++) {
		struct slot *s = &me->slots[o->first + i];
		struct frame *f = &w->frames[s->frame];

		h->frames[i] = s->frame;
		f->pins++;
		if (!write)
			continue;
		f->write_pins++;
		f->sticky = true;
		s->watched = true;
		s->scan_watched = true;
		s->may = true;
		s->scan_may = true;
	}
	after_pin(write, pmd);
	return 0;
}

/* GUP that fails in the middle may have faulted and pinned what comes before. */
static int not_pinned(const struct op *o, bool write, bool pmd)
{
	size_t i;

	for (i = o->first; write && i < (size_t)o->first + o->nr; i++) {
		struct frame *f = &w->frames[me->slots[i].frame];

		me->slots[i].may = true;
		me->slots[i].scan_may = true;
		f->sticky |= f->pins;
	}
	after_pin(write, pmd);
	return SKIP;
}

static int op_pin(const struct op *o)
{
	unsigned int flags = o->arg & (PIN_WRITE | PIN_FAST), i;
	bool pmd = coarse(o);

	for (i = 0; i < PINS && w->holds[i].used; i++)
		;
	if (i == PINS || !contiguous(o))
		return SKIP;
	if (pin_again(&pins[i], at(o->first), o->nr * pagesize, flags))
		return not_pinned(o, flags & PIN_WRITE, pmd);
	say(" %u to %s%s", i, flags & PIN_WRITE ? "write" : "read",
	    flags & PIN_FAST ? " (fast)" : "");
	say_pages(o);
	return hold(o, &w->holds[i], flags & PIN_WRITE, pmd);
}

static int op_register(const struct op *o)
{
	struct iovec iov = {
		.iov_base = at(o->first),
		.iov_len = o->nr * pagesize,
	};
	bool pmd = coarse(o);

	if (w->holds[RING].used || !contiguous(o))
		return SKIP;
	if (ring_register(&ring, &iov, 1))
		return not_pinned(o, true, pmd);
	say_pages(o);
	return hold(o, &w->holds[RING], true, pmd);
}

static int op_splice(const struct op *o)
{
	struct spliced *p = &w->pipes[o->arg % PIPES];
	struct iovec iov = {
		.iov_base = at(o->first),
		.iov_len = (o->nr < PIPE_PAGES ? o->nr : PIPE_PAGES) * pagesize,
	};
	ssize_t n;
	size_t i;

	if (p->nr || !contiguous(o))
		return SKIP;
	n = vmsplice(pipe_fds[o->arg % PIPES][1], &iov, 1, SPLICE_F_NONBLOCK);
	if (n <= 0)
		return SKIP;
	p->first = o->first;
	p->nr = n / pagesize;
	for (i = 0; i < p->nr; i++) {
		p->frames[i] = me->slots[o->first + i].frame;
		p->tokens[i] = w->frames[p->frames[i]].token;
		p->lazy[i] = w->frames[p->frames[i]].lazy;
	}
	say(" pipe %u", o->arg % PIPES);
	say_range(p->first, p->nr);
	return 0;
}

/* A direct read, which the disk does not answer yet: till then it is but a pin. */
static int op_direct(const struct op *o)
{
	struct hold *h = &w->holds[DIRECT];
	struct iocb cb = {
		.aio_fildes = pin_disk.fd,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_buf = (uintptr_t)at(o->first),
		.aio_nbytes = o->nr * pagesize,
		.aio_offset = DISK_HELD,
	}, *cbs[] = { &cb };
	bool pmd = coarse(o);
	struct io_event done;
	size_t i;

	for (i = o->first; i < (size_t)o->first + o->nr; i++)
		if (me->slots[i].readonly)
			return SKIP;
	if (h->used || !contiguous(o))
		return SKIP;
	if (!io_ctx && syscall(__NR_io_setup, 1, &io_ctx))
		return SKIP;
	if (syscall(__NR_io_submit, io_ctx, 1, cbs) != 1)
		return not_pinned(o, true, pmd);
	/* An error is there at once. */
	if (syscall(__NR_io_getevents, io_ctx, 0, 1, &done, NULL))
		return not_pinned(o, true, pmd);
	w->reader = index_of(me);
	say_pages(o);
	return hold(o, h, true, pmd);
}

/* The same process, later. */
static int direct_ended(void)
{
	ssize_t size = w->holds[DIRECT].nr * pagesize;
	struct io_event done = {};

	if (syscall(__NR_io_getevents, io_ctx, 1, 1, &done, NULL) != 1 ||
	    done.res != size)
		return fail(AGREE, "a direct read of %zd bytes ended with %lld",
			    size, (long long)done.res);
	return 0;
}

/* The rest is done by the driver of the episode. */

static struct hold *a_hold(const struct op *o)
{
	unsigned int i;
	struct hold *h;

	for (i = 0; i <= PINS; i++) {
		h = &w->holds[(o->arg / 16 + i) % (PINS + 1)];
		if (h->used)
			return h;
	}
	return NULL;
}

static void device_wrote(struct hold *h, size_t i)
{
	uint32_t frame = h->frames[i];
	struct proc *p;
	struct slot *s;

	set_token(frame, new_token(frame));
	for (p = w->procs; p < w->procs + PROCS; p++) {
		s = &p->slots[h->first + i];
		if (!p->alive || s->frame != frame)
			continue;
		s->device |= s->watched;
		s->scan_device |= s->scan_watched;
	}
}

static int op_device_write(const struct op *o)
{
	struct hold *h = a_hold(o);
	struct pin_longterm_test_write args = { .size = sizeof(uint32_t) };
	size_t i, first, nr;
	uint32_t token;

	if (!h || !h->write)
		return SKIP;
	first = o->first % h->nr;
	nr = h->nr - first;
	if (o->nr < nr)
		nr = o->nr;
	if (!room_for(nr))
		return SKIP;
	for (i = first; i < first + nr; i++) {
		device_wrote(h, i);
		token = w->frames[h->frames[i]].token;
		args.offset = i * pagesize;
		args.src = (uintptr_t)&token;
		if (h != &w->holds[RING] ?
		    ioctl(pins[h - w->holds].fd, PIN_LONGTERM_TEST_WRITE, &args) :
		    pwrite(ring_file, &token, sizeof(token),
			   (i - first) * pagesize) < 0)
			return fail(AGREE, "the device: %s", strerror(errno));
	}
	if (h == &w->holds[RING] &&
	    ring_copy(&ring, IORING_OP_READ_FIXED, ring_file, 0,
		      h->mem + first * pagesize, nr * pagesize))
		return fail(AGREE, "%.150s", why);
	say(" %zu", (size_t)(h - w->holds));
	say_range(h->first + first, nr);
	return 0;
}

static int device_looks(struct hold *h)
{
	uint64_t to = (uintptr_t)buffer;
	size_t i, n = h - w->holds;
	uint32_t now;
	char who[32];
	int ret = 0;

	if (n == RING) {
		if (ring_copy(&ring, IORING_OP_WRITE_FIXED, ring_file, 0,
			      h->mem, h->nr * pagesize) ||
		    pread(ring_file, buffer, h->nr * pagesize, 0) < 0)
			return fail(AGREE, "%.150s", why);
	} else if (ioctl(pins[n].fd, PIN_LONGTERM_TEST_READ, &to)) {
		return fail(AGREE, "gup_test: %s", strerror(errno));
	}
	snprintf(who, sizeof(who), n == RING ? "io_uring" : "pin %zu", n);
	for (i = 0; i < h->nr && !ret; i++) {
		memcpy(&now, buffer + i * pagesize, sizeof(now));
		ret = observe(who, h->first + i, h->frames[i], now);
	}
	return ret;
}

static int op_device_read(const struct op *o)
{
	struct hold *h = a_hold(o);

	if (!h)
		return SKIP;
	say(" %zu", (size_t)(h - w->holds));
	return device_looks(h);
}

static void ring_unpin(void)
{
	syscall(__NR_io_uring_register, ring.fd, IORING_UNREGISTER_BUFFERS, NULL,
		0);
}

/* A request can keep its pages for a moment after it is done. */
static void wait_for_unpin(struct hold *h)
{
	int i;

	for (i = 0; i < 100 && h->pfn && w->frames[h->frames[0]].pins == 1 &&
	     kpageflags(h->pfn) & KPF_PINNED; i++)
		usleep(1000);
}

static void drop_hold(struct hold *h)
{
	struct proc *p;
	struct slot *s;
	size_t i;

	if (h == &w->holds[RING])
		ring_unpin();
	else if (h != &w->holds[DIRECT])
		pin_stop(&pins[h - w->holds]);
	if (h >= &w->holds[RING])
		wait_for_unpin(h);
	h->used = false;
	for (i = 0; i < h->nr; i++) {
		struct frame *f = &w->frames[h->frames[i]];

		f->write_pins -= h->write;
		if (!--f->pins)
			f->sticky = false;
		if (f->write_pins)
			continue;
		for (p = w->procs; p < w->procs + PROCS; p++) {
			s = &p->slots[h->first + i];
			if (!p->alive || s->frame != h->frames[i])
				continue;
			s->watched = false;
			s->scan_watched = false;
			s->device &= !s->gone;
			s->scan_device &= !s->gone;
		}
	}
}

static int call(struct proc *p, char what);

/* The disk answers: the device writes, and lets go. */
static int end_direct(void)
{
	struct hold *h = &w->holds[DIRECT];
	size_t i;
	int ret;

	memset(buffer, 0, h->nr * pagesize);
	for (i = 0; i < h->nr; i++) {
		device_wrote(h, i);
		*(uint32_t *)(buffer + i * pagesize) =
			w->frames[h->frames[i]].token;
	}
	if (!disk_answer(buffer, h->nr * pagesize))
		return fail(AGREE, "the disk has nothing to answer");
	ret = call(&w->procs[w->reader], 'd');
	drop_hold(h);
	return ret;
}

static int op_direct_end(const struct op *o)
{
	(void)o;
	if (!w->holds[DIRECT].used || !room_for(w->holds[DIRECT].nr))
		return SKIP;
	say_range(w->holds[DIRECT].first, w->holds[DIRECT].nr);
	return end_direct();
}

static int op_unpin(const struct op *o)
{
	struct hold *h = a_hold(o);

	if (!h)
		return SKIP;
	drop_hold(h);
	say(" %zu", (size_t)(h - w->holds));
	return 0;
}

static int drain(struct spliced *p)
{
	size_t i, size = p->nr * pagesize, done = 0;
	int fd = pipe_fds[p - w->pipes][0], ret = 0;
	char who[32];
	ssize_t n;

	while (done < size) {
		n = read(fd, buffer + done, size - done);
		if (n <= 0)
			return fail(AGREE, "pipe: %s", strerror(errno));
		done += n;
	}
	snprintf(who, sizeof(who), "pipe %d", (int)(p - w->pipes));
	for (i = 0; i < p->nr && !ret; i++) {
		uint32_t frame = p->frames[i], now;

		memcpy(&now, buffer + i * pagesize, sizeof(now));
		if (now == p->tokens[i] ||
		    (!now && (p->lazy[i] || w->frames[frame].lazy)) ||
		    (now < w->nr_tokens && (w->token_frame[now] == frame ||
					    w->token_frame[now] == TWINS)))
			continue;
		ret = observe(who, p->first + i, frame, now);
	}
	p->nr = 0;
	return ret;
}

static int op_drain(const struct op *o)
{
	struct spliced *p = &w->pipes[o->arg % PIPES];

	if (!p->nr)
		return SKIP;
	say(" %u", o->arg % PIPES);
	return drain(p);
}

static int op_swapoff(const struct op *o)
{
	int ret = swap_off_on();

	(void)o;
	return ret == 1 ? fail(AGREE, "%s", why) : ret;
}

/* All that the episode has charged is reclaimed, if it can be. */
static int op_pressure(const struct op *o)
{
	(void)o;
	if (!write_in_group("memory.high", "0"))
		return SKIP;
	write_in_group("memory.high", "max");
	return 0;
}

static int op_exit(const struct op *o);

static bool can_always(void) { return true; }
static bool can_pin(void) { return !gup_lacks; }
static bool can_register(void) { return has_ring; }
static bool can_device(void) { return !gup_lacks || has_ring; }
static bool can_clear(void) { return tracks; }
static bool can_scan(void) { return has_scan; }
static bool can_migrate(void) { return has_nodes; }
static bool can_ksm(void) { return has_ksm; }
static bool can_swap(void) { return swap_path()[0]; }
static bool can_press(void) { return swap_path()[0] && group[0]; }

static bool can_direct(void)
{
	return pin_disk.fd >= 0;
}

static bool can_compact(void)
{
	return !access("/proc/sys/vm/compact_memory", W_OK);
}

#define DRIVER		1		/* of no process */

static const struct operation {
	const char *name;
	int weight;			/* of some 1500 */
	int kinds, flags;
	bool (*can)(void);
	int (*run)(const struct op *o);
} operations[] = {
	{ "write", 200, ANY, 0, can_always, op_write },
	{ "read", 60, ANY, 0, can_always, op_read },
	{ "fork", 100, ANY, 0, can_always, op_fork },
	{ "exit", 50, ANY, DRIVER, can_always, op_exit },
	{ "pin", 150, ANY, 0, can_pin, op_pin },
	{ "register buffer", 30, ANY, 0, can_register, op_register },
	{ "device writes by pin", 130, ANY, DRIVER, can_device, op_device_write },
	{ "device reads by pin", 30, ANY, DRIVER, can_device, op_device_read },
	{ "unpin", 90, ANY, DRIVER, can_device, op_unpin },
	{ "vmsplice", 80, ANY, 0, can_always, op_splice },
	{ "read pipe", 40, ANY, DRIVER, can_always, op_drain },
	{ "clear_refs", 110, ANY, 0, can_clear, op_clear },
	{ "scan", 110, ANY, 0, can_scan, op_scan },
	{ "mprotect", 90, ANY, 0, can_always, op_protect },
	{ "MADV_PAGEOUT", 90, PAGEABLE, 0, can_swap, op_pageout },
	{ "MADV_DONTNEED", 50, ANY, 0, can_always, op_discard },
	{ "MADV_FREE", 20, PRIVATE, 0, can_always, op_lazyfree },
	{ "MADV_WILLNEED", 15, PAGEABLE, 0, can_always, op_willneed },
	{ "MADV_COLLAPSE", 20, PAGEABLE, 0, can_always, op_collapse },
	{ "MADV_HUGEPAGE", 20, PAGEABLE, 0, can_always, op_hugepage },
	{ "mremap", 40, ANY, 0, can_always, op_mremap },
	{ "mmap", 20, PRIVATE, 0, can_always, op_map_over },
	{ "uffd-wp", 30, ANY, 0, can_always, op_uffd },
	{ "move_pages", 25, ANY, 0, can_migrate, op_migrate },
	{ "compact", 2, ANY, DRIVER, can_compact, op_compact },
	{ "KSM", 10, PRIVATE, 0, can_ksm, op_ksm },
	{ "swapoff, swapon", 4, PAGEABLE, DRIVER, can_swap, op_swapoff },
	{ "memory pressure", 25, PAGEABLE, DRIVER, can_press, op_pressure },
	{ "direct read", 60, ANY, 0, can_direct, op_direct },
	{ "direct read ends", 60, ANY, DRIVER, can_direct, op_direct_end },
};

#define OPERATIONS	ARRAY_SIZE(operations)

static bool possible[KINDS][OPERATIONS];
static bool usable[KINDS];

/* Checks. */

/* Says the kernel of exactly the pages with pins that they are pinned? */
static int check_word(size_t page, uint64_t entry)
{
	struct frame *f = &w->frames[me->slots[page].frame];
	bool pinned;

	if (!(entry & PM_PRESENT) || !(entry & PM_PFN))
		return 0;
	pinned = kpageflags(entry & PM_PFN) & KPF_PINNED;
	if (pinned == !!f->pins)
		return 0;
	return fail(pinned ? EXACT : MISSED,
		    "process %d: kpageflags says that page %zu is%s pinned",
		    index_of(me), page, pinned ? "" : " not");
}

/* Of many pages it is those that operations are about, and some others. */
static bool now_and_then(size_t page)
{
	size_t half = w->nr / 2;

	return w->nr <= SMALL || page < 4 || page + 4 >= w->nr ||
	       (page + 3 >= half && page < half + 4) ||
	       (page + w->step) % 8 == 0;
}

/* What this process sees; all: also what is not mapped, by a fault. */
static int check_self(bool all)
{
	static uint64_t entries[MAX_PAGES];
	bool may, dirty, present, pmd;
	char who[32];
	size_t i;
	int ret = 0;

	snprintf(who, sizeof(who), "process %d", index_of(me));
	/* A split can make what is dirty by another bit soft-dirty. */
	pmd = one_pmd();
	if (me->pmd && !pmd)
		may_all(me);
	me->pmd = pmd;
	read_entries(entries);
	for (i = 0; i < w->nr && !ret; i++) {
		struct slot *s = &me->slots[i];
		struct frame *f = &w->frames[s->frame];

		dirty = entries[i] & PM_SOFT_DIRTY;
		present = entries[i] & PM_PRESENT;
		if (is(SHARED) && !is(HUGETLB) && !present)
			entry_gone(s);
		may = s->may || is(HUGETLB) || (is(SHARED) && f->sticky);
		/* Reclaim puts back a run of PTEs of which one is dirty as all dirty. */
		may |= is(THP) && f->freed;
		if (tracks && (s->cpu || s->device) && !dirty)
			ret = fail(MISSED, "process %d: page %zu is clean, but %s wrote it",
				   index_of(me), i, s->device ? "a device" :
				   "the process");
		else if (tracks && dirty && !may && (accounting || exact))
			ret = fail(EXACT, "process %d: page %zu is dirty, but nobody wrote it",
				   index_of(me), i);
		if (!ret && (all || (present && now_and_then(i))))
			ret = observe(who, i, s->frame,
				      __atomic_load_n((uint32_t *)at(i),
						      __ATOMIC_RELAXED));
		/* Of many pages those with pins, and some others. */
		if (!ret && accounting && w->step % 4 == 0 &&
		    (w->nr <= SMALL || f->pins || (i + w->step) % 61 == 0))
			ret = check_word(i, entries[i]);
	}
	if (!ret && me->scans)
		ret = scan(false);
	return ret;
}

/* Processes. The driver tells them one by one what to do. */

static int run_op(const struct op *o)
{
	return operations[o->what].run(o);
}

static void serve(void)
{
	int i = index_of(me), ret;
	char call;

	while (read(lines[i].to[0], &call, 1) == 1) {
		if (call == 'x')
			break;
		ret = call == 'o' ? run_op(&w->ops[w->step]) :
		      call == 'd' ? direct_ended() : check_self(call == 'a');
		if (write(lines[i].from[1], &ret, sizeof(ret)) != sizeof(ret))
			break;
	}
	_exit(0);
}

static int call(struct proc *p, char what)
{
	int i = index_of(p), ret;
	struct pollfd fds[] = {
		{ .fd = lines[i].from[0], .events = POLLIN },
		{ .fd = lines[i].pidfd, .events = POLLIN },
	};

	if (write(lines[i].to[1], &what, 1) != 1)
		return fail(AGREE, "pipe: %s", strerror(errno));
	if (poll(fds, 2, ANSWER_MS) < 1)
		return fail(AGREE, "process %d hangs", i);
	if (!(fds[0].revents & POLLIN)) {
		p->alive = false;
		if (what == 'x')
			return 0;
		return fail(AGREE, "process %d was killed", i);
	}
	if (read(lines[i].from[0], &ret, sizeof(ret)) != sizeof(ret))
		return fail(AGREE, "pipe: %s", strerror(errno));
	return ret;
}

static int stop(struct proc *p)
{
	int ret = call(p, 'x');

	close(lines[index_of(p)].pidfd);
	lines[index_of(p)].pidfd = -1;
	return ret;
}

static struct proc *pick(unsigned int who)
{
	unsigned int i;

	for (i = 0; i < PROCS; i++)
		if (w->procs[(who + i) % PROCS].alive)
			return &w->procs[(who + i) % PROCS];
	return NULL;
}

static int op_exit(const struct op *o)
{
	struct proc *p = pick(o->who);
	int ret = 0;

	if (pick(index_of(p) + 1) == p)
		return SKIP;
	/* It would wait for its read. */
	if (w->holds[DIRECT].used && index_of(p) == w->reader)
		ret = room_for(w->holds[DIRECT].nr) ? end_direct() : SKIP;
	if (ret)
		return ret;
	say(" process %d", index_of(p));
	return stop(p);
}

/* A new process is there: by its pidfd it can be told that it is gone. */
static int watch(void)
{
	unsigned int i;

	for (i = 0; i < PROCS; i++) {
		if (!w->procs[i].alive || lines[i].pidfd >= 0)
			continue;
		lines[i].pidfd = syscall(__NR_pidfd_open, w->procs[i].pid, 0);
		if (lines[i].pidfd < 0)
			return fail(AGREE, "process %u was killed at once", i);
	}
	return 0;
}

static int check_all(bool all)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < PROCS && !ret; i++)
		if (w->procs[i].alive)
			ret = call(&w->procs[i], all ? 'a' : 'c');
	/* What has many pages takes its time. */
	for (i = 0; i <= PINS && !ret; i++)
		if (w->holds[i].used &&
		    (all || w->step % 8 == 0 || w->holds[i].nr <= SMALL))
			ret = device_looks(&w->holds[i]);
	return ret;
}

static int step(const struct op *o)
{
	const struct operation *what = &operations[o->what];
	struct proc *p = pick(o->who);
	int ret;

	w->said[w->step][0] = '\0';
	if (!(what->flags & DRIVER))
		say("process %d: ", index_of(p));
	say("%s", what->name);
	ret = what->flags & DRIVER ? what->run(o) : call(p, 'o');
	w->idle[w->step] = ret == SKIP;
	if (!ret)
		ret = watch();
	return ret;
}

/* The memory, in its first process. */
static int populate(void)
{
	size_t size = w->nr * pagesize, i;
	int flags = (is(SHARED) ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS |
		    MAP_FIXED | (is(HUGETLB) ? MAP_HUGETLB : 0);
	char *mem = mmap(w->base[0], size, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (mem == MAP_FAILED)
		return 1;
	if (!is(HUGETLB))
		madvise(mem, size, is(THP) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (i = 0; i < w->nr; i++) {
		uint32_t frame = new_frame(0, false), token = new_token(frame);

		me->slots[i].frame = frame;
		*(uint32_t *)at(i) = token;
		set_token(frame, token);
	}
	may_all(me);
	if (is(THP) && !one_pmd())
		return 1;
	return is(SPLIT) && protect_unprotect(at(1), pagesize);
}

static int start(bool scans)
{
	struct proc *p = &w->procs[0];
	unsigned int i;
	pid_t pid;

	for (i = 0; i < PROCS; i++) {
		lines[i].pidfd = -1;
		if (pipe(lines[i].to) || pipe(lines[i].from))
			return 1;
	}
	for (i = 0; i < PIPES; i++)
		if (pipe(pipe_fds[i]))
			return 1;
	for (i = 0; i < PINS && !gup_lacks; i++)
		if (pin_open(&pins[i]))
			return 1;
	if (has_ring && ring_open(&ring))
		return 1;
	pid = fork();
	if (!pid) {
		become(p);
		/* Not its driver, which must not be slowed down. */
		write_in_group("cgroup.procs", "0");
		if (populate())
			_exit(1);
		if (scans)
			start_scans();
		p->alive = true;
		serve();
	}
	/* It has no name in the model yet: this is its first answer. */
	p->pid = pid;
	lines[0].pidfd = syscall(__NR_pidfd_open, pid, 0);
	return pid < 0 || lines[0].pidfd < 0 || call(p, 'c');
}

/* All of an episode, in a process of its own. */
static int play(uint32_t seed)
{
	unsigned int i, last = OPERATIONS;
	int ret;

	signal(SIGCHLD, SIG_IGN);
	/* One thing is done at a time: to wake up another CPU for it only costs. */
	if (seed / KINDS % 4)
		stay_here();
	if (start(seed / KINDS & 1))
		return 2;
	for (w->step = 0; w->step < w->nr_ops; w->step++) {
		const struct op *o = &w->ops[w->step];

		ret = step(o);
		if (ret == SKIP)
			continue;
		w->total++;
		w->done[o->what]++;
		if (last < OPERATIONS)
			w->pairs[last] |= 1ull << o->what;
		last = o->what;
		if (ret || check_all(false))
			return 1;
	}
	/* As the last step; all that is left is looked at. */
	w->step = w->nr_ops - 1;
	ret = check_all(true);
	for (i = 0; i < PIPES && !ret; i++)
		if (w->pipes[i].nr)
			ret = drain(&w->pipes[i]);
	for (i = 0; i <= PINS && !ret; i++)
		if (w->holds[i].used)
			drop_hold(&w->holds[i]);
	if (!ret && w->holds[DIRECT].used && room_for(w->holds[DIRECT].nr))
		ret = end_direct();
	if (!ret)
		ret = check_all(true);
	for (i = 0; i < PROCS && !ret; i++)
		if (w->procs[i].alive)
			ret = stop(&w->procs[i]);
	return ret;
}

/* Episodes, as the test itself sees them: a seed, and what came of it. */

static double now(void)
{
	return now_us() / 1e6;
}

/* Few pages, so that operations meet: those at the ends and in the middle. */
static void some_pages(struct op *o, size_t nr)
{
	static const uint8_t lengths[] = { 1, 1, 1, 1, 2, 2, 4, 0, 0 };
	size_t len = lengths[rnd(ARRAY_SIZE(lengths))], half = nr / 2;
	const size_t firsts[] = {
		0, 1, 2, half - 2, half - 1, half, half + 1, nr - 1,
	};

	o->first = firsts[rnd(ARRAY_SIZE(firsts))];
	if (!len) {
		len = rnd(2) ? nr : half;
		o->first = len == nr ? 0 : rnd(2) * half;
	}
	o->nr = o->first + len > nr ? nr - o->first : len;
}

static size_t pages_of(int kind)
{
	if (kinds[kind].is & HUGETLB)
		return hugetlbsize / pagesize;
	return kinds[kind].is & THP ? thpsize / pagesize : SMALL;
}

static void invent(uint32_t seed, int kind, size_t nr_ops)
{
	int weights[OPERATIONS], sum = 0, n;
	unsigned int i;
	struct op *o;

	rnd_state = seed * 2654435761u + 1;
	/* Each time without some: what is left meets more often. */
	for (i = 0; i < OPERATIONS; i++) {
		weights[i] = rnd(3) || !i ? operations[i].weight : 0;
		if (!possible[kind][i])
			weights[i] = 0;
		sum += weights[i];
	}
	w->nr_ops = nr_ops;
	for (o = w->ops; o < w->ops + nr_ops; o++) {
		n = rnd(sum);
		for (i = 0; n >= weights[i]; i++)
			n -= weights[i];
		o->what = i;
		o->who = rnd(PROCS);
		o->arg = rnd(1 << 10);
		some_pages(o, pages_of(kind));
	}
}

/* Everyone of an episode is gone when this returns. */
static void end_all(pid_t pid)
{
	pid_t gone;

	kill(-pid, SIGKILL);
	/* Who has a read in flight ends with it. */
	while ((gone = waitpid(-1, NULL, pin_disk.fd < 0 ? 0 : WNOHANG)) >= 0 ||
	       errno == EINTR)
		if (!gone)
			disk_serve(NULL, 1);
}

/* 0: kept; 1: w->broken is not; 2: this kind of memory is not to be had. */
static int episode(uint32_t seed, int kind)
{
	int status = 0;
	pid_t pid;

	w->kind = kind;
	w->nr = pages_of(kind);
	w->broken = -1;
	w->why[0] = '\0';
	w->nr_frames = 0;
	w->nr_tokens = 1;		/* 0 is what nobody wrote */
	memset(w->procs, 0, sizeof(w->procs));
	memset(w->holds, 0, sizeof(w->holds));
	memset(w->pipes, 0, sizeof(w->pipes));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		_exit(play(seed));
	}
	if (pid < 0)
		ksft_exit_fail_msg("fork: %s\n", strerror(errno));
	setpgid(pid, pid);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	end_all(pid);
	if (!WIFEXITED(status)) {
		w->broken = AGREE;
		snprintf(w->why, sizeof(w->why), "the test itself was killed");
		return 1;
	}
	return WEXITSTATUS(status);
}

/* Is the same promise broken without some of the operations? */
static bool again(uint32_t seed, int kind, int promise, const struct op *ops,
		  size_t nr)
{
	if (!nr || nr > MAX_OPS)
		return false;
	memcpy(w->ops, ops, nr * sizeof(*ops));
	w->nr_ops = nr;
	return episode(seed, kind) == 1 && w->broken == promise;
}

/* Leaves in the world a list that is as short as it gets. */
static int shorten(uint32_t seed, int kind, int promise, double until)
{
	static struct op best[MAX_OPS], less[MAX_OPS];
	size_t nr = 0, all, cut, from, i, n;
	int tries = 4, left = REPLAYS;

	all = w->step + 1;
	for (i = 0; i < all; i++) {
		less[i] = w->ops[i];
		if (!w->idle[i])
			best[nr++] = w->ops[i];
	}
	while (tries && !again(seed, kind, promise, best, nr)) {
		/* What failed may have done something, too. */
		if (--tries == 2) {
			memcpy(best, less, all * sizeof(*best));
			nr = all;
		}
	}
	if (!tries)
		return -1;
	for (cut = (nr + 1) / 2; cut; cut = cut > 1 ? (cut + 1) / 2 : 0) {
		bool shorter = true;

		while (shorter) {
			shorter = false;
			for (from = 0; from < nr && left > 0 &&
			     now() < until; left--) {
				for (i = 0, n = 0; i < nr; i++)
					if (i < from || i >= from + cut)
						less[n++] = best[i];
				if (again(seed, kind, promise, less, n)) {
					memcpy(best, less, n * sizeof(*less));
					nr = n;
					shorter = cut == 1;
				} else {
					from += cut;
				}
			}
		}
	}
	return again(seed, kind, promise, best, nr) ||
	       again(seed, kind, promise, best, nr) ? 0 : -1;
}

static struct verdict {
	bool broken;
	unsigned int episodes;
} verdicts[KINDS][PROMISES];

static size_t nr_ops = 60;
static const char *list;		/* -o: nothing but these */
static double limit = 30, began, shortening;	/* seconds */

static void print_ops(uint32_t seed)
{
	size_t i, n = 0;

	for (i = 0; i <= w->step && i < w->nr_ops; i++)
		ksft_print_msg("  %2zu %s%s\n", ++n, w->said[i],
			       w->idle[i] ? " (no effect)" : "");
	ksft_print_msg("again: -s %u -o ", seed);
	for (i = 0, n = 0; i <= w->step && i < w->nr_ops; i++) {
		const struct op *o = &w->ops[i];

		printf("%s%u.%u.%u.%u.%u", n++ ? "," : "", o->what, o->who,
		       o->first, o->nr, o->arg);
	}
	printf("\n");
}

/* The operations that print_ops() printed. */
static size_t read_ops(const char *list, size_t nr)
{
	unsigned int what, who, first, len, arg;
	size_t n;

	for (n = 0; n < MAX_OPS && list && *list; n++) {
		if (sscanf(list, "%u.%u.%u.%u.%u", &what, &who, &first, &len,
			   &arg) != 5 || what >= OPERATIONS || who >= PROCS ||
		    !len || first + len > nr)
			ksft_exit_fail_msg("-o: not operations of this kind of memory: %s\n",
					   list);
		w->ops[n] = (struct op){ what, who, first, len, arg };
		list = strchr(list, ',');
		list += !!list;
	}
	return n;
}

static void found(uint32_t seed, int kind)
{
	static struct world was;
	int promise = w->broken, other;
	double start = now(), end;

	verdicts[kind][promise].broken = true;
	ksft_print_msg("%s: not true: %s\n", kinds[kind].name,
		       promises[promise]);
	ksft_print_msg("after %.1f s, %llu operations; again: -s %u -n %zu, operation %zu\n",
		       start - began - shortening, (unsigned long long)w->total, seed,
		       nr_ops, w->step);
	ksft_print_msg("%s\n", w->why);
	fflush(stdout);
	/* Nothing else may end it. */
	for (other = MISSED; other < PROMISES; other++)
		w->ignore[other] = other != promise;
	memcpy(&was, w, sizeof(was));
	/* Not for ever, if it is slow and much is broken. */
	end = start + SHORTEN_S;
	if (end > start + 4 * limit - shortening)
		end = start + 4 * limit - shortening;
	if (end < start || shorten(seed, kind, promise, end)) {
		memcpy(w->ops, was.ops, sizeof(was.ops));
		memcpy(w->said, was.said, sizeof(was.said));
		memcpy(w->idle, was.idle, sizeof(was.idle));
		memcpy(w->why, was.why, sizeof(was.why));
		w->step = was.step;
		w->nr_ops = was.nr_ops;
		ksft_print_msg("%s; all operations:\n", end < start ? "no time left" :
			       "it does not happen each time");
	} else {
		ksft_print_msg("what is left, then: %s\n", w->why);
	}
	print_ops(seed);
	memcpy(w->done, was.done, sizeof(was.done));
	memcpy(w->pairs, was.pairs, sizeof(was.pairs));
	w->total = was.total;
	fflush(stdout);
	shortening += now() - start;
}

static void one(uint32_t seed, int kind)
{
	int promise, ret;

	for (promise = 0; promise < PROMISES; promise++)
		w->ignore[promise] = verdicts[kind][promise].broken;
	if (list)
		w->nr_ops = read_ops(list, pages_of(kind));
	else
		invent(seed, kind, nr_ops);
	ret = episode(seed, kind);
	if (ret == 2) {
		usable[kind] = false;
		return;
	}
	for (promise = 0; promise < PROMISES; promise++)
		verdicts[kind][promise].episodes++;
	if (ret && w->broken >= 0 && !verdicts[kind][w->broken].broken)
		found(seed, kind);
}

static void print_coverage(double seconds)
{
	size_t i, j, pairs = 0, can = 0, never = 0;

	for (i = 0; i < OPERATIONS; i++)
		for (j = 0; j < OPERATIONS; j++) {
			bool both = false;
			size_t k;

			for (k = 0; k < KINDS; k++)
				both |= usable[k] && possible[k][i] &&
					possible[k][j];
			can += both;
			pairs += w->pairs[i] >> j & 1;
		}
	ksft_print_msg("%llu operations in %.1f s, %.0f a second; %zu of %zu pairs of operations\n",
		       (unsigned long long)w->total, seconds,
		       w->total / seconds, pairs, can);
	for (i = 0; i < OPERATIONS; i++) {
		if (w->done[i])
			continue;
		ksft_print_msg(never++ ? "    %s\n" : "never: %s\n",
			       operations[i].name);
	}
}

/*
 * Memory and swap, in KiB, that the processes' cgroup was charged for; without one,
 * what is anonymous or swapped out on all of the machine. What is in the swap cache
 * only because it was locked when its last user went is none's: swapoff frees it.
 */
static long in_use(void)
{
	long sum;

	swap_off_on();
	if (group[0])
		return (number_in_group("memory.current") +
			number_in_group("memory.swap.current")) / 1024;
	sum = read_size("/proc/meminfo", "Active(anon): %lu kB", 1);
	sum += read_size("/proc/meminfo", "Inactive(anon): %lu kB", 1);
	sum += read_size("/proc/meminfo", "Unevictable: %lu kB", 1);
	sum += read_size("/proc/meminfo", "SwapTotal: %lu kB", 1);
	return sum - read_size("/proc/meminfo", "SwapFree: %lu kB", 1);
}

static long huge_in_use(void)
{
	return read_size("/proc/meminfo", "HugePages_Total: %lu", 1) -
	       read_size("/proc/meminfo", "HugePages_Free: %lu", 1);
}

static const char kept_name[] = "no page is leaked, " words_name;

static int nothing_is_left(long before, long huge_before)
{
	/* Each CPU has some pages in advance; and others may use the machine, too. */
	long spare = group[0] ? 256 + 64 * sysconf(_SC_NPROCESSORS_ONLN) *
				(long)pagesize / 1024 : 8192;
	long more = 0, huge = 0;
	int i;

	for (i = 0; i < 50; i++) {
		more = in_use() - before;
		huge = huge_in_use() - huge_before;
		if (more < spare && huge <= 0)
			break;
		usleep(100000);
	}
	ksft_print_msg("%ld KiB more are in use, %ld may be\n", more, spare);
	if (huge > 0)
		return because(1, "%ld huge pages more are in use", huge);
	if (more >= spare)
		return because(1, "%ld KiB more are in use", more);
	return accounting || exact ? words_are_zero() : 0;
}

static bool soft_dirty_works(void)
{
	struct range r = {};
	bool ok = clear_refs_fd >= 0 && !map_base_size(&r, pagesize, MAP_PRIVATE);
	size_t before, after;

	if (!ok)
		return false;
	clear_soft_dirty();
	before = count_dirty(r.mem, r.size);
	touch(r.mem, r.size, 2);
	after = count_dirty(r.mem, r.size);
	range_free(&r);
	return !before && after;
}

static bool scan_works(void)
{
#ifdef PAGEMAP_SCAN
	struct pm_scan_arg arg = { .size = sizeof(arg) };

	return !ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);
#else
	return false;
#endif
}

/* Two areas, and room between them, so that nothing grows together. */
static void find_room(void)
{
	size_t unit = thpsize > hugetlbsize ? thpsize : hugetlbsize;
	char *mem;

	if (unit < SMALL * pagesize)
		unit = SMALL * pagesize;
	mem = mmap(NULL, 6 * unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		   MAP_NORESERVE, -1, 0);
	buffer = mmap(NULL, MAX_PAGES * pagesize, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || buffer == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));
	mem = (char *)(((uintptr_t)mem + 2 * unit - 1) / unit * unit);
	w->base[0] = mem;
	w->base[1] = mem + 2 * unit;
}

static void look_around(void)
{
	static struct setting needed[] = {
		{ "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		  "advise" },
		{ "/proc/sys/vm/nr_hugepages", "24", true },
		{ "/sys/kernel/mm/ksm/sleep_millisecs", "0" },
		/* What migrates in passing may become soft-dirty. */
		{ "/proc/sys/kernel/numa_balancing", "0" },
		{ "/proc/sys/vm/compaction_proactiveness", "0" },
		NO_KHUGEPAGED,
		{}
	};
	struct ring test;
	unsigned int i, k;

	pin_memory_init();
	change_settings(needed);
	gup_lacks = gup_test_lacks();
	tracks = soft_dirty_works();
	has_scan = scan_works();
	has_root = !geteuid();
	has_ksm = ksm_stat("run") >= 0 && has_root;
	has_nodes = !access("/sys/devices/system/node/node1", F_OK);
	has_ring = !ring_open(&test);
	if (has_ring)
		ring_close(&test);
	ring_file = syscall(__NR_memfd_create, "cow_oracle", 0);
	if (ring_file < 0 || ftruncate(ring_file, MAX_PAGES * pagesize))
		has_ring = false;
	if (!disk_open())
		atexit(disk_close);
	else
		ksft_print_msg("no direct reads: %s\n", why);
	make_group("cow_oracle");
	find_room();
	for (k = 0; k < KINDS; k++) {
		const int kind = kinds[k].is & ANY;

		for (i = 0; i < OPERATIONS; i++)
			possible[k][i] = operations[i].can() &&
					 (kind & operations[i].kinds) &&
					 (!(kind & HUGETLB) ||
					  operations[i].kinds & HUGETLB);
		usable[k] = pages_of(k) && pages_of(k) <= MAX_PAGES;
	}
}

static bool wanted(int kind)
{
	return asked_for(kinds[kind].name);
}

static int judge_promise(int kind, int promise)
{
	const struct verdict *v = &verdicts[kind][promise];

	if (v->broken)
		return because(1, "see above");
	if (!v->episodes)
		return because(SKIP, usable[kind] ? "no time for it (-t)" :
			       "no such memory");
	if (promise == MISSED && !tracks && !has_scan)
		return because(SKIP, "no soft-dirty tracking");
	if (promise == EXACT && !accounting && !exact)
		return because(SKIP, "no exact tracking (CONFIG_PAGE_PIN, page_pin=on)");
	return 0;
}

static void usage(const char *name)
{
	fprintf(stderr, "%s [-e] [-k part of a kind's name] [-s seed] [-t seconds]\n"
		"\t[-n operations of an episode] [-o operations as printed]\n",
		name);
	exit(KSFT_FAIL);
}

int main(int argc, char **argv)
{
	uint32_t fresh = time(NULL) % 100000000, seed = 0;
	unsigned int k, p, plan = 0, turn, episodes = 0, fixed = 8 * KINDS;
	long before, huge_before;
	char name[160];
	int opt;

	while ((opt = getopt(argc, argv, "ek:s:t:n:o:")) != -1) {
		if (opt == 'e')
			exact = true;
		else if (opt == 'k')
			only = optarg;
		else if (opt == 's')
			seed = strtoul(optarg, NULL, 0);
		else if (opt == 't')
			limit = atof(optarg);
		else if (opt == 'o')
			list = optarg;
		else if (opt == 'n')
			nr_ops = strtoul(optarg, NULL, 0);
		else
			usage(argv[0]);
	}
	if (!nr_ops || nr_ops > MAX_OPS)
		usage(argv[0]);
	ksft_print_header();
	w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));
	look_around();
	skip_all_if(dirty_tracking_lacks());
	for (k = 0; k < KINDS; k++)
		plan += wanted(k) ? PROMISES : 0;
	ksft_set_plan(plan + 1);
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	before = in_use();
	huge_before = huge_in_use();
	/* Some are the same each time, and are played however long they take. */
	if (seed)
		fixed = list ? 1 : 0;
	else
		ksft_print_msg("seeds 1 to %u, then from %u on\n", fixed, fresh);
	fresh = seed ? seed : fresh;
	seed = seed ? seed : 1;
	began = now();
	for (turn = 0; turn < fixed || !list; turn++, seed++) {
		if (turn >= fixed && episodes &&
		    now() - began - shortening >= limit)
			break;
		if (turn == fixed)
			seed = fresh;
		k = seed % KINDS;
		if (turn >= fixed + KINDS && !episodes)
			break;
		if (!wanted(k) || !usable[k])
			continue;
		one(seed, k);
		episodes++;
	}
	ksft_print_msg("%u episodes, up to seed %u\n", episodes, seed - 1);
	print_coverage(now() - began - shortening);

	for (k = 0; k < KINDS; k++)
		for (p = 0; p < PROMISES && wanted(k); p++) {
			snprintf(name, sizeof(name), "%s: %s", kinds[k].name,
				 promises[p]);
			report(name, judge_promise(k, p));
		}
	report(kept_name, nothing_is_left(before, huge_before));
	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
