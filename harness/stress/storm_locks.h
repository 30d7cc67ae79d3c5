/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Robust locks as a C library has them, on several lists of a thread: each lock
 * can be in any list, of any width, of the thread that has it.
 */
#ifndef STORM_LOCKS_H
#define STORM_LOCKS_H

#include "fuzz.h"

/* set_robust_list() and two of each width, or four of the only one */
#define LISTS		5

struct lock {
	/* A pointer of either width */
	__u64	next;
	atomic_uint	word;
	/* Who says that it has the lock; not for the kernel */
	atomic_uint	holder;
};

union head {
	struct {
		__u64	next;
		__s64		futex_offset;
		__u64	pending;
	} h64;
	struct {
		__u32	next;
		__s32		futex_offset;
		__u32	pending;
	} h32;
};

/* What a thread needs to take locks. The kernel reads the heads when it dies. */
struct locker {
	union head	head[LISTS];
	__u32	tid;
	/* Is it to survive? Then something is wrong if it does not get a lock. */
	bool		survivor;
	struct rng	rng;
};

static inline bool list_is_64bit(unsigned int list)
{
	return sizeof(long) == 8 && list < 3;
}

static inline __u64 load_pointer(unsigned int list, const void *at)
{
	return list_is_64bit(list) ? __atomic_load_n((const __u64 *)at, __ATOMIC_RELAXED) :
				     __atomic_load_n((const __u32 *)at, __ATOMIC_RELAXED);
}

/*
 * The kernel may look after each instruction, and sees what the thread itself sees:
 * only the compiler has to be kept from changing the order.
 */
static inline void store_pointer(unsigned int list, void *at, __u64 value)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (list_is_64bit(list))
		__atomic_store_n((__u64 *)at, value, __ATOMIC_RELAXED);
	else
		__atomic_store_n((__u32 *)at, value, __ATOMIC_RELAXED);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void *pending_of(struct locker *locker, unsigned int list)
{
	union head *head = &locker->head[list];

	return list_is_64bit(list) ? (void *)&head->h64.pending : (void *)&head->h32.pending;
}

static inline void set_pending(struct locker *locker, unsigned int list, struct lock *lock)
{
	store_pointer(list, pending_of(locker, list), (uintptr_t)lock);
}

/* A list's first pointer is at the beginning of the head, whatever its width. */
static inline void link_lock(struct locker *locker, unsigned int list, struct lock *lock)
{
	store_pointer(list, &lock->next, load_pointer(list, &locker->head[list]));
	store_pointer(list, &locker->head[list], (uintptr_t)lock);
}

static inline void unlink_lock(struct locker *locker, unsigned int list, struct lock *lock)
{
	void *at = &locker->head[list];

	while (load_pointer(list, at) != (uintptr_t)lock)
		at = (void *)(uintptr_t)load_pointer(list, at);
	store_pointer(list, at, load_pointer(list, &lock->next));
}

static inline void register_lists(struct locker *locker)
{
	const __s64 offset = offsetof(struct lock, word);

	locker->tid = own_tid();
	for (int i = 0; i < LISTS; i++) {
		union head *head = &locker->head[i];

		memset(head, 0, sizeof(*head));
		store_pointer(i, head, (uintptr_t)head);
		if (list_is_64bit(i))
			head->h64.futex_offset = offset;
		else
			head->h32.futex_offset = offset;
		if (!i)
			must(!syscall(SYS_set_robust_list, head, 3 * sizeof(long)));
		else
			must(syscall(__NR_set_robust_list2, head, ROBUST_LIST_NEW,
				     list_is_64bit(i) ? ROBUST_LIST_64BIT :
							ROBUST_LIST_32BIT) == i - 1);
	}
}

enum lock_result { LOCKED, LOCKED_FROM_DEAD, LOCK_HANGS, LOCK_BROKEN };

/* Something is wrong when a survivor waits for a lock for so long. */
#define LOCK_SECONDS	120

static inline enum lock_result take_lock(struct locker *locker, unsigned int list,
					 struct lock *lock)
{
	__u32 word, wanted, waiters = 0;

	set_pending(locker, list, lock);
	for (;;) {
		word = atomic_load(&lock->word);
		if (!(word & FUTEX_TID_MASK)) {
			wanted = locker->tid | (word & FUTEX_WAITERS) | waiters;
			if (atomic_compare_exchange_strong(&lock->word, &word, wanted))
				break;
			continue;
		}
		/* Only a dead owner is marked, and whoever comes next takes the mark away. */
		if (word & FUTEX_OWNER_DIED)
			return LOCK_BROKEN;
		wanted = word | FUTEX_WAITERS;
		if (word != wanted && !atomic_compare_exchange_strong(&lock->word, &word, wanted))
			continue;
		if (futex_wait(&lock->word, wanted, LOCK_SECONDS) == -ETIMEDOUT &&
		    locker->survivor)
			return LOCK_HANGS;
		/* The thread that woke this one did not see whether there are others. */
		waiters = FUTEX_WAITERS;
	}
	link_lock(locker, list, lock);
	set_pending(locker, list, NULL);
	return word & FUTEX_OWNER_DIED ? LOCKED_FROM_DEAD : LOCKED;
}

/* Returns whether the lock was still the thread's own. */
static inline bool release_lock(struct locker *locker, unsigned int list, struct lock *lock)
{
	int op = FUTEX_WAKE | FUTEX_ROBUST_UNLOCK |
		 (list_is_64bit(list) ? 0 : FUTEX_ROBUST_LIST32);
	__u32 word;

	set_pending(locker, list, lock);
	unlink_lock(locker, list, lock);
	word = locker->tid;
	if (once_in(&locker->rng, 3)) {
		/* The kernel does all of it, if there is a waiter. */
		if (!atomic_compare_exchange_strong(&lock->word, &word, 0))
			syscall(SYS_futex, &lock->word, op, 1, NULL, pending_of(locker, list), 0);
	} else {
		word = atomic_exchange(&lock->word, 0);
		if (word & FUTEX_WAITERS)
			futex_wake(&lock->word, 1);
	}
	set_pending(locker, list, NULL);
	return (word & ~FUTEX_WAITERS) == locker->tid;
}

#endif
