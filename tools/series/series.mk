# SPDX-License-Identifier: GPL-2.0
# patches/ as trees, mails and queues. Each is a script of this folder; what they take is at their tops.
.PHONY: series-deps tree sync mails quilt debian dist apply bases overrides rangediff lint check-series
series-deps:
	@tools/deps series

tree: series-deps	## BASE= [VARIANT=] [DIR=]: the series as a git tree, a commit a patch
	@tools/series/tree "$(BASE)" "$(VARIANT)" $(if $(DIR),"$(DIR)")
sync: series-deps	## BASE= [DIR=]: that tree's commits back into patches/ and the new files
	@tools/series/sync "$(BASE)" $(if $(DIR),"$(DIR)")
mails: series-deps	## BASE= [SOB="Name <address>"]: for git am, with a cover letter; whom to send them to
	@tools/series/mails "$(BASE)"
	@tools/series/recipients "$(BASE)" >&2
quilt: series-deps	## BASE= [SOB=]: a quilt queue with DEP-3 headers
	@tools/series/quilt "$(BASE)"
debian: series-deps	## BASE=: that queue in Debian's own kernel package, and on its orig tarball
	@tools/deps debian
	@tools/series/debian "$(BASE)"
dist: series-deps	## BASE= [SOB=]: a tarball of mails, queue, checksums, and a page on what it costs
	@tools/deps dist
	@tools/series/dist "$(BASE)"
apply: series-deps	## KDIR= [SOB=]: onto a tree of your own
	@tools/series/apply "$(KDIR)"
bases:	## the bases and what is there of each
	@tools/series/bases
overrides:	## which diffs are a base's own, and by how many lines
	@tools/series/overrides
rangediff: series-deps	## OLD=BASE[@COMMIT] NEW=BASE[@COMMIT]: what differs, patch by patch
	@tools/series/rangediff "$(OLD)" "$(NEW)"
lint:	## errors in the layout of bases/ and patches/
	@tools/series/lint
check-series:	## [BASES=]: lint and the tests of these commands
	@tools/deps series check
	@tools/series/lint
	@tools/series/test $(BASES)
