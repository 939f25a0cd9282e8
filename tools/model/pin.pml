/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One anonymous base page, the processes that share it, and all that takes
 * references to it, shares it, unmaps it or cleans it. What each step stands for
 * in the kernel, how memory ordering is modelled, and what is left out:
 * Documentation/mm/pin_model.rst. tools/model/check runs it.
 *
 * -DCONFIG_<name> says who runs; -DBUG_<name> makes one mistake.
 *
 * A step is a statement outside of d_step, or one d_step: one access to what
 * others look at without our locks. Who holds the page table lock, ptl, has pte
 * to himself but for GUP-fast and the hardware.
 */

#define A		0	/* the process whose memory it is */
#define B		1	/* fork makes it, or it shares from the start */
#define C		2	/* shares from the start, and is no child of ours */

#if defined(CONFIG_grandchild)
#define NR_MM		3
#else
#define NR_MM		2
#endif
#define NR_PAGES	4	/* alloc_page() asserts that it suffices */
#define NONE		7

#define BIT(n)		(1 << (n))
#define HAS(mask, n)	(((mask) >> (n)) & 1)

/* An entry of a page table: 2 bits for the page, and: */
#define PRESENT		4
#define WRITE		8
#define SOFT_DIRTY	16
#define SWAP		32	/* of the one slot there is; may be SOFT_DIRTY */
#define MIGRATION	64	/* of page 0; may be WRITE and SOFT_DIRTY */
#define PAGE(e)		((e) & 3)

/* page: struct page, and the word of mm/page_pin.c */
byte count[NR_PAGES];
byte mapcount[NR_PAGES];
byte pins[NR_PAGES];		/* GUP_PIN_COUNTING_BIAS, how many times */
byte word[NR_PAGES];		/* the count in the word */
byte word_write;		/* the write bits, one for each page */
byte page_lock, ksm;		/* one bit for each page, too */

/* the swap slot */
byte swap_count;
byte swap_page = NONE;		/* its page in the swap cache */

#ifdef CONFIG_migrate
byte moved_to;			/* page 0, or where its contents are now */
#else
#define moved_to	0
#endif

/* mm */
byte pte[NR_MM];
byte seq[NR_MM];		/* write_protect_seq */
byte ptl, has_pinned;		/* one bit for each mm */
byte mmap_writer, mmap_readers[NR_MM];
byte flush_batched;		/* tlb_flush_batched: reclaim owes a flush */

/*
 * What the rules are about, and nothing above decides by: pages that the TLBs of
 * a mm reach, and write; references that are in use; contents that changed since
 * the tracker looked; processes that run.
 */
byte tlb[NR_MM], tlb_write[NR_MM];
byte held[NR_MM * NR_PAGES];
byte changed, swap_changed;
byte runs;

/* Never set. They stand in assertions, so that pan says which rule is broken. */
bit R1, R2, R3, R4, R5, TLB;

#define HELD(m, p)	held[(m) * NR_PAGES + (p)]

/* May the mm read the page: by a TLB, or once its entry is present again? */
#define REACHES(m, p) \
	(HAS(tlb[m], p) || ((pte[m] & SWAP) && swap_page == (p)) || \
	 ((pte[m] & MIGRATION) && moved_to == (p)))
/* The same, and there is somebody who does: fork's child does not run yet. */
#define READS(m, p)	(HAS(runs, m) && REACHES(m, p))
#if NR_MM == 3
#define OTHERS_READ(m, p) \
	(READS(((m) + 1) % 3, p) || READS(((m) + 2) % 3, p))
#define OTHERS_REACH(m, p) \
	(REACHES(((m) + 1) % 3, p) || REACHES(((m) + 2) % 3, p))
#define OTHERS_HOLD(m, p) \
	(HELD(((m) + 1) % 3, p) || HELD(((m) + 2) % 3, p))
#define ANY_HELD(p)	(HELD(0, p) || HELD(1, p) || HELD(2, p))
#define ANY_TLB(p)	(HAS(tlb[0], p) || HAS(tlb[1], p) || HAS(tlb[2], p))
#else
#define OTHERS_READ(m, p)	READS(1 - (m), p)
#define OTHERS_REACH(m, p)	REACHES(1 - (m), p)
#define OTHERS_HOLD(m, p)	HELD(1 - (m), p)
#define OTHERS_WRITE(m, p)	HAS(tlb_write[1 - (m)], p)
#define ANY_HELD(p)		(HELD(0, p) || HELD(1, p))
#define ANY_TLB(p)		(HAS(tlb[0], p) || HAS(tlb[1], p))
#endif

/* Locks. A trylock is HAS(page_lock, p) and SET(page_lock, p) in one atomic. */
#define SET(mask, n)	mask = mask | BIT(n)
#define CLEAR(mask, n)	mask = mask & ~BIT(n)

inline lock(mask, n)
{
	atomic { !HAS(mask, n) -> SET(mask, n) }
}

inline mmap_read_lock(m)
{
	atomic { !HAS(mmap_writer, m) -> mmap_readers[m]++ }
}

