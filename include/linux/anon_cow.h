/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Copy-on-write of anonymous memory decided by mapcount, and references that
 * stay with their owner. The rules and who keeps them:
 * Documentation/vm/anon_cow.rst
 */
#ifndef _LINUX_ANON_COW_H
#define _LINUX_ANON_COW_H

#include <linux/mm.h>
#include <linux/rmap.h>

struct mmu_gather;
struct mmu_gather_batch;

/* What is to be done about a write to a page that is mapped read-only. */
enum anon_wp {
	ANON_WP_COPY,
	ANON_WP_REUSE,
	ANON_WP_RETRY,		/* it may be another page by now: fault again */
};

bool anon_page_exclusive(struct page *page);
enum anon_wp __anon_wp_page(struct vm_fault *vmf);
bool __anon_wp_must_copy(struct page *page);
bool anon_swapin_reuse(struct page *page);

/* Mapped more than once, and no THP: that much needs no lock. */
static inline bool anon_base_page_shared(struct page *page)
{
	return !PageCompound(page) && atomic_read(&page->_mapcount) > 0;
}

/**
 * anon_wp_page - decide on a write to, or the un-sharing of, a read-only PTE
 * @vmf: the fault. @vmf->page is the anonymous page that the PTE maps
 *
 * A page with one reference has but this mapping: no other one, no swap cache,
 * no migration. KSM keeps pages without a reference, but has one while it makes
 * the page its own. Mapcount has to tell only about the others.
 *
 * Context: The page table lock is held, but may be dropped and taken again, to
 * wait for the page lock or for writeback.
 * Return: ANON_WP_COPY, ANON_WP_REUSE or ANON_WP_RETRY.
 */
static inline enum anon_wp anon_wp_page(struct vm_fault *vmf)
{
	if (page_ref_count(vmf->page) == 1) {
		/* Pairs with put_page() by KSM, after set_page_stable_node() */
		smp_rmb();
		return PageKsm(vmf->page) ? ANON_WP_COPY : ANON_WP_REUSE;
	}
	/* Asked again by anon_wp_must_copy() */
	if (anon_base_page_shared(vmf->page))
		return ANON_WP_COPY;
	return __anon_wp_page(vmf);
}

/**
 * anon_wp_must_copy - is the page that was copied still shared?
 * @page: the old page, or NULL
 *
 * The page table lock was dropped for the copy. Meanwhile the other mappings
 * may have gone, and GUP may have taken a reference that is ours to keep. It
 * cannot take one now: of a read-only PTE only the slow path does, with the
 * page table lock held.
 *
 * Context: The page table lock is held, and the PTE still maps the page.
 * Return: true to replace the page, false to fault again.
 */
static inline bool anon_wp_must_copy(struct page *page)
{
	if (likely(page && anon_base_page_shared(page)))
		return true;
	return __anon_wp_must_copy(page);
}

bool gup_must_unshare(struct vm_area_struct *vma, unsigned int flags,
		      struct page *page);
bool gup_fast_must_unshare(unsigned int flags, struct page *page);

bool anon_read_lock(struct vm_area_struct *vma, unsigned long addr,
		    struct page *page);
void anon_read_unlock(struct page *page);

/**
 * struct anon_fork - what fork found out about the THP it copies the PTEs of
 * @head: its head page, or NULL
 * @locked: the lock of @head is held
 * @referenced: it has references that are neither mappings nor swap cache
 * @counted: those are pins, and page_pin_any() tells of which base pages
 */
struct anon_fork {
	struct page *head;
	bool locked;
	bool referenced;
	bool counted;
};

bool __anon_fork_must_copy(struct anon_fork *fork, struct vm_area_struct *vma,
			   struct page *page);
void anon_fork_unlock(struct anon_fork *fork);
bool anon_fork_must_split(struct page *head);
bool __anon_fork_must_copy_hugetlb(struct page *head);
bool anon_fork_must_fault(struct vm_area_struct *vma, pte_t pte);
int anon_fork_fault(struct vm_area_struct *vma, unsigned long addr);

/**
 * anon_fork_must_copy - may fork share this page?
 * @fork: state of the caller, zeroed before the first page
 * @vma: the parent's mapping
 * @page: the page that a present PTE of the parent maps
 *
 * A page with one reference has but the mapping at hand, whatever it is.
 *
 * Context: The parent's mmap_lock is held for writing, its page table lock is
 * held, and its write_protect_seq is odd.
 * Return: true if the child needs a copy of its own.
 */
static inline bool anon_fork_must_copy(struct anon_fork *fork,
				       struct vm_area_struct *vma,
				       struct page *page)
{
	return page_ref_count(page) != 1 &&
	       __anon_fork_must_copy(fork, vma, page);
}

/**
 * anon_fork_must_copy_hugetlb - may fork share this hugetlb page?
 * @head: the page that the parent maps privately
 *
 * Context: As anon_fork_must_copy().
 * Return: true if the child needs a copy of its own.
 */
static inline bool anon_fork_must_copy_hugetlb(struct page *head)
{
	return page_ref_count(head) != 1 && __anon_fork_must_copy_hugetlb(head);
}

bool anon_unmap_referenced(struct page *page, struct page *subpage);

/**
 * struct anon_zap - rmaps that one page table's zap leaves for after the flush
 * @tlb: the gather that holds the pages
 * @batch: where in it this page table's pages begin
 * @nr: index into @batch
 * @active: other CPUs may still reach the pages by their TLBs
 * @late: there are such pages
 */
struct anon_zap {
	struct mmu_gather *tlb;
	struct mmu_gather_batch *batch;
	unsigned int nr;
	bool active;
	bool late;
};

void anon_zap_start(struct anon_zap *zap, struct mmu_gather *tlb);
void __anon_zap_flush(struct anon_zap *zap);
void anon_zap_huge(struct mmu_gather *tlb, struct page *page,
		   unsigned long addr);

/* In a gather's batch: a page whose rmap is still to be removed. */
#define ANON_LATE_RMAP	1UL

/**
 * anon_zap_rmap - remove a page's rmap, now or after the TLB flush
 * @zap: from anon_zap_start()
 * @page: the base page that the PTE mapped, which was cleared
 *
 * The other mm that maps a page reuses it once mapcount says that we do not.
 * Our threads must not be able to read it by then: that is what Linus Torvalds
 * held against mapcount. A page with one reference is nobody else's. Any other
 * may be shared: by mappings, by swap entries, or by migration entries, which
 * count as nothing but come with a reference of the migration.
 *
 * Context: The page table lock is held.
 * Return: what is to be put into the gather.
 */
static inline struct page *anon_zap_rmap(struct anon_zap *zap,
					 struct page *page)
{
	if (unlikely(zap->active) && page_ref_count(page) != 1 &&
	    PageAnon(page)) {
		zap->late = true;
		return (void *)((unsigned long)page | ANON_LATE_RMAP);
	}
	page_remove_rmap(page, false);
	return page;
}

/**
 * anon_zap_flush - flush TLBs and remove the rmaps that waited for it
 * @zap: from anon_zap_start()
 *
 * The page table lock is still held, as for the TLB flush of dirty file pages:
 * who walks the rmap of a page finds its PTE, or waits, or finds it gone from
 * mapcount, too.
 *
 * Context: The page table lock is held.
 */
static inline void anon_zap_flush(struct anon_zap *zap)
{
	if (unlikely(zap->late))
		__anon_zap_flush(zap);
}

#endif /* _LINUX_ANON_COW_H */
