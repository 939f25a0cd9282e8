// SPDX-License-Identifier: GPL-2.0-only
/// Find user pages that get_user_pages() and the like reference, and that are
/// kept past the call: in a structure, a bio, a scatterlist, an skb.
///
//# Fork and dirty tracking heed pins, not plain references: what a device writes
//# to such a page can be lost. Who lets a device or another context use the
//# memory later has to pin it: pin_user_pages() and its variants,
//# iov_iter_extract_pages(), and where it stays for long FOLL_LONGTERM
//# (Documentation/core-api/pin_user_pages.rst).
//#
//# Right, and not reported: references that the same function drops. Reported,
//# and maybe right: what an MMU notifier takes back, what is only read and may
//# be old, what the caller drops before the system call returns.
///
// Confidence: Low
// Comments: not followed through further variables, nor to a caller.
// Options: --no-includes --include-headers

virtual context
virtual org
virtual report

// P: which argument is the pages
@call@
identifier second = { iov_iter_get_pages, iov_iter_get_pages2,
		      iov_iter_get_pages_alloc, iov_iter_get_pages_alloc2 };
identifier third = { get_user_pages_unlocked, get_user_page_fast_only };
identifier fourth = { get_user_pages, get_user_pages_fast,
		      get_user_pages_locked, get_user_pages_fast_only };
expression A, B, C, D, P;
position p;
@@

(
 second@p(A, P, ...)
|
 third@p(A, B, P, ...)
|
 fourth@p(A, B, C, P, ...)
|
 get_user_pages_remote@p(A, B, C, D, P, ...)
)

@into@
identifier f, m, n, o;
expression call.P, S, X;
position p = call.p;
@@

 f@p(..., \(P\&\(S->m\|&S->m\|S->m + X\|&S->m[X]\|S->m.n\|&S->m.n\|S->m.n.o\|&S->m.n.o\)\), ...)

@plain@
identifier f, i;
expression call.P, X;
position p = call.p;
@@

 f@p(..., \(P\&\(i\|&i\|i + X\|&i[X]\)\), ...)

// The array is a structure's, and has a shorter name here.
@alias exists@
identifier plain.i, f, m, n;
expression S, X, E;
type T;
position p = plain.p;
@@

(
 i = \(S->m\|S->m.n\|S->m + X\|&S->m[X]\|(T)S->m\);
|
 T i = \(S->m\|S->m.n\|S->m + X\|&S->m[X]\);
|
 S->m = i;
|
 S->m.n = i;
)
 ... when != i = E
 f@p(..., \(i\|&i\|i + X\|&i[X]\), ...)

// Where it returns because the call failed.
@fails exists@
identifier f;
expression R, E;
position p = call.p;
position e;
@@

 R = f@p(...);
 ... when any
(
 if (<+... R ...+>) return@e E;
|
 if (<+... R ...+>) { ... return@e E; }
)

@fails_at_once@
identifier f;
expression E;
position p = call.p;
position e;
@@

(
 if (<+... f@p(...) ...+>) return@e E;
|
 if (<+... f@p(...) ...+>) { ... return@e E; }
)

@kept exists@
identifier f;
identifier drop = { put_page, folio_put, folio_put_refs, release_pages,
		    put_user_page, put_user_pages, put_user_pages_dirty_lock,
		    unpin_user_page, unpin_user_pages,
		    unpin_user_pages_dirty_lock };
expression E;
position p = { into.p, alias.p };
position q != { fails.e, fails_at_once.e };
@@

*f@p(...)
 ... when != drop(...)
 return@q E;

@kept_later exists@
identifier plain.i, f, m, n;
identifier drop = { put_page, folio_put, folio_put_refs, release_pages,
		    put_user_page, put_user_pages, put_user_pages_dirty_lock,
		    unpin_user_page, unpin_user_pages,
		    unpin_user_pages_dirty_lock };
identifier keep = { bio_add_page, __bio_add_page, bio_add_pc_page,
		    bio_add_hw_page, sg_set_page, sg_alloc_table_from_pages,
		    sg_alloc_table_from_pages_segment, skb_fill_page_desc,
		    skb_fill_page_desc_noacc, bvec_set_page };
expression S, X, Y, E;
position p = plain.p;
position q;
@@

*f@p(...)
 ... when != drop(...)
     when != i = E
(
*S->m@q = \(i\|i[X]\)
|
*S->m[Y]@q = \(i\|i[X]\)
|
*S->m.n@q = \(i\|i[X]\)
|
*keep@q(..., \(i\|i[X]\), ...)
)
 ... when != drop(...)
 return ...;

@script:python depends on report@
p << kept.p;
f << kept.f;
@@

msg = "WARNING: %s() of pages that are kept: pin them?" % (f)
coccilib.report.print_report(p[0], msg)

@script:python depends on report@
p << kept_later.p;
q << kept_later.q;
f << kept_later.f;
@@

msg = "WARNING: %s() of pages that are kept on line %s: pin them?" % (f, q[0].line)
coccilib.report.print_report(p[0], msg)

@script:python depends on org@
p << kept.p;
@@

coccilib.org.print_todo(p[0], "WARNING: references that are kept")

@script:python depends on org@
p << kept_later.p;
q << kept_later.q;
@@

cocci.print_main("references", p)
cocci.print_secs("kept", q)