/* pte_offset_map_lock(): and read what the lock keeps as it is */
inline lock_pte(m, e)
{
	atomic { !HAS(ptl, m) -> SET(ptl, m); e = pte[m] }
}

inline mmap_write_lock(m)
{
	atomic {
		!HAS(mmap_writer, m) && !mmap_readers[m] -> SET(mmap_writer, m)
	}
}

inline set_pte(m, e)
{
	d_step {
		pte[m] = e;
		if
		:: (e) & PRESENT -> SET(tlb[m], PAGE(e))
		:: else
		fi;
		if
		:: (e) & PRESENT && (e) & WRITE -> SET(tlb_write[m], PAGE(e))
		:: else
		fi
	}
}

inline flush_tlb(m)
{
	/* What is mapped now is in the TLB again at once. */
	d_step {
		tlb[m] = 0;
		tlb_write[m] = 0;
		if
		:: pte[m] & PRESENT -> SET(tlb[m], PAGE(pte[m]))
		:: else
		fi;
		if
		:: pte[m] & PRESENT && pte[m] & WRITE ->
			SET(tlb_write[m], PAGE(pte[m]))
		:: else
		fi
	}
}

#ifdef CONFIG_tracker
#define copy_contents(p, is)	changed = (changed & ~BIT(p)) | ((is) << p)
#define write_contents(p)	SET(changed, p)
#else
#define copy_contents(p, is)	skip
#define write_contents(p)	skip
#endif

/* A new page, with a reference and the contents of page old. */
inline alloc_copy(new, old)
{
	d_step {
		new = 0;
		do
		:: new < NR_PAGES && count[new] -> new++
		:: else -> break
		od;
		assert(new < NR_PAGES);
		count[new] = 1;
		copy_contents(new, HAS(changed, old))
	}
}

inline put_page(p)
{
	d_step {
		assert(count[p]);
		count[p]--;
		if
		:: !count[p] ->
			/* __page_pin_check_free() */
			assert(R5 || !word[p]);
			assert(TLB || !ANY_TLB(p));
			assert(!mapcount[p] && !HAS(page_lock, p));
			CLEAR(ksm, p)
		:: else
		fi
	}
}

/* With the page locked. */
inline delete_from_swap_cache(p)
{
	d_step {
		assert(swap_page == p && HAS(page_lock, p));
		swap_changed = HAS(changed, p);
		swap_page = NONE;
		count[p]--;
		assert(count[p])
	}
}

inline swap_free()
{
	assert(swap_count);
	swap_count--
}

/*
 * anon_page_exclusive(): mapcount and swap count are two reads, which the page
 * lock makes those of one moment.
 */
inline anon_page_exclusive(p, yes)
{
	yes = mapcount[p];
#ifndef BUG_exclusive_without_swap
	yes = yes + (swap_page == p -> swap_count : 0);
#endif
#ifdef BUG_exclusive_without_ksm
	yes = (yes == 1)
#else
	yes = (yes == 1 && !HAS(ksm, p))
#endif
}

/* Who decided that the page is the mm's alone makes the entry writable. */
inline reuse(m, p, e)
{
	assert(R3 || (!OTHERS_REACH(m, p) && !OTHERS_HOLD(m, p)));
	assert(R3 || !HAS(ksm, p));
	set_pte(m, (e) | WRITE | SOFT_DIRTY)
}

/*
 * do_swap_page(). The caller found the swap entry e, and holds mmap_lock. What
 * it does not map it leaves to the next fault.
 */
inline do_swap_page(m, e, write, p)
{
	atomic {
		if
		:: swap_page != NONE ->
			p = swap_page;
			count[p]++
		:: swap_page == NONE && pte[m] == e ->
			/* read it: the caller's reference, and the cache's */
			alloc_copy(p, 0);
			d_step {
				count[p]++;
				copy_contents(p, swap_changed);
				swap_page = p
			}
		:: else ->
			p = NONE
		fi
	}
	if
	:: p != NONE ->
		lock(page_lock, p);
		lock(ptl, m);
		if
		:: swap_page == p && pte[m] == e ->
			/* anon_swapin_reuse(): mapcount and swap count */
			if
			:: (write) && mapcount[p] + swap_count == 1 ->
				delete_from_swap_cache(p);
				reuse(m, p, p | PRESENT)
			:: else ->
				set_pte(m, p | PRESENT | (e & SOFT_DIRTY))
			fi;
			mapcount[p]++;
			swap_free();
			/* the reference is the mapping's now */
			if
			:: !swap_count && swap_page == p ->
				delete_from_swap_cache(p)
			:: true	/* swap is not full */
			fi;
			CLEAR(page_lock, p);
			CLEAR(ptl, m)
		:: else ->
			CLEAR(ptl, m);
			CLEAR(page_lock, p);
			put_page(p)
		fi
	:: else
	fi
}

/*
 * __migration_entry_wait(), with the page table locked: it looks at the page, and
 * then waits without a reference.
 */
inline migration_entry_wait(m, e)
{
	count[0]++;
	CLEAR(ptl, m);
	put_page(0);
	pte[m] != e
}

