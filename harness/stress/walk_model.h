/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of what happens to the futexes of a thread that exits: the walk over a
 * list of each kind, and what is done for a futex. It works on the image "after".
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

static inline unsigned int pointer_size(enum list_kind kind)
{
	switch (kind) {
	case LEGACY:
		return sizeof(long);
	case BITS64:
		return 8;
	default:
		return 4;
	}
}

/* Addresses at which a waiter is to be woken, once for each time */
#define MAX_WAKES	8192

struct walk_model {
	__u32	tid;
	unsigned int	marked, wakes;
	__u64	woken[MAX_WAKES];
	/*
	 * Marking a futex has changed a pointer, and a list came back to where it had
	 * been. How often the kernel goes around a circle is its own affair, so what
	 * happens after the first time is not known.
	 */
	bool		unclear;
	/* The list that is walked has a pointer that is a futex word at the same time. */
	bool		pointer_changed;
	__u32	list;
	/* Per two bytes of the images: the list that was last seen to have an entry here */
	__u32	*visited;
	/* The same: the case that has a pointer of a list here, and which one this is */
	__u32	*pointer, number;
};

static inline __u64 cut_address(enum list_kind kind, __u64 address)
{
	return pointer_size(kind) == 4 ? (__u32)address : address;
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
	if (model->pointer[offset / 2] == model->number ||
	    model->pointer[offset / 2 + 1] == model->number)
		model->pointer_changed = true;
	if (!pi && (word & FUTEX_WAITERS))
		model_wake(model, address);
	return true;
}

static inline void model_walk(struct walk_model *model, enum list_kind kind, __u64 head)
{
	unsigned int size = pointer_size(kind), limit;
	__u64 entry, pending, futex_offset, next = 0;
	bool pi, pending_pi, have_next;

	if (!head)
		return;
	if (!model_read(head, size, &entry) ||
	    !model_read(head + size, size, &futex_offset) ||
	    !model_read(head + 2 * size, size, &pending))
		return;
	limit = is_legacy(kind) ? ROBUST_LIST_LIMIT : ROBUST_LIST2_LIMIT;
	pi = entry & 1;
	entry &= ~1ULL;
	pending_pi = pending & 1;
	pending &= ~1ULL;
	model->list++;
	model->pointer_changed = false;

	while (entry != head && limit--) {
		size_t offset;

		if (!is_legacy(kind) && find_image(entry, size, &offset)) {
			if (model->visited[offset / 2] == model->list) {
				model->unclear |= model->pointer_changed;
				break;
			}
			model->visited[offset / 2] = model->list;
		}
		have_next = model_read(entry, size, &next);
		if (entry != pending &&
		    !model_death(model, cut_address(kind, entry + futex_offset), pi, false))
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
