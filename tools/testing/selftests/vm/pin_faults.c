// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens to pinned memory when the kernel runs out of memory half way: fork()
 * that copies for the child what is pinned, pins and writes that un-share.
 *
 * Each operation is done again and again; first the first of its allocations fails,
 * then the second, until it does with fewer than that (fail-nth, of
 * Documentation/fault-injection). Then with a limit to the memory of its cgroup, which
 * is a page higher each time: without swap, with it, and with somebody to be killed,
 * who shares the memory. Each time it must either succeed or say by its
 * error that it did not; afterwards the owner and the device must see the same
 * memory, a child what there was when it was forked, and no pin may be left.
 *
 * Last it is the owner that is killed, at one moment after the other of an operation on
 * all of the memory: who shares it must not notice, and get all memory back.
 *
 * Like soft_dirty_pin it skips a kernel without the series, unless -e.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "pin_tracker.h"

#define NR_PINNED	3	/* base pages in the middle of the range */

/* Memory, who shares it, and what holds it. */
struct scene {
	struct range r;
	struct pin p;
	struct ring ring;
	size_t first, nr;		/* pages that are pinned */
	pid_t child;
	int bell[2];			/* a pipe, wakes it */
	bool fair_game;			/* it may be killed for its memory */
	char *buf;
};

/* A child that looks at its memory when it is woken. */
static int do_fork(struct scene *s)
{
	char c;

	s->child = fork();
	if (!s->child) {
		close(s->bell[1]);
		if (read(s->bell[0], &c, 1) != 1)
			_exit(0);
		_exit(cpu_reads(&s->r, "the child") ? 1 : 0);
	}
	return s->child < 0 ? -1 : 0;
}

