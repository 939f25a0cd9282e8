// SPDX-License-Identifier: GPL-2.0
/*
 * Copy-on-write of private memory that a device, a pipe or another process
 * holds references to. Two promises are tested, on what mainline's cow test
 * leaves out:
 *
 * - Who refers to a page and who mapped it when the reference was taken see the
 *   same bytes until the owner unmaps them, whatever happens in between: fork,
 *   reclaim, changes of protection, KSM, migration.
 * - Nobody sees what another private mapping wrote after the two parted.
 *
 * A timeline is what happens before and after a reference is taken; a table
 * crosses timelines with holders of references and with kinds of memory. What
 * does not fit in there is a scenario, a function of its own.
 *
 * Holders are pins by gup_test (debugfs, CONFIG_GUP_TEST, with
 * PIN_LONGTERM_TEST_WRITE), pages in a pipe by vmsplice, fixed buffers of
 * io_uring, O_DIRECT reads in flight from a slow disk (-d /dev/X, which is only
 * read: throttle it to a few operations a second) and process_vm_readv held up
 * by userfaultfd. What this kernel lacks is skipped; all of it is if the kernel
 * has no mm/anon_cow.c, and -e is not given. Needs root, swap for some, and two
 * NUMA nodes (numa=fake=2 will do) for migration.
 */
#define _GNU_SOURCE
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define BASE_PAGES	64		/* in a range of base pages */

#include "pin_memory.h"

#define PEERS		4		/* processes beside the owner */
#define ANSWER_MS	60000		/* how long a process may take */

/* What is in the first byte of each page, by who wrote it last. */
#define OLD		1		/* by pin_memory.h, for one */
#define OWNER		20
#define DEVICE		21
#define CHILD		30

/* What all processes of the test share. */
static struct shared {
	char why[WHY_SIZE];
	pid_t pids[PEERS];
	/* The drop that readers and writers race with. */
	int passes, dropping, dropped, leaked, next;
} *shared;

static int kpagecount_fd;

static int look(const char *mem, size_t size, char value, const char *who)
{
	size_t i;
	char now;

	for (i = 0; i < size; i += pagesize) {
		now = __atomic_load_n(mem + i, __ATOMIC_RELAXED);
		if (now != value)
			return because(1, "%s: %d in page %zu, not %d", who,
				       now, i / pagesize, value);
	}
	return 0;
}

/* Memory, by kind. */

static int split_in_middle(struct range *r)
{
	return split_pmd(r, r->size / 2);
}

/* Unlike after map_pte_thp(), the pages hold what those of all kinds hold. */
static int map_split_thp(struct range *r, int flags)
{
	int ret = map_thp(r, flags);

	if (!ret)
		ret = split_in_middle(r);
	if (!ret)
		touch(r->mem, r->size, OLD);
	return ret;
}

/* Nothing of the area stays but one page in its middle. */
static int map_one_pte_thp(struct range *r, int flags)
{
	int ret = map_thp(r, flags);
	char *page = r->mem + r->size / 2, *end = r->area + r->area_size;

	if (ret)
		return ret;
	if (munmap(r->area, page - r->area) ||
	    munmap(page + pagesize, end - page - pagesize))
		return broken("munmap");
	r->area = page;
	r->area_size = pagesize;
	r->mem = page;
	r->size = pagesize;
	touch(r->mem, r->size, OLD);
	return 0;
}

/* The second half of a THP and the first half of the next one. */
static int map_two_thps(struct range *r, int flags)
{
	int ret = map_thps(r, 2, flags);

	if (ret)
		return ret;
	r->mem += thpsize / 2;
	r->size = thpsize;
	return 0;
}

static bool all_swapped(struct range *r)
{
	size_t i;

	for (i = 0; i < r->size; i += pagesize)
		if (!(pagemap(pagemap_fd, r->mem + i) & PM_SWAP))
			return false;
	return true;
}

/* References of other CPUs' pagevecs may be in the way: move_pages drains. */
static int swap_out(struct range *r)
{
	int tries, node = 0, status, ret;
	void *page = r->mem;

	for (tries = 0; tries < 20; tries++) {
		ret = page_out(r);
		if (ret)
			return ret;
		if (all_swapped(r))
			return 0;
		syscall(__NR_move_pages, 0, 1, &page, &node, &status,
			MPOL_MF_MOVE);
		usleep(1000);
	}
	return because(SKIP, "not swapped out (no swap, or too little?)");
}

static int map_swapped_base(struct range *r, int flags)
{
	int ret = map_base(r, flags);

	return ret ? ret : swap_out(r);
}

static int map_swapped_thp(struct range *r, int flags)
{
	int ret = map_thp(r, flags);

	return ret ? ret : swap_out(r);
}

static int map_swapped_split_thp(struct range *r, int flags)
{
	int ret = map_split_thp(r, flags);

	return ret ? ret : swap_out(r);
}

/* Other processes. */

typedef int call_fn(struct range *r, int arg);

static struct peer {
	int to[2], from[2];		/* pipes, as old as the case */
	bool runs;
	int value;			/* what has to be in its memory */
} peers[PEERS];

struct call {
	call_fn *fn;
	int arg;
};

static pid_t main_pid;

static int peers_open(void)
{
	unsigned int i;

	for (i = 0; i < PEERS; i++) {
		peers[i].runs = false;
		if (pipe(peers[i].to) || pipe(peers[i].from))
			ksft_exit_fail_msg("pipe: %s\n", strerror(errno));
	}
	memset(shared, 0, sizeof(*shared));
	return 0;
}

/* Dead, though its parent has not noticed. */
static bool is_zombie(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	if (f)
		fclose(f);
	return state == 'Z';
}

static void peer_stop(unsigned int i)
{
	pid_t pid = shared->pids[i];
	int tries;

	peers[i].runs = false;
	shared->pids[i] = 0;
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	/* A child, or an orphan, as this reaps those. */
	if (waitpid(pid, NULL, 0) == pid)
		return;
	for (tries = 0; tries < 1000 && !is_zombie(pid); tries++)
		usleep(1000);
}

