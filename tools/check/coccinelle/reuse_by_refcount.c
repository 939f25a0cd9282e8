// SPDX-License-Identifier: GPL-2.0
/*
 * What scripts/coccinelle/mm/reuse_by_refcount.cocci reports: the lines that end
 * with "bad" and no others. Only parsed, never compiled.
 */
static vm_fault_t reuses_if_last(struct vm_fault *vmf)
{
	if (PageKsm(vmf->page) || page_count(vmf->page) != 1) /* bad */
		return wp_page_copy(vmf);
	wp_page_reuse(vmf);
	return 0;
}

static vm_fault_t copies_with_mapcount(struct vm_fault *vmf, struct folio *folio)
{
	if (folio_mapcount(folio) == folio_ref_count(folio)) { /* bad */
		folio_move_anon_rmap(folio, vmf->vma);
		return 0;
	}
	return wp_page_copy(vmf);
}

static pte_t swapped_in(struct vm_fault *vmf, struct page *page, pte_t pte)
{
	if ((vmf->flags & FAULT_FLAG_WRITE) && 2 > page_ref_count(page)) /* bad */
		pte = maybe_mkwrite(pte_mkdirty(pte), vmf->vma);
	return pte;
}

static bool is_last(struct folio *folio)
{
	return folio_ref_count(folio) == 1;
}

static vm_fault_t asks_helper(struct vm_fault *vmf, struct folio *folio)
{
	if (!is_last(folio)) /* bad */
		return wp_page_copy(vmf);
	wp_page_reuse(vmf, folio);
	return 0;
}

static int shares_if_last(struct page *page)
{
	if (page_count(page) > 1) /* bad */
		return -EAGAIN;
	page_dup_rmap(page, false);
	return 0;
}

/* From here on all is right. */

static vm_fault_t by_mapcount(struct vm_fault *vmf)
{
	if (page_mapcount(vmf->page) != 1)
		return wp_page_copy(vmf);
	wp_page_reuse(vmf);
	return 0;
}

static vm_fault_t exclusive_first(struct vm_fault *vmf, struct folio *folio)
{
	if (!PageAnonExclusive(vmf->page) && folio_ref_count(folio) != 1)
		return wp_page_copy(vmf);
	wp_page_reuse(vmf, folio);
	return 0;
}

static bool called_if_not_exclusive(struct vm_fault *vmf, struct folio *folio)
{
	if (folio_ref_count(folio) > 1)
		return false;
	folio_move_anon_rmap(folio, vmf->vma);
	return true;
}

static vm_fault_t exclusive_or_last(struct vm_fault *vmf, struct folio *folio)
{
	if (!PageAnonExclusive(vmf->page) && !folio_test_anon(folio))
		return wp_page_copy(vmf);
	if (PageAnonExclusive(vmf->page) || called_if_not_exclusive(vmf, folio))
		wp_page_reuse(vmf, folio);
	return 0;
}

static pte_t swapped_in_exclusive(struct vm_fault *vmf, struct folio *folio, pte_t pte)
{
	bool exclusive = pte_swp_exclusive(vmf->orig_pte);

	if (exclusive || folio_ref_count(folio) == 1)
		pte = maybe_mkwrite(pte_mkdirty(pte), vmf->vma);
	return pte;
}

static int ksm_refuses(struct page *page, pte_t *pte, int swapped)
{
	if (page_mapcount(page) + 1 + swapped != page_count(page))
		return -EAGAIN;
	set_page_stable_node(page, NULL);
	return 0;
}

static int fork_copies(struct page *page, int mapped)
{
	if (page_count(page) > mapped)
		return -EAGAIN;
	page_dup_rmap(page, false);
	return 0;
}

static vm_fault_t is_free(struct vm_fault *vmf)
{
	if (!page_count(vmf->page) || page_count(vmf->page) == 0)
		return VM_FAULT_SIGBUS;
	wp_page_reuse(vmf);
	return 0;
}

static bool migrates(struct page *page, int expected)
{
	return page_count(page) == expected;
}
