// SPDX-License-Identifier: GPL-2.0
/*
 * What scripts/coccinelle/mm/pins_before_clean.cocci reports: the lines that end
 * with "bad" and no others. Only parsed, never compiled.
 */
static void direct(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	pte_t old, new;

	if (page_maybe_dma_pinned(pte_page(*pte)))
		return;
	old = ptep_modify_prot_start(vma, addr, pte); /* bad */
	new = pte_clear_soft_dirty(pte_wrprotect(old));
	ptep_modify_prot_commit(vma, addr, pte, old, new);
}

static bool is_pinned(struct vm_area_struct *vma, pte_t pte)
{
	struct folio *folio = vm_normal_folio(vma, 0, pte);

	return folio && folio_maybe_dma_pinned(folio);
}

static bool must_stay_dirty(struct vm_area_struct *vma, pte_t pte)
{
	if (is_pinned(vma, pte))
		return true;
	return false;
}

static void by_helpers(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	pte_t old, new;

	if (!must_stay_dirty(vma, *pte)) {
		old = ptep_get_and_clear(vma->vm_mm, addr, pte); /* bad */
		new = pte_mkuffd_wp(old);
		set_pte_at(vma->vm_mm, addr, pte, new);
	}
}

static void in_a_loop(struct vm_area_struct *vma, unsigned long addr, pte_t *pte, int nr)
{
	pte_t old, new;

	for (; nr; nr--, pte++, addr += PAGE_SIZE) {
		if (is_pinned(vma, *pte))
			continue;
		old = ptep_modify_prot_start(vma, addr, pte); /* bad */
		new = pte_mkclean(old);
		ptep_modify_prot_commit(vma, addr, pte, old, new);
	}
}

static void huge(struct vm_area_struct *vma, unsigned long addr, pmd_t *pmdp)
{
	pmd_t old, pmd;

	if (folio_maybe_dma_pinned(pmd_folio(*pmdp)))
		return;
	old = pmdp_invalidate(vma, addr, pmdp); /* bad */
	pmd = pmd_clear_soft_dirty(pmd_wrprotect(old));
	set_pmd_at(vma->vm_mm, addr, pmdp, pmd);
}

static void just_cleans(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	pte_t old = ptep_modify_prot_start(vma, addr, pte);
	pte_t new = pte_clear_soft_dirty(pte_wrprotect(old));

	ptep_modify_prot_commit(vma, addr, pte, old, new);
}

static void looks_then_calls(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	if (page_pin_written(pte_page(*pte), 1) == PAGE_PIN_NONE)
		just_cleans(vma, addr, pte); /* bad */
}

/* From here on all is right. */

static void cleans_then_looks(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	pte_t old = ptep_modify_prot_start(vma, addr, pte);
	pte_t new = pte_clear_soft_dirty(pte_wrprotect(old));

	smp_mb();
	if (is_pinned(vma, old))
		new = old;
	ptep_modify_prot_commit(vma, addr, pte, old, new);
}

static void looks_twice(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	pte_t old, new;

	if (is_pinned(vma, *pte))
		return;
	old = ptep_modify_prot_start(vma, addr, pte);
	new = pte_clear_soft_dirty(pte_wrprotect(old));
	smp_mb();
	if (is_pinned(vma, old))
		new = old;
	ptep_modify_prot_commit(vma, addr, pte, old, new);
}

static void redirty(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	if (page_maybe_dma_pinned(pte_page(*pte)))
		set_pte_at(vma->vm_mm, addr, pte, pte_mksoft_dirty(*pte));
}

static void calls_then_looks(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	if (is_pinned(vma, *pte))
		return;
	just_cleans(vma, addr, pte);
	smp_mb();
	redirty(vma, addr, pte);
}

static int forks(struct vm_area_struct *vma, unsigned long addr, pte_t *pte)
{
	if (page_maybe_dma_pinned(pte_page(*pte)))
		return -EAGAIN;
	ptep_set_wrprotect(vma->vm_mm, addr, pte);
	return 0;
}
