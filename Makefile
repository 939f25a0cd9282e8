# SPDX-License-Identifier: GPL-2.0
# One command from a bare machine to a verdict. `make help` lists the targets.
# make itself always exits with 2 when something fails; the code that says what
# (see README) is in the last line, "Error N", and the scripts in tools/ exit
# with it.
BASE ?= 5.10
VARIANT ?= patched
# What is checked by default: the oldest and the newest, as all four take longer
# than a CI has.
BASES ?= 5.10 7.3
export BASE VARIANT FLAVOUR FILES RUN MEM SWAP QEMU_ARGS KDIR TARBALL OFFLINE SOB SOURCE_VERSION

.DEFAULT_GOAL := verify

.PHONY: check nightly matrix help
check:	## [BASES="5.10 7.3"]: what CI runs for each commit
	@tools/check/run $(BASES)
nightly:	## [BASES=]: what check leaves out for time
	@tools/check/run -n $(BASES)
matrix:	## BASE= [CONFIGS="no-swap s390x"]: what the series touches, compiled in each configuration of tools/check/configs
	@tools/check/matrix "$(BASE)" $(CONFIGS)
help:	## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 14

include tools/series/series.mk
include tools/lab/lab.mk
include tools/model/model.mk