/* What a thread may do: one of these, or nothing */
#define CAN_GUP		1	/* take a reference, use it, drop it */
#define CAN_WRITE	2
#define CAN_ZAP		4	/* madvise(MADV_DONTNEED) */

/* foll: what is asked for */
#define FOLL_WRITE	1	/* of a fault, too */
#define FOLL_PIN	2
#define FOLL_UNSHARE	4	/* FAULT_FLAG_UNSHARE */
#define GUP		8	/* who faults is GUP */

/* What to do about a read-only entry; anon_page_exclusive() says one of two. */
#define COPY		0
#define REUSE		1
#define RETRY		2

inline raise_pins(p)
{
	pins[p] = pins[p] + (foll & FOLL_PIN -> 1 : 0)
}

inline lower_pins(p)
{
	pins[p] = pins[p] - (foll & FOLL_PIN -> 1 : 0)
}

inline raise_word(p)
{
	d_step {
		if
		:: foll & FOLL_PIN ->
			word[p]++;
			if
			:: foll & FOLL_WRITE -> SET(word_write, p)
			:: else
			fi
		:: else
		fi
	}
}

inline lower_word(p)
{
	d_step {
		if
		:: foll & FOLL_PIN ->
			assert(R5 || word[p]);
			word[p]--;
			if
			:: !word[p] -> CLEAR(word_write, p)
			:: else
			fi
		:: else
		fi
	}
}

/* A step each only where somebody may look at them meanwhile. */
#if defined(CONFIG_tracker) || defined(CONFIG_reclaim) || \
	defined(BUG_fork_sees_pins_only)
#define PINS
#else
#define PINS		atomic
#endif

/* put_compound_pages() of one page */
inline unpin(p)
{
#ifdef BUG_unpin_ref_first
	lower_pins(p);
	put_page(p);
	lower_word(p)
#else
	lower_word(p);
	lower_pins(p);
	put_page(p)
#endif
}

/*
 * GUP returns the page, from here on the reference is used. A KSM page, whose
 * contents never change, has no rules to keep.
 */
inline gup_done(m, p)
{
	d_step {
		if
		:: !HAS(ksm, p) ->
			assert(R1 || !OTHERS_REACH(m, p));
			assert(R1 || !OTHERS_HOLD(m, p));
			HELD(m, p)++
		:: else
		fi
	}
}

inline gup_used(m, p)
{
	d_step {
		if
		:: HELD(m, p) -> HELD(m, p)--
		:: else
		fi
	}
}

