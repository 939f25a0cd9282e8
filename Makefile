# SPDX-License-Identifier: GPL-2.0
BASE ?= 5.10
VARIANT ?= patched
export BASE VARIANT FLAVOUR FILES RUN MEM SWAP QEMU_ARGS KDIR TARBALL OFFLINE SOB
.DEFAULT_GOAL := verify
include tools/series/series.mk
include tools/lab/lab.mk
