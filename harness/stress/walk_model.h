/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of the exit of a thread: the walk over a list of each kind, and the handling
 * of a futex, on the image "after"
 */
#ifndef WALK_MODEL_H
#define WALK_MODEL_H

#include "list_memory.h"

enum list_kind {
	/* set_robust_list() of the program itself, and of i386 programs */
	LEGACY,
	LEGACY_COMPAT,
	/* set_robust_list2() */
	BITS32,
	BITS64,
};

static inline bool is_legacy(enum list_kind kind)
{
	return kind == LEGACY || kind == LEGACY_COMPAT;
}

/* Returns the pointer width as a list type. */
static inline unsigned int type_of(enum list_kind kind)
{
	if (kind == LEGACY)
		return native_type();
	return kind == BITS64 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

static inline unsigned int size_of(enum list_kind kind)
{
	return pointer_size(type_of(kind));
}

/* Addresses of wakeups, one per wakeup */
#define MAX_WAKES	8192

struct walk_model {
	__u32		tid;
	/* The number of held entries that this exit may still handle */
	unsigned int	held_left;
	unsigned int	marked, wakes;
	__u64		woken[MAX_WAKES];
};

static inline __u64 cut_address(enum list_kind kind, __u64 address)
{
	return size_of(kind) == 4 ? (__u32)address : address;
}

static inline bool model_read(__u64 address, unsigned int size, __u64 *value)
{
	size_t offset;

	if (!is_readable(address, size, &offset))
		return false;
	*value = 0;
	memcpy(value, memory.after + offset, size);
	return true;
}

static inline void model_wake(struct walk_model *model, __u64 address)
{
	must(model->wakes < MAX_WAKES);
	model->woken[model->wakes++] = address;
}

/* Reads the owner of a futex, or returns false if the word is unreadable. */
static inline bool model_owner(__u64 address, __u32 *owner)
{
	__u64 word;

	if (address % sizeof(__u32) || !model_read(address, sizeof(__u32), &word))
		return false;
	*owner = word & FUTEX_TID_MASK;
	return true;
}

/* Returns whether the walk can go on. */
static inline bool model_death(struct walk_model *model, __u64 address, bool pi, bool pending)
{
	__u64 word;
	__u32 owner, marked;
	size_t offset;

	if (address % sizeof(__u32) || !model_read(address, sizeof(__u32), &word))
		return false;
	owner = word & FUTEX_TID_MASK;
	if (owner != model->tid) {
		if (pending && !pi && (!owner || !(word & FUTEX_WAITERS)))
			model_wake(model, address);
		return true;
	}
	must(find_image(address, sizeof(__u32), &offset));
	if (!page_writable(offset / memory.page_size))
		return false;
	marked = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
	memcpy(memory.after + offset, &marked, sizeof(marked));
	model->marked++;
	if (!pi && (word & FUTEX_WAITERS))
		model_wake(model, address);
	return true;
}

/*
 * Returns whether the walk can go on. It handles list_op_pending at the end, and counts
 * that entry on the list as not held.
 */
static inline bool model_entry(struct walk_model *model, enum list_kind kind, __u64 address,
			       bool pi, bool pending, unsigned int *limit)
{
	__u32 owner = 0;

	if (is_legacy(kind) || pending) {
		--*limit;
		return pending || model_death(model, address, pi, false);
	}
	if (!model_owner(address, &owner) || !model_death(model, address, pi, false))
		return false;
	if (owner == model->tid)
		model->held_left--;
	else
		--*limit;
	return true;
}

static inline void model_walk(struct walk_model *model, enum list_kind kind, __u64 head)
{
	/*
	 * Counts all entries of a list of set_robust_list(), foreign entries of any
	 * other list
	 */
	unsigned int limit = ROBUST_LIST_LIMIT;
	__u64 entry, pending, futex_offset, next = 0;
	unsigned int size = size_of(kind);
	bool pi, pending_pi, have_next;

	if (!head)
		return;
	if (!model_read(head, size, &entry) ||
	    !model_read(head + size, size, &futex_offset) ||
	    !model_read(head + 2 * size, size, &pending))
		return;
	pi = entry & 1;
	entry &= ~1ULL;
	pending_pi = pending & 1;
	pending &= ~1ULL;

	while (entry != head && limit && (is_legacy(kind) || model->held_left)) {
		have_next = model_read(entry, size, &next);
		if (!model_entry(model, kind, cut_address(kind, entry + futex_offset), pi,
				 entry == pending, &limit))
			return;
		if (!have_next)
			return;
		entry = next & ~1ULL;
		pi = next & 1;
	}
	if (pending)
		model_death(model, cut_address(kind, pending + futex_offset), pending_pi, true);
}

#endif