static void peers_close(void)
{
	unsigned int i;

	for (i = 0; i < PEERS; i++) {
		peer_stop(i);
		close(peers[i].to[0]);
		close(peers[i].to[1]);
		close(peers[i].from[0]);
		close(peers[i].from[1]);
	}
	/* A grandchild was not ours to wait for while its parent lived. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void serve(struct range *r, unsigned int i)
{
	struct call call;
	int ret;

	while (read(peers[i].to[0], &call, sizeof(call)) == sizeof(call)) {
		ret = call.fn(r, call.arg);
		if (write(peers[i].from[1], &ret, sizeof(ret)) != sizeof(ret))
			break;
	}
	_exit(0);
}

/* A child of who calls; the owner can then have it called. */
static int peer_start(struct range *r, unsigned int i)
{
	bool direct = getpid() == main_pid;
	pid_t pid = fork();

	if (pid < 0)
		return broken("fork");
	if (!pid) {
		if (direct)
			prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(r, i);
	}
	shared->pids[i] = pid;
	peers[i].runs = true;
	peers[i].value = OLD;
	return 0;
}

/* Has that process do something, and waits for it. */
static int peer_call(unsigned int i, call_fn *fn, int arg)
{
	struct pollfd answer = { .fd = peers[i].from[0], .events = POLLIN };
	struct call call = { .fn = fn, .arg = arg };
	int ret;

	if (write(peers[i].to[1], &call, sizeof(call)) != sizeof(call))
		return broken("write");
	if (poll(&answer, 1, ANSWER_MS) != 1)
		return because(1, "process %u does not answer", i);
	if (read(peers[i].from[0], &ret, sizeof(ret)) != sizeof(ret))
		return broken("read");
	return ret;
}

/* What a process can be told to do. */

static int do_write(struct range *r, int value)
{
	touch(r->mem, r->size, value);
	return 0;
}

static int do_expect(struct range *r, int value)
{
	return look(r->mem, r->size, value, "the other process");
}

static int do_start(struct range *r, int i)
{
	return peer_start(r, i);
}

static int do_munmap(struct range *r, int arg)
{
	(void)arg;
	return munmap(r->mem, r->size) ? broken("munmap") : 0;
}

static int do_discard(struct range *r, int arg)
{
	(void)arg;
	return madvise(r->mem, r->size, MADV_DONTNEED) ?
	       broken("MADV_DONTNEED") : 0;
}

static int do_map_over(struct range *r, int arg)
{
	(void)arg;
	if (mmap(r->mem, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		 MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		return broken("mmap");
	return 0;
}

static int do_protect(struct range *r, int prot)
{
	return mprotect(r->mem, r->size, prot) ? broken("mprotect") : 0;
}

/* What cannot move, as hugetlb on 5.10, is skipped. */
static int do_move(struct range *r, int arg)
{
	(void)arg;
	return move(r, 0) ? lacking("mremap") : 0;
}

/* Holders of references. */

static struct pin gup;			/* opened before any fork */
static int pipe_fds[2] = { -1, -1 };

static int gup_pin(struct range *r, unsigned int flags)
{
	if (gup.fd < 0)
		return because(SKIP, "no gup_test to act as a device (CONFIG_GUP_TEST, debugfs)");
	return pin_again(&gup, r->mem, r->size, flags) ?
	       broken("PIN_LONGTERM_TEST_START") : 0;
}

static int pin_write(struct range *r)
{
	return gup_pin(r, PIN_WRITE);
}

static int pin_read(struct range *r)
{
	return gup_pin(r, 0);
}

static int pin_read_fast(struct range *r)
{
	return gup_pin(r, PIN_FAST);
}

static int gup_view(struct range *r, char *buf)
{
	(void)r;
	return pin_load(&gup, buf);
}

/* One byte of each page. */
static int gup_store(struct range *r, char value)
{
	struct pin_longterm_test_write args = {
		.size = 1,
		.src = (uintptr_t)&value,
	};

	for (; args.offset < r->size; args.offset += pagesize)
		if (ioctl(gup.fd, PIN_LONGTERM_TEST_WRITE, &args))
			return errno == ENOTTY ?
			       lacking("PIN_LONGTERM_TEST_WRITE") :
			       broken("PIN_LONGTERM_TEST_WRITE");
	return 0;
}

static void gup_drop(void)
{
	if (gup.fd >= 0)
		pin_stop(&gup);
}

/* The pages themselves go into the pipe: what is read is what they hold then. */
static int splice_take(struct range *r)
{
	if (fcntl(pipe_fds[1], F_SETPIPE_SZ, r->size) < 0)
		return lacking("F_SETPIPE_SZ");
	return pipe_splice(pipe_fds, r->mem, r->size) ?
	       lacking("vmsplice") : 0;
}

static int splice_view(struct range *r, char *buf)
{
	size_t done = 0;
	ssize_t n;

	while (done < r->size) {
		n = read(pipe_fds[0], buf + done, r->size - done);
		if (n <= 0)
			return broken("read of the pipe");
		done += n;
	}
	return 0;
}

static void splice_drop(void)
{
}

/* One fixed buffer, and the file that it is copied from and to. */
static struct uring {
	struct ring ring;
	int file;
	char *buf;			/* where it was registered */
} uring = { .ring.fd = -1, .file = -1 };

static void uring_drop(void)
{
	/* The pins may go only when the children do, who have it open, too. */
	if (uring.ring.fd >= 0)
		ring_leave(&uring.ring);
	if (uring.file >= 0)
		close(uring.file);
	uring.file = -1;
}

static int uring_take(struct range *r)
{
	struct iovec iov = { .iov_base = r->mem, .iov_len = r->size };
	int ret = ring_open(&uring.ring);

	if (ret)
		return ret;
	uring.file = syscall(__NR_memfd_create, "cow_pin", 0);
	if (uring.file < 0 || ftruncate(uring.file, r->size))
		return broken("memfd_create");
	uring.buf = r->mem;
	return ring_register(&uring.ring, &iov, 1);
}

/* The buffer has the address of then, wherever its pages are mapped now. */
static int uring_copy(struct range *r, int opcode)
{
	return ring_copy(&uring.ring, opcode, uring.file, 0, uring.buf,
			 r->size);
}

static int uring_view(struct range *r, char *buf)
{
	int ret = uring_copy(r, IORING_OP_WRITE_FIXED);

	if (!ret && pread(uring.file, buf, r->size, 0) != (ssize_t)r->size)
		ret = broken("pread");
	return ret;
}

static int uring_store(struct range *r, char value)
{
	size_t i;

	for (i = 0; i < r->size; i += pagesize)
		if (pwrite(uring.file, &value, 1, i) != 1)
			return broken("pwrite");
	return uring_copy(r, IORING_OP_READ_FIXED);
}

#define WRITER		1		/* writes through its reference */
#define READER		2
#define FAST		4		/* takes it by GUP-fast */
#define SECOND		8		/* another with the same kind of pin */

static const struct holder {
	const char *name;
	int is;
	int (*take)(struct range *r);
	int (*view)(struct range *r, char *buf);
	int (*store)(struct range *r, char value);
	void (*drop)(void);
} holders[] = {
	{ "write pin", WRITER,
	  pin_write, gup_view, gup_store, gup_drop },
	{ "read-only pin", READER,
	  pin_read, gup_view, NULL, gup_drop },
	{ "read-only pin by GUP-fast", READER | FAST | SECOND,
	  pin_read_fast, gup_view, NULL, gup_drop },
	{ "vmsplice", READER | FAST,
	  splice_take, splice_view, NULL, splice_drop },
	{ "io_uring", WRITER | SECOND,
	  uring_take, uring_view, uring_store, uring_drop },
};

/* Does the holder see that value in each page? */
static int check_view(struct range *r, const struct holder *h, char value)
{
	char *buf = malloc(r->size);
	int ret;

	if (!buf)
		return broken("malloc");
	ret = h->view(r, buf);
	if (!ret)
		ret = look(buf, r->size, value, h->name);
	free(buf);
	return ret;
}

/* Events: what happens before or after a reference is taken, in steps. */

#define STEPS		4

static int run_steps(struct range *r,
		     int (*const steps[STEPS])(struct range *r))
{
	int i, ret = 0;

	for (i = 0; i < STEPS && steps[i] && !ret; i++)
		ret = steps[i](r);
	return ret;
}

static int ev_read(struct range *r)
{
	return look(r->mem, r->size, OLD, "the owner");
}

static int ev_protect(struct range *r)
{
	return do_protect(r, PROT_READ);
}

static int ev_unprotect(struct range *r)
{
	return do_protect(r, PROT_READ | PROT_WRITE);
}

static int ev_clear_refs(struct range *r)
{
	(void)r;
	return pwrite(clear_refs_fd, "4", 1, 0) == 1 ? 0 :
	       lacking("clear_refs");
}

static int ev_uffd_wp(struct range *r)
{
	int fd = uffd_register(r, UFFD_FEATURE_PAGEFAULT_FLAG_WP,
			       UFFDIO_REGISTER_MODE_WP);
	int ret;

	if (fd < 0)
		return SKIP;
	ret = uffd_protect(fd, r->mem, r->size, true);
	if (!ret)
		ret = uffd_protect(fd, r->mem, r->size, false);
	close(fd);
	return ret;
}

static int ev_fork(struct range *r)
{
	return peer_start(r, peers[0].runs);
}

static int ev_child_writes(struct range *r)
{
	(void)r;
	peers[0].value = CHILD;
	return peer_call(0, do_write, CHILD);
}

static int ev_child_exits(struct range *r)
{
	(void)r;
	peer_stop(0);
	return 0;
}

/* The child forks, too, before anybody writes. */
static int ev_fork_fork(struct range *r)
{
	int ret = ev_fork(r);

	if (!ret)
		ret = peer_call(0, do_start, 1);
	if (!ret) {
		peers[1].runs = true;
		peers[1].value = OLD;
	}
	return ret;
}

static int ev_child_unprotects(struct range *r)
{
	(void)r;
	return peer_call(0, do_protect, PROT_READ | PROT_WRITE);
}

static int ev_free(struct range *r)
{
	return madvise(r->mem, r->size, MADV_FREE) ? lacking("MADV_FREE") : 0;
}

static int ev_move(struct range *r)
{
	return do_move(r, 0);
}

static int ev_migrate(struct range *r)
{
	if (move_to_node(r, 1) < 0 || move_to_node(r, 0) < 0)
		return lacking("move_pages (numa=fake=2 ?)");
	return 0;
}

/*
 * Same content as the range, which nobody refers to: ksmd has to merge it. At
 * a lower address, so that it comes first: among pages that cannot be merged,
 * ksmd may find no partner.
 */
static int ksm_twins(struct range *r, struct range *twins)
{
	twins->size = 2 * r->size;
	twins->area_size = twins->size;
	twins->mem = mmap(r->area - (1ul << 30), twins->size,
			  PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	if (twins->mem == MAP_FAILED)
		return lacking("mmap");
	twins->area = twins->mem;
	madvise(twins->mem, twins->size, MADV_NOHUGEPAGE);
	touch(twins->mem, twins->size, OLD);
	if (madvise(r->mem, r->size, MADV_MERGEABLE))
		return lacking("MADV_MERGEABLE");
	return merge(twins, 0);
}

static int ev_ksm(struct range *r)
{
	struct range twins = {};
	int ret = ksm_twins(r, &twins);

	if (!ret && is_ksm(r->mem))
		ret = because(1, "a referenced page was merged");
	range_free(&twins);
	return ret;
}

/* Timelines: what holder and owner have to agree after. */

#define BASE		1		/* base pages */
#define THP		2		/* PMD-mapped */
#define PARTS		4		/* THP mapped by PTEs */
#define HUGETLB		8
#define SWAPPED		16		/* out when the case begins */
#define SWAPPED_THP	32
#define ONE		64		/* what is left of a THP */
#define STRADDLE	128		/* two halves of THPs */

#define PAGEABLE	(BASE | THP | PARTS | SWAPPED)
#define ALL		(PAGEABLE | HUGETLB)
#define EVERY		(ALL | SWAPPED_THP | ONE | STRADDLE)

static const struct timeline {
	const char *before_name;
	int (*before[STEPS])(struct range *r);
	const char *after_name;
	int (*after[STEPS])(struct range *r);
	int kinds;
	int holders;
} timelines[] = {
	{ NULL, {}, NULL, {}, EVERY, WRITER | READER | SECOND },
	{ NULL, {}, "pageout", { page_out },
	  PAGEABLE, WRITER | READER | SECOND },
	{ NULL, {}, "pageout and read", { page_out, ev_read },
	  PAGEABLE | STRADDLE, WRITER | READER },
	{ NULL, {}, "mprotect", { ev_protect, ev_unprotect },
	  ALL | ONE | STRADDLE, WRITER | READER | SECOND },
	{ NULL, {}, "mprotect, pageout",
	  { ev_protect, page_out, ev_read, ev_unprotect },
	  PAGEABLE, WRITER | READER },
	{ NULL, {}, "clear_refs", { ev_clear_refs }, ALL, WRITER | READER },
	{ NULL, {}, "uffd-wp", { ev_uffd_wp }, PAGEABLE, WRITER | READER },
	{ NULL, {}, "fork", { ev_fork }, EVERY, WRITER | READER | SECOND },
	{ NULL, {}, "fork, child writes", { ev_fork, ev_child_writes },
	  ALL | STRADDLE, WRITER | READER },
	{ NULL, {}, "fork, child exits", { ev_fork, ev_child_exits },
	  ALL, WRITER | READER },
	{ NULL, {}, "fork, child forks", { ev_fork_fork },
	  ALL, WRITER | READER },
	{ NULL, {}, "read-only fork",
	  { ev_protect, ev_fork, ev_child_unprotects, ev_unprotect },
	  ALL, WRITER | READER },
	{ NULL, {}, "pageout, fork", { page_out, ev_fork },
	  PAGEABLE | SWAPPED_THP | ONE, WRITER | READER | SECOND },
	{ NULL, {}, "pageout, fork, child writes",
	  { page_out, ev_fork, ev_child_writes }, PAGEABLE, WRITER | READER },
	{ NULL, {}, "MADV_FREE, pageout", { ev_free, page_out },
	  PAGEABLE, WRITER | READER },
	{ NULL, {}, "mremap", { ev_move }, PAGEABLE, WRITER | READER },
	{ NULL, {}, "PMD split", { split_in_middle }, THP, WRITER | READER },
	{ NULL, {}, "move_pages", { ev_migrate }, ALL, WRITER | READER },
	{ NULL, {}, "KSM", { ev_ksm }, BASE | PARTS | SWAPPED | SWAPPED_THP | ONE,
	  WRITER | READER },
	{ "fork", { ev_fork }, NULL, {}, EVERY, WRITER | READER | SECOND },
	{ "fork", { ev_fork }, "child writes", { ev_child_writes },
	  ALL, WRITER | READER },
	{ "fork", { ev_fork }, "child exits", { ev_child_exits },
	  ALL, WRITER | READER | SECOND },
	{ "fork", { ev_fork }, "fork", { ev_fork }, ALL, WRITER | READER },
	{ "fork", { ev_fork }, "pageout and read", { page_out, ev_read },
	  PAGEABLE | SWAPPED_THP, WRITER | READER },
	{ "fork and exit", { ev_fork, ev_child_exits }, "mprotect",
	  { ev_protect, ev_unprotect }, ALL, WRITER | READER },
	{ "mprotect to read-only", { ev_protect }, "and back", { ev_unprotect },
	  ALL, READER | SECOND },
};

static int check_peers(void)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < PEERS && !ret; i++)
		if (peers[i].runs)
			ret = peer_call(i, do_expect, peers[i].value);
	return ret;
}

/* All write in turn; each has to see what is its own. */
static int check_agreement(struct range *r, const struct holder *h)
{
	unsigned int i;
	int ret = check_peers();

	touch(r->mem, r->size, OWNER);
	if (!ret)
		ret = check_peers();
	for (i = 0; i < PEERS && !ret; i++) {
		peers[i].value = CHILD + i;
		if (peers[i].runs)
			ret = peer_call(i, do_write, CHILD + i);
	}
	if (!ret)
		ret = check_view(r, h, OWNER);
	if (!ret && h->store) {
		ret = h->store(r, DEVICE);
		if (!ret)
			ret = look(r->mem, r->size, DEVICE, "the owner");
		if (!ret)
			ret = check_view(r, h, DEVICE);
	}
	return ret ? ret : check_peers();
}

/*
 * Partings: one process takes a reference to what it shares and lets go of its
 * mapping, another one writes. What is referred to must not change.
 */

static int do_take(struct range *r, int holder)
{
	return holders[holder].take(r);
}

static int do_move_unmap(struct range *r, int arg)
{
	int ret = do_move(r, arg);

	if (!ret && munmap(r->mem, r->size))
		ret = broken("munmap");
	return ret;
}

static int parted_view(struct range *r, int holder, char written)
{
	int ret = check_view(r, &holders[holder], OLD);

	if (!ret)
		ret = look(r->mem, r->size, written, "the writer");
	return ret;
}

/* The child takes and lets go, the owner writes. */
static int child_parts(struct range *r, int holder, call_fn *let_go)
{
	int ret = peer_start(r, 0);

	if (!ret)
		ret = peer_call(0, do_take, holder);
	if (!ret && let_go)
		ret = peer_call(0, let_go, 0);
	else if (!ret)
		peer_stop(0);
	touch(r->mem, r->size, OWNER);
	return ret ? ret : parted_view(r, holder, OWNER);
}

static int part_child_unmaps(struct range *r, int holder)
{
	return child_parts(r, holder, do_munmap);
}

static int part_child_discards(struct range *r, int holder)
{
	return child_parts(r, holder, do_discard);
}

static int part_child_moves(struct range *r, int holder)
{
	return child_parts(r, holder, do_move_unmap);
}

static int part_child_exits(struct range *r, int holder)
{
	return child_parts(r, holder, NULL);
}

/* What may only be read when it is taken is as private. */
static int part_readonly(struct range *r, int holder)
{
	int ret = do_protect(r, PROT_READ);

	if (!ret)
		ret = peer_start(r, 0);
	if (!ret)
		ret = peer_call(0, do_take, holder);
	if (!ret)
		ret = peer_call(0, do_munmap, 0);
	if (!ret)
		ret = do_protect(r, PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	touch(r->mem, r->size, OWNER);
	return parted_view(r, holder, OWNER);
}

/* The owner's PTEs and the child's PMD map one THP, as a migration restored them. */
static int part_split_migrated(struct range *r, int holder)
{
	uint64_t pfn = pfn_of(r->mem);
	int node, ret = peer_start(r, 0);

	if (!ret)
		ret = split_in_middle(r);
	for (node = 1; !ret && node >= 0 && pfn_of(r->mem) == pfn; node--)
		migrate_range(r, node, MPOL_MF_MOVE_ALL);
	if (!ret && pfn_of(r->mem) == pfn)
		ret = because(SKIP, "nothing migrates (numa=fake=2 ?)");
	if (!ret)
		ret = peer_call(0, do_take, holder);
	if (ret)
		return ret;
	peer_stop(0);
	touch(r->mem, r->size, OWNER);
	return parted_view(r, holder, OWNER);
}

/* The owner takes and lets go, the child writes. */
static int part_owner_unmaps(struct range *r, int holder)
{
	int ret = peer_start(r, 0);

	if (!ret)
		ret = do_take(r, holder);
	if (!ret)
		ret = do_map_over(r, 0);
	if (!ret)
		ret = peer_call(0, do_write, CHILD);
	if (!ret)
		ret = check_view(r, &holders[holder], OLD);
	return ret ? ret : peer_call(0, do_expect, CHILD);
}

/* Three share: the youngest takes and exits, then its parent does. */
static int part_grandchild_exits(struct range *r, int holder)
{
	int ret = ev_fork_fork(r);

	if (!ret)
		ret = peer_call(1, do_take, holder);
	if (ret)
		return ret;
	peer_stop(1);
	peer_stop(0);
	touch(r->mem, r->size, OWNER);
	return parted_view(r, holder, OWNER);
}

/* Three share: the youngest takes, the others write while it still looks. */
static int part_grandchild_looks(struct range *r, int holder)
{
	int ret = ev_fork_fork(r);

	if (!ret)
		ret = peer_call(1, do_take, holder);
	if (!ret)
		ret = peer_call(0, do_write, CHILD);
	if (ret)
		return ret;
	touch(r->mem, r->size, OWNER);
	ret = peer_call(1, do_expect, OLD);
	return ret ? ret : parted_view(r, holder, OWNER);
}

/* The middle one takes and goes; the eldest unmaps, the youngest writes. */
static int part_grandchild_writes(struct range *r, int holder)
{
	int ret = ev_fork_fork(r);

	if (!ret)
		ret = peer_call(0, do_take, holder);
	if (!ret)
		ret = peer_call(0, do_map_over, 0);
	if (!ret)
		ret = do_map_over(r, 0);
	if (!ret)
		ret = peer_call(1, do_write, CHILD);
	if (!ret)
		ret = check_view(r, &holders[holder], OLD);
	return ret ? ret : peer_call(1, do_expect, CHILD);
}

static const struct parting {
	const char *name;
	int (*run)(struct range *r, int holder);
	int kinds;
} partings[] = {
	{ "child unmaps", part_child_unmaps, EVERY },
	{ "child discards", part_child_discards, PAGEABLE },
	{ "child moves, unmaps", part_child_moves, PAGEABLE },
	{ "child exits", part_child_exits, ALL },
	{ "split, migrated, child exits", part_split_migrated, THP },
	{ "read-only, child unmaps", part_readonly, ALL },
	{ "owner unmaps", part_owner_unmaps, EVERY },
	{ "grandchild and child exit", part_grandchild_exits, ALL },
	{ "grandchild looks", part_grandchild_looks, ALL },
	{ "grandchild writes", part_grandchild_writes, ALL },
};

/*
 * process_vm_readv that hangs: it has taken the pages, and the first page of
 * its own buffer is missing until userfaultfd brings it.
 */

#define READV_PAGES	16		/* not more than it takes at once */

static struct readv {
	pthread_t thread;
	pid_t pid;			/* whose memory is read */
	char *from, *to;
	size_t size;
	ssize_t done;
	int uffd;
} readv_state;

static void *readv_thread(void *arg)
{
	struct readv *v = arg;
	struct iovec to = { v->to, v->size }, from = { v->from, v->size };

	v->done = process_vm_readv(v->pid, &to, 1, &from, 1, 0);
	return NULL;
}

/* pid 0: of the process itself. */
static int do_readv_start(struct range *r, int pid)
{
	struct readv *v = &readv_state;
	struct range to = {}, first;
	struct pollfd fault = { .events = POLLIN };
	int ret;

	v->size = r->size < READV_PAGES * pagesize ? r->size :
		  READV_PAGES * pagesize;
	ret = map_range(&to, v->size, 0, MAP_PRIVATE);
	if (ret)
		return ret;
	madvise(to.mem, to.size, MADV_NOHUGEPAGE);
	first = to;
	first.size = pagesize;
	v->uffd = uffd_register(&first, 0, UFFDIO_REGISTER_MODE_MISSING);
	if (v->uffd < 0)
		return SKIP;
	v->pid = pid ? pid : getpid();
	v->from = r->mem;
	v->to = to.mem;
	if (pthread_create(&v->thread, NULL, readv_thread, v))
		return broken("pthread_create");
	fault.fd = v->uffd;
	if (poll(&fault, 1, ANSWER_MS) != 1 || !(fault.revents & POLLIN))
		return because(1, "process_vm_readv did not fault");
	return 0;
}

static int do_readv_end(struct range *r, int value)
{
	struct readv *v = &readv_state;
	struct uffdio_zeropage zero = {
		.range = { (uintptr_t)v->to, pagesize },
	};

	(void)r;
	if (ioctl(v->uffd, UFFDIO_ZEROPAGE, &zero))
		return broken("UFFDIO_ZEROPAGE");
	pthread_join(v->thread, NULL);
	close(v->uffd);
	if (v->done != (ssize_t)v->size)
		return because(1, "process_vm_readv: %zd bytes", v->done);
	return look(v->to, v->size, value, "process_vm_readv");
}

/* The child reads its own memory and drops it, the owner writes. */
static int readv_self(struct range *r)
{
	int ret = peer_start(r, 0);

	if (!ret)
		ret = peer_call(0, do_readv_start, 0);
	if (!ret)
		ret = peer_call(0, do_map_over, 0);
	touch(r->mem, r->size, OWNER);
	return ret ? ret : peer_call(0, do_readv_end, OLD);
}

/* Another process reads the child's memory, else the same. */
static int readv_child(struct range *r)
{
	int ret = peer_start(r, 0);

	if (!ret)
		ret = peer_start(r, 1);
	if (!ret)
		ret = peer_call(1, do_map_over, 0);
	if (!ret)
		ret = peer_call(1, do_readv_start, shared->pids[0]);
	if (!ret)
		ret = peer_call(0, do_map_over, 0);
	touch(r->mem, r->size, OWNER);
	return ret ? ret : peer_call(1, do_readv_end, OLD);
}

/* Another process reads the owner's memory, who drops it; the child writes. */
static int readv_owner(struct range *r)
{
	int ret = peer_start(r, 0);

	if (!ret)
		ret = peer_start(r, 1);
	if (!ret)
		ret = peer_call(1, do_map_over, 0);
	if (!ret)
		ret = peer_call(1, do_readv_start, getpid());
	if (!ret)
		ret = do_map_over(r, 0);
	if (!ret)
		ret = peer_call(0, do_write, CHILD);
	return ret ? ret : peer_call(1, do_readv_end, OLD);
}

/*
 * O_DIRECT reads in flight: 512 bytes into each of some pages, from a disk
 * that is slow enough for all that happens meanwhile. Nothing depends on what
 * is on the disk: the memory is first filled with the complement of it.
 */

#define SECTOR		512
#define DIRECT_PAGES	32
#define BALLAST		4		/* reads that use up the disk's credit */

static struct direct {
	int fd;
	aio_context_t ctx, ballast_ctx;
	char *expect;			/* DIRECT_PAGES sectors */
	char *ballast;
	size_t nr, step;
	bool too_fast;			/* was read before the event was over */
} direct;

static int direct_open(void)
{
	struct direct *d = &direct;

	if (!disk)
		return because(SKIP, "no slow disk (-d)");
	d->fd = open(disk, O_RDONLY | O_DIRECT);
	if (d->fd < 0)
		return lacking(disk);
	d->ctx = 0;
	d->ballast_ctx = 0;
	d->too_fast = false;
	if (syscall(__NR_io_setup, 1, &d->ctx) ||
	    syscall(__NR_io_setup, BALLAST, &d->ballast_ctx))
		return lacking("io_setup");
	if (posix_memalign((void **)&d->expect, pagesize,
			   (DIRECT_PAGES + BALLAST) * SECTOR))
		return broken("posix_memalign");
	d->ballast = d->expect + DIRECT_PAGES * SECTOR;
	if (pread(d->fd, d->expect, DIRECT_PAGES * SECTOR, 0) !=
	    DIRECT_PAGES * SECTOR)
		return lacking("read of the disk by sectors of 512 bytes");
	return 0;
}

static void direct_close(void)
{
	struct direct *d = &direct;

	/* These wait for what is in flight. */
	if (d->ctx)
		syscall(__NR_io_destroy, d->ctx);
	if (d->ballast_ctx)
		syscall(__NR_io_destroy, d->ballast_ctx);
	if (d->fd >= 0)
		close(d->fd);
	free(d->expect);
	d->expect = NULL;
	d->fd = -1;
}

/* Takes the references: io_submit returns when the requests are queued. */
static int direct_start(struct range *r)
{
	struct direct *d = &direct;
	struct iovec iov[DIRECT_PAGES];
	struct iocb read_cb = {
		.aio_fildes = d->fd,
		.aio_lio_opcode = IOCB_CMD_PREADV,
		.aio_buf = (uintptr_t)iov,
	}, ballast[BALLAST] = {}, *cb;
	size_t i, j, pages = r->size / pagesize;

	d->nr = pages < DIRECT_PAGES ? pages : DIRECT_PAGES;
	d->step = pages / d->nr * pagesize;
	for (i = 0; i < d->nr; i++) {
		for (j = 0; j < SECTOR; j++)
			r->mem[i * d->step + j] = ~d->expect[i * SECTOR + j];
		iov[i].iov_base = r->mem + i * d->step;
		iov[i].iov_len = SECTOR;
	}
	read_cb.aio_nbytes = d->nr;
	for (i = 0; i < BALLAST; i++) {
		ballast[i].aio_fildes = d->fd;
		ballast[i].aio_lio_opcode = IOCB_CMD_PREAD;
		ballast[i].aio_buf = (uintptr_t)d->ballast + i * SECTOR;
		ballast[i].aio_nbytes = SECTOR;
		ballast[i].aio_offset = (2 * i + 1) * DIRECT_PAGES * SECTOR;
		cb = &ballast[i];
		if (syscall(__NR_io_submit, d->ballast_ctx, 1, &cb) != 1)
			return lacking("io_submit");
	}
	cb = &read_cb;
	if (syscall(__NR_io_submit, d->ctx, 1, &cb) != 1)
		return lacking("io_submit");
	return 0;
}

/* Waits for the read, and for the ballast. Returns 0, 1, or SKIP: too fast. */
static int direct_wait(bool must_be_in_flight)
{
	struct timespec now = { 0, 0 }, later = { 60, 0 };
	struct io_event event, ballast[BALLAST];
	struct direct *d = &direct;

	if (syscall(__NR_io_getevents, d->ctx, 1, 1, &event, &now) == 1) {
		d->too_fast = must_be_in_flight;
		if (d->too_fast)
			return because(SKIP, "the disk is too fast");
	} else if (syscall(__NR_io_getevents, d->ctx, 1, 1, &event,
			   &later) != 1) {
		return because(1, "the disk does not answer");
	}
	if (event.res != (int64_t)(d->nr * SECTOR))
		return because(SKIP, "the disk gave %lld bytes",
			       (long long)event.res);
	if (syscall(__NR_io_getevents, d->ballast_ctx, BALLAST, BALLAST,
		    ballast, &later) != BALLAST)
		return because(1, "the disk does not answer");
	return 0;
}

static int direct_check(struct range *r)
{
	struct direct *d = &direct;
	size_t i;

	for (i = 0; i < d->nr; i++) {
		if (memcmp(r->mem + i * d->step, d->expect + i * SECTOR,
			   SECTOR))
			return because(1, "page %zu lacks what was read",
				       i * d->step / pagesize);
		if (r->mem[i * d->step + pagesize - 1] != OWNER)
			return because(1, "page %zu lacks what was written",
				       i * d->step / pagesize);
	}
	return 0;
}

/* Nothing of this may appear in another process. */
static int do_direct_untouched(struct range *r, int arg)
{
	struct direct *d = &direct;
	size_t i;

	(void)arg;
	for (i = 0; i < d->nr; i++)
		if (r->mem[i * d->step] != (char)~d->expect[i * SECTOR] ||
		    r->mem[i * d->step + pagesize - 1])
			return because(1, "the other process sees page %zu change",
				       i * d->step / pagesize);
	return 0;
}

/* As ev_read(), but of bytes that the disk changes meanwhile. */
static int ev_touch(struct range *r)
{
	size_t i;

	for (i = 0; i < r->size; i += pagesize)
		__atomic_load_n(r->mem + i, __ATOMIC_RELAXED);
	return 0;
}

static const struct direct_event {
	const char *name;
	int (*steps[STEPS])(struct range *r);
	int kinds;
} direct_events[] = {
	{ "fork", { ev_fork }, BASE | THP | PARTS | HUGETLB | ONE },
	{ "fork, child exits", { ev_fork, ev_child_exits }, BASE | THP },
	{ "pageout", { page_out }, BASE | THP },
	{ "pageout and read", { page_out, ev_touch }, BASE | THP | PARTS },
	{ "pageout, fork", { page_out, ev_fork }, BASE | THP | PARTS },
	{ "clear_refs", { ev_clear_refs }, BASE | THP },
	{ "mprotect", { ev_protect, ev_unprotect }, BASE | THP | PARTS },
	{ "uffd-wp", { ev_uffd_wp }, BASE | THP },
};

static int direct_try(struct range *r, const struct direct_event *e)
{
	struct direct *d = &direct;
	int ret = direct_start(r), end;
	size_t i;

	if (ret)
		return ret;
	ret = run_steps(r, e->steps);
	/* At the other end of the page. */
	for (i = 0; i < d->nr; i++)
		r->mem[i * d->step + pagesize - 1] = OWNER;
	end = direct_wait(!ret);
	if (ret || end)
		return ret ? ret : end;
	ret = direct_check(r);
	if (!ret && peers[0].runs)
		ret = peer_call(0, do_direct_untouched, 0);
	return ret;
}

/*
 * Drops: a thread of the child drops the memory while another one reads on,
 * and the owner writes. When rmap says that the child is gone and its TLBs do
 * not, the reader sees through a stale entry what the owner writes.
 *
 * The dropped range is large, so that its start is unmapped long before the
 * TLBs are flushed, and the probes are at its start. The owner shares the
 * dropper's CPU and has priority: the reader wakes it up all the time (a timer
 * may be too coarse), it looks, and when it finds the dropper in the middle,
 * writes and keeps it from going on until the reader has been over all probes
 * again. In every other round it looks at kpagecount for its being the only
 * user; else it only counts, for kernels that decide by another count.
 */

#define DROP_SIZE	(24ul << 20)
#define DROP_THPS	8		/* with base pages behind them */
#define DROP_HUGETLB	8
#define DROP_PROBES	4		/* few: they have to stay in the TLB */
#define DROP_MEM_PROBES	16
#define DROP_MS		20000		/* how long a round may take */

struct drop {
	const char *name;
	int (*map)(struct range *r);
	call_fn *let_go;
	int probes, rounds;
	int (*child)(const struct drop *d, struct range *r);
	int (*owner)(const struct drop *d, struct range *r, bool watch,
		     const uint64_t *pfns);
};

static int map_drop_base(struct range *r)
{
	return map_base_size(r, DROP_SIZE, MAP_PRIVATE);
}

static int map_drop_thps(struct range *r, size_t tail)
{
	size_t head = DROP_THPS * thpsize;
	int ret;

	if (!thpsize)
		return because(SKIP, "no transparent huge pages");
	ret = map_range(r, head + tail, thpsize, MAP_PRIVATE);
	if (ret)
		return ret;
	madvise(r->mem, r->size, MADV_NOHUGEPAGE);
	touch(r->mem + head, tail, OLD);
	madvise(r->mem, head, MADV_HUGEPAGE);
	touch(r->mem, head, OLD);
	if (!pmd_mapped(r->mem, head))
		return because(SKIP, "got no PMD-mapped THPs");
	/* The two merge. */
	madvise(r->mem + head, tail, MADV_HUGEPAGE);
	return 0;
}

/* One mapping, and so one flush, of THPs and the base pages behind them. */
static int map_drop_thp(struct range *r)
{
	return map_drop_thps(r, DROP_SIZE);
}

static int map_only_thps(struct range *r)
{
	return map_drop_thps(r, 0);
}

static int map_drop_hugetlb(struct range *r)
{
	return map_hugetlb_pages(r, DROP_HUGETLB, MAP_PRIVATE);
}

static size_t probe_step(const struct drop *d)
{
	if (d->map == map_drop_thp || d->map == map_only_thps)
		return thpsize;
	return d->map == map_drop_hugetlb ? hugetlbsize : 17 * pagesize;
}

/* Another mapping comes to where the range was. */
static int do_move_over(struct range *r, int arg)
{
	struct range from = {};
	int ret = map_range(&from, r->size, 0, MAP_PRIVATE);

	(void)arg;
	if (ret)
		return ret;
	return mremap(from.mem, r->size, r->size, MREMAP_MAYMOVE |
		      MREMAP_FIXED, r->mem) == MAP_FAILED ?
	       broken("mremap") : 0;
}

static int nr_cpus(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void run_anywhere(void)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < nr_cpus(); i++)
		CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Gives the other side a head start that differs from round to round. */
static void stagger(int round)
{
	int i;

	for (i = 0; i < round % 8 * 2000; i++)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static int load(int *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static void store(int *value, int to)
{
	__atomic_store_n(value, to, __ATOMIC_RELEASE);
}

static int doorbell;			/* an eventfd */

static void ring_doorbell(void)
{
	uint64_t one = 1;

	if (write(doorbell, &one, sizeof(one)) != sizeof(one))
		_exit(1);
}

static void await_doorbell(void)
{
	struct pollfd bell = { .fd = doorbell, .events = POLLIN };
	uint64_t rings;

	/* A reader that waits in a fault does not ring. */
	if (poll(&bell, 1, 10) == 1 &&
	    read(doorbell, &rings, sizeof(rings)) < 0)
		usleep(1);
}

struct dropper {
	const struct drop *d;
	struct range *r;
};

static void *drop_thread(void *arg)
{
	struct dropper *dropper = arg;

	run_on(0);
	while (load(&shared->passes) < 3)
		sched_yield();
	store(&shared->dropping, 1);
	if (dropper->d->let_go(dropper->r, 0))
		store(&shared->leaked, -1);
	store(&shared->dropped, 1);
	return NULL;
}

/* The child: its first thread reads, until the other one has dropped it all. */
static int drop_and_read(const struct drop *d, struct range *r)
{
	struct dropper dropper = { .d = d, .r = r };
	size_t step = probe_step(d);
	pthread_t thread;
	int i;

	run_on(nr_cpus() - 1);
	if (pthread_create(&thread, NULL, drop_thread, &dropper))
		return 1;
	while (!load(&shared->dropped)) {
		for (i = 0; i < d->probes; i++)
			if (__atomic_load_n(r->mem + i * step,
					    __ATOMIC_RELAXED) == OWNER)
				store(&shared->leaked, 1);
		store(&shared->passes, shared->passes + 1);
		if (shared->passes % 16 == 0)
			ring_doorbell();
	}
	ring_doorbell();
	pthread_join(thread, NULL);
	return 0;
}

/* Returns whether it wrote before the drop was complete, or -1. */
static int write_into_drop(const struct drop *d, struct range *r, bool watch,
			   const uint64_t *pfns)
{
	size_t step = probe_step(d);
	int i, passes, last = d->probes - 1;
	static unsigned int round;
	long start = now_ms();

	run_on(0);
	while (!load(&shared->dropping)) {
		if (now_ms() > start + DROP_MS)
			return -1;
		await_doorbell();
	}
	/* Of huge pages, the first will do. */
	if (d->map != map_drop_base)
		last = 0;
	for (i = round++ % 32; !watch && i && !load(&shared->dropped); i--)
		await_doorbell();
	while (watch && !load(&shared->dropped) &&
	       read_u64(kpagecount_fd, pfns[last]) != 1)
		await_doorbell();
	if (load(&shared->dropped))
		return 0;
	for (i = 0; i < d->probes; i++)
		if (!watch || read_u64(kpagecount_fd, pfns[i]) == 1)
			__atomic_store_n(r->mem + i * step, OWNER,
					 __ATOMIC_RELAXED);
	passes = load(&shared->passes);
	start = now_ms();
	while (!load(&shared->dropped) && load(&shared->passes) < passes + 100 &&
	       now_ms() < start + 20)
		;
	return 1;
}

/*
 * The child reads by /proc/self/mem. Here it is the reader whom the owner
 * interrupts, perhaps when it has looked the page up and not yet read it. Then
 * the dropper, on another CPU, drops that page, and the owner writes it.
 */

static void *drop_each_thread(void *arg)
{
	struct dropper *dropper = arg;
	struct range *r = dropper->r;
	size_t step = probe_step(dropper->d);
	int i, passes;

	run_on(0);
	for (i = 0; i < dropper->d->probes; i++) {
		passes = load(&shared->passes);
		while (load(&shared->passes) < passes + 2)
			sched_yield();
		/* Where the reader is by now differs. */
		stagger(i);
		ring_doorbell();
		while (load(&shared->dropping) <= i)
			sched_yield();
		if (madvise(r->mem + i * step, step, MADV_DONTNEED))
			store(&shared->leaked, -1);
		store(&shared->dropped, i + 1);
	}
	return NULL;
}

static int drop_and_read_mem(const struct drop *d, struct range *r)
{
	int i, mem = open("/proc/self/mem", O_RDONLY);
	struct dropper dropper = { .d = d, .r = r };
	size_t step = probe_step(d);
	pthread_t thread;
	char now;

	run_on(nr_cpus() - 1);
	if (pthread_create(&thread, NULL, drop_each_thread, &dropper))
		return 1;
	for (;;) {
		i = load(&shared->next);
		if (i == d->probes)
			break;
		if (pread(mem, &now, 1, (uintptr_t)r->mem + i * step) != 1)
			return 1;
		if (now == OWNER)
			store(&shared->leaked, 1);
		store(&shared->passes, shared->passes + 1);
	}
	pthread_join(thread, NULL);
	return 0;
}

static int write_under_reader(const struct drop *d, struct range *r, bool watch,
			      const uint64_t *pfns)
{
	size_t step = probe_step(d);
	long start = now_ms();
	int i;

	(void)pfns;
	(void)watch;
	run_on(nr_cpus() - 1);
	for (i = 0; i < d->probes; i++) {
		await_doorbell();
		store(&shared->dropping, i + 1);
		while (load(&shared->dropped) <= i)
			if (now_ms() > start + DROP_MS)
				return -1;
		__atomic_store_n(r->mem + i * step, OWNER, __ATOMIC_RELAXED);
		store(&shared->next, i + 1);
	}
	return 1;
}

static int drop_round(const struct drop *d, struct range *r, bool watch,
		      int *early)
{
	struct sched_param fifo = { .sched_priority = 1 }, other = {};
	uint64_t pfns[DROP_MEM_PROBES];
	size_t step = probe_step(d);
	int i, status;
	pid_t pid;

	for (i = 0; i < d->probes; i++) {
		__atomic_store_n(r->mem + i * step, OLD, __ATOMIC_RELAXED);
		pfns[i] = pfn_of(r->mem + i * step);
	}
	memset(shared, 0, sizeof(*shared));
	doorbell = eventfd(0, 0);
	if (doorbell < 0)
		return lacking("eventfd");
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(d->child(d, r));
	}
	if (pid < 0)
		return broken("fork");
	sched_setscheduler(0, SCHED_FIFO, &fifo);
	i = d->owner(d, r, watch, pfns);
	sched_setscheduler(0, SCHED_OTHER, &other);
	run_anywhere();
	close(doorbell);
	if (i < 0)
		kill(pid, SIGKILL);
	else
		*early += i;
	if (waitpid(pid, &status, 0) != pid || status)
		return because(1, "the child ended with %#x", status);
	if (shared->leaked < 0)
		return 1;
	return shared->leaked ?
	       because(1, "the child read what the owner wrote later") : 0;
}

static int run_drop(const struct drop *d)
{
	int round, ret = 0, early = 0;
	struct range r = {};

	if (nr_cpus() < 2)
		return because(SKIP, "one CPU");
	for (round = 0; round < d->rounds; round++) {
		/* A copy may have split a THP: all anew. */
		if (!r.area || d->map != map_drop_base) {
			range_free(&r);
			ret = d->map(&r);
			if (ret)
				break;
		}
		ret = drop_round(d, &r, round % 2 == 0, &early);
		if (ret)
			break;
	}
	range_free(&r);
	if (!ret)
		ksft_print_msg("%d of %d rounds with writes in time\n", early,
			       round);
	if (!ret && !early)
		return because(SKIP, "no write came in time");
	return ret;
}

static const struct drop drops[] = {
	{ "MADV_DONTNEED: base pages", map_drop_base, do_discard,
	  DROP_PROBES, 30, drop_and_read, write_into_drop },
	{ "mmap over it: base pages", map_drop_base, do_map_over,
	  DROP_PROBES, 60, drop_and_read, write_into_drop },
	{ "mremap over it: base pages", map_drop_base, do_move_over,
	  DROP_PROBES, 60, drop_and_read, write_into_drop },
	{ "MADV_DONTNEED: PMD-mapped THP", map_drop_thp, do_discard,
	  DROP_PROBES, 30, drop_and_read, write_into_drop },
	{ "mmap over it: PMD-mapped THP", map_drop_thp, do_map_over,
	  DROP_PROBES, 30, drop_and_read, write_into_drop },
	{ "mmap over it: hugetlb", map_drop_hugetlb, do_map_over,
	  DROP_PROBES, 100, drop_and_read, write_into_drop },
	{ "MADV_DONTNEED, /proc/PID/mem: base pages", map_drop_base, NULL,
	  DROP_MEM_PROBES, 6, drop_and_read_mem, write_under_reader },
	{ "MADV_DONTNEED, /proc/PID/mem: PMD-mapped THP", map_only_thps, NULL,
	  DROP_THPS, 20, drop_and_read_mem, write_under_reader },
};

/* Races of references with fork, with migration, with the other sharer. */

#define FORK_ROUNDS	30

struct racer {
	struct range *r;
	const struct holder *h;
	pthread_t thread;
	pthread_barrier_t start, end;
	bool stop;
	int ret;
};

static void *taker(void *arg)
{
	struct racer *race = arg;

	for (;;) {
		pthread_barrier_wait(&race->start);
		if (race->stop)
			return NULL;
		race->ret = race->h->take(race->r);
		pthread_barrier_wait(&race->end);
	}
}

static int race_start(struct racer *race)
{
	pthread_barrier_init(&race->start, NULL, 2);
	pthread_barrier_init(&race->end, NULL, 2);
	return pthread_create(&race->thread, NULL, taker, race) ?
	       broken("pthread_create") : 0;
}

static void race_end(struct racer *race)
{
	race->stop = true;
	pthread_barrier_wait(&race->start);
	pthread_join(race->thread, NULL);
}

/* A thread takes references while this one forks. */
static int race_fork(struct range *r, const struct holder *h)
{
	struct racer race = { .r = r, .h = h };
	int round, ret = race_start(&race);

	if (ret)
		return ret;
	for (round = 0; round < FORK_ROUNDS && !ret; round++) {
		touch(r->mem, r->size, OLD);
		pthread_barrier_wait(&race.start);
		stagger(round);
		ret = peer_start(r, 0);
		pthread_barrier_wait(&race.end);
		if (!ret)
			ret = race.ret;
		if (!ret)
			ret = check_agreement(r, h);
		h->drop();
		peer_stop(0);
	}
	race_end(&race);
	return ret;
}

static int do_stagger_discard(struct range *r, int round)
{
	stagger(round / 8);
	return do_map_over(r, 0);
}

/*
 * The child lets go while this thread writes and another one takes references:
 * a copy that began when the page was shared must not replace it once it is
 * exclusive and referred to.
 */
static int race_unmap(struct range *r, const struct holder *h)
{
	struct call call = { .fn = do_stagger_discard };
	struct racer race = { .r = r, .h = h };
	int round, ret = race_start(&race), answer;

	if (ret)
		return ret;
	for (round = 0; round < FORK_ROUNDS && !ret; round++) {
		touch(r->mem, r->size, OLD);
		ret = peer_start(r, 0);
		if (ret)
			break;
		call.arg = round;
		if (write(peers[0].to[1], &call, sizeof(call)) != sizeof(call))
			ret = broken("write");
		pthread_barrier_wait(&race.start);
		stagger(round);
		touch(r->mem, r->size, OWNER);
		pthread_barrier_wait(&race.end);
		if (!ret && read(peers[0].from[0], &answer, sizeof(answer)) !=
		    sizeof(answer))
			ret = broken("read");
		peer_stop(0);
		if (!ret)
			ret = race.ret;
		touch(r->mem, r->size, DEVICE);
		if (!ret)
			ret = check_view(r, h, DEVICE);
		h->drop();
	}
	race_end(&race);
	return ret;
}

static void *migrator(void *arg)
{
	struct racer *race = arg;
	int node = 0;

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		node = !node;
		if (move_to_node(race->r, node) < 0)
			race->ret = SKIP;
		/* On a busy machine the owner would never get its page locks */
		usleep(200);
	}
	return NULL;
}

/* Forks while a thread migrates: what fork meets may be in flight. */
static int race_migration(struct range *r, const struct holder *h)
{
	struct racer race = { .r = r };
	int round, ret;

	ret = ev_migrate(r);
	if (ret)
		return ret;
	if (pthread_create(&race.thread, NULL, migrator, &race))
		return broken("pthread_create");
	for (round = 0; round < FORK_ROUNDS && !ret; round++) {
		touch(r->mem, r->size, OLD);
		ret = h->take(r);
		if (!ret)
			ret = peer_start(r, 0);
		if (!ret)
			ret = check_agreement(r, h);
		h->drop();
		peer_stop(0);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(race.thread, NULL);
	return ret;
}

static const struct race {
	const char *name;
	int (*run)(struct range *r, const struct holder *h);
	int kinds, holders;
} races[] = {
	{ "fork racing", race_fork, BASE | THP | HUGETLB,
	  WRITER | READER | SECOND },
	{ "unmap by the child and write, racing", race_unmap,
	  BASE | THP | HUGETLB, READER | SECOND },
	{ "fork while it migrates", race_migration,
	  BASE | THP | HUGETLB, WRITER | READER },
};

/* What must not be copied, and other scenarios. */

static uint64_t *pfns_of(struct range *r)
{
	size_t i, nr = r->size / pagesize;
	uint64_t *pfns = calloc(nr, sizeof(*pfns));

	for (i = 0; pfns && i < nr; i++)
		pfns[i] = pfn_of(r->mem + i * pagesize);
	return pfns;
}

/* Frees the array, and fails if the pages are not those any more. */
static int same_pages(struct range *r, uint64_t *pfns, const char *what)
{
	size_t i, nr = r->size / pagesize, other = 0;

	for (i = 0; pfns && i < nr; i++)
		other += !pfns[i] || pfn_of(r->mem + i * pagesize) != pfns[i];
	if (!pfns)
		return broken("calloc");
	free(pfns);
	return other ? because(1, "%s: %zu of %zu pages were copied", what,
			       other, nr) : 0;
}

/* A child came and went: what it shared is written to in place. */
static int fork_exit_write(struct range *r)
{
	uint64_t *pfns;
	int ret;

	if (!pfn_of(r->mem))
		ret = look(r->mem, r->size, OLD, "the owner");
	pfns = pfns_of(r);
	ret = ev_fork(r);
	if (!ret)
		ret = ev_child_exits(r);
	touch(r->mem, r->size, OWNER);
	if (ret) {
		free(pfns);
		return ret;
	}
	return same_pages(r, pfns, "write after fork and exit");
}

/* What a read brought back from swap, a write does not copy. */
static int swapin_write(struct range *r)
{
	int ret = swap_out(r);
	uint64_t *pfns;

	if (!ret)
		ret = look(r->mem, r->size, OLD, "the owner");
	if (ret)
		return ret;
	pfns = pfns_of(r);
	touch(r->mem, r->size, OWNER);
	return same_pages(r, pfns, "write after swap-in");
}

/* In a process that the owner forked: how many of its pages are the owner's? */
static int do_count_shared(struct range *r, int arg)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), nr = 0;
	uint64_t entry;
	size_t i;

	(void)arg;
	for (i = 0; i < r->size; i += pagesize) {
		/* That one is of the owner. */
		entry = pagemap(pagemap_fd, r->mem + i);
		nr += entry & PM_PRESENT && (entry & PM_PFN) ==
		      (pagemap(fd, r->mem + i) & PM_PFN);
	}
	close(fd);
	return nr;
}

/* Fails unless owner and child share that many pages. */
static int check_shared(int nr, const char *after)
{
	int are = peer_call(0, do_count_shared, 0);

	return are >= nr ? 0 :
	       because(1, "%s: %d pages are shared, not %d", after, are, nr);
}

/*
 * Base pages that are new may be in a pagevec, which holds references: for
 * those, of which another CPU has up to 15, a copy is allowed.
 */
static int fork_shares(struct range *r)
{
	int ret = peer_start(r, 0), nr = r->size / pagesize;

	return ret ? ret : check_shared(nr == BASE_PAGES ? nr - 15 : nr,
					"fork");
}

static int read_by_mem(struct range *r, pid_t pid)
{
	char path[64], *buf = malloc(r->size);
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY);
	if (!buf || fd < 0 || pread(fd, buf, r->size, (uintptr_t)r->mem) !=
	    (ssize_t)r->size)
		ret = broken(path);
	if (fd >= 0)
		close(fd);
	if (!ret)
		ret = look(buf, r->size, OLD, path);
	free(buf);
	return ret;
}

static int attach(pid_t pid)
{
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL))
		return broken("PTRACE_ATTACH");
	return waitpid(pid, NULL, __WALL) == pid ? 0 : broken("waitpid");
}

