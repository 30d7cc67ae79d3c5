/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Robust locks as in a C library, on several lists per thread. The owner of a lock may
 * put it on any of its lists, of either width.
 */
#ifndef STORM_LOCKS_H
#define STORM_LOCKS_H

#include "fuzz.h"

/* set_robust_list() and two lists of each width, or four of the only width */
#define LISTS		5

/* The state of a thread for its locks. The kernel reads the heads at exit. */
struct locker {
	union head	head[LISTS];
	__u32	tid;
	/* A survivor must get every lock. */
	bool		survivor;
	struct rng	rng;
};

static inline unsigned int type_of(unsigned int list)
{
	return sizeof(long) == 8 && list < 3 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

static inline void *load_pointer(unsigned int list, const void *at)
{
	return type_of(list) == ROBUST_LIST_64BIT ?
	       (void *)(uintptr_t)__atomic_load_n((const __u64 *)at, __ATOMIC_RELAXED) :
	       (void *)(uintptr_t)__atomic_load_n((const __u32 *)at, __ATOMIC_RELAXED);
}

static inline void set_locker_pending(struct locker *locker, unsigned int list, struct lock *lock)
{
	set_pending(type_of(list), &locker->head[list], lock);
}

/* The first pointer is at the start of the head in either width. */
static inline void link_lock(struct locker *locker, unsigned int list, struct lock *lock)
{
	store_pointer(type_of(list), &lock->next, load_pointer(list, &locker->head[list]), 0);
	store_pointer(type_of(list), &locker->head[list], lock, 0);
}

static inline void unlink_lock(struct locker *locker, unsigned int list, struct lock *lock)
{
	void *at = &locker->head[list];

	while (load_pointer(list, at) != lock)
		at = load_pointer(list, at);
	store_pointer(type_of(list), at, load_pointer(list, &lock->next), 0);
}

static inline void register_lists(struct locker *locker)
{
	locker->tid = gettid32();
	for (int i = 0; i < LISTS; i++) {
		union head *head = &locker->head[i];

		make_list(type_of(i), head, NULL, 0);
		if (!i)
			must(!set_legacy_list(head));
		else
			must(set_robust_list2(head, ROBUST_LIST_NEW, type_of(i)) == i - 1);
	}
}

enum lock_result { LOCKED, LOCKED_FROM_DEAD, LOCK_HANGS, LOCK_BROKEN };

/* Seconds after which a survivor that waits counts as hanging */
#define LOCK_SECONDS	120

static inline enum lock_result take_lock(struct locker *locker, unsigned int list,
					 struct lock *lock)
{
	__u32 word, wanted, waiters = 0;

	set_locker_pending(locker, list, lock);
	for (;;) {
		word = atomic_load(&lock->futex);
		if (!(word & FUTEX_TID_MASK)) {
			wanted = locker->tid | (word & FUTEX_WAITERS) | waiters;
			if (atomic_compare_exchange_strong(&lock->futex, &word, wanted))
				break;
			continue;
		}
		/* Only locks of dead owners are marked, and the next owner clears the mark. */
		if (word & FUTEX_OWNER_DIED)
			return LOCK_BROKEN;
		wanted = word | FUTEX_WAITERS;
		if (word != wanted && !atomic_compare_exchange_strong(&lock->futex, &word, wanted))
			continue;
		if (wait_seconds(&lock->futex, wanted, LOCK_SECONDS) == -ETIMEDOUT &&
		    locker->survivor)
			return LOCK_HANGS;
		/* The waker does not know whether there are more waiters. */
		waiters = FUTEX_WAITERS;
	}
	link_lock(locker, list, lock);
	set_locker_pending(locker, list, NULL);
	return word & FUTEX_OWNER_DIED ? LOCKED_FROM_DEAD : LOCKED;
}

/* Returns whether the lock was still owned by the thread. */
static inline bool release_lock(struct locker *locker, unsigned int list, struct lock *lock)
{
	int op = FUTEX_WAKE | FUTEX_ROBUST_UNLOCK |
		 (type_of(list) == ROBUST_LIST_64BIT ? 0 : FUTEX_ROBUST_LIST32);
	__u32 word;

	set_locker_pending(locker, list, lock);
	unlink_lock(locker, list, lock);
	word = locker->tid;
	if (once_in(&locker->rng, 3)) {
		/* The kernel unlocks if there is a waiter. */
		if (!atomic_compare_exchange_strong(&lock->futex, &word, 0))
			syscall(SYS_futex, &lock->futex, op, 1, NULL,
				pending_of(type_of(list), &locker->head[list]), 0);
	} else {
		word = atomic_exchange(&lock->futex, 0);
		if (word & FUTEX_WAITERS)
			wake(&lock->futex, 1);
	}
	set_locker_pending(locker, list, NULL);
	return (word & ~FUTEX_WAITERS) == locker->tid;
}

#endif