proctype thread(byte m, can)
{
	byte e, p, new, foll, old_seq, what;
	bit mine;

	atomic {
		HAS(runs, m);
		if
		:: can & CAN_GUP -> goto gup
		:: can & CAN_WRITE -> goto write
		:: can & CAN_ZAP -> goto zap
		:: goto out
		fi
	}

gup:
	atomic {
		if
		:: foll = GUP
		:: foll = GUP | FOLL_WRITE
		:: foll = GUP | FOLL_PIN; SET(has_pinned, m)
		:: foll = GUP | FOLL_PIN | FOLL_WRITE; SET(has_pinned, m)
		fi;
		if
		:: goto slow
		:: skip		/* lockless_pages_from_mm() */
		fi
	}
	atomic {
		old_seq = seq[m];
		if
#ifdef BUG_fast_get_without_seq
		:: old_seq & 1 && foll & FOLL_PIN -> goto slow
#else
		:: old_seq & 1 -> goto slow
#endif
		:: else
		fi
	}
	/* gup_pte_range() */
	atomic {
		e = pte[m];
		if
		:: !(e & PRESENT) || (foll & FOLL_WRITE && !(e & WRITE)) ->
			goto slow
		:: else -> p = PAGE(e)
		fi
	}
#ifdef BUG_fast_relaxed
	/* the reads after the atomics pass them */
	if
	:: pte[m] != e || (!(e & WRITE) && !HAS(ksm, p)) -> goto slow
	:: else
	fi;
	if
	:: seq[m] != old_seq -> goto slow
	:: else
	fi;
#endif
	/* try_grab_compound_head(): not what is being freed */
	PINS {
		atomic {
			if
			:: !count[p] -> goto slow
			:: else -> count[p]++
			fi
		}
#ifdef BUG_fast_pins_relaxed
		/* the read passes what is no full barrier by itself */
		if
		:: pte[m] != e -> put_page(p); goto slow
		:: else
		fi;
#endif
		raise_pins(p);
		raise_word(p)
	}
#ifndef BUG_fast_relaxed
#ifndef BUG_fast_pins_relaxed
	if
	:: pte[m] != e -> goto undo
	:: else
	fi;
#endif
	/* gup_fast_must_unshare() */
	if
#ifndef BUG_fast_readonly
	:: !(e & WRITE) && !HAS(ksm, p) -> goto undo
#endif
	:: else
	fi;
	atomic {
		if
#ifdef BUG_fast_get_without_seq
		:: seq[m] != old_seq && foll & FOLL_PIN -> goto undo
#else
		:: seq[m] != old_seq -> goto undo
#endif
		:: else -> gup_done(m, p); goto use
		fi
	}
#else
	gup_done(m, p);
	goto use;
#endif
undo:
	PINS { unpin(p) }

slow:
	atomic { e = 0; p = 0; old_seq = 0; mmap_read_lock(m) }
follow:
	/* follow_page_pte() */
	atomic {
		lock_pte(m, e);
		foll = foll & ~FOLL_UNSHARE;
		what = 0;
		if
		:: !e ->
			CLEAR(ptl, m);
			mmap_readers[m]--;
			goto out
		:: e && (!(e & PRESENT) || (foll & FOLL_WRITE && !(e & WRITE))) ->
			CLEAR(ptl, m);
			goto fault
		:: else -> p = PAGE(e)
		fi
	}
	if
	:: !(e & WRITE) && !HAS(ksm, p) ->
		/* gup_must_unshare() */
#ifdef BUG_unshare_never
		what = REUSE;
#else
		what = RETRY;
#ifdef BUG_unshare_unlocked
		anon_page_exclusive(p, what);
#else
		atomic {
			if
			:: !HAS(page_lock, p) -> SET(page_lock, p); what = COPY
			:: else
			fi
		}
		if
		:: what != RETRY ->
			anon_page_exclusive(p, what);
			CLEAR(page_lock, p)
		:: else
		fi;
#endif
#endif
		atomic {
			if
			:: what != REUSE ->
				CLEAR(ptl, m);
				foll = foll | FOLL_UNSHARE;
				goto fault
			:: else
			fi
		}
	:: else
	fi;
	atomic {
		/* mmap_lock keeps out who asks the pins and the word */
		count[p]++;
		raise_pins(p);
		raise_word(p);
		gup_done(m, p);
		CLEAR(ptl, m);
		mmap_readers[m]--
	}
use:
	/* A device writes; of FOLL_GET nobody promises to report it. */
#ifdef BUG_unpin_relaxed
	if
	:: foll & FOLL_PIN && foll & FOLL_WRITE ->
		lower_word(p);
		write_contents(p);
		gup_used(m, p);
		lower_pins(p);
		put_page(p);
		goto out
	:: else
	fi;
#else
	if
	:: foll & FOLL_PIN && foll & FOLL_WRITE -> write_contents(p)
	:: true
	fi;
#endif
	PINS { gup_used(m, p); unpin(p) }
	goto out;

write:
	/* The TLB may still have what the page table has no longer. */
	atomic {
		if
		:: tlb_write[m] ->
			p = 0;
			do
			:: !HAS(tlb_write[m], p) -> p++
			:: else -> break
			od;
			assert(R3 || !OTHERS_READ(m, p));
			write_contents(p);
			goto out
		:: true
		fi
	}
	foll = FOLL_WRITE;
	mmap_read_lock(m);
fault:
	/* handle_pte_fault() */
	atomic {
		lock_pte(m, e);
		if
		:: !e || (e & PRESENT &&
			  (e & WRITE || !(foll & (FOLL_WRITE | FOLL_UNSHARE)))) ->
			CLEAR(ptl, m);
			goto faulted
		:: e & SWAP ->
			CLEAR(ptl, m);
			goto swapped
		:: e & MIGRATION ->
			goto migrated
		:: else -> p = PAGE(e)
		fi
	}
	/* do_wp_page(): anon_wp_page() */
#ifdef BUG_write_by_count
	what = (count[p] == 1 && !HAS(ksm, p) -> REUSE : COPY);
#else
#ifdef BUG_write_ksm_first
	what = HAS(ksm, p);
#endif
	if
	:: count[p] == 1 ->
#ifdef BUG_write_ksm_first
		what = (what -> COPY : REUSE)
#else
		what = (HAS(ksm, p) -> COPY : REUSE)
#endif
	:: else ->
		if
		:: mapcount[p] > 1 || HAS(ksm, p) -> what = COPY
		:: else ->
			/* __anon_wp_page() */
#ifdef BUG_write_unlocked
			anon_page_exclusive(p, what)
#else
			atomic {
				if
				:: !HAS(page_lock, p) ->
					SET(page_lock, p);
					what = REUSE
				:: else ->
					what = RETRY
				fi
			}
			if
			:: what == RETRY ->
#ifdef BUG_write_locked_copies
				what = COPY
#else
				count[p]++;
				CLEAR(ptl, m);
				atomic { put_page(p); goto faulted }
#endif
			:: else ->
				anon_page_exclusive(p, what);
				CLEAR(page_lock, p)
			fi
#endif
		fi
	fi;
#endif
	atomic {
		if
		:: what == REUSE ->
			if
			:: foll & FOLL_WRITE -> reuse(m, p, e)
			:: else
			fi;
			CLEAR(ptl, m);
			goto faulted
		:: else
		fi;
		/* wp_page_copy() */
		count[p]++;
		CLEAR(ptl, m)
	}
	alloc_copy(new, p);
	lock(ptl, m);
	if
	:: pte[m] != e -> what = RETRY
	:: else ->
		what = COPY;
		/* anon_wp_must_copy() */
#if !defined(BUG_copy_without_retest) && !defined(BUG_write_by_count)
		if
		:: mapcount[p] > 1 || HAS(ksm, p)
		:: else ->
			atomic {
				if
				:: swap_page == p && !HAS(page_lock, p) ->
					SET(page_lock, p);
					mine = 1
#ifdef BUG_write_locked_copies
				:: swap_page == p && HAS(page_lock, p)
#endif
				:: else -> what = RETRY
				fi
			}
			if
			:: mine ->
				mine = 0;
				anon_page_exclusive(p, what);
				CLEAR(page_lock, p)
			:: else
			fi
		fi
#endif
	fi;
	if
	:: what == COPY ->
		/* ptep_clear_flush_notify() */
		pte[m] = 0;
		flush_tlb(m);
		assert(R3 || !HELD(m, p));
		mapcount[new] = 1;
		if
		:: foll & FOLL_WRITE -> set_pte(m, new | PRESENT | WRITE | SOFT_DIRTY)
		:: else -> set_pte(m, new | PRESENT | (e & SOFT_DIRTY))
		fi;
		atomic { mapcount[p]--; CLEAR(ptl, m) }
		put_page(p)
	:: else ->
		atomic { CLEAR(ptl, m); put_page(new) }
	fi;
	put_page(p);
	goto faulted;
migrated:
	migration_entry_wait(m, e);
	goto faulted;
swapped:
	do_swap_page(m, e, foll & FOLL_WRITE, p);
faulted:
	atomic {
		new = 0; p = 0; what = 0;
		if
		:: foll & GUP -> goto follow
		:: else
		fi;
		mmap_readers[m]--;
		if
		:: e -> e = 0; goto write
		:: else -> goto out
		fi
	}

zap:
	/* zap_pte_range() */
	mmap_read_lock(m);
	atomic {
		lock_pte(m, e);
#ifndef BUG_zap_without_batched_flush
		/* flush_tlb_batched_pending() */
		if
		:: HAS(flush_batched, m) ->
			flush_tlb(m);
			CLEAR(flush_batched, m)
		:: else
		fi;
#endif
		pte[m] = 0
	}
	if
	:: e & PRESENT ->
		p = PAGE(e);
		/* anon_zap_rmap(), anon_zap_flush() */
		if
#ifndef BUG_zap_rmap_before_flush
		:: count[p] != 1 ->
			flush_tlb(m);
			mapcount[p]--
#endif
		:: else ->
			mapcount[p]--
		fi;
		atomic { CLEAR(ptl, m); flush_tlb(m) }
		put_page(p)
	:: e & SWAP ->
		/* free_swap_and_cache() */
		swap_free();
		atomic {
			if
			:: !swap_count && swap_page != NONE && !HAS(page_lock, swap_page) ->
				p = swap_page;
				SET(page_lock, p);
				count[p]++;
				delete_from_swap_cache(p);
				CLEAR(page_lock, p);
				put_page(p)
			:: else
			fi
		}
		CLEAR(ptl, m)
	:: else ->
		CLEAR(ptl, m)
	fi;
	mmap_readers[m]--;
out:
	atomic { e = 0; p = 0; new = 0; foll = 0; old_seq = 0; what = 0 }
}

