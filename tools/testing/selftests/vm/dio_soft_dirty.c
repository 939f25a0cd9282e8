// SPDX-License-Identifier: GPL-2.0
/*
 * Soft-dirty tracking of memory that O_DIRECT reads fill: what is read into a
 * page while clear_refs runs has to be in the next report, and in no report
 * after that. The memory that an O_DIRECT write takes its data from is not
 * written, and not reported. And fork() must not take a page from its reader.
 *
 * -d names a disk that is throttled to a few operations a second, so that
 * there is time to clear while a read is in flight. It is overwritten: reads
 * go to the disk itself, and to a file on it by ext2 and by ext4, as these may
 * have code of their own for direct I/O. Each scenario is one function; a
 * table crosses it with what is read and with the kinds of memory. Needs root,
 * and mke2fs for the files. What this kernel lacks is skipped; all of it is if the
 * kernel has no CONFIG_PAGE_PIN, be it set or not, and -e is not given.
 */
#define _GNU_SOURCE
#include <linux/loop.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LONG_PAGES	300		/* more than fit into one bio of 5.10 */
#define BASE_PAGES	LONG_PAGES

#include "pin_memory.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT	8
#endif

#define SECTOR		512
#define AT		3		/* the page that short reads begin at */
#define BALLAST		3		/* reads that use up the disk's credit */
#define TRIES		5		/* at a read that was over too soon */
#define RAW_AT		(16 << 20)	/* on the disk, behind the filesystem */
#define IMAGE_SIZE	(4 << 20)	/* of the filesystem */

#define TOO_FAST	(-2)

/* The pins that are held in the whole machine, should nothing else run. */
static long pins(void)
{
	return read_vmstat("nr_foll_pin_acquired") -
	       read_vmstat("nr_foll_pin_released");
}

#define BASE		1
#define THP		2
#define PTE_THP		4
#define SHARED		8
#define SHARED_THP	16
#define ALL_KINDS	31

static const struct kind {
	const char *name;
	int is;
	int (*map)(struct range *r, int flags);
	int flags;
} kinds[] = {
	{ "base pages", BASE, map_base, MAP_PRIVATE },
	{ "PMD-mapped THP", THP, map_thp, MAP_PRIVATE },
	{ "PTE-mapped THP", PTE_THP, map_pte_thp, MAP_PRIVATE },
	{ "shared memory", SHARED, map_base, MAP_SHARED },
	{ "shared THP", SHARED_THP, map_thp, MAP_SHARED },
};

static int map_kind(struct range *r, const struct kind *k)
{
	int ret = k->map(r, k->flags);

	/* All of it, not the first byte of each page: reads are of sectors. */
	if (!ret)
		memset(r->mem, *r->mem, r->size);
	return ret;
}

/* What is read: LONG_PAGES and a sector at start, of which we have a copy. */

#define DISK		1
#define EXT2		2
#define EXT4		4
#define ALL_FILES	7

#define FILE_SIZE	(LONG_PAGES * pagesize + SECTOR)

static struct file {
	const char *name;
	int is;
	int fd;
	int hole_fd;			/* a page, a hole of one, a page */
	off_t start, end;
	char *copy;
	char why[WHY_SIZE];		/* there is none */
} files[] = {
	{ .name = "disk", .is = DISK, .fd = -1, .hole_fd = -1 },
	{ .name = "ext2", .is = EXT2, .fd = -1, .hole_fd = -1 },
	{ .name = "ext4", .is = EXT4, .fd = -1, .hole_fd = -1 },
};

static char dir[32];

static char *alloc(size_t size)
{
	void *mem;

	if (posix_memalign(&mem, pagesize, size))
		ksft_exit_fail_msg("no memory\n");
	return mem;
}

static int file_copy(struct file *f)
{
	f->copy = alloc(FILE_SIZE);
	if (pread(f->fd, f->copy, FILE_SIZE, f->start) != (ssize_t)FILE_SIZE)
		return lacking("O_DIRECT read");
	return 0;
}

