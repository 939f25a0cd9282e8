// SPDX-License-Identifier: GPL-2.0-only
/// Find page table entries that are made clean after, and only after, a look at
/// the pins of their page.
///
//# GUP-fast takes none of the locks that are held where an entry is cleaned: it
//# can pin the page after the look and before the entry changes, and what the
//# device then writes is in no report. Clean the entry first, look at the pins
//# after a full barrier, and make it dirty again if there are any; GUP-fast
//# raises the count first, and gives up if the entry has changed.
//#
//# Right, and not reported: a look before that spares work, if another one
//# follows; fork, which makes GUP-fast wait (write_protect_seq).
///
// Confidence: Moderate
// Comments: a look is followed through helpers of the same file, two deep; what
//  stands further down than a change is taken to come after it.
// Options: --no-includes --include-headers

virtual context
virtual org
virtual report

@initialize:python@
@@

again = set()

@look@
position p;
@@

(
 page_maybe_dma_pinned@p(...)
|
 folio_maybe_dma_pinned@p(...)
|
 page_pin_written@p(...)
|
 page_pin_written_mask@p(...)
)

// Helpers that return what they saw ...
@says exists@
identifier f, h;
expression E;
position p = look.p;
@@

h(...)
{
 <+...
(
 return <+... f@p(...) ...+>;
|
 if (<+... f@p(...) ...+>) return E;
)
 ...+>
}

@said@
identifier says.h;
position p;
@@

 h@p(...)

@says_said exists@
identifier f, h;
expression E;
position p = said.p;
@@

h(...)
{
 <+...
(
 return <+... f@p(...) ...+>;
|
 if (<+... f@p(...) ...+>) return E;
)
 ...+>
}

@said_said@
identifier says_said.h;
position p;
@@

 h@p(...)

// ... and those that do as they see.
@looks exists@
identifier f, h;
position p = { look.p, said.p, said_said.p };
@@

h(...)
{
 <+... f@p(...) ...+>
}

@looked@
identifier looks.h;
position p;
@@

 h@p(...)

@again depends on look exists@
identifier f;
identifier change = { ptep_modify_prot_start, huge_ptep_modify_prot_start,
		      ptep_get_and_clear, ptep_clear_flush, pmdp_invalidate,
		      pmdp_invalidate_ad, pmdp_huge_get_and_clear };
position p = { look.p, said.p, said_said.p, looked.p };
position q;
@@

 change@q(...)
 ... when any
 f@p(...)

// In a loop the next round's look follows, too.
@script:python@
p << again.p;
q << again.q;
@@

if int(p[0].line) <= int(q[0].line):
    cocci.include_match(False)

// What ends with a clean entry.
@cleaner depends on look exists@
identifier h;
identifier change = { ptep_modify_prot_start, huge_ptep_modify_prot_start,
		      ptep_get_and_clear, ptep_clear_flush, pmdp_invalidate,
		      pmdp_invalidate_ad, pmdp_huge_get_and_clear };
identifier clean = { pte_clear_soft_dirty, pmd_clear_soft_dirty, pte_mkclean,
		     pmd_mkclean, pte_mkuffd_wp, pmd_mkuffd_wp,
		     huge_pte_mkuffd_wp, pte_wrprotect, pmd_wrprotect,
		     huge_pte_wrprotect };
position q != again.q;
position r;
@@

h(...)
{
 ... when any
 change@q(...)
 ... when any
 clean@r(...)
 ... when any
}

@again_call depends on look exists@
identifier cleaner.h;
identifier f;
position p = { look.p, said.p, said_said.p, looked.p };
position q;
@@

 h@q(...)
 ... when any
 f@p(...)

@script:python@
p << again_call.p;
q << again_call.q;
@@

if int(p[0].line) > int(q[0].line):
    again.add((q[0].file, q[0].line, q[0].column))

@bad depends on look exists@
identifier f, g;
identifier change = { ptep_modify_prot_start, huge_ptep_modify_prot_start,
		      ptep_get_and_clear, ptep_clear_flush, pmdp_invalidate,
		      pmdp_invalidate_ad, pmdp_huge_get_and_clear };
identifier clean = { pte_clear_soft_dirty, pmd_clear_soft_dirty, pte_mkclean,
		     pmd_mkclean, pte_mkuffd_wp, pmd_mkuffd_wp,
		     huge_pte_mkuffd_wp, pte_wrprotect, pmd_wrprotect,
		     huge_pte_wrprotect };
position p = { look.p, said.p, said_said.p };
position q != again.q;
@@

g(...)
{
 ... when any
*f@p(...)
 ... when any
*change@q(...)
 ... when any
 clean(...)
 ... when any
}

@bad_call depends on look exists@
identifier f, g, cleaner.h;
position q != looked.p;
position p = { look.p, said.p, said_said.p };
@@

g(...)
{
 ... when any
 f@p(...)
 ... when any
 h@q(...)
 ... when any
}

@script:python@
q << bad_call.q;
@@

if (q[0].file, q[0].line, q[0].column) in again:
    cocci.include_match(False)

@depends on context@
identifier h;
position bad_call.q;
@@

*h@q(...)

@script:python depends on report@
p << bad.p;
q << bad.q;
f << bad.f;
@@

msg = "WARNING: pins that are taken after %s() on line %s are lost" % (f, p[0].line)
coccilib.report.print_report(q[0], msg)

@script:python depends on report@
p << bad_call.p;
q << bad_call.q;
f << bad_call.f;
@@

msg = "WARNING: pins that are taken after %s() on line %s are lost" % (f, p[0].line)
coccilib.report.print_report(q[0], msg)

@script:python depends on org@
p << bad.p;
q << bad.q;
@@

cocci.print_main("made clean", q)
cocci.print_secs("pins looked at before", p)

@script:python depends on org@
p << bad_call.p;
q << bad_call.q;
@@

cocci.print_main("made clean", q)
cocci.print_secs("pins looked at before", p)