#if defined(CONFIG_fork)
/* dup_mmap() of A: B becomes its child */
proctype fork()
{
	byte e, p, new, refs;
	bit must;
#ifdef BUG_fork_no_mb
	bit late;
#endif
#ifdef BUG_fork_late_wrprotect
	byte late_write;
#endif

	mmap_write_lock(A);
	/* copy_page_range() */
#ifdef BUG_fork_no_mb
	/* the store may become visible after the reads of the page */
	if
	:: late = 1
	:: seq[A]++
	fi;
#else
	seq[A]++;
#endif
again:
	atomic { lock(ptl, B); lock_pte(A, e) }
	if
	:: e & PRESENT ->
		p = PAGE(e);
		/* anon_fork_must_copy() */
#ifdef BUG_fork_sees_pins_only
		must = (pins[p] != 0);
#else
		must = (count[p] != 1);
		if
		:: must ->
			if
			:: HAS(ksm, p) || mapcount[p] > 1 -> must = 0
			:: else ->
				if
				:: swap_page != p -> must = (count[p] != 1)
				:: else ->
					/* anon_maybe_referenced() */
					atomic {
						if
						:: !HAS(page_lock, p) ->
							SET(page_lock, p);
							must = 0
						:: else
						fi
					}
					if
					:: !must ->
						refs = count[p];
						must = (refs > mapcount[p] + (swap_page == p));
						CLEAR(page_lock, p)
					:: else
					fi
				fi
			fi
		:: else
		fi;
#endif
#ifdef BUG_fork_no_mb
		seq[A] = seq[A] + late;
		late = 0;
#endif
		if
		:: must ->
			alloc_copy(new, p);
			mapcount[new] = 1;
			set_pte(B, new | PRESENT | WRITE | SOFT_DIRTY)
		:: else ->
			count[p]++;
			mapcount[p]++;
#ifdef BUG_fork_late_wrprotect
			set_pte(B, e & ~WRITE);
			late_write = WRITE;
#else
			/* in no order: both are visible when ptl is free */
			if
			:: pte[A] = e & ~WRITE;
			   set_pte(B, e & ~WRITE)
			:: set_pte(B, e & ~WRITE);
			   pte[A] = e & ~WRITE
			fi;
#endif
			assert(R2 || HAS(ksm, p) || !ANY_HELD(p))
		fi
	:: e & SWAP ->
		/* anon_fork_must_fault() */
		atomic {
			must = 0;
			p = swap_page;
			if
			:: p != NONE && swap_count == 1 ->
				count[p]++;
				if
				:: !HAS(page_lock, p) -> SET(page_lock, p)
				:: else -> must = 1
				fi
			:: else -> p = NONE
			fi
		}
		if
		:: p != NONE ->
			if
			:: !must ->
				refs = count[p];
				must = (refs > 1 + mapcount[p] + (swap_page == p));
				CLEAR(page_lock, p)
			:: else
			fi;
			put_page(p)
		:: else
		fi;
		if
		:: must ->
			CLEAR(ptl, A);
			CLEAR(ptl, B);
			/* anon_fork_fault() */
			do_swap_page(A, e, false, p);
			goto again
		:: else ->
			swap_count++;
			pte[B] = e;
			assert(R2 || swap_page == NONE || !ANY_HELD(swap_page))
		fi
	:: e & MIGRATION ->
#ifdef BUG_fork_shares_migration
		e = e & ~WRITE;
		pte[A] = e;
		pte[B] = e;
		assert(R2 || !ANY_HELD(moved_to))
#else
		/* anon_fork_must_fault(), anon_fork_fault() */
		CLEAR(ptl, B);
		migration_entry_wait(A, e);
		goto again
#endif
	:: else
	fi;
	atomic { CLEAR(ptl, A); CLEAR(ptl, B) }
	seq[A]++;
#ifdef BUG_fork_late_wrprotect
	/* no smp_wmb() before seq, and ptl no release */
	pte[A] = pte[A] & ~late_write;
#endif
#ifndef BUG_fork_no_flush
	flush_tlb(A);
#endif
	atomic {
		SET(runs, B);
		CLEAR(mmap_writer, A);
		e = 0; p = 0; new = 0; refs = 0; must = 0
	}
}
#endif