/* What it saw; of hugetlb it may have lost its pages to the parent. */
static int end_child(struct scene *s, bool ask)
{
	int status = 0;

	if (s->child <= 0)
		return 0;
	if (ask && write(s->bell[1], "1", 1) != 1)
		return broken("write");
	if (!ask)
		kill(s->child, SIGKILL);
	if (waitpid(s->child, &status, 0) != s->child)
		return broken("waitpid");
	s->child = 0;
	if (!ask || (WIFEXITED(status) && !WEXITSTATUS(status)))
		return 0;
	if (s->fair_game && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return 0;
	if (s->r.unit != pagesize && WIFSIGNALED(status) &&
	    WTERMSIG(status) == SIGBUS)
		return 0;
	return because(1, "the child does not see what was there before (status %#x)",
		       status);
}

static int take_part(struct scene *s, unsigned int flags)
{
	return pin_again(&s->p, s->r.mem + s->first * pagesize,
			 s->nr * pagesize, flags);
}

/* The operations: 0, or another value and errno. */

static int do_pin_write(struct scene *s)
{
	return take_part(s, PIN_WRITE);
}

static int do_pin_read(struct scene *s)
{
	return take_part(s, 0);
}

static int do_register(struct scene *s)
{
	struct iovec iov = { s->r.mem + s->first * pagesize,
			     s->nr * pagesize };

	return ring_register(&s->ring, &iov, 1);
}

/* As a debugger or another process would. */
static int do_remote_write(struct scene *s)
{
	struct iovec to = { s->r.mem + s->first * pagesize,
			    s->nr * pagesize };
	struct iovec from = { s->buf, to.iov_len };
	char value = ++s->r.serial;
	ssize_t n, i;

	memset(s->buf, value, to.iov_len);
	n = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	for (i = 0; i < n; i += pagesize)
		s->r.pages[s->first + i / pagesize].value = value;
	return n < 0 ? -1 : 0;
}

/* A page fault that gets no memory is tried again. */
static int do_write(struct scene *s)
{
	cpu_store(&s->r, s->first, s->nr);
	return 0;
}

/* What goes before them, undisturbed. */

static int pinned_to_write(struct scene *s)
{
	return take_part(s, PIN_WRITE) ? broken("gup_test") : 0;
}

static int shared(struct scene *s)
{
	return do_fork(s) ? broken("fork") : 0;
}

static int shared_and_swapped_out(struct scene *s)
{
	int ret = shared(s);

	return ret ? ret : page_out(&s->r);
}

static int pinned_to_read_and_shared(struct scene *s)
{
	if (take_part(s, 0))
		return broken("gup_test");
	return shared(s);
}

static int shared_with_ring(struct scene *s)
{
	int ret = ring_open(&s->ring);

	return ret ? ret : shared(s);
}

/* Whatever came of it: the owner writes, and then the device where it may. */
static int live_on(struct scene *s, bool pinned)
{
	int ret = cpu_reads(&s->r, "before the owner wrote");

	cpu_store(&s->r, 0, range_nr(&s->r));
	if (!ret && pinned)
		ret = device_reads(&s->r, &s->p);
	if (!ret && pinned && s->p.write)
		ret = device_write(&s->r, &s->p, 0, s->nr);
	return ret ? ret : cpu_reads(&s->r, "at the end");
}

#define BASE		1
#define THP		2
#define PTE_THP		4
#define HUGETLB		8
#define SWAPS		(BASE | THP | PTE_THP)
#define EACH		(SWAPS | HUGETLB)

static const struct kind {
	const char *name;
	int (*map)(struct range *r, int flags);
	int is;
} kinds[] = {
	{ "base pages", map_base, BASE },
	{ "THP", map_thp, THP },
	{ "PTE-mapped THP", map_pte_thp, PTE_THP },
	{ "hugetlb", map_hugetlb, HUGETLB },
};

static const struct operation {
	const char *name;
	int (*before)(struct scene *s);
	int (*run)(struct scene *s);
	int kinds;
	/* A pin of gup_test's is there: before, or when it succeeded. */
	bool pinned_before, pins;
	bool alone;			/* there is no child before */
	int errors[2];
} operations[] = {
	{ "fork of what is pinned", pinned_to_write, do_fork, EACH,
	  .pinned_before = true, .alone = true, .errors = { ENOMEM, EAGAIN } },
	{ "pin to write what is shared", shared, do_pin_write, EACH,
	  .pins = true, .errors = { ENOMEM, EFAULT } },
	{ "pin to read what is shared", shared, do_pin_read, EACH,
	  .pins = true, .errors = { ENOMEM, EFAULT } },
	{ "pin to write what is swapped out", shared_and_swapped_out,
	  do_pin_write, SWAPS, .pins = true, .errors = { ENOMEM, EFAULT } },
	{ "pin to read what is swapped out", shared_and_swapped_out,
	  do_pin_read, SWAPS, .pins = true, .errors = { ENOMEM, EFAULT } },
	{ "buffers of io_uring that are shared", shared_with_ring, do_register,
	  EACH, .errors = { ENOMEM, EFAULT } },
	{ "remote write to what is shared", shared, do_remote_write, EACH,
	  .errors = { ENOMEM, EFAULT } },
	{ "write to what is shared", shared, do_write, SWAPS },
	{ "write to what is pinned to read and shared",
	  pinned_to_read_and_shared, do_write, SWAPS, .pinned_before = true },
};

/* What befalls the operation: the nth time, a page or an allocation later. */
struct trouble {
	const char *name;
	const char *(*lacks)(void);
	void (*begin)(struct scene *s, unsigned int n);
	bool (*end)(void);		/* did it come? */
	int kinds;
	bool needs_child;
};

static const char *injection_lacks(void)
{
	return no_faults;
}

static void begin_injection(struct scene *s, unsigned int n)
{
	fail_nth(n);
}

/* A limit to the cgroup's memory. */

#define LIMIT_MS	50
#define LONG_MS		5000

static int limit_fd = -1, usage_fd = -1, lifter_fd = -1;

/* What is counted when a limit is met, and the count when it was set. */
static struct limit {
	const char *event;
	unsigned long before;
} limit;

static unsigned long count_events(const char *name)
{
	char path[128], format[32];

	snprintf(path, sizeof(path), "%s/memory.events", group);
	snprintf(format, sizeof(format), "%s %%lu", name);
	return read_size(path, format, 1);
}

static bool limit_met(void)
{
	return count_events(limit.event) != limit.before;
}

#define NO_LIMIT	SIZE_MAX

static void set_limit(size_t bytes)
{
	char line[32];
	int n = snprintf(line, sizeof(line), bytes == NO_LIMIT ? "max" : "%zu",
			 bytes);

	if (pwrite(limit_fd, line, n, 0) != n)
		ksft_exit_fail_msg("memory.max: %s\n", strerror(errno));
}

/* fopen() would allocate, what is the cgroup's. */
static size_t read_usage(void)
{
	char line[32] = "";

	if (pread(usage_fd, line, sizeof(line) - 1, 0) <= 0)
		ksft_exit_fail_msg("memory.current: %s\n", strerror(errno));
	return strtoul(line, NULL, 10);
}

/*
 * A fault that gets no memory, and can kill nobody, is tried for ever. So here is who
 * lifts the limit a while after it was met, which on a busy machine takes its time: told
 * when one begins, and when it ends.
 */
static void lifter(int told)
{
	struct pollfd end = { .fd = told, .events = POLLIN };
	bool met;
	int ms;

	while (read(told, &limit, sizeof(limit)) == sizeof(limit)) {
		met = false;
		for (ms = 0; !poll(&end, 1, LIMIT_MS); ms += LIMIT_MS) {
			if (met || ms >= LONG_MS)
				set_limit(NO_LIMIT);
			met = limit_met();
		}
		if (read(told, &limit, sizeof(limit)) != sizeof(limit))
			break;
	}
	_exit(0);
}

static void tell_lifter(void)
{
	if (write(lifter_fd, &limit, sizeof(limit)) != sizeof(limit))
		ksft_exit_fail_msg("write: %s\n", strerror(errno));
}

static int start_lifter(void)
{
	int told[2];
	pid_t pid;

	if (pipe(told))
		return -1;
	pid = fork();
	if (!pid) {
		close(told[1]);
		lifter(told[0]);
	}
	close(told[0]);
	lifter_fd = told[1];
	return pid < 0 ? -1 : 0;
}

static void begin_limit(unsigned int n, bool swap, const char *event)
{
	size_t more = n <= 8 ? n - 1 : 8UL << (n - 8) / 2, was, is;
	int i, steady;

	write_in_group("memory.swap.max", swap ? "max" : "0");
	limit.event = event;
	limit.before = count_events(event);
	/* What others had, or was written to swap, is given back, some of it later. */
	for (i = steady = 0, was = 0; i < 500 && steady < 4; i++, was = is) {
		is = read_usage();
		steady = is == was ? steady + 1 : 0;
		usleep(2000);
	}
	tell_lifter();
	/*
	 * So is what this CPU took from the cgroup in advance. From here on nothing
	 * may be allocated, or it takes it again.
	 */
	set_limit(read_usage() - pagesize);
	set_limit(read_usage() + more * pagesize);
}

static bool end_limit(void)
{
	set_limit(NO_LIMIT);
	tell_lifter();
	write_in_group("memory.swap.max", "max");
	return limit_met();
}

static void begin_limit_only(struct scene *s, unsigned int n)
{
	begin_limit(n, false, "oom");
}

static void begin_limit_and_swap(struct scene *s, unsigned int n)
{
	begin_limit(n, true, "max");
}

static void begin_kill(struct scene *s, unsigned int n)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", s->child);
	if (!write_file(path, "1000"))
		ksft_exit_fail_msg("oom_score_adj: %s\n", strerror(errno));
	s->fair_game = true;
	begin_limit(n, false, "oom_kill");
}

