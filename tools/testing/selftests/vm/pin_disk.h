/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A disk that waits for what it is told: a loop device on a file of FUSE, whose
 * server is the test itself. Direct I/O is in flight for as long as the test likes,
 * which no slow disk can promise. Needs root, CONFIG_FUSE_FS and CONFIG_BLK_DEV_LOOP.
 *
 * The protocol: linux/fuse.h, and Documentation/filesystems/fuse.
 */
#ifndef PIN_DISK_H
#define PIN_DISK_H

#include <linux/fuse.h>
#include <linux/loop.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mount.h>

#include "pin_memory.h"

#define DISK_SIZE	(64 << 20)	/* of nothing */
#define DISK_HELD	(32 << 20)	/* reads from here on wait; others are of zeros */
#define DISK_READ	(128 << 10)	/* not more at once */
#define DISK_MESSAGE	(64 << 10)

static struct pin_disk {
	int server;			/* /dev/fuse, or -1 */
	int fd;				/* the loop device, for direct I/O; or -1 */
	char file[32];			/* where the file system is mounted, or "" */
	bool ready;
} pin_disk = { .server = -1, .fd = -1 };

static inline void disk_reply(const struct fuse_in_header *to, int error,
			      const void *data, size_t size)
{
	struct fuse_out_header head = {
		.len = sizeof(head) + size,
		.error = error,
		.unique = to->unique,
	};
	struct iovec iov[] = {
		{ &head, sizeof(head) }, { (void *)data, size },
	};

	/* Who asked may be gone: that is no error of ours. */
	if (writev(pin_disk.server, iov, 2) < 0 && errno != ENOENT)
		fprintf(stderr, "# FUSE: %s\n", strerror(errno));
}

/*
 * Answers one request, if one comes in that time: of the bytes that wait at DISK_HELD
 * those of @data, or zeros. How many these were; 0: another request; -1: none came.
 */
static inline ssize_t disk_serve(const char *data, int timeout_ms)
{
	static char message[DISK_MESSAGE], zeros[DISK_READ];
	const struct fuse_in_header *in = (void *)message;
	const struct fuse_read_in *rd = (void *)(in + 1);
	struct pollfd fd = { .fd = pin_disk.server, .events = POLLIN };
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_write = 4096,
	};
	struct fuse_attr_out attr = {
		.attr_valid = 1 << 30,
		.attr = {
			.ino = 1, .size = DISK_SIZE, .nlink = 1,
			.mode = S_IFREG | 0600, .blksize = 4096,
		},
	};
	struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	bool held;

	if (poll(&fd, 1, timeout_ms) != 1 ||
	    read(pin_disk.server, message, sizeof(message)) < (ssize_t)sizeof(*in))
		return -1;
	switch (in->opcode) {
	case FUSE_INIT:
		disk_reply(in, 0, &init, sizeof(init));
		return 0;
	case FUSE_GETATTR:
		disk_reply(in, 0, &attr, sizeof(attr));
		return 0;
	case FUSE_OPEN:
		disk_reply(in, 0, &opened, sizeof(opened));
		return 0;
	case FUSE_READ:
		held = rd->offset >= DISK_HELD;
		disk_reply(in, 0, held && data ?
			   data + rd->offset - DISK_HELD : zeros, rd->size);
		return held ? rd->size : 0;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		/* These want no answer. */
		return 0;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		disk_reply(in, 0, NULL, 0);
		return 0;
	default:
		disk_reply(in, -EOPNOTSUPP, NULL, 0);
		return 0;
	}
}

/* All of a read that waits at DISK_HELD gets its data. */
static inline bool disk_answer(const char *data, size_t size)
{
	size_t done = 0;
	ssize_t n = 0;

	while (done < size && n >= 0) {
		n = disk_serve(data, 60000);
		done += n > 0 ? n : 0;
	}
	return done == size;
}

static inline void *disk_server(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&pin_disk.ready, __ATOMIC_RELAXED))
		disk_serve(NULL, 10);
	return NULL;
}

static inline void disk_close(void)
{
	/* With its server all that still waits is gone, with an error. */
	if (pin_disk.server >= 0)
		close(pin_disk.server);
	if (pin_disk.fd >= 0)
		close(pin_disk.fd);
	if (pin_disk.file[0]) {
		umount2(pin_disk.file, MNT_DETACH);
		unlink(pin_disk.file);
	}
	pin_disk.server = -1;
	pin_disk.fd = -1;
	pin_disk.file[0] = '\0';
}

/* What asks the server waits for a thread of its own meanwhile. */
static inline int disk_attach(void)
{
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = open(pin_disk.file, O_RDONLY | O_CLOEXEC), loop = -1, nr;
	struct stat size;
	char path[32];

	nr = control >= 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	if (file >= 0 && nr >= 0)
		loop = open(path, O_RDONLY | O_CLOEXEC);
	/*
	 * The loop device asks for the size that is known, and nobody asked the server
	 * yet. When the last one closes it, it is free again.
	 */
	if (loop >= 0 && !fstat(file, &size) && !ioctl(loop, LOOP_SET_FD, file) &&
	    !ioctl(loop, LOOP_SET_STATUS64, &info))
		pin_disk.fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (loop >= 0)
		close(loop);
	if (file >= 0)
		close(file);
	if (control >= 0)
		close(control);
	return pin_disk.fd < 0 ? lacking("a loop device") : 0;
}

static inline int disk_open(void)
{
	static const char name[] = "/tmp/pin_disk.XXXXXX";
	char options[80];
	pthread_t thread;
	int fd, ret;

	pin_disk.server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (pin_disk.server < 0)
		return lacking("FUSE");
	strcpy(pin_disk.file, name);
	fd = mkstemp(pin_disk.file);
	if (fd < 0) {
		pin_disk.file[0] = '\0';
		disk_close();
		return lacking("mkstemp");
	}
	close(fd);
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=100000,user_id=0,group_id=0,max_read=%d",
		 pin_disk.server, DISK_READ);
	if (mount("pin_disk", pin_disk.file, "fuse", MS_NOSUID | MS_NODEV,
		  options) ||
	    pthread_create(&thread, NULL, disk_server, NULL)) {
		disk_close();
		return lacking("FUSE");
	}
	ret = disk_attach();
	__atomic_store_n(&pin_disk.ready, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	if (ret)
		disk_close();
	return ret;
}

#endif	/* PIN_DISK_H */