#if defined(CONFIG_reclaim)
proctype reclaim(bit lazyfree)
{
	byte m, e, refs;

	/* shrink_page_list() of page 0: isolated, so with a reference */
	atomic {
		if
		:: !count[0] || HAS(page_lock, 0) -> goto out
		:: else -> count[0]++; SET(page_lock, 0)
		fi
	}
	if
	:: swap_page != 0 && !lazyfree ->
		/* page_maybe_dma_pinned(), add_to_swap() */
		atomic {
			if
			:: pins[0] || swap_count || swap_page != NONE -> goto keep
			:: else -> swap_page = 0; count[0]++
			fi
		}
	:: else
	fi;
	/* try_to_unmap_one(), of each mm */
	do
	:: m < NR_MM ->
		lock_pte(m, e);
		if
		:: e & PRESENT && PAGE(e) == 0 ->
#ifdef BUG_reclaim_no_mb
			/* the reads pass the store */
			refs = count[0];
			refs = refs - mapcount[0];
			pte[m] = 0;
#else
			pte[m] = 0;
			/* anon_unmap_referenced() */
			refs = count[0];
			refs = refs - mapcount[0];
#endif
			/* the swap cache's and ours */
			if
#ifndef BUG_reclaim_without_retest
			:: refs > 2 - lazyfree -> set_pte(m, e)
#endif
			:: lazyfree && refs <= 1 ->
				/* MADV_FREE, and not written since: discard it */
#ifndef BUG_reclaim_lazyfree_no_flush
				if
				:: mapcount[0] > 1 -> flush_tlb(m)
				:: else
				fi;
#endif
				assert(R3 || !HELD(m, 0));
				mapcount[0]--;
				put_page(0)
			:: else ->
				SET(flush_batched, m);
				swap_count++;
				pte[m] = SWAP | (e & SOFT_DIRTY);
				assert(R2 || !HELD(m, 0));
				mapcount[0]--;
				put_page(0)
			fi
		:: else
		fi;
		CLEAR(ptl, m);
		m++
	:: else -> break
	od;
	if
	:: mapcount[0] -> goto keep
	:: else
	fi;
	/* try_to_unmap_flush() */
#ifndef BUG_reclaim_no_flush
	m = 0;
	do
	:: m < NR_MM -> flush_tlb(m); m++
	:: else -> break
	od;
#endif
	/* __remove_mapping() */
	atomic {
		if
		:: swap_page == 0 && count[0] == 2 ->
			delete_from_swap_cache(0);
			CLEAR(page_lock, 0);
			put_page(0);
			goto out
		:: lazyfree && count[0] == 1 ->
			CLEAR(page_lock, 0);
			put_page(0);
			goto out
		:: else
		fi
	}
keep:
	CLEAR(page_lock, 0);
	put_page(0);
out:
	skip
}
#endif

#if defined(CONFIG_ksm)
#define KSM_PAGE	(NR_PAGES - 1)	/* of the stable tree */

