/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of the lists of one thread: results and effects of each call, by the contract
 * and not by the kernel code
 */
#ifndef TABLE_MODEL_H
#define TABLE_MODEL_H

#include "fuzz.h"

#define SLOTS	LISTS_PER_TASK

/* The registration of a slot as get_robust_list2() returns it */
struct registration {
	__u64	head;
	__u32	used;
	__u32	type;
};

static inline bool same_registration(struct registration a, struct registration b)
{
	return a.used == b.used && a.head == b.head && a.type == b.type;
}

/* The arguments as the kernel takes them from the registers */
struct set_call {
	__u64	head;
	__s32		index;
	__u32	flags;
	/* Whether the calling convention has 64-bit pointers */
	bool		is_64bit;
};

/* The result, and the index of the slot that changes, or -1 */
struct prediction {
	long			result;
	int			slot;
	struct registration	becomes;
};

static inline bool valid_index(__s32 index)
{
	return index >= 0 && index < SLOTS;
}

static inline bool valid_head(__u64 head, __u32 type)
{
	if (type == ROBUST_LIST_64BIT)
		return head % 8 == 0;
	return head % 4 == 0 &&
	       head <= 0x100000000ULL - sizeof(struct robust_list_head32);
}

static inline struct prediction predict_set(const struct registration *slots,
					    const struct set_call *call)
{
	const __u32 known = ROBUST_LIST_TYPE_MASK | ROBUST_LIST_UNREGISTER |
			       ROBUST_LIST_QUERY_MAX | ROBUST_LIST_RELEASE;
	const __u32 operation = call->flags & ~ROBUST_LIST_TYPE_MASK;
	__u32 type = call->flags & ROBUST_LIST_TYPE_MASK;
	struct prediction p = { .result = -EINVAL, .slot = -1 };
	int slot;

	if (call->flags & ~known)
		return p;

	/* At most one operation */
	if (operation & (operation - 1))
		return p;

	if (call->flags & ROBUST_LIST_QUERY_MAX) {
		if (call->flags == ROBUST_LIST_QUERY_MAX && !call->head &&
		    call->index == ROBUST_LIST_NEW)
			p.result = SLOTS;
		return p;
	}

	if (call->flags & (ROBUST_LIST_UNREGISTER | ROBUST_LIST_RELEASE)) {
		if (call->head || !valid_index(call->index))
			return p;
		p.result = -ENOENT;
		if (slots[call->index].used) {
			p.result = call->index;
			p.slot = call->index;
		}
		return p;
	}

	if (type == ROBUST_LIST_64BIT && !call->is_64bit)
		return p;
	if (!valid_head(call->head, type))
		return p;

	if (call->index == ROBUST_LIST_NEW) {
		if (!call->head)
			return p;
		for (slot = 0; slot < SLOTS && slots[slot].used; slot++)
			;
		p.result = -ENOSPC;
		if (slot == SLOTS)
			return p;
	} else {
		if (!valid_index(call->index))
			return p;
		slot = call->index;
		p.result = -ENOENT;
		if (!slots[slot].used)
			return p;
	}
	p.result = slot;
	p.slot = slot;
	p.becomes = (struct registration){ .head = call->head, .used = 1, .type = type };
	return p;
}

/*
 * Returns the result of get_robust_list2() for this slot of a thread that exists and
 * may be read.
 */
static inline long predict_get(struct registration slot, bool writable)
{
	if (!slot.used)
		return -ENOENT;
	return writable ? (long)slot.type : -EFAULT;
}

#endif