static int detach(pid_t pid)
{
	return ptrace(PTRACE_DETACH, pid, NULL, NULL) ?
	       broken("PTRACE_DETACH") : 0;
}

/* A debugger looks: that is no reason to copy. */
static int look_shares(struct range *r)
{
	int ret = fork_shares(r), before;
	long word = 0;
	size_t i;

	if (ret)
		return ret;
	before = peer_call(0, do_count_shared, 0);
	ret = read_by_mem(r, shared->pids[0]);
	if (!ret)
		ret = read_by_mem(r, getpid());
	if (!ret)
		ret = attach(shared->pids[0]);
	for (i = 0; i < r->size && !ret; i += pagesize) {
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, shared->pids[0], r->mem + i, 0);
		if (errno || (char)word != OLD)
			ret = broken("PTRACE_PEEKDATA");
	}
	if (!ret)
		ret = detach(shared->pids[0]);
	return ret ? ret : check_shared(before, "/proc/PID/mem and ptrace");
}

/* Neither is locking or prefetching what may only be read. */
static int mlock_shares(struct range *r)
{
	int ret = fork_shares(r), before;

	if (ret)
		return ret;
	before = peer_call(0, do_count_shared, 0);
	ret = do_protect(r, PROT_READ);
	if (!ret && mlock(r->mem, r->size))
		ret = lacking("mlock");
	if (!ret)
		ret = check_shared(before, "mlock");
	munlock(r->mem, r->size);
	if (!ret && madvise(r->mem, r->size, MADV_WILLNEED) && errno != EBADF)
		ret = lacking("MADV_WILLNEED");
	return ret ? ret : check_shared(before, "MADV_WILLNEED");
}