/* try_to_merge_one_page() of what A maps */
proctype ksmd()
{
	byte e, p;
	bit same;

	mmap_read_lock(A);
	/* follow_page() */
	lock_pte(A, e);
	p = PAGE(e);
	if
	:: !(e & PRESENT) || HAS(ksm, p) ->
		CLEAR(ptl, A);
		goto out
	:: else
	fi;
	count[p]++;
	CLEAR(ptl, A);
	atomic {
		if
		:: HAS(page_lock, p) -> goto put
		:: else -> SET(page_lock, p)
		fi
	}
	/* write_protect_page() */
	lock_pte(A, e);
	if
	:: !(e & PRESENT) || PAGE(e) != p ->
		CLEAR(ptl, A);
		goto unlock
	:: e & WRITE ->
#ifdef BUG_ksm_count_before_clear
		same = (mapcount[p] + 1 + (swap_page == p) == count[p]);
		pte[A] = 0;
		flush_tlb(A);
#else
		pte[A] = 0;
		flush_tlb(A);
		same = (mapcount[p] + 1 + (swap_page == p) == count[p]);
#endif
		if
		:: !same -> set_pte(A, e)
		:: else -> e = e & ~WRITE; set_pte(A, e)
		fi
	:: else ->
#ifdef BUG_ksm_readonly_uncounted
		same = 1
#else
		same = (mapcount[p] + 1 + (swap_page == p) == count[p])
#endif
	fi;
	CLEAR(ptl, A);
	if
	:: !same -> goto unlock
	:: same ->
		/* the first of its kind: set_page_stable_node() */
		d_step {
			SET(ksm, p);
			assert(R2 || !ANY_HELD(p))
		}
	:: same ->
		/* replace_page() */
		lock(ptl, A);
		if
		:: pte[A] != e ->
			CLEAR(ptl, A);
			goto unlock
		:: else
		fi;
		count[KSM_PAGE]++;
		mapcount[KSM_PAGE]++;
		pte[A] = 0;
		flush_tlb(A);
		assert(R3 || !HELD(A, p));
		set_pte(A, KSM_PAGE | PRESENT | (e & SOFT_DIRTY));
		mapcount[p]--;
		CLEAR(ptl, A);
		put_page(p)
	fi;
unlock:
	CLEAR(page_lock, p);
put:
	put_page(p);
out:
	mmap_readers[A]--
}
#endif

#if defined(CONFIG_tracker)
/* page_pin=off knows the folio's pins only, and not what they are for. */
#ifdef PAGE_PIN_OFF
#define WRITE_PINNED(p)	(pins[p] != 0)
#else
#define WRITE_PINNED(p)	HAS(word_write, p)
#endif

/* Cleans, reads the memory of A, and asks later what has changed since. */
proctype tracker()
{
	byte e, p;
	bit pinned, writable;

	/* clear_refs_write() */
	mmap_write_lock(A);
	lock_pte(A, e);
	p = PAGE(e);
	if
	:: e & PRESENT ->
		/* clear_soft_dirty_ptes(): it writes the entry, then asks */
		writable = HAS(has_pinned, A) && (e & WRITE);
#if defined(BUG_clear_asks_first) || defined(BUG_clear_no_mb)
		pinned = HAS(has_pinned, A) && pins[p];
		if
		:: pinned -> pinned = WRITE_PINNED(p)
		:: else
		fi;
#endif
#ifdef BUG_clear_asks_first
		if
		:: !pinned -> pte[A] = 0; pte[A] = e & ~(WRITE | SOFT_DIRTY)
		:: else
		fi
#else
		pte[A] = 0;
		e = e & ~(WRITE | SOFT_DIRTY);
		pte[A] = e;
#ifndef BUG_clear_no_mb
		/* vma_maybe_pinned(), device_may_write() */
		pinned = HAS(has_pinned, A);
		if
		:: pinned -> pinned = (pins[p] != 0)
		:: else
		fi;
		if
		:: pinned -> pinned = WRITE_PINNED(p)
		:: else
		fi;
#endif
		/* redirty_pinned() */
		if
		:: pinned -> set_pte(A, e | SOFT_DIRTY | (writable -> WRITE : 0))
		:: else
		fi
#endif
	:: e & SWAP -> pte[A] = SWAP
	:: e & MIGRATION ->
		pinned = HAS(has_pinned, A);
		if
		:: pinned -> pinned = (pins[0] != 0)
		:: else
		fi;
		if
		:: pinned -> pinned = WRITE_PINNED(0)
		:: else
		fi;
#ifdef BUG_clear_migration_unasked
		pinned = 0;
#endif
		/* what restores the entry writes no more than it says */
		pte[A] = (pinned -> e | SOFT_DIRTY :
#ifdef BUG_clear_migration_writable
			  e & ~SOFT_DIRTY);
#else
			  e & ~(SOFT_DIRTY | WRITE));
#endif
	:: else
	fi;
	CLEAR(ptl, A);
#ifndef BUG_clear_no_flush
	flush_tlb(A);