static int open_disk(struct file *f)
{
	f->fd = open(disk, O_RDWR | O_DIRECT);
	if (f->fd < 0)
		return lacking(disk);
	f->start = RAW_AT;
	f->end = lseek(f->fd, 0, SEEK_END);
	if (f->end < (off_t)(RAW_AT + 2 * FILE_SIZE))
		return because(SKIP, "%s is too small", disk);
	return file_copy(f);
}

/* A filesystem at the start of the disk, written in a few large pieces. */
static int make_fs(void)
{
	char path[64], command[160], *image = alloc(IMAGE_SIZE);
	int fd, disk_fd, ret = 0;

	snprintf(path, sizeof(path), "%s.img", dir);
	snprintf(command, sizeof(command), "mke2fs -F -b 4096 %s >%s.log 2>&1",
		 path, dir);
	disk_fd = open(disk, O_WRONLY | O_DIRECT);
	if (disk_fd < 0)
		return lacking(disk);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || ftruncate(fd, IMAGE_SIZE))
		ret = broken(path);
	else if (system(command))
		ret = because(SKIP, "no mke2fs");
	else if (pread(fd, image, IMAGE_SIZE, 0) != IMAGE_SIZE)
		ret = broken(path);
	else if (pwrite(disk_fd, image, IMAGE_SIZE, 0) != IMAGE_SIZE)
		ret = lacking("write to the disk");
	close(disk_fd);
	if (fd >= 0)
		close(fd);
	unlink(path);
	snprintf(path, sizeof(path), "%s.log", dir);
	unlink(path);
	free(image);
	return ret;
}

static int open_file(struct file *f)
{
	char path[64], *data = alloc(FILE_SIZE);
	size_t i;
	int ret;

	if (files[0].fd < 0)
		return because(SKIP, "%s", files[0].why);
	ret = make_fs();
	if (ret)
		return ret;
	if (mount(disk, dir, f->name, 0, NULL))
		return lacking("mount");
	for (i = 0; i < FILE_SIZE; i++)
		data[i] = i / SECTOR + i;
	snprintf(path, sizeof(path), "%s/file", dir);
	f->fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
	if (f->fd < 0)
		return lacking(path);
	f->end = FILE_SIZE;
	if (pwrite(f->fd, data, FILE_SIZE, 0) != (ssize_t)FILE_SIZE)
		return broken("write to the file");
	snprintf(path, sizeof(path), "%s/hole", dir);
	f->hole_fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600);
	if (f->hole_fd < 0 ||
	    pwrite(f->hole_fd, data, pagesize, 0) != (ssize_t)pagesize ||
	    pwrite(f->hole_fd, data, pagesize, 2 * pagesize) !=
	    (ssize_t)pagesize)
		return broken("write to the file with a hole");
	free(data);
	sync();
	return file_copy(f);
}

static void file_close(struct file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	/* The ballast needs it. What is open for writing may not be mounted. */
	if (f->is == DISK) {
		f->fd = open(disk, O_RDONLY | O_DIRECT);
		return;
	}
	if (f->hole_fd >= 0)
		close(f->hole_fd);
	umount(dir);
}

/* I/O, by io_submit, or by a thread that sleeps in preadv2 or pwritev2. */

static struct io {
	bool by_thread;
	struct file *f;
	int fd;
	bool write;
	int rwf;
	off_t at;
	struct iovec iov[32];
	size_t nr;
	/* of the thread */
	pthread_t thread;
	pid_t tid;
	bool over;
	ssize_t ret;
} io;

static aio_context_t io_ctx, ballast_ctx;
static int ballast_out;

static void io_init(struct file *f, off_t at)
{
	memset(&io, 0, sizeof(io));
	io.f = f;
	io.fd = f->fd;
	io.at = at;
}

static void io_add(char *mem, size_t len)
{
	io.iov[io.nr].iov_base = mem;
	io.iov[io.nr++].iov_len = len;
}

