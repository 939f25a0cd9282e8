// SPDX-License-Identifier: GPL-2.0
/*
 * Copy-on-write of anonymous memory decided by mapcount, and references that
 * stay with their owner.
 *
 * Three rules:
 *
 * - A reference to an anonymous page is taken only while the page is exclusive:
 *   one mapping or swap entry, of one mm. GUP un-shares first.
 * - A page with references is not made shared: fork copies it, KSM and reclaim
 *   leave it alone.
 * - A write fault on an exclusive page reuses the page. "Cannot tell" means try
 *   again, never copy: a copy would take the page from under its references.
 *
 * "References" are those that GUP took, FOLL_GET or FOLL_PIN. What looks like
 * one (LRU pagevecs, isolation, a lookup in the swap cache) costs a copy in
 * fork or keeps a page from reclaim, no more.
 *
 * What keeps a mapcount stable while it is read here:
 *
 * - Our own mapping or swap entry: the page table lock.
 * - Another mapping that comes: it needs the page lock (swap-in, the end of a
 *   migration, the split of a PMD), or it is fork's. Fork of our mm needs our
 *   mmap_lock for writing; fork of another mm that maps the page raises a count
 *   that is above one anyway.
 * - Another mapping that goes: nothing. It can turn "shared" into "exclusive",
 *   so "shared" is asked again before a page is replaced, see
 *   anon_wp_must_copy(). It goes only once no TLB can reach the page by it, see
 *   anon_zap_rmap().
 * - Migration takes all mappings away and puts them back one by one: the page
 *   lock.
 * - Swap entries: swap_duplicate() and swap_free() with the page locked, fork
 *   as above, and zap, which only ends sharing.
 *
 * Documentation/vm/anon_cow.rst has the whole picture.
 */

#include <linux/anon_cow.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/ksm.h>
#include <linux/mmu_notifier.h>
#include <linux/page_pin.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include <asm/tlb.h>

#include "internal.h"

/*
 * How often the base page is mapped. Never too low, but too high for the
 * moment in which page_remove_rmap() takes the last PMD mapping of a THP away
 * that is also mapped by PTEs: compound_mapcount falls, then PG_double_map,
 * then the one that PG_double_map added to each subpage. Between the first two
 * page_mapcount() has the right answer already, after that it is too high
 * again. Here it is too high for the whole time: "exclusive", once said, must
 * stay true while GUP's references rely on it.
 */
static int anon_mapcount(struct page *page)
{
	struct page *head = compound_head(page);
	int compound, count;

	if (!PageCompound(page))
		return page_mapcount(page);
	compound = compound_mapcount(head);
	if (PageHuge(head))
		return compound;
	count = atomic_read(&page->_mapcount) + 1;
	if (PageDoubleMap(head))
		return compound ? count - 1 + compound : count;
	return count + compound;
}

/**
 * anon_page_exclusive - is this the only mapping or swap entry of the page?
 * @page: an anonymous base page, maybe a subpage, or the head of a hugetlb page
 *
 * Of a THP only the base page counts: a THP that is mapped by PTEs may be
 * shared in part. False may be out of date at once, true is not.
 *
 * Context: The page is locked, and so is the page table with the mapping or
 * swap entry of it that the caller asks for.
 * Return: true if no other mm can reach the page, by a TLB neither.
 */
bool anon_page_exclusive(struct page *page)
{
	int count;

	VM_WARN_ON_ONCE_PAGE(!PageLocked(page), page);

	if (PageKsm(page))
		return false;
	count = anon_mapcount(page);
	if (!PageHuge(page) && PageSwapCache(page))
		count += page_swapcount(page);
	return count == 1;
}

/* A device that checksums what it writes must not see it change meanwhile. */
static bool anon_writeback_is_stable(struct page *page)
{
#ifdef CONFIG_SWAP
	page = compound_head(page);
	return PageSwapCache(page) && PageWriteback(page) &&
	       READ_ONCE(page_swap_info(page)->flags) & SWP_STABLE_WRITES;
#else
	return false;
#endif
}

