/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ioctl interface of /sys/kernel/debug/gup_test: the part of mainline's of the
 * same name that pins memory until it is told to stop. Numbers, layouts and
 * flags are mainline's (v6.2 and later), so that its cow and gup_longterm
 * selftests run on this kernel as they are.
 */
#ifndef __GUP_TEST_H
#define __GUP_TEST_H

#include <linux/types.h>

#define PIN_LONGTERM_TEST_START	_IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP	_IO('g', 8)
#define PIN_LONGTERM_TEST_READ	_IOW('g', 9, __u64)

#define PIN_LONGTERM_TEST_FLAG_USE_WRITE	1
#define PIN_LONGTERM_TEST_FLAG_USE_FAST		2

struct pin_longterm_test {
	__u64 addr;
	__u64 size;
	__u32 flags;
};

#endif	/* __GUP_TEST_H */
