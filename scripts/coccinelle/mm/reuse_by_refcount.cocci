// SPDX-License-Identifier: GPL-2.0-only
/// Find copy-on-write that is decided by a page's reference count.
///
//# Whoever can look a page up raises its reference count: GUP, reclaim, a
//# per-CPU list. A write fault that copies because of such a reference takes the
//# page away from the device that holds it. Who maps the page decides (mapcount
//# and swapcount, or PageAnonExclusive()), where GUP references only what is
//# exclusive.
//#
//# Right, and not reported: what asks for exclusivity first, so that the count
//# can only find pages exclusive that nobody references; and fork, KSM, migration
//# or a split that copy or refuse what has references beyond its mappings.
///
// Confidence: Moderate
// Comments: follows a count through one helper of the same file, but not
//  through variables.
// Options: --no-includes --include-headers

virtual context
virtual org
virtual report

@asks@
identifier f;
position pf;
@@

f@pf(...)
{
 <+...
(
 PageAnonExclusive(...)
|
 pte_swp_exclusive(...)
|
 RMAP_EXCLUSIVE
)
 ...+>
}

@asked@
identifier g;
@@

 PageAnonExclusive(...) || g(...)

@asked_def@
identifier asked.g;
position pf;
@@

g@pf(...)
{
 ...
}

// Whether a count is zero says whether the page is free.
@zero@
expression E;
identifier count = { page_count, page_ref_count, folio_ref_count };
position p;
@@

(
 count@p(E) == 0
|
 count@p(E) != 0
|
 count@p(E) > 0
)

@test@
expression E, X;
binary operator op = { ==, !=, <, <=, >, >= };
identifier count = { page_count, page_ref_count, folio_ref_count };
position p != zero.p;
@@

(
 count@p(E) op X
|
 X op count@p(E)
)

@reuse exists@
identifier f;
identifier count = { page_count, page_ref_count, folio_ref_count };
identifier use = { wp_page_reuse, page_move_anon_rmap, folio_move_anon_rmap,
		   maybe_mkwrite, maybe_pmd_mkwrite, set_huge_ptep_writable };
position pf != { asks.pf, asked_def.pf };
position p = test.p;
@@

f@pf(...)
{
 ... when any
*count@p(...)
 ... when any
*use(...)
 ... when any
}

@helper@
identifier h;
symbol true, false;
identifier count = { page_count, page_ref_count, folio_ref_count };
position pf != { asks.pf, asked_def.pf };
position p = test.p;
@@

h@pf(...)
{
 <+...
(
 return <+... count@p(...) ...+>;
|
 if (<+... count@p(...) ...+>) return \(true\|false\);
)
 ...+>
}

@reuse_by_helper exists@
identifier f, helper.h;
identifier use = { wp_page_reuse, page_move_anon_rmap, folio_move_anon_rmap,
		   maybe_mkwrite, maybe_pmd_mkwrite, set_huge_ptep_writable };
position pf != { asks.pf, asked_def.pf };
position p;
@@

f@pf(...)
{
 ... when any
*h@p(...)
 ... when any
*use(...)
 ... when any
}

@alone@
expression E;
constant C;
binary operator op = { ==, !=, <, <=, >, >= };
identifier count = { page_count, page_ref_count, folio_ref_count };
position p != zero.p;
@@

 count@p(E) op C

@share exists@
identifier f;
identifier count = { page_count, page_ref_count, folio_ref_count };
identifier use = { page_dup_rmap, page_try_dup_anon_rmap,
		   folio_try_dup_anon_rmap_pte, folio_try_dup_anon_rmap_ptes,
		   folio_try_dup_anon_rmap_pmd, hugetlb_try_dup_anon_rmap,
		   set_page_stable_node, folio_set_stable_node };
position p = alone.p;
@@

f(...)
{
 ... when any
*count@p(...)
 ... when any
*use(...)
 ... when any
}

@script:python depends on report@
p << reuse.p;
use << reuse.use;
@@

msg = "WARNING: the reference count decides whether %s() reuses the page" % (use)
coccilib.report.print_report(p[0], msg)

@script:python depends on report@
p << reuse_by_helper.p;
h << helper.h;
use << reuse_by_helper.use;
@@

msg = "WARNING: the reference count decides, in %s(), whether %s() reuses the page" % (h, use)
coccilib.report.print_report(p[0], msg)

@script:python depends on report@
p << share.p;
use << share.use;
@@

msg = "WARNING: the reference count alone decides whether %s() shares the page" % (use)
coccilib.report.print_report(p[0], msg)

@script:python depends on org@
p << reuse.p;
@@

coccilib.org.print_todo(p[0], "WARNING: reuse decided by the reference count")

@script:python depends on org@
p << reuse_by_helper.p;
@@

coccilib.org.print_todo(p[0], "WARNING: reuse decided by the reference count")

@script:python depends on org@
p << share.p;
@@

coccilib.org.print_todo(p[0], "WARNING: sharing decided by the reference count alone")
