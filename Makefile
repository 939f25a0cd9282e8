# SPDX-License-Identifier: GPL-2.0
# One command from a bare machine to a verdict. `make help` lists the targets.
# make itself always exits with 2 when something fails; the code that says what
# (see README) is in the last line, "Error N", and the scripts in tools/ exit
# with it.
BASE ?= 5.10
VARIANT ?= patched
# What is checked by default. 6.1 and 6.12 are ported, and not proved yet.
BASES ?= 5.10 7.3
export BASE VARIANT FLAVOUR FILES RUN MEM SWAP QEMU_ARGS KDIR TARBALL OFFLINE SOB

.DEFAULT_GOAL := verify

.PHONY: check help
check:	## [BASES="5.10 7.3"]: every test; what CI runs
	@tools/check/run $(BASES)
help:	## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 14

include tools/series/series.mk
include tools/lab/lab.mk
