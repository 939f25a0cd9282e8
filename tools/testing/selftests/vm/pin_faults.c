// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens to pinned memory when the kernel runs out of memory half way: fork()
 * that copies for the child what is pinned, pins and writes that un-share.
 *
 * Each operation is done again and again; first the first of its allocations fails,
 * then the second, until it does with fewer than that (fail-nth, of
 * Documentation/fault-injection). Each time it must either succeed or say by its
 * error that it did not; afterwards the owner and the device must see the same
 * memory, a child what there was when it was forked, and no pin may be left.
 *
 * Like soft_dirty_pin it skips a kernel without the series, unless -e.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>

#include "pin_tracker.h"

#define NR_PINNED	3	/* base pages in the middle of the range */

/* Memory, who shares it, and what holds it. */
struct scene {
	struct range r;
	struct pin p;
	struct ring ring;
	size_t first;			/* page that is pinned */
	pid_t child;
	int bell[2];			/* a pipe, wakes it */
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
	if (s->r.unit != pagesize && WIFSIGNALED(status) &&
	    WTERMSIG(status) == SIGBUS)
		return 0;
	return because(1, "the child does not see what was there before (status %#x)",
		       status);
}

static int take_part(struct scene *s, unsigned int flags)
{
	return pin_again(&s->p, s->r.mem + s->first * pagesize,
			 NR_PINNED * pagesize, flags);
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
			     NR_PINNED * pagesize };

	return ring_register(&s->ring, &iov, 1);
}

/* As a debugger or another process would. */
static int do_remote_write(struct scene *s)
{
	struct iovec to = { s->r.mem + s->first * pagesize,
			    NR_PINNED * pagesize };
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
	cpu_store(&s->r, s->first, NR_PINNED);
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
		ret = device_write(&s->r, &s->p, 0, NR_PINNED);
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
	int errors[2];
} operations[] = {
	{ "fork of what is pinned", pinned_to_write, do_fork, EACH,
	  .pinned_before = true, .errors = { ENOMEM, EAGAIN } },
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

/*
 * The operation while the nth allocation fails. *fired: there was one; *failed: and
 * the operation, too.
 */
static int once(const struct operation *o, const struct kind *k,
		unsigned int nth, bool *fired, bool *failed)
{
	struct scene s = { .bell = { -1, -1 } };
	int ret = k->map(&s.r, MAP_PRIVATE), error;
	char was[WHY_SIZE];

	s.r.pages = calloc(range_nr(&s.r), sizeof(*s.r.pages));
	s.buf = malloc(NR_PINNED * pagesize);
	if (!ret && (!s.r.pages || !s.buf))
		ret = broken("malloc");
	if (!ret && pipe(s.bell))
		ret = broken("pipe");
	if (!ret)
		ret = pin_open(&s.p);
	if (ret)
		goto out;
	cpu_store(&s.r, 0, range_nr(&s.r));
	s.first = range_nr(&s.r) / 2;
	ret = o->before(&s);
	if (ret)
		goto out;

	fail_nth(nth);
	error = o->run(&s) ? errno : 0;
	*fired = failed_nth();
	*failed = error;
	if (error && !*fired)
		ret = because(1, "%s, though no allocation failed",
			      strerror(error));
	else if (error && error != o->errors[0] && error != o->errors[1])
		ret = because(1, "when allocation %u fails: %s", nth,
			      strerror(error));
	if (!ret)
		ret = live_on(&s, o->pinned_before || (o->pins && !error));
	if (!ret)
		ret = end_child(&s, true);
	if (ret && *fired) {
		memcpy(was, why, sizeof(was));
		snprintf(why, WHY_SIZE, "allocation %u failed: %.170s", nth, was);
	}
out:
	end_child(&s, false);
	close(s.bell[0]);
	close(s.bell[1]);
	if (s.ring.fd > 0)
		ring_close(&s.ring);
	pin_drop(&s.p);
	free(s.buf);
	range_free(&s.r);
	return ret;
}

static int run(const struct operation *o, const struct kind *k)
{
	unsigned int nth, failures = 0;
	bool fired = true, failed;
	int ret = 0;

	for (nth = 1; !ret && fired; nth++) {
		if (nth > MOST_FAULTS)
			return because(1, "still allocates after %u times", nth);
		fired = false;
		failed = false;
		ret = once(o, k, nth, &fired, &failed);
		failures += failed;
	}
	if (!ret && nth <= 2)
		return because(1, "it allocates nothing");
	if (!ret)
		ksft_print_msg("%u allocations, of which %u are vital\n",
			       nth - 2, failures);
	return ret;
}

int main(int argc, char **argv)
{
	unsigned int i, j, n = 0;
	char name[128];
	int pass;

	parse_options(argc, argv, NULL);
	ksft_print_header();
	pin_tracker_init();
	if (no_faults)
		ksft_exit_skip("%s\n", no_faults);
	skip_all_if(dirty_tracking_lacks());

	for (pass = 0; pass < 2; pass++) {
		if (pass)
			ksft_set_plan(n + 1);
		for (i = 0; i < ARRAY_SIZE(operations); i++)
			for (j = 0; j < ARRAY_SIZE(kinds); j++) {
				snprintf(name, sizeof(name), "%s: %s",
					 operations[i].name, kinds[j].name);
				if (!(operations[i].kinds & kinds[j].is) ||
				    !asked_for(name))
					continue;
				if (!pass)
					n++;
				else
					report(name, run(&operations[i],
							 &kinds[j]));
			}
	}
	report(words_name, words_are_zero());

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
