# SPDX-License-Identifier: GPL-2.0
# Kernels built, booted and judged. Each is a script of this folder; what they
# take is at their tops.
# RUN is the guest's shell's: a $ in it is not make's
override RUN := $(value RUN)
.PHONY: kernel vm verify mutant bench check-lab
kernel:		## BASE= VARIANT=stock|patched [FLAVOUR=kasan|kcsan|lockdep|bench]: out/.../bzImage
	@tools/lab/kernel "$(BASE)" "$(VARIANT)" "$(FLAVOUR)"
vm:		## BASE= VARIANT= [FLAVOUR=] FILES="a b" RUN="/t/a arg" [MEM= SWAP= TIMEOUT= APPEND= QEMU_ARGS=]: run it in that kernel
	@tools/lab/kernel "$(BASE)" "$(VARIANT)" "$(FLAVOUR)" >/dev/null
	@tools/lab/vm "$(BASE)" "$(VARIANT)"
verify:		## BASE= [FLAVOUR=]: stock and patched, case by case; with a flavour, only patched
	@tools/lab/verify "$(BASE)" "$(FLAVOUR)"
mutant:		## BASE= [NAME=]: kernels that are wrong (tools/lab/mutants), which the tests have to catch
	@tools/lab/mutant "$(BASE)" $(NAME)
bench:		## BASE=: stock and patched in instructions per operation
	@tools/lab/bench "$(BASE)"
check-lab:	## [BASES=]: the tests of these commands
	@tools/lab/test $(BASES)
