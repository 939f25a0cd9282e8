# SPDX-License-Identifier: GPL-2.0
# Kernels built, booted and judged. Each is a script of this folder; what they
# take is at their tops.
# RUN is the guest's shell's: a $ in it is not make's
override RUN := $(value RUN)
.PHONY: kernel deb vm verify mutant bisect-build bench growth kselftest-tar check-lab
kernel:		## BASE= VARIANT=stock|patched [FLAVOUR=kasan|kcsan|lockdep|bench|s390x]: out/.../bzImage
	@tools/lab/kernel "$(BASE)" "$(VARIANT)" "$(FLAVOUR)"
deb:		## BASE= [CONFIG=file]: the patched kernel as Debian packages, by its own bindeb-pkg
	@CONFIG="$(CONFIG)" tools/lab/deb "$(BASE)"
vm:		## BASE= VARIANT= [FLAVOUR=] FILES="a b" RUN="/t/a arg" [MEM= SWAP= TIMEOUT= APPEND= QEMU_ARGS=]: run it in that kernel
	@tools/lab/kernel "$(BASE)" "$(VARIANT)" "$(FLAVOUR)" >/dev/null
	@tools/lab/vm "$(BASE)" "$(VARIANT)"
verify:		## BASE= [FLAVOUR=]: stock and patched, case by case; with a flavour but s390x, only patched
	@tools/lab/verify "$(BASE)" "$(FLAVOUR)"
mutant:		## BASE= [NAME=]: kernels that are wrong (tools/lab/mutants), which the tests have to catch
	@tools/lab/mutant "$(BASE)" $(NAME)
bisect-build:	## BASE=: each prefix of the series, built, booted, and through its selftests
	@tools/lab/bisect "$(BASE)"
bench:		## BASE=: stock and patched in instructions per operation
	@tools/lab/bench "$(BASE)"
growth:		## BASE=: how these grow, with pages and with processes: a table, a verdict and a plot
	@tools/lab/bench -g "$(BASE)"
kselftest-tar:	## BASE=: the selftests as a tarball that runs alone, with run_kselftest.sh
	@tools/lab/kselftest-tar "$(BASE)"
check-lab:	## [BASES=]: the tests of these commands
	@tools/deps results check
	@tools/lab/test $(BASES)