/* What anon_wp_page() cannot tell at once is decided under the page lock. */
enum anon_wp __anon_wp_page(struct vm_fault *vmf)
	__must_hold(vmf->ptl)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	struct page *page = vmf->page;

	if (PageKsm(page))
		return ANON_WP_COPY;

	/*
	 * Wait, but do not take the lock: who wants it as well, to migrate the
	 * page once more, would change the PTE again before we have it.
	 */
	if (unlikely(!trylock_page(page))) {
		get_page(page);
		pte_unmap_unlock(vmf->pte, vmf->ptl);
		put_and_wait_on_page_locked(page);
		vmf->pte = pte_offset_map_lock(mm, vmf->pmd, vmf->address,
					       &vmf->ptl);
		return ANON_WP_RETRY;
	}

	if (!anon_page_exclusive(page)) {
		unlock_page(page);
		return ANON_WP_COPY;
	}

	if (PageSwapCache(page) && (vmf->flags & FAULT_FLAG_WRITE) &&
	    !(mem_cgroup_swap_full(page) && try_to_free_swap(page)) &&
	    anon_writeback_is_stable(page)) {
		get_page(page);
		pte_unmap_unlock(vmf->pte, vmf->ptl);
		wait_on_page_writeback(compound_head(page));
		unlock_page(page);
		put_page(page);
		vmf->pte = pte_offset_map_lock(mm, vmf->pmd, vmf->address,
					       &vmf->ptl);
		return ANON_WP_RETRY;
	}
	unlock_page(page);
	return ANON_WP_REUSE;
}

/*
 * What is neither shared by mappings, nor compound, nor in the swap cache, is no
 * longer shared, or has become a swap entry of the other mm. If the page lock
 * cannot be had, nobody knows. The next fault finds out.
 */
bool __anon_wp_must_copy(struct page *page)
{
	bool shared;

	if (!page || !PageAnon(page) || PageKsm(page))
		return true;
	if (!PageCompound(page) && !PageSwapCache(page))
		return false;
	if (!trylock_page(page))
		return false;
	shared = !anon_page_exclusive(page);
	unlock_page(page);
	return shared;
}

/**
 * anon_swapin_reuse - may the page that a write swaps in be mapped writable?
 * @page: the page that belongs to the swap entry
 *
 * reuse_swap_page() also drops the swap cache. Of a THP it knows the maximum
 * over all subpages only; what it refuses do_wp_page() decides.
 *
 * Context: The page and the page table are locked, the swap entry is still
 * counted and the page not yet mapped by it.
 * Return: true if it may.
 */
bool anon_swapin_reuse(struct page *page)
{
	if (PageCompound(page) && !anon_page_exclusive(page))
		return false;
	return reuse_swap_page(page, NULL);
}

/**
 * gup_must_unshare - may GUP take a reference by this read-only entry?
 * @vma: the mapping
 * @flags: FOLL_ flags
 * @page: the base page that it maps there; the head page of a hugetlb page
 *
 * The contents of KSM and zero pages never change, so there is nothing to
 * leak; and a short-term reference need not follow a later write to a page of
 * the page cache. FOLL_LONGTERM must see what the owner writes, so it breaks
 * copy-on-write of all.
 *
 * Of a THP that is mapped by a PMD, too, only the base page counts that the
 * reference is for: another mm may map others of it by PTEs.
 *
 * The page lock keeps the end of a migration away, which restores one mapping
 * after the other. If it cannot be had, the fault waits for it.
 *
 * Context: The page table lock is held, and the mmap_lock at least for
 * reading: nobody can make the page shared until the reference is taken.
 * Return: true to fault with FAULT_FLAG_UNSHARE first.
 */
bool gup_must_unshare(struct vm_area_struct *vma, unsigned int flags,
		      struct page *page)
{
	bool exclusive;