#endif
	CLEAR(mmap_writer, A);
	/* reads the memory */
	d_step { changed = 0; swap_changed = 0 }
	/* pagemap_read() */
	mmap_read_lock(A);
	lock_pte(A, e);
	d_step {
		if
		:: e & PRESENT ->
			assert(R4 || e & SOFT_DIRTY || !HAS(changed, PAGE(e)))
		:: e & SWAP && swap_page == NONE ->
			assert(R4 || e & SOFT_DIRTY || !swap_changed)
		:: e & SWAP && swap_page != NONE ->
			assert(R4 || e & SOFT_DIRTY || !HAS(changed, swap_page))
		:: e & MIGRATION ->
			assert(R4 || e & SOFT_DIRTY || !HAS(changed, moved_to))
		:: else
		fi
	}
	CLEAR(ptl, A);
	mmap_readers[A]--
}
#endif

#if defined(CONFIG_migrate)
/* unmap_and_move() of page 0 */
proctype migrate()
{
	byte m, e, new, to;

	/* isolated, so with a reference */
	atomic {
		if
		:: !count[0] || HAS(page_lock, 0) -> goto out
		:: else -> count[0]++; SET(page_lock, 0)
		fi
	}
	/* try_to_unmap_one(TTU_MIGRATION), of each mm */
	do
	:: m < NR_MM ->
		lock_pte(m, e);
		if
		:: e & PRESENT && PAGE(e) == 0 ->
			pte[m] = 0;
			flush_tlb(m);
			pte[m] = MIGRATION | (e & (WRITE | SOFT_DIRTY));
			mapcount[0]--;
			put_page(0)
		:: else
		fi;
		CLEAR(ptl, m);
		m++
	:: else -> break
	od;
	/* migrate_page_move_mapping(): no swap cache here */
	atomic {
		alloc_copy(new, 0);
		SET(page_lock, new);
		if
#ifndef BUG_migrate_uncounted
		:: count[0] != 1
#endif
		:: else ->
			assert(R3 || !ANY_HELD(0));
			moved_to = new
		fi;
		to = moved_to;
		m = 0
	}
	/* remove_migration_ptes() */
	do
	:: m < NR_MM ->
		lock_pte(m, e);
		if
		:: e & MIGRATION ->
			count[to]++;
			mapcount[to]++;
			set_pte(m, to | PRESENT | (e & (WRITE | SOFT_DIRTY)))
		:: else
		fi;
		CLEAR(ptl, m);
		m++
	:: else -> break
	od;
	CLEAR(page_lock, 0);
	put_page(0);
	CLEAR(page_lock, new);
	put_page(new);
out:
	skip
}
#endif

#if defined(CONFIG_peek)
/* access_remote_vm() of what A maps: ptrace, /proc/PID/mem */
proctype peek()
{
	byte e, p;

	mmap_read_lock(A);
	/* follow_page_pte() with FOLL_NOUNSHARE */
	lock_pte(A, e);
	if
	:: !(e & PRESENT) -> CLEAR(ptl, A); goto out
	:: else -> p = PAGE(e)
	fi;
	count[p]++;
	CLEAR(ptl, A);
	/* anon_read_lock() */
#ifndef BUG_peek_unlocked
	lock(page_lock, p);
#endif
	lock_pte(A, e);
	CLEAR(ptl, A);
	if
#ifdef BUG_peek_unmapped
	:: false
#else
	:: !(e & PRESENT) || PAGE(e) != p
#endif
	:: else ->
		/* reads: nothing that another process writes */
		assert(R3 || !OTHERS_WRITE(A, p))
	fi;
#ifndef BUG_peek_unlocked
	CLEAR(page_lock, p);
#endif
	put_page(p);
out:
	mmap_readers[A]--
}
#endif

inline start_mapped(m, p, e)
{
	count[p]++;
	mapcount[p]++;
	set_pte(m, (p) | PRESENT | (e));
	SET(runs, m)
}

init {
	atomic {
		if
#ifdef START_writable
		:: start_mapped(A, 0, WRITE | SOFT_DIRTY)
#endif
#ifdef START_readonly
		:: start_mapped(A, 0, 0)
		:: start_mapped(A, 0, SOFT_DIRTY)
#endif
#ifdef START_shared
		:: start_mapped(A, 0, 0);
#ifdef CONFIG_fork
		   start_mapped(C, 0, 0)
#else
		   start_mapped(B, 0, 0)
#endif
#endif
		fi;
#ifdef CONFIG_ksm
		SET(ksm, KSM_PAGE);
		count[KSM_PAGE] = 1;
		mapcount[KSM_PAGE] = 1;
		run ksmd();
#endif
#ifdef CONFIG_fork
		run fork();
#endif
#ifdef CONFIG_reclaim
#ifdef LAZYFREE
		run reclaim(true);
#else
		run reclaim(false);
#endif
#endif
#ifdef CONFIG_tracker
		run tracker();
#endif
#ifdef CONFIG_migrate
		run migrate();
#endif
#ifdef CONFIG_peek
		run peek();
#endif
#ifdef A1
		run thread(A, A1);
#endif
#ifdef A2
		run thread(A, A2);
#endif
#ifdef B1
		run thread(B, B1);
#endif
#ifdef C1
		run thread(C, C1);
#endif
	}
}
