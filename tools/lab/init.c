// SPDX-License-Identifier: GPL-2.0
/*
 * init of the lab's guest: mount what tests need, turn swap on, run /run.sh
 * with its output on the second serial port, or what LAB_TTY names, write how it
 * ended there, and reset the machine (QEMU is told to exit instead).
 *
 * The console, where the kernel complains, stays on the first port. A failure
 * here leaves the end marker out, which the host takes for a crash.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *type, *dir;
} mounts[] = {
	{ "proc",	"/proc" },
	{ "sysfs",	"/sys" },
	{ "devtmpfs",	"/dev" },
	{ "debugfs",	"/sys/kernel/debug" },
	{ "tmpfs",	"/tmp" },
	{ "tmpfs",	"/dev/shm" },
	{ "hugetlbfs",	"/dev/hugepages" },
	{ "cgroup2",	"/sys/fs/cgroup" },
};

static void reset(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void die(const char *what)
{
	fprintf(stderr, "lab init: %s: %s\n", what, strerror(errno));
	reset();
}

/* All that comes through must arrive as it was written: no CR, no echo. */
static void results_to(const char *tty)
{
	struct termios raw;
	int fd = open(tty, O_RDWR | O_NOCTTY);

	if (fd < 0 || tcgetattr(fd, &raw))
		die(tty);
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	if (tcsetattr(fd, TCSANOW, &raw))
		die(tty);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
	fd = open("/dev/null", O_RDONLY);
	dup2(fd, STDIN_FILENO);
}

static int run_applet(const char *applet, const char *arg)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		setsid();
		execl("/bin/busybox", applet, arg, NULL);
		_exit(127);
	}
	/* As init, this inherits and reaps what RUN leaves behind. */
	for (;;) {
		pid_t dead = wait(&status);

		if (dead < 0)
			die("wait");
		if (dead == pid)
			break;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) :
				   128 + WTERMSIG(status);
}

int main(void)
{
	const char *swap = getenv("LAB_SWAP");
	const char *tty = getenv("LAB_TTY");
	unsigned int i;

	/* An s390x that QEMU emulates has no huge pages: no such filesystem. */
	for (i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].dir, 0755);
		if (mount(mounts[i].type, mounts[i].dir, mounts[i].type, 0,
			  NULL) && errno != EBUSY &&
		    !(errno == ENODEV && !strcmp(mounts[i].type, "hugetlbfs")))
			die(mounts[i].dir);
	}
	/* Made here, as its header is in this machine's byte order. */
	if (swap && (run_applet("mkswap", swap) || swapon(swap, 0)))
		die(swap);
	if (chmod("/tmp", 01777) || chmod("/dev/shm", 01777))
		die("chmod");
	setenv("PATH", "/bin:/sbin:/t", 1);
	setenv("HOME", "/tmp", 1);
	unsetenv("LAB_SWAP");
	results_to(tty ? tty : "/dev/ttyS1");
	i = run_applet("sh", "/run.sh");
	/* The newline is not RUN's: the host takes it off again. */
	printf("\n# lab: RUN ended with status %u\n", i);
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	reset();
}