/*
 * Nor is a core dump. What the dying process copied cannot be seen afterwards,
 * but un-sharing is a fault, and there are more pages than other faults.
 */
static int core_shares(struct range *r)
{
	static const char pattern[] = "/proc/sys/kernel/core_pattern";
	struct rlimit any = { RLIM_INFINITY, RLIM_INFINITY };
	char old[128] = "", path[64];
	unsigned long faults;
	struct stat st;
	int fd, status, ret = 0;
	pid_t pid;

	fd = open(pattern, O_RDWR);
	if (fd < 0 || read(fd, old, sizeof(old) - 1) < 0)
		return lacking(pattern);
	snprintf(path, sizeof(path), "/tmp/cow_pin.core.%d", getpid());
	if (pwrite(fd, path, strlen(path), 0) != (ssize_t)strlen(path))
		ret = lacking(pattern);
	faults = read_vmstat("pgfault");
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &any);
		abort();
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		ret = broken("fork");
	faults = read_vmstat("pgfault") - faults;
	if (!ret && (!WCOREDUMP(status) || stat(path, &st) ||
		     st.st_size < (off_t)r->size))
		ret = because(SKIP, "no core dump (core_uses_pid?)");
	if (!ret && faults > r->size / pagesize * 3 / 4)
		ret = because(1, "%lu faults while %zu pages were dumped",
			      faults, r->size / pagesize);
	unlink(path);
	if (pwrite(fd, old, strlen(old), 0) != (ssize_t)strlen(old))
		ksft_print_msg("%s was: %s\n", pattern, old);
	close(fd);
	return ret;
}