	if (!(flags & (FOLL_GET | FOLL_PIN)) ||
	    (flags & (FOLL_WRITE | FOLL_DUMP | FOLL_NOUNSHARE)))
		return false;
	if (!PageAnon(page))
		return (flags & FOLL_LONGTERM) &&
		       is_cow_mapping(vma->vm_flags);
	if (PageKsm(page))
		return flags & FOLL_LONGTERM;
	if (!trylock_page(page))
		return true;
	exclusive = anon_page_exclusive(page);
	unlock_page(page);
	return !exclusive;
}

/**
 * gup_fast_must_unshare - the same for GUP-fast
 * @flags: FOLL_ flags
 * @page: the page that an entry that is not writable maps, with a reference
 *
 * Nothing here keeps a mapcount stable, so all that would ask for one goes the
 * slow way, and so does what depends on the VMA.
 *
 * Context: Interrupts are off. The entry was read again after the reference
 * was taken.
 * Return: true to drop the reference and leave the page to the slow path.
 */
bool gup_fast_must_unshare(unsigned int flags, struct page *page)
{
	if (flags & (FOLL_WRITE | FOLL_NOUNSHARE))
		return false;
	if (flags & FOLL_LONGTERM)
		return true;
	return PageAnon(page) && !PageKsm(page);
}

/**
 * anon_read_lock - make sure that a page may be read on behalf of its mm
 * @vma: the mapping
 * @addr: user address
 * @page: what FOLL_NOUNSHARE found there, with a reference
 *
 * A reference does not keep a page shared: once the mm that is read unmaps it,
 * another may be its only owner, and write what is not for our eyes. While the
 * page is locked and still mapped here, no other mm can reuse it.
 *
 * Context: The mmap_lock is held. May sleep.
 * Return: true if it is; anon_read_unlock() ends the access. False if @page is
 * no longer mapped at @addr.
 */
bool anon_read_lock(struct vm_area_struct *vma, unsigned long addr,
		    struct page *page)
{
	if (!PageAnon(page))
		return true;
	lock_page(page);
	if (follow_page(vma, addr, 0) == page)
		return true;
	unlock_page(page);
	return false;
}

/**
 * anon_read_unlock - end what anon_read_lock() allowed
 * @page: the page
 */
void anon_read_unlock(struct page *page)
{
	if (PageAnon(page))
		unlock_page(page);
}

/* References of the page or THP that are neither mappings nor swap cache. */
static int anon_extra_refs(struct page *head)
{
	int nr = thp_nr_pages(head);
	int count = page_count(head);

	/*
	 * The page is locked, so mappings and swap cache can only go: the
	 * mapping before its reference. In this order what goes meanwhile looks
	 * like a reference; in the other one it would hide one.
	 */
	smp_rmb();
	return count - total_mapcount(head) - (PageSwapCache(head) ? nr : 0);
}

/*
 * Are these references of a THP all pins, so that page_pin_any() tells which of
 * its pages they are of? Nobody adds one that stays: GUP-fast takes back what it
 * took when it finds that fork had begun.
 */
static bool anon_refs_counted(struct page *head, int refs)
{
	if (!page_pin_enabled() || !hpage_pincount_available(head))
		return false;
	/*
	 * @refs was read before. Who unpins meanwhile lowers the pins first, so
	 * they never hide a reference that is not a pin.
	 */
	smp_rmb();
	return refs <= compound_pincount(head);
}

/* Who cannot lock the page to find out takes it for referenced. */
static bool anon_maybe_referenced(struct page *head)
{
	bool referenced;

	if (!trylock_page(head))
		return true;
	referenced = anon_extra_refs(head) > 0;
	unlock_page(head);
	return referenced;
}

/*
 * The slow half of anon_fork_must_copy(). A base page that is shared has no
 * references (GUP saw to that) and need not be asked. One that is not has but
 * our mapping and the swap cache, which comes and goes with the page locked.
 *
 * A THP counts the references of all its subpages in its head, so they are
 * compared with all mappings, which other mms may have of other subpages. The
 * page stays locked while the caller maps subpages, lest two forks of two mms
 * mistake each other's new mappings.
 *
 * Pairs with GUP-fast: it takes the reference, then reads write_protect_seq;
 * copy_page_range() writes that, then we read the references.
 */