static const char *limit_lacks(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.swap.max", group);
	if (!group[0] || access(path, W_OK))
		return "no limit to memory and swap (CONFIG_MEMCG, cgroup2, root)";
	return NULL;
}

/* Never the one to be killed, nor are its children. */
static void limit_init(void)
{
	char path[128];

	make_group("pin_faults");
	if (limit_lacks())
		return;
	snprintf(path, sizeof(path), "%s/memory.max", group);
	limit_fd = open(path, O_WRONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/memory.current", group);
	usage_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (limit_fd < 0 || usage_fd < 0 || start_lifter() ||
	    !write_file("/proc/self/oom_score_adj", "-1000"))
		ksft_exit_fail_msg("a limit: %s\n", strerror(errno));
	/* Each CPU takes memory from the cgroup in advance. */
	stay_here();
}

static const struct trouble troubles[] = {
	{ "", injection_lacks, begin_injection, failed_nth, EACH },
	{ ", at a limit", limit_lacks, begin_limit_only, end_limit, SWAPS },
	{ ", at a limit with swap", limit_lacks, begin_limit_and_swap,
	  end_limit, SWAPS },
	{ ", its child is killed for memory", limit_lacks, begin_kill,
	  end_limit, SWAPS, .needs_child = true },
};

static int scene_start(struct scene *s, const struct kind *k)
{
	int ret = k->map(&s->r, MAP_PRIVATE);

	if (ret)
		return ret;
	s->r.pages = calloc(range_nr(&s->r), sizeof(*s->r.pages));
	s->buf = malloc(s->r.size);
	if (!s->r.pages || !s->buf)
		return broken("malloc");
	if (pipe(s->bell))
		return broken("pipe");
	cpu_store(&s->r, 0, range_nr(&s->r));
	s->first = range_nr(&s->r) / 2;
	s->nr = NR_PINNED;
	return 0;
}

static void scene_end(struct scene *s)
{
	end_child(s, false);
	close(s->bell[0]);
	close(s->bell[1]);
	if (s->ring.fd > 0)
		ring_close(&s->ring);
	pin_drop(&s->p);
	free(s->buf);
	range_free(&s->r);
}

/* The operation, the nth time. *came: it met trouble; *failed: it said so. */
static int once(const struct operation *o, const struct kind *k,
		const struct trouble *t, unsigned int nth, bool *came,
		bool *failed)
{
	struct scene s = { .bell = { -1, -1 } };
	char was[WHY_SIZE];
	int ret, error;

	write_in_group("cgroup.procs", "0");
	ret = scene_start(&s, k);
	if (!ret)
		ret = pin_open(&s.p);
	if (!ret)
		ret = o->before(&s);
	if (ret)
		goto out;

	t->begin(&s, nth);
	error = o->run(&s) ? errno : 0;
	*came = t->end();
	*failed = error;
	if (error && !*came)
		ret = because(1, "%s, though it had all memory", strerror(error));
	else if (error && error != o->errors[0] && error != o->errors[1])
		ret = because(1, "it fails with: %s", strerror(error));
	if (!ret)
		ret = live_on(&s, o->pinned_before || (o->pins && !error));
	if (!ret)
		ret = end_child(&s, true);
	if (ret && *came) {
		memcpy(was, why, sizeof(was));
		snprintf(why, WHY_SIZE, "short of memory for the %uth time: %.160s",
			 nth, was);
	}
out:
	scene_end(&s);
	write_file("/sys/fs/cgroup/cgroup.procs", "0");
	return ret;
}

static int run(const struct operation *o, const struct kind *k,
	       const struct trouble *t)
{
	unsigned int nth, failures = 0, early = 0;
	bool came = true, failed;
	int ret = 0;

	if (t->lacks())
		return because(SKIP, "%s", t->lacks());
	for (nth = 1; !ret && came; nth++) {
		if (nth > MOST_FAULTS)
			return because(1, "still short of memory after %u times",
				       nth);
		came = false;
		failed = false;
		ret = once(o, k, t, nth, &came, &failed);
		failures += failed;
		/* Somebody else gave memory back to the cgroup just then. */
		if (!came && nth == 1 && early++ < 20) {
			came = true;
			nth = 0;
		}
	}
	if (!ret && nth <= 2)
		return because(1, "it allocates nothing");
	if (!ret)
		ksft_print_msg("%u times short of memory, of which %u failed\n",
			       nth - 2, failures);
	return ret;
}

/* The owner is killed. */

#define KILLS		24
#define killed_name	", killed half way"

/* What it does, with a child that may keep what is pinned for a moment longer. */
static void owner(struct scene *s, const struct operation *o, int tell)
{
	long long now;

	if (pipe(s->bell) || pin_open(&s->p) || o->before(s))
		_exit(1);
	now = now_us();
	if (write(tell, &now, sizeof(now)) != sizeof(now) || o->run(s))
		_exit(1);
	now = now_us();
	if (write(tell, &now, sizeof(now)) != sizeof(now))
		_exit(1);
	pause();
	_exit(1);
}

/* Killed after so many us; or, with took, which is then how long it took, at the end. */
static int kill_owner(struct scene *s, const struct operation *o, long long after,
		      long long *took)
{
	long long begun, ended;
	int tell[2], ret = 0;
	pid_t pid;

	if (pipe(tell))
		return broken("pipe");
	pid = fork();
	if (!pid) {
		close(tell[0]);
		/* With the last of these its child goes, too. */
		close(s->bell[0]);
		close(s->bell[1]);
		owner(s, o, tell[1]);
	}
	close(tell[1]);
	if (pid < 0 || read(tell[0], &begun, sizeof(begun)) != sizeof(begun))
		ret = because(1, "the owner came to nothing");
	else if (took && read(tell[0], &ended, sizeof(ended)) != sizeof(ended))
		ret = because(1, "the owner failed, though nobody killed it");
	else if (took)
		*took = ended - begun;
	else if (after)
		usleep(after);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(tell[0]);
	return ret;
}

/* In kB: what nobody has, of the range's kind */
static size_t free_memory(const struct range *r)
{
	return r->unit == pagesize ?
	       read_size("/proc/meminfo", "MemFree: %lu kB", 1) :
	       read_size("/proc/meminfo", "HugePages_Free: %lu", 1) *
	       hugetlbsize / 1024;
}

/* A child of an owner, or what is freed in the background, may take its time. */
static int memory_is_back(const struct range *r, size_t before, size_t may_lack)
{
	size_t now = 0;
	int i;

	for (i = 0; i < 50; i++) {
		now = free_memory(r);
		if (now + may_lack >= before)
			return 0;
		usleep(100000);
	}
	return because(1, "%zu kB of %zu kB that were free are not", before - now,
		       before);
}

static int run_killed(const struct operation *o, const struct kind *k)
{
	struct scene s = { .bell = { -1, -1 } };
	size_t before = 0, once_kb;
	long long whole;
	int i, ret;

	if (gup_lacks)
		return because(SKIP, "%s", gup_lacks);
	ret = scene_start(&s, k);
	s.first = 0;
	s.nr = range_nr(&s.r);
	once_kb = s.r.size / 1024;
	if (!ret)
		ret = kill_owner(&s, o, 0, &whole);
	for (i = 0; i < KILLS && !ret; i++) {
		/* After the first, all that is allocated but once is there. */
		if (i == 1)
			before = free_memory(&s.r);
		ret = kill_owner(&s, o, whole * i / KILLS, NULL);
		if (!ret)
			ret = cpu_reads(&s.r, "the owner was killed");
		cpu_store(&s.r, 0, range_nr(&s.r));
		if (!ret)
			ret = cpu_reads(&s.r, "written after that");
	}
	if (!ret)
		ret = memory_is_back(&s.r, before, s.r.unit == pagesize ?
				     KILLS / 2 * once_kb : 0);
	if (!ret)
		ksft_print_msg("%d times in %lld us\n", KILLS, whole);
	scene_end(&s);
	return ret;
}

static int run_case(const struct operation *o, const struct kind *k, size_t t)
{
	return t < ARRAY_SIZE(troubles) ? run(o, k, &troubles[t]) :
	       run_killed(o, k);
}

/* Does it make sense? Then its name. */
static bool name_case(char *name, size_t size, const struct operation *o,
		      const struct kind *k, size_t t)
{
	const struct trouble *trouble = t < ARRAY_SIZE(troubles) ?
					&troubles[t] : NULL;

	snprintf(name, size, "%s%s: %s", o->name,
		 trouble ? trouble->name : killed_name, k->name);
	return o->kinds & k->is && (!trouble || trouble->kinds & k->is) &&
	       !(trouble && trouble->needs_child && o->alone) && asked_for(name);
}

int main(int argc, char **argv)
{
	unsigned int i, j, t, n = 0;
	char name[128];
	int pass;

	parse_options(argc, argv, NULL);
	ksft_print_header();
	pin_tracker_init();
	skip_all_if(dirty_tracking_lacks());
	limit_init();
	why = mmap(NULL, WHY_SIZE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (why == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));

	for (pass = 0; pass < 2; pass++) {
		if (pass)
			ksft_set_plan(n + 1);
		for (t = 0; t <= ARRAY_SIZE(troubles); t++)
			for (i = 0; i < ARRAY_SIZE(operations); i++)
				for (j = 0; j < ARRAY_SIZE(kinds); j++) {
					if (!name_case(name, sizeof(name),
						       &operations[i],
						       &kinds[j], t))
						continue;
					if (!pass)
						n++;
					else
						report(name,
						       run_case(&operations[i],
								&kinds[j], t));
				}
	}
	report(words_name, words_are_zero());

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