/* A debugger's write to what may only be read is private to the traced. */
static int forced_write(struct range *r)
{
	char path[64], value = CHILD;
	int fd, ret = do_protect(r, PROT_READ);
	char *last = r->mem + r->size - pagesize;
	long word = CHILD;

	if (!ret)
		ret = peer_start(r, 0);
	if (!ret)
		ret = pin_read(r);
	if (!ret)
		ret = attach(shared->pids[0]);
	if (ret)
		goto unpin;
	snprintf(path, sizeof(path), "/proc/%d/mem", shared->pids[0]);
	fd = open(path, O_RDWR);
	if (ptrace(PTRACE_POKEDATA, shared->pids[0], r->mem, word))
		ret = broken("PTRACE_POKEDATA");
	else if (fd < 0 || pwrite(fd, &value, 1, (uintptr_t)last) != 1)
		ret = broken(path);
	if (fd >= 0)
		close(fd);
	if (!ret)
		ret = detach(shared->pids[0]);
	/* Of the child, only these two pages changed. */
	if (!ret && peer_call(0, do_expect, OLD) != 1)
		ret = because(1, "the child lacks what was forced on it");
	if (!ret)
		ret = look(r->mem, r->size, OLD, "the owner");
	if (!ret)
		ret = check_view(r, &holders[1], OLD);
unpin:
	gup_drop();
	return ret;
}