bool __anon_fork_must_copy(struct anon_fork *fork, struct vm_area_struct *vma,
			   struct page *page)
{
	struct page *head = compound_head(page);

	if (!is_cow_mapping(vma->vm_flags) || !PageAnon(head) || PageKsm(head))
		return false;

	if (!PageCompound(head)) {
		if (page_mapcount(head) > 1)
			return false;
		if (!PageSwapCache(head))
			return page_count(head) != 1;
		return anon_maybe_referenced(head);
	}

	if (fork->head != head || !fork->locked) {
		anon_fork_unlock(fork);
		if (!trylock_page(head))
			return true;
		fork->locked = true;
		/* Once it had references, that is good enough for its copies */
		if (fork->head != head || !fork->referenced) {
			int refs = anon_extra_refs(head);

			fork->referenced = refs > 0;
			fork->counted = anon_refs_counted(head, refs);
		}
		fork->head = head;
	}
	return fork->referenced && anon_mapcount(page) == 1 &&
	       (!fork->counted || page_pin_any(page));
}

/**
 * anon_fork_unlock - before the page table lock goes
 * @fork: state of the caller
 */
void anon_fork_unlock(struct anon_fork *fork)
{
	if (fork->locked)
		unlock_page(fork->head);
	fork->locked = false;
}

/**
 * anon_fork_must_split - may fork share this THP by a PMD?
 * @head: the THP that a PMD of the parent maps
 *
 * One reference is the mapping at hand. With a second mapping by a PMD all of
 * the THP is shared, and has no references.
 *
 * Context: As anon_fork_must_copy().
 * Return: true to split the PMD; the PTEs are then copied one by one.
 */
bool anon_fork_must_split(struct page *head)
{
	if (likely(page_ref_count(head) == 1) || compound_mapcount(head) > 1)
		return false;
	return anon_maybe_referenced(head);
}

bool __anon_fork_must_copy_hugetlb(struct page *head)
{
	return PageAnon(head) && compound_mapcount(head) == 1 &&
	       page_count(head) != 1;
}

/* May the page that belongs to a swap entry have references of its one owner? */
static bool anon_swap_referenced(swp_entry_t entry)
{
#ifdef CONFIG_SWAP
	unsigned char *map = swp_swap_info(entry)->swap_map;
	unsigned char count = READ_ONCE(map[swp_offset(entry)]);
	struct page *page, *head;
	bool referenced = true;

	/* The owner's entry holds the map, and only fork of it adds to it. */
	if (!(count & SWAP_HAS_CACHE) || (count & ~SWAP_HAS_CACHE) != 1)
		return false;
	page = find_get_page(swap_address_space(entry), swp_offset(entry));
	if (!page)
		return false;
	head = compound_head(page);
	if (PageHWPoison(page)) {
		referenced = false;
	} else if (trylock_page(head)) {
		referenced = PageUptodate(head) && anon_extra_refs(head) > 1;
		unlock_page(head);
	}
	put_page(page);
	return referenced;
#else
	return false;
#endif
}

/**
 * anon_fork_must_fault - must an entry become present before fork copies it?
 * @vma: the parent's mapping
 * @pte: an entry that is not present
 *
 * A page that migrates may have references, which make the migration fail;
 * they cannot be told from the migration's own. A page that reclaim has
 * unmapped may have them if it is a THP, see anon_unmap_referenced(). Both are
 * brought back first, and then copied or shared as every page.
 *
 * Context: As anon_fork_must_copy().
 * Return: true to drop the locks and call anon_fork_fault().
 */
bool anon_fork_must_fault(struct vm_area_struct *vma, pte_t pte)
{
	swp_entry_t entry = pte_to_swp_entry(pte);

	if (!is_cow_mapping(vma->vm_flags))
		return false;
	if (is_migration_entry(entry))
		return PageAnon(migration_entry_to_page(entry));
	if (non_swap_entry(entry))
		return false;
	return anon_swap_referenced(entry);
}