static int aio_submit(aio_context_t ctx, struct iocb *cb)
{
	return syscall(__NR_io_submit, ctx, 1, &cb) == 1 ? 0 :
	       lacking("io_submit");
}

/* Reads that come first, and take their time. */
static int ballast_start(int nr)
{
	static char *mem;
	struct iocb cb = {
		.aio_fildes = files[0].fd,
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_nbytes = SECTOR,
	};
	int i, ret;

	if (!mem)
		mem = alloc(32 * SECTOR);
	for (i = 0; i < nr; i++) {
		cb.aio_buf = (uintptr_t)mem + i * SECTOR;
		/* Not neighbours, which would be merged. */
		cb.aio_offset = RAW_AT + 2 * FILE_SIZE + i * 64 * SECTOR;
		ret = aio_submit(ballast_ctx, &cb);
		if (ret)
			return ret;
		ballast_out++;
	}
	return 0;
}

static int ballast_wait(void)
{
	struct timespec later = { 60, 0 };
	struct io_event event;

	for (; ballast_out; ballast_out--)
		if (syscall(__NR_io_getevents, ballast_ctx, 1, 1, &event,
			    &later) != 1)
			return because(1, "the disk does not answer");
	return 0;
}

static void *io_thread(void *unused)
{
	ssize_t ret;

	(void)unused;
	__atomic_store_n(&io.tid, syscall(__NR_gettid), __ATOMIC_RELEASE);
	if (io.write)
		ret = pwritev2(io.fd, io.iov, io.nr, io.at, io.rwf);
	else
		ret = preadv2(io.fd, io.iov, io.nr, io.at, io.rwf);
	io.ret = ret < 0 ? -errno : ret;
	__atomic_store_n(&io.over, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool thread_over(void)
{
	return __atomic_load_n(&io.over, __ATOMIC_ACQUIRE);
}

/* Does the thread wait for the disk? */
static bool thread_sleeps(void)
{
	pid_t tid = __atomic_load_n(&io.tid, __ATOMIC_ACQUIRE);
	char path[64], line[256], *p = NULL;
	FILE *f;

	if (!tid)
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (f && fgets(line, sizeof(line), f))
		p = strrchr(line, ')');
	if (f)
		fclose(f);
	return p && p[1] && p[2] == 'D';
}

static int io_submit(void)
{
	struct iocb cb = {
		.aio_fildes = io.fd,
		.aio_lio_opcode = io.write ? IOCB_CMD_PWRITEV : IOCB_CMD_PREADV,
		.aio_rw_flags = io.rwf,
		.aio_buf = (uintptr_t)io.iov,
		.aio_nbytes = io.nr,
		.aio_offset = io.at,
	};

	return aio_submit(io_ctx, &cb);
}

/* Begins the I/O: its pages are referenced, or pinned, when this returns. */
static int io_start(void)
{
	if (!io.by_thread)
		return io_submit();
	if (pthread_create(&io.thread, NULL, io_thread, NULL))
		return because(1, "no thread");
	while (!thread_over() && !thread_sleeps())
		usleep(1000);
	return 0;
}

static bool io_over(struct io_event *event)
{
	struct timespec now = { 0, 0 };

	if (io.by_thread)
		return thread_over();
	return syscall(__NR_io_getevents, io_ctx, 1, 1, event, &now) == 1;
}

/*
 * Waits for the I/O, and before that does what is to be done while it is in flight,
 * if anything: TOO_FAST if it was over before that was.
 */
static int io_end(void (*meanwhile)(void))
{
	struct timespec later = { 60, 0 };
	bool too_fast = false;
	struct io_event event;
	int ret = 0;

	if (meanwhile) {
		meanwhile();
		too_fast = io_over(&event);
	}
	if (io.by_thread) {
		pthread_join(io.thread, NULL);
	} else {
		if (!too_fast && syscall(__NR_io_getevents, io_ctx, 1, 1,
					 &event, &later) != 1)
			ret = because(1, "the disk does not answer");
		else
			io.ret = event.res;
	}
	return ballast_wait() ?: ret ?: too_fast ? TOO_FAST : 0;
}

/* Scenarios. */

/* Nothing is as it is in the file. */
static void spoil(char *mem, const char *copy, size_t size)
{
	while (size--)
		*mem++ = ~*copy++;
}

static int check_data(const char *mem, const char *copy, size_t size)
{
	if (memcmp(mem, copy, size))
		return because(1, "memory lacks what was read");
	return 0;
}

static int check_ret(ssize_t must)
{
	if (io.ret == must)
		return 0;
	return because(1, "the %s gave %zd, not %zd",
		       io.write ? "write" : "read", io.ret, must);
}

/* Reports end when the I/O does. */
static int check_clean(struct range *r)
{
	size_t dirty;

	clear_soft_dirty();
	dirty = count_dirty(r->mem, r->size);
	if (dirty)
		return because(1, "%zu pages are dirty after all", dirty);
	return 0;
}

static int read_in_flight(struct file *f, struct range *r, bool by_thread,
			  size_t at, size_t nr)
{
	size_t size = nr * pagesize, dirty, all;
	char *mem = r->mem + at * pagesize;
	int try, ret = TOO_FAST;

	for (try = 0; ret == TOO_FAST && try < TRIES; try++) {
		spoil(mem, f->copy, size);
		io_init(f, f->start);
		io.by_thread = by_thread;
		io_add(mem, size);
		ret = ballast_start(BALLAST);
		ret = ret ?: io_start();
		ret = ret ?: io_end(clear_soft_dirty);
	}
	if (ret == TOO_FAST)
		return because(SKIP, "the disk is too fast");
	ret = ret ?: check_ret(size);
	ret = ret ?: check_data(mem, f->copy, size);
	if (ret)
		return ret;
	dirty = count_dirty(mem, size);
	if (dirty != nr)
		return because(1, "lost: %zu of %zu pages that were read into",
			       nr - dirty, nr);
	all = count_dirty(r->mem, r->size);
	if (all != nr && (!r->large || accounting))
		return because(1, "%zu pages are dirty that were not written",
			       all - nr);
	return check_clean(r);
}

static int do_aio(struct file *f, struct range *r)
{
	return read_in_flight(f, r, false, AT, 1);
}

static int do_pread(struct file *f, struct range *r)
{
	return read_in_flight(f, r, true, AT, 1);
}

static int do_long_aio(struct file *f, struct range *r)
{
	return read_in_flight(f, r, false, 0, LONG_PAGES);
}

static int do_long_pread(struct file *f, struct range *r)
{
	return read_in_flight(f, r, true, 0, LONG_PAGES);
}

static char *beside;		/* memory in the page that is read into */
static pid_t child = -1;

static void fork_and_write(void)
{
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	*beside = 1;
}

/*
 * fork() must not share what is read into: the CPU's next write, to another part
 * of the page, would then be to a copy, and the owner never get what was read.
 */
static int do_fork(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize;
	int try, ret = TOO_FAST;

	beside = mem + SECTOR;
	for (try = 0; ret == TOO_FAST && try < TRIES; try++) {
		io_init(f, f->start);
		io_add(mem, SECTOR);
		spoil(mem, f->copy, SECTOR);
		ret = ballast_start(BALLAST);
		ret = ret ?: io_start();
		ret = ret ?: io_end(fork_and_write);
		if (child > 0) {
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
		} else if (!ret) {
			ret = broken("fork");
		}
		child = -1;
	}
	if (ret == TOO_FAST)
		return because(SKIP, "the disk is too fast");
	ret = ret ?: check_ret(SECTOR);
	return ret ?: check_data(mem, f->copy, SECTOR);
}

/* Parts of pages, one page in two and three places of the list. */
static int do_parts(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize, *copy = f->copy;
	static const struct {
		size_t at, nr;		/* in sectors */
	} parts[] = {
		{ 0, 1 }, { 1, 1 }, { 3, 1 }, { 2, 1 },
		{ 15, 2 }, { 8, 1 }, { 17, 7 }, { 9, 6 }, { 4, 4 },
	};
	size_t i, size, must = 0, dirty;
	int try, ret = TOO_FAST;

	for (try = 0; ret == TOO_FAST && try < TRIES; try++) {
		must = 0;
		io_init(f, f->start);
		for (i = 0; i < ARRAY_SIZE(parts); i++) {
			size = parts[i].nr * SECTOR;
			io_add(mem + parts[i].at * SECTOR, size);
			spoil(mem + parts[i].at * SECTOR, copy + must, size);
			must += size;
		}
		ret = ballast_start(BALLAST);
		ret = ret ?: io_start();
		ret = ret ?: io_end(clear_soft_dirty);
	}
	if (ret == TOO_FAST)
		return because(SKIP, "the disk is too fast");
	ret = ret ?: check_ret(must);
	for (i = 0; !ret && i < ARRAY_SIZE(parts); i++) {
		size = parts[i].nr * SECTOR;
		ret = check_data(mem + parts[i].at * SECTOR, copy, size);
		copy += size;
	}
	if (ret)
		return ret;
	dirty = count_dirty(mem, 3 * pagesize);
	if (dirty != 3)
		return because(1, "lost: %zu of 3 pages that were read into",
			       3 - dirty);
	return check_clean(r);
}

/* The memory is read by the device: nothing is dirty. */
static int do_write(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize;
	int try, ret = TOO_FAST;
	size_t dirty;

	memcpy(mem, f->copy, 2 * pagesize);
	for (try = 0; ret == TOO_FAST && try < TRIES; try++) {
		io_init(f, f->start);
		io.write = true;
		io_add(mem, 2 * pagesize);
		ret = ballast_start(BALLAST);
		ret = ret ?: io_start();
		ret = ret ?: io_end(clear_soft_dirty);
	}
	if (ret == TOO_FAST)
		return because(SKIP, "the disk is too fast");
	ret = ret ?: check_ret(2 * pagesize);
	if (ret)
		return ret;
	dirty = count_dirty(r->mem, r->size);
	if (dirty && !accounting)
		return because(SKIP, "this kernel does not tell pins apart");
	if (dirty)
		return because(1, "%zu pages are dirty that were only read",
			       dirty);
	return check_clean(r);
}

/* The rest are reads that end early, or fail: no pin may be left. */

static int read_now(bool by_thread)
{
	int ret;

	io.by_thread = by_thread;
	ret = io_start();
	return ret ?: io_end(NULL);
}

static int do_end_of_file(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize;
	/* A page and a sector, if that is what the size is multiple of. */
	size_t left = pagesize + f->end % pagesize;
	int by_thread, ret = 0;

	for (by_thread = 0; !ret && by_thread < 2; by_thread++) {
		io_init(f, f->end - left);
		io_add(mem, 8 * pagesize);
		ret = read_now(by_thread);
		ret = ret ?: check_ret(left);
		if (!ret && f->is != DISK)
			ret = check_data(mem, f->copy + f->end - left, left);
		ret = ret ?: check_clean(r);
	}
	return ret;
}

static int do_unmapped(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize, *hole = mem + 2 * pagesize;
	int by_thread, ret = 0;

	if (munmap(hole, pagesize))
		return broken("munmap");
	for (by_thread = 0; !ret && by_thread < 2; by_thread++) {
		io_init(f, f->start);
		io_add(mem, 4 * pagesize);
		ret = read_now(by_thread);
		if (ret)
			break;
		/* It may do what it can, or nothing. */
		if (io.ret != -EFAULT && io.ret != -EIO)
			ret = check_ret(2 * pagesize);
		if (!ret && io.ret > 0)
			ret = check_data(mem, f->copy, 2 * pagesize);
		clear_soft_dirty();
		if (!ret && count_dirty(r->mem, (AT + 2) * pagesize))
			ret = because(1, "pages are dirty after all");
	}
	return ret;
}

/* A disk that has blocks as large as pages, of which two are there; or an error. */
static int open_loop(void)
{
	int file = syscall(__NR_memfd_create, "dio_soft_dirty", 0);
	int control = open("/dev/loop-control", O_RDWR), loop = -1, nr;
	char path[32];

	nr = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	if (file >= 0 && nr >= 0 && !ftruncate(file, 2 * pagesize))
		loop = open(path, O_RDWR | O_DIRECT);
	if (loop >= 0 && ioctl(loop, LOOP_SET_FD, file)) {
		close(loop);
		loop = -1;
	}
	if (loop >= 0 && ioctl(loop, LOOP_SET_BLOCK_SIZE, pagesize)) {
		ioctl(loop, LOOP_CLR_FD);
		close(loop);
		loop = -1;
	}
	close(file);
	close(control);
	return loop;
}

/*
 * The read fails after a block and a bit, and is cut down to the block: within
 * the first buffer; or by all of the second one, which has parts of two pages.
 */
static int do_cut(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize, *hole = mem + 4 * pagesize;
	int loop = open_loop(), i, ret = 0;
	size_t bit;

	if (loop < 0)
		return lacking("loop devices with blocks of a page");
	if (munmap(hole, pagesize))
		ret = broken("munmap");
	for (i = 0; !ret && i < 4; i++) {
		io_init(f, 0);
		io.fd = loop;
		if (i < 2) {
			bit = SECTOR;
			io_add(mem, pagesize + bit);
		} else {
			bit = 2 * SECTOR;
			io_add(mem, pagesize);
			io_add(mem + 3 * pagesize - SECTOR, bit);
		}
		io_add(hole, pagesize - bit);
		ret = read_now(i % 2);
		if (!ret && io.ret == -EINVAL)
			ret = because(SKIP, "each buffer has to be of whole blocks");
		/* The rest may have been read by way of the page cache. */
		if (!ret && io.ret != -EFAULT && io.ret != (ssize_t)(pagesize + bit))
			ret = check_ret(pagesize);
		clear_soft_dirty();
		if (!ret && count_dirty(r->mem, (AT + 4) * pagesize))
			ret = because(1, "pages are dirty after all");
	}
	ioctl(loop, LOOP_CLR_FD);
	close(loop);
	return ret;
}

static int do_hole(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize;
	int by_thread, ret = 0;
	size_t i;

	for (by_thread = 0; !ret && by_thread < 2; by_thread++) {
		memset(mem, 1, 3 * pagesize);
		io_init(f, 0);
		io.fd = f->hole_fd;
		io_add(mem, 3 * pagesize);
		clear_soft_dirty();
		ret = read_now(by_thread);
		ret = ret ?: check_ret(3 * pagesize);
		ret = ret ?: check_data(mem, f->copy, pagesize);
		ret = ret ?: check_data(mem + 2 * pagesize, f->copy, pagesize);
		for (i = pagesize; !ret && i < 2 * pagesize; i++)
			if (mem[i])
				ret = because(1, "the hole is not zero");
		if (!ret && count_dirty(mem, 3 * pagesize) != 3)
			ret = because(1, "lost: pages that were read into");
		ret = ret ?: check_clean(r);
	}
	return ret;
}

/* Each CPU may have a queue of its own. */
static void use_cpus(int first, int last)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (; first <= last; first++)
		CPU_SET(first, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void disk_file(char *path, size_t size, const char *name)
{
	snprintf(path, size, "/sys/block/%s/%s",
		 strrchr(disk, '/') ? strrchr(disk, '/') + 1 : disk, name);
}

/* May fail_nth() hit what it is asked to do, too? (CONFIG_FAIL_MAKE_REQUEST) */
static void disk_fails(bool may)
{
	char path[128];

	disk_file(path, sizeof(path), "make-it-fail");
	write_file(path, may ? "1" : "0");
}

static long set_queue_depth(long depth)
{
	char path[128];
	long old = -1;
	FILE *f;

	disk_file(path, sizeof(path), "queue/nr_requests");
	f = fopen(path, "r+");
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &old) != 1)
		old = -1;
	rewind(f);
	fprintf(f, "%ld\n", depth);
	if (fclose(f))
		return -1;
	return old;
}

/* The I/O ends with an error, as the disk's queue is full. */
static int do_refused(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize;
	long depth = set_queue_depth(4);
	int by_thread, ret = 0;

	if (depth < 0)
		return lacking("nr_requests of the disk");
	use_cpus(0, 0);
	for (by_thread = 0; !ret && by_thread < 2; by_thread++) {
		io_init(f, f->start);
		io.rwf = RWF_NOWAIT;
		io_add(mem, 2 * pagesize);
		/* The last one is in the queue when there is room for it. */
		ret = ballast_start(8);
		ret = ret ?: read_now(by_thread);
		if (ret)
			break;
		if (io.ret == -EOPNOTSUPP || io.ret > 0)
			ret = because(SKIP, "the disk did not refuse: %zd",
				      io.ret);
		ret = ret ?: check_ret(-EAGAIN);
		ret = ret ?: check_clean(r);
	}
	ballast_wait();
	set_queue_depth(depth);
	use_cpus(0, CPU_SETSIZE - 1);
	return ret;
}

/* A read of which the nth allocation fails, or the nth request to the disk. */
static int read_with_fault(bool aio, unsigned int nth, bool *fired)
{
	int error;

	fail_nth(nth);
	io.ret = aio ? io_submit() : preadv2(io.fd, io.iov, io.nr, io.at, 0);
	error = errno;
	*fired = failed_nth();
	if (io.ret >= 0)
		return aio ? io_end(NULL) : 0;
	io.ret = -error;
	/* io_submit() has said what it lacks. */
	return aio && !*fired ? SKIP : 0;
}

/* Whatever fails: it says so, and no pin is left. */
static int do_faults(struct file *f, struct range *r)
{
	char *mem = r->mem + AT * pagesize;
	unsigned int nth, aio, failures = 0;
	int ret = no_faults ? because(SKIP, "%s", no_faults) : 0;
	bool fired;

	disk_fails(true);
	for (aio = 0; !ret && aio < 2; aio++) {
		fired = true;
		for (nth = 1; !ret && fired; nth++) {
			if (nth > MOST_FAULTS) {
				ret = because(1, "still allocates after %u times",
					      nth);
				break;
			}
			spoil(mem, f->copy, 4 * pagesize);
			io_init(f, f->start);
			io_add(mem, 4 * pagesize);
			ret = read_with_fault(aio, nth, &fired);
			if (!ret && !fired)
				ret = check_ret(4 * pagesize);
			if (!ret && io.ret < 0 && io.ret != -ENOMEM &&
			    io.ret != -EAGAIN && io.ret != -EIO)
				ret = check_ret(-ENOMEM);
			if (!ret && io.ret > 0)
				ret = check_data(mem, f->copy, io.ret);
			ret = ret ?: check_clean(r);
			failures += io.ret < 0;
		}
		if (!ret && nth <= 2)
			ret = because(1, "it allocates nothing");
		if (!ret)
			ksft_print_msg("%s: %u faults, %u reads failed\n",
				       aio ? "aio" : "preadv2", nth - 2,
				       failures);
		failures = 0;
	}
	disk_fails(false);
	return ret;
}

static const struct scenario {
	const char *name;
	int (*run)(struct file *f, struct range *r);
	int files, kinds;
} scenarios[] = {
	{ "aio read in flight", do_aio, ALL_FILES, ALL_KINDS },
	{ "pread() in flight", do_pread, ALL_FILES, ALL_KINDS },
	{ "long aio read in flight", do_long_aio, ALL_FILES,
		BASE | THP | SHARED },
	{ "long pread() in flight", do_long_pread, ALL_FILES, BASE },
	{ "read of parts of pages in flight", do_parts, ALL_FILES,
		BASE | THP | SHARED },
	{ "fork while a read is in flight", do_fork, ALL_FILES, BASE | THP },
	{ "write in flight", do_write, ALL_FILES, BASE | THP | SHARED },
	{ "read at the end", do_end_of_file, ALL_FILES, BASE | THP },
	{ "read into memory with a hole", do_unmapped, ALL_FILES,
		BASE | SHARED },
	{ "read that is cut to a block", do_cut, DISK, BASE | THP },
	{ "read of a hole", do_hole, EXT2 | EXT4, BASE | THP },
	{ "read that is refused", do_refused, DISK, BASE | THP },
	{ "read that fails", do_faults, ALL_FILES, BASE | THP },
};

static bool wanted(const struct scenario *s, const struct file *f,
		   const struct kind *k, char *name, size_t size)
{
	snprintf(name, size, "%s, %s: %s", s->name, f->name, k->name);
	return s->files & f->is && s->kinds & k->is && asked_for(name);
}

static void run_case(const struct scenario *s, struct file *f,
		     const struct kind *k, const char *name)
{
	struct range r = {};
	long before, after;
	int ret, wait;

	before = pins();
	ret = f->why[0] ? because(SKIP, "%s", f->why) : map_kind(&r, k);
	ret = ret ?: s->run(f, &r);
	range_free(&r);
	/* An unpin may come after the reader was woken. */
	for (wait = 0; wait < 100; wait++) {
		after = pins();
		if (after == before)
			break;
		usleep(10000);
	}
	if (!ret && after != before)
		ret = because(1, "%ld pins are left", after - before);
	report(name, ret);
}

static void run_all(int *plan)
{
	const struct scenario *s;
	const struct kind *k;
	struct file *f;
	char name[160];
	int ret;

	for (f = files; f < files + ARRAY_SIZE(files); f++) {
		if (!plan) {
			ret = f->is == DISK ? open_disk(f) : open_file(f);
			if (ret)
				snprintf(f->why, sizeof(f->why), "%s", why);
		}
		for (s = scenarios; s < scenarios + ARRAY_SIZE(scenarios); s++)
			for (k = kinds; k < kinds + ARRAY_SIZE(kinds); k++) {
				if (!wanted(s, f, k, name, sizeof(name)))
					continue;
				if (plan)
					++*plan;
				else
					run_case(s, f, k, name);
			}
		if (!plan)
			file_close(f);
	}
}

static struct setting needed[] = {
	{ "/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise" },
	NO_KHUGEPAGED,
	{}
};

int main(int argc, char **argv)
{
	int plan = 0;

	parse_options(argc, argv, "slow disk, to be overwritten");
	ksft_print_header();

	pin_memory_init();
	no_faults = faults_lack();
	skip_all_if(dirty_tracking_lacks());
	if (!disk)
		ksft_exit_skip("no slow disk (-d)\n");
	if (geteuid() || clear_refs_fd < 0)
		ksft_exit_skip("needs root and CONFIG_MEM_SOFT_DIRTY\n");
	if (syscall(__NR_io_setup, 1, &io_ctx) ||
	    syscall(__NR_io_setup, 32, &ballast_ctx))
		ksft_exit_skip("needs CONFIG_AIO\n");
	snprintf(dir, sizeof(dir), "/tmp/dio_soft_dirty.XXXXXX");
	if (!mkdtemp(dir))
		ksft_exit_fail_msg("%s: %s\n", dir, strerror(errno));

	change_settings(needed);
	run_all(&plan);
	ksft_set_plan(plan);
	run_all(NULL);
	rmdir(dir);

	if (ksft_get_fail_cnt())
		ksft_exit_fail();
	ksft_exit_pass();
}
