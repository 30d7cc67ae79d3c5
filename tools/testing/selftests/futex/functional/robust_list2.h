/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls for robust lists, and lists of both pointer widths */

#ifndef _ROBUST_LIST2_H
#define _ROBUST_LIST2_H

#include "futextest.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if __SIZEOF_LONG__ == 8
# define BUILD_64
#endif

/*
 * Limits that the kernel does not export: registered lists per thread, and held entries
 * per exit
 */
#define LISTS_PER_TASK	10
#define HELD_LIMIT	1048576

static inline long set_robust_list2(const void *head, int index, unsigned int flags)
{
	return syscall(__NR_set_robust_list2, head, index, flags);
}

static inline long get_robust_list2(int pid, void *head, int index, unsigned int flags)
{
	return syscall(__NR_get_robust_list2, pid, head, index, flags);
}

static inline long release_list(int index)
{
	return set_robust_list2(NULL, index, ROBUST_LIST_RELEASE);
}

static inline int lists_per_thread(void)
{
	return set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
}

static inline bool have_syscall(void)
{
	return lists_per_thread() != -1 || errno != ENOSYS;
}

/* Returns whether the thread exists and has no list. */
static inline bool has_no_lists(int pid)
{
	const int lists = lists_per_thread();
	uint64_t head;
	int none = 0;

	while (none < lists && get_robust_list2(pid, &head, none, 0) == -1 && errno == ENOENT)
		none++;
	return none > 0 && none == lists;
}

static inline long set_legacy_list(const void *head)
{
	return syscall(SYS_set_robust_list, head, sizeof(struct robust_list_head));
}

/* Entry points of i386 and x32 programs, for calls from x86-64 programs */
#ifdef __x86_64__
static inline long int80(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	long ret = nr;

	/* int $0x80 does not preserve r8 to r11. */
	asm volatile("int $0x80" : "+a" (ret) : "b" (a), "c" (b), "d" (c), "S" (d)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#else
static inline long int80(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	(void)nr, (void)a, (void)b, (void)c, (void)d;
	return -ENOSYS;
}
#endif

#ifndef __X32_SYSCALL_BIT
# define __X32_SYSCALL_BIT	0x40000000
#endif

static inline uint32_t gettid32(void)
{
	return syscall(SYS_gettid);
}

/* Returns the number of woken waiters. */
static inline long wake(atomic_uint *word, int count)
{
	return futex(word, FUTEX_WAKE, count, NULL, NULL, 0, 0);
}

static inline long wait_while(atomic_uint *word, uint32_t value, const struct timespec *timeout)
{
	return futex(word, FUTEX_WAIT, value, timeout, NULL, 0, 0);
}

/* Waits until another thread sets the word. */
static inline void wait_for_word(atomic_uint *word)
{
	while (!atomic_load(word))
		wait_while(word, 0, NULL);
}

static inline void set_word(atomic_uint *word)
{
	atomic_store(word, 1);
	wake(word, INT_MAX);
}

/* No private futex: lists and PI futexes are in shared memory. */
static inline long lock_pi(atomic_uint *word, const struct timespec *timeout)
{
	return futex(word, FUTEX_LOCK_PI, 0, timeout, NULL, 0, 0);
}

static inline long trylock_pi(atomic_uint *word)
{
	return futex(word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0, 0);
}

static inline long unlock_pi(atomic_uint *word)
{
	return futex(word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0, 0);
}

static inline long wait_requeue_pi(atomic_uint *cond, const struct timespec *timeout,
				   atomic_uint *pi)
{
	return futex(cond, FUTEX_WAIT_REQUEUE_PI, atomic_load(cond), timeout, pi, 0, 0);
}

static inline long requeue_pi(atomic_uint *cond, atomic_uint *pi)
{
	return futex(cond, FUTEX_CMP_REQUEUE_PI, 1, (long)INT_MAX, pi, 0, 0);
}

static inline bool have_pi(void)
{
	atomic_uint word = 0;

	return unlock_pi(&word) != -1 || errno != ENOSYS;
}

/* An entry with a pointer of either width, and its futex word */
struct lock {
	uint64_t		next;
	atomic_uint		futex;
	/* Only for the test: the TID of the holder */
	atomic_uint		holder;
};

struct head64 {
	uint64_t	next;
	int64_t		futex_offset;
	uint64_t	list_op_pending;
};

union head {
	struct head64			h64;
	struct robust_list_head32	h32;
};

/* Returns the type of the list that set_robust_list() takes. */
static inline unsigned int native_type(void)
{
	return sizeof(long) == 8 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

static inline size_t pointer_size(unsigned int type)
{
	return type == ROBUST_LIST_32BIT ? 4 : 8;
}

/*
 * Stores a pointer in the width of the list type. The thread may die after any
 * instruction, so the compiler must not move the store.
 */
static inline void store_pointer(unsigned int type, void *at, const void *to, unsigned int modifier)
{
	uint64_t value = (uintptr_t)to | modifier;

	atomic_signal_fence(memory_order_seq_cst);
	if (type == ROBUST_LIST_32BIT)
		*(uint32_t *)at = value;
	else
		*(uint64_t *)at = value;
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void set_offset(unsigned int type, union head *head, long offset)
{
	if (type == ROBUST_LIST_32BIT)
		head->h32.futex_offset = offset;
	else
		head->h64.futex_offset = offset;
}

static inline void *pending_of(unsigned int type, union head *head)
{
	return type == ROBUST_LIST_32BIT ? (void *)&head->h32.list_op_pending :
					   (void *)&head->h64.list_op_pending;
}

static inline void set_pending(unsigned int type, union head *head, const void *lock)
{
	store_pointer(type, pending_of(type, head), lock, 0);
}

/* Links the first n locks into a list, all unowned. */
static inline void make_list(unsigned int type, union head *head, struct lock *lock, int n)
{
	void *from = head;

	memset(head, 0, sizeof(*head));
	set_offset(type, head, offsetof(struct lock, futex));
	for (int i = 0; i < n; i++) {
		store_pointer(type, from, &lock[i], 0);
		from = &lock[i];
	}
	store_pointer(type, from, head, 0);
}

/* Links the first n locks into a list of PI entries. */
static inline void make_pi_list(unsigned int type, union head *head, struct lock *lock, int n)
{
	void *from = head;

	make_list(type, head, lock, n);
	for (int i = 0; i < n; i++) {
		store_pointer(type, from, &lock[i], FUTEX_ROBUST_MOD_PI);
		from = &lock[i];
	}
}

static inline void store_words(struct lock *lock, int n, uint32_t word)
{
	for (int i = 0; i < n; i++)
		atomic_store(&lock[i].futex, word);
}

/* The calling thread takes the first n locks. */
static inline void take_locks(struct lock *lock, int n)
{
	store_words(lock, n, gettid32());
}

/* The calling thread registers a list of n locks and holds all of them. */
static inline long hold_list(unsigned int type, union head *head, struct lock *lock, int n)
{
	make_list(type, head, lock, n);
	take_locks(lock, n);
	return set_robust_list2(head, ROBUST_LIST_NEW, type);
}

/* Returns how many of the first n futex words have this value. */
static inline int count_futexes(struct lock *lock, int n, uint32_t word)
{
	int count = 0;

	for (int i = 0; i < n; i++)
		count += atomic_load(&lock[i].futex) == word;
	return count;
}

/* Returns how many of the first n futex words are exactly FUTEX_OWNER_DIED. */
static inline int count_died(struct lock *lock, int n)
{
	return count_futexes(lock, n, FUTEX_OWNER_DIED);
}

#endif