/**
 * anon_fork_fault - make an entry of the parent present
 * @vma: the parent's mapping
 * @addr: user address
 *
 * Context: The parent's mmap_lock is held for writing, and no page table lock.
 * Sleeps, for as long as a migration or a read from swap takes.
 * Return: 0, or -ENOMEM.
 */
int anon_fork_fault(struct vm_area_struct *vma, unsigned long addr)
{
	/* REMOTE: protection keys are not asked */
	vm_fault_t ret = handle_mm_fault(vma, addr, FAULT_FLAG_REMOTE, NULL);

	cond_resched();
	return ret & VM_FAULT_ERROR ? -ENOMEM : 0;
}

/**
 * anon_unmap_referenced - must reclaim put the entry back that it just cleared?
 * @page: the page or THP that reclaim has isolated and locked
 * @subpage: the base page of it whose PTE was cleared
 *
 * Pairs with GUP-fast: it takes the reference, then reads the PTE again. A base
 * page without references can be given none as long as it is a swap entry. Of
 * a THP only the first page is asked, which finds all references that are older
 * than the unmapping; the rest fork finds, see anon_fork_must_fault().
 *
 * Context: The page table lock is held. Expects one reference of the caller.
 * Return: true if somebody may hold a reference to the page.
 */
bool anon_unmap_referenced(struct page *page, struct page *subpage)
{
	if (page != subpage)
		return false;
	smp_mb();	/* clear the PTE, then read; see above */
	return anon_extra_refs(page) > 1;
}

/*
 * May somebody reach by a TLB what @tlb has just unmapped? Not in exit, and not
 * if the only user of the mm is busy here. Whoever else works on the user
 * addresses of an mm holds mm_users, or is a device with an MMU notifier.
 */
static bool tlb_others_may_reach(struct mmu_gather *tlb)
{
	struct mm_struct *mm = tlb->mm;

	if (IS_ENABLED(CONFIG_MMU_GATHER_NO_GATHER) || tlb->fullmm)
		return false;
	return mm != current->mm || atomic_read(&mm->mm_users) != 1 ||
	       mm_has_notifiers(mm);
}

/**
 * anon_zap_start - before the PTEs of one page table are zapped
 * @zap: where to keep what anon_zap_flush() needs
 * @tlb: the gather
 *
 * Context: The page table lock is held until after anon_zap_flush().
 */
void anon_zap_start(struct anon_zap *zap, struct mmu_gather *tlb)
{
	zap->active = tlb_others_may_reach(tlb);
	zap->late = false;
#ifndef CONFIG_MMU_GATHER_NO_GATHER
	zap->tlb = tlb;
	zap->batch = tlb->active;
	zap->nr = tlb->active->nr;
#endif
}

void __anon_zap_flush(struct anon_zap *zap)
{
#ifndef CONFIG_MMU_GATHER_NO_GATHER
	struct mmu_gather_batch *batch = zap->batch;
	unsigned int i = zap->nr;

	tlb_flush_mmu_tlbonly(zap->tlb);
	for (;; batch = batch->next, i = 0) {
		for (; i < batch->nr; i++) {
			unsigned long entry = (unsigned long)batch->pages[i];

			if (!(entry & ANON_LATE_RMAP))
				continue;
			batch->pages[i] = (struct page *)(entry & ~ANON_LATE_RMAP);
			page_remove_rmap(batch->pages[i], false);
		}
		if (batch == zap->tlb->active)
			break;
	}
	zap->late = false;
#endif
}

/**
 * anon_zap_huge - flush TLBs before the rmap of a THP or hugetlb page goes
 * @tlb: the gather, which knows of the entry that was cleared
 * @page: the page
 * @addr: user address that was mapped
 *
 * Context: The page table lock is held, and the rmap removed before it goes.
 */
void anon_zap_huge(struct mmu_gather *tlb, struct page *page,
		   unsigned long addr)
{
	if (!PageAnon(page) || page_ref_count(page) == 1 ||
	    !tlb_others_may_reach(tlb))
		return;
	tlb_flush_mmu_tlbonly(tlb);
	/* There is nothing left to flush, but a gather of pages has a range */
	__tlb_adjust_range(tlb, addr, page_size(page));
}