/* The same for a file: neither it nor another mapping of it may change. */
static int forced_write_file(struct range *r)
{
	int fd = syscall(__NR_memfd_create, "cow_pin", 0), ret = 0;
	char value = 0;

	if (fd < 0 || ftruncate(fd, r->size))
		return lacking("memfd_create");
	while (!ret && lseek(fd, 0, SEEK_CUR) < (off_t)r->size)
		if (write(fd, r->mem, pagesize) != (ssize_t)pagesize)
			ret = broken("write");
	if (mmap(r->mem, r->size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
	    MAP_FAILED)
		ret = broken("mmap");
	if (!ret)
		ret = forced_write(r);
	if (!ret && (pread(fd, &value, 1, 0) != 1 || value != OLD))
		ret = because(1, "the file was written to");
	close(fd);
	return ret;
}

/* Merged pages: a long-term pin gets its own, others do not need to. */
static int ksm_merged(struct range *r, struct range *twins)
{
	int ret = ksm_twins(r, twins);

	return ret || is_ksm(r->mem) ? ret :
	       because(SKIP, "the range was not merged");
}

static int ksm_pin(struct range *r)
{
	struct range twins = {};
	int ret = ksm_merged(r, &twins);

	if (!ret)
		ret = pin_read(r);
	if (!ret)
		ret = check_agreement(r, &holders[1]);
	gup_drop();
	if (!ret)
		ret = look(twins.mem, twins.size, OLD, "the twin");
	range_free(&twins);
	return ret;
}

static int read_by_process_vm(struct range *r)
{
	char *buf = malloc(r->size);
	struct iovec to = { buf, r->size }, from = { r->mem, r->size };
	int ret = 0;

	if (!buf || process_vm_readv(getpid(), &to, 1, &from, 1, 0) !=
	    (ssize_t)r->size)
		ret = lacking("process_vm_readv");
	free(buf);
	return ret;
}

static int ksm_short_term(struct range *r)
{
	const struct holder *splice = &holders[3];
	struct range twins = {};
	uint64_t *pfns;
	int ret = ksm_merged(r, &twins);

	if (!ret) {
		pfns = pfns_of(r);
		ret = splice->take(r);
		if (!ret)
			ret = read_by_process_vm(r);
		if (!ret)
			ret = same_pages(r, pfns, "merged pages");
		else
			free(pfns);
	}
	touch(r->mem, r->size, OWNER);
	if (!ret)
		ret = check_view(r, splice, OLD);
	if (!ret)
		ret = look(twins.mem, twins.size, OLD, "the twin");
	range_free(&twins);
	return ret;
}

static int zero_short_term(struct range *r)
{
	const struct holder *splice = &holders[3];
	uint64_t *pfns;
	int ret = do_discard(r, 0);

	if (!ret)
		ret = look(r->mem, r->size, 0, "the owner");
	if (ret)
		return ret;
	pfns = pfns_of(r);
	ret = splice->take(r);
	if (!ret)
		ret = read_by_process_vm(r);
	if (!ret)
		ret = same_pages(r, pfns, "zero pages");
	else
		free(pfns);
	touch(r->mem, r->size, OWNER);
	return ret ? ret : check_view(r, splice, 0);
}

/* Every page of the task is in a pipe when it forks, as CRIU leaves it. */
static int splice_all_fork(struct range *r)
{
	const struct holder *splice = &holders[3];
	int nr = r->size / pagesize, are, ret = splice->take(r);

	if (!ret)
		ret = peer_start(r, 0);
	if (ret)
		return ret;
	are = peer_call(0, do_count_shared, 0);
	ksft_print_msg("fork shared %d of %d pages that a pipe refers to\n",
		       are, nr);
	return check_agreement(r, splice);
}

static long free_huge(void)
{
	return read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
}

static long reserved_huge(void)
{
	return read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages");
}

/*
 * Fork of a pinned huge page when there is no other: it may fail, and the child
 * may lack the page, but the owner keeps it.
 */
static int hugetlb_exhausted(struct range *r, int (*pin)(struct range *r))
{
	long nr_free = free_huge(), reserved = reserved_huge();
	struct range rest = {};
	const struct holder *h = &holders[pin == pin_read];
	int ret;

	if (nr_free < 1 || nr_free - reserved < 1)
		return because(SKIP, "no free huge page");
	ret = pin(r);
	if (ret)
		return ret;
	ret = map_range(&rest, (nr_free - reserved) * hugetlbsize, 0,
			MAP_PRIVATE | MAP_HUGETLB);
	if (ret)
		goto unpin;
	touch(rest.mem, rest.size, OLD);
	ret = peer_start(r, 0);
	if (ret)
		ret = errno == ENOMEM ? 0 : broken("fork");
	touch(r->mem, r->size, OWNER);
	if (!ret)
		ret = check_view(r, h, OWNER);
	if (!ret && h->store) {
		ret = h->store(r, DEVICE);
		if (!ret)
			ret = look(r->mem, r->size, DEVICE, "the owner");
	}
	range_free(&rest);
unpin:
	peer_stop(0);
	gup_drop();
	range_free(r);
	if (!ret && (free_huge() != nr_free + 1 || reserved_huge() != reserved))
		ret = because(1, "%ld free and %ld reserved huge pages, not %ld and %ld",
			      free_huge(), reserved_huge(), nr_free + 1,
			      reserved);
	return ret;
}

static int hugetlb_exhausted_write(struct range *r)
{
	return hugetlb_exhausted(r, pin_write);
}

static int hugetlb_exhausted_read(struct range *r)
{
	return hugetlb_exhausted(r, pin_read);
}

/* Pages and reservations are all back after the copies that fork makes. */
static int hugetlb_counters(struct range *r)
{
	long nr_free = free_huge(), reserved = reserved_huge();
	int ret = pin_write(r);

	if (!ret)
		ret = peer_start(r, 0);
	if (!ret)
		ret = check_agreement(r, &holders[0]);
	gup_drop();
	peer_stop(0);
	range_free(r);
	if (!ret && (free_huge() != nr_free + 1 || reserved_huge() != reserved))
		ret = because(1, "%ld free and %ld reserved huge pages, not %ld and %ld",
			      free_huge(), reserved_huge(), nr_free + 1,
			      reserved);
	return ret;
}

static const struct scenario {
	const char *name;
	int (*run)(struct range *r);
	int kinds;
} scenarios[] = {
	{ "process_vm_readv of its own", readv_self, EVERY },
	{ "process_vm_readv of the child's", readv_child, ALL },
	{ "process_vm_readv of the owner's", readv_owner, ALL },
	{ "fork, exit, write", fork_exit_write, EVERY },
	{ "swap-in by read, write", swapin_write, BASE | THP | PARTS | ONE },
	{ "fork shares", fork_shares, BASE | THP | PARTS | ONE | HUGETLB },
	{ "/proc/PID/mem and ptrace share", look_shares,
	  BASE | THP | PARTS | HUGETLB },
	{ "core dump shares", core_shares, PARTS },
	{ "mlock and MADV_WILLNEED share", mlock_shares, BASE | THP | PARTS },
	{ "forced write", forced_write, PAGEABLE },
	{ "forced write to a private file", forced_write_file, BASE },
	{ "KSM page, read-only pin", ksm_pin, BASE },
	{ "KSM page, short-term references", ksm_short_term, BASE },
	{ "zero page, short-term references", zero_short_term, BASE },
	{ "vmsplice of all, fork", splice_all_fork,
	  BASE | THP | PARTS | HUGETLB },
	{ "write pin, fork, no huge page left", hugetlb_exhausted_write,
	  HUGETLB },
	{ "read-only pin, fork, no huge page left", hugetlb_exhausted_read,
	  HUGETLB },
	{ "write pin, fork, huge pages all back", hugetlb_counters, HUGETLB },
};

/* The kinds, and what runs it all. */

static const struct kind {
	const char *name;
	int (*map)(struct range *r, int flags);
	int is;
} kinds[] = {
	{ "base pages", map_base, BASE },
	{ "PMD-mapped THP", map_thp, THP },
	{ "PTE-mapped THP", map_split_thp, PARTS },
	{ "one page of a THP", map_one_pte_thp, ONE },
	{ "halves of two THPs", map_two_thps, STRADDLE },
	{ "hugetlb", map_hugetlb, HUGETLB },
	{ "swapped base pages", map_swapped_base, SWAPPED },
	{ "swapped THP", map_swapped_thp, SWAPPED_THP },
	{ "swapped PTE-mapped THP", map_swapped_split_thp,
	  SWAPPED_THP },
};

static unsigned int plan;
static bool dry;			/* only counts the cases */

static bool begin(const char *name)
{
	if (!asked_for(name))
		return false;
	plan += dry;
	return !dry;
}

/* What a case finds, and what is there no more after it. */
static int case_open(const struct kind *k, struct range *r)
{
	memset(r, 0, sizeof(*r));
	peers_open();
	gup.fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	if (pipe(pipe_fds))
		ksft_exit_fail_msg("pipe: %s\n", strerror(errno));
	return k->map(r, MAP_PRIVATE);
}

static void case_close(struct range *r)
{
	peers_close();
	if (gup.fd >= 0)
		close(gup.fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	range_free(r);
}

/* One of a table's tests, as its type has it. */
typedef int test_fn(struct range *r, const void *test, const struct holder *h);

static void run_case(const char *name, const struct kind *k, test_fn *run,
		     const void *test, const struct holder *h)
{
	int ret, tries = 4;
	struct range r;

	if (!begin(name))
		return;
	do {
		direct.too_fast = false;
		ret = case_open(k, &r);
		if (!ret)
			ret = run(&r, test, h);
		case_close(&r);
	} while (direct.too_fast && --tries);
	report(name, ret);
}

static int run_timeline(struct range *r, const void *test,
			const struct holder *h)
{
	const struct timeline *t = test;
	int ret = run_steps(r, t->before);

	if (ret)
		return ret;
	ret = h->take(r);
	if (!ret)
		ret = run_steps(r, t->after);
	if (!ret)
		ret = check_agreement(r, h);
	h->drop();
	return ret;
}

static int run_parting(struct range *r, const void *test,
		       const struct holder *h)
{
	const struct parting *p = test;
	int ret = p->run(r, h - holders);

	h->drop();
	return ret;
}

static int run_race(struct range *r, const void *test, const struct holder *h)
{
	const struct race *c = test;

	return c->run(r, h);
}

static int run_scenario(struct range *r, const void *test,
			const struct holder *h)
{
	const struct scenario *s = test;

	(void)h;
	return s->run(r);
}

static int run_direct(struct range *r, const void *test, const struct holder *h)
{
	const struct direct_event *e = test;
	int ret = direct_open();

	(void)h;
	if (!ret)
		ret = direct_try(r, e);
	direct_close();
	return ret;
}

#define NR_HOLDERS	ARRAY_SIZE(holders)
#define NR_KINDS	ARRAY_SIZE(kinds)

static void run_timelines(void)
{
	size_t i, nr = ARRAY_SIZE(timelines) * NR_HOLDERS * NR_KINDS;
	const struct timeline *t;
	const struct holder *h;
	const struct kind *k;
	char name[160];

	for (i = 0; i < nr; i++) {
		t = &timelines[i / NR_KINDS / NR_HOLDERS];
		h = &holders[i / NR_KINDS % NR_HOLDERS];
		k = &kinds[i % NR_KINDS];
		if (!(k->is & t->kinds) || h->is & ~FAST & ~t->holders)
			continue;
		snprintf(name, sizeof(name), "%s%s%s%s%s: %s",
			 t->before_name ? t->before_name : "",
			 t->before_name ? ", " : "", h->name,
			 t->after_name ? ", " : "",
			 t->after_name ? t->after_name : "", k->name);
		run_case(name, k, run_timeline, t, h);
	}
}

static void run_partings(void)
{
	size_t i, nr = ARRAY_SIZE(partings) * NR_HOLDERS * NR_KINDS;
	const struct parting *p;
	const struct holder *h;
	const struct kind *k;
	char name[160];

	for (i = 0; i < nr; i++) {
		p = &partings[i / NR_KINDS / NR_HOLDERS];
		h = &holders[i / NR_KINDS % NR_HOLDERS];
		k = &kinds[i % NR_KINDS];
		if (!(k->is & p->kinds) || !(h->is & FAST))
			continue;
		snprintf(name, sizeof(name), "parting, %s, %s: %s", h->name,
			 p->name, k->name);
		run_case(name, k, run_parting, p, h);
	}
}

static void run_races(void)
{
	size_t i, nr = ARRAY_SIZE(races) * NR_HOLDERS * NR_KINDS;
	const struct holder *h;
	const struct race *c;
	const struct kind *k;
	char name[160];

	for (i = 0; i < nr; i++) {
		c = &races[i / NR_KINDS / NR_HOLDERS];
		h = &holders[i / NR_KINDS % NR_HOLDERS];
		k = &kinds[i % NR_KINDS];
		if (!(k->is & c->kinds) || h->is & ~FAST & ~c->holders)
			continue;
		snprintf(name, sizeof(name), "%s, %s: %s", c->name, h->name,
			 k->name);
		run_case(name, k, run_race, c, h);
	}
}

static void run_scenarios(void)
{
	size_t i, nr = ARRAY_SIZE(scenarios) * NR_KINDS;
	const struct scenario *s;
	const struct kind *k;
	char name[160];

	for (i = 0; i < nr; i++) {
		s = &scenarios[i / NR_KINDS];
		k = &kinds[i % NR_KINDS];
		snprintf(name, sizeof(name), "%s: %s", s->name, k->name);
		if (k->is & s->kinds)
			run_case(name, k, run_scenario, s, NULL);
	}
}

static void run_directs(void)
{
	size_t i, nr = ARRAY_SIZE(direct_events) * NR_KINDS;
	const struct direct_event *e;
	const struct kind *k;
	char name[160];

	for (i = 0; i < nr; i++) {
		e = &direct_events[i / NR_KINDS];
		k = &kinds[i % NR_KINDS];
		snprintf(name, sizeof(name), "O_DIRECT read, %s: %s", e->name,
			 k->name);
		if (k->is & e->kinds)
			run_case(name, k, run_direct, e, NULL);
	}
}

static void run_drops(void)
{
	const struct drop *d;
	char name[160];

	for (d = drops; d < drops + ARRAY_SIZE(drops); d++) {
		snprintf(name, sizeof(name), "stale reader, %s", d->name);
		if (!begin(name))
			continue;
		report(name, run_drop(d));
	}
}

static void run_all(void)
{
	run_drops();
	run_partings();
	run_timelines();
	run_directs();
	run_scenarios();
	run_races();
}

static struct setting needed[] = {
	{ "/proc/sys/vm/nr_hugepages", "24", true },	/* for all cases */
	{ "/sys/kernel/mm/ksm/run", "0" },
	{ "/sys/kernel/mm/ksm/sleep_millisecs", "1" },
	{ "/sys/kernel/mm/ksm/pages_to_scan", "10000" },
	/* A page that one of these migrates would be taken for a copy. */
	{ "/proc/sys/vm/compaction_proactiveness", "0" },
	NO_KHUGEPAGED,
	{}
};

/* NULL, or what is missing: see dirty_tracking_lacks(). */
static const char *cow_lacks(void)
{
	switch (kallsyms_has(" anon_page_exclusive")) {
	case 1:
		return NULL;
	case 0:
		return "this kernel has no mm/anon_cow.c: copy-on-write by mapcount";
	default:
		/* Who has the one has the other. */
		return dirty_tracking_lacks() ?
		       "no sign of mm/anon_cow.c (CONFIG_KALLSYMS)" : NULL;
	}
}

int main(int argc, char **argv)
{
	parse_options(argc, argv, "slow disk");
	ksft_print_header();

	main_pid = getpid();
	pin_memory_init();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	kpagecount_fd = open("/proc/kpagecount", O_RDONLY);
	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));
	why = shared->why;
	if (geteuid() || kpagecount_fd < 0 || kpageflags_fd < 0)
		ksft_exit_skip("needs root and CONFIG_PROC_PAGE_MONITOR\n");
	skip_all_if(cow_lacks());
	/* Grandchildren whose parent has gone. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	change_settings(needed);

	dry = true;
	run_all();
	dry = false;
	if (!plan)
		ksft_exit_skip("no case has that in its name\n");
	ksft_set_plan(plan);
	run_all();

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
