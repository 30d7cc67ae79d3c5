/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the tests of set_robust_list2(): lists in shared memory, victims that hold
 * locks, and waiters.
 */

#ifndef _ROBUST_LIST2_TEST_H
#define _ROBUST_LIST2_TEST_H

#include "robust_list2.h"
#include "robust_list2_victim.h"

#include "futex_thread.h"
#include "kselftest_harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

/* A waiter fails its test if nobody wakes it within this many seconds. */
#define WAIT_SECONDS	20

#define LOCKS_PER_LIST	16
/* More than ROBUST_LIST_LIMIT, which is 2048 */
#define MANY_LOCKS	5000

/* Room for the lists of a test. The kernel reports how many a thread can register. */
#define MAX_LISTS	32

/*
 * Test memory is below 4 GiB for 32-bit lists, and above the first GiB, where a static
 * program may have its heap.
 */
#define AREA_ADDRESS	0x60000000UL
/* One or two pages for a test, and memory for many locks */
#define PAGE_ADDRESS	(AREA_ADDRESS + 0x1000000UL)
#define LOCKS_ADDRESS	(AREA_ADDRESS + 0x10000000UL)

struct list {
	union head	head;
	struct lock	lock[LOCKS_PER_LIST];
};

struct area {
	struct list	list[MAX_LISTS + 1];
	union head	many_head;
	struct lock	many[MANY_LOCKS];
	/* Messages between processes */
	atomic_uint	go, stop, seen, tid[4];
	/* A word that nothing may change */
	atomic_uint	guard;
};

static inline void start_victim(struct __test_metadata *_metadata, struct victim *victim,
				victim_fn *fn)
{
	int line = fork_victim(victim, fn);

	ASSERT_EQ(0, line) {
		TH_LOG("the other process failed in line %d", line);
	}
}

static inline void kill_victim(struct __test_metadata *_metadata, struct victim *victim)
{
	int status;

	ASSERT_EQ(0, kill(victim->pid, SIGKILL));
	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
}

static inline void run_victim(struct __test_metadata *_metadata, struct victim *victim,
			      victim_fn *fn)
{
	start_victim(_metadata, victim, fn);
	kill_victim(_metadata, victim);
}

/* Registers a list and takes all of its locks. */
static inline int hold_locks(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST) == 0);
	return 0;
}

/* Takes three PI locks: the first victim->arg of them are on the list, the next is pending. */
static inline int hold_pi_locks(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_pi_list(victim->type, &list->head, list->lock, victim->arg);
	store_pointer(victim->type, pending_of(victim->type, &list->head),
		      &list->lock[victim->arg], FUTEX_ROBUST_MOD_PI);
	for (int i = 0; i < 3; i++)
		CHECK(!lock_pi(&list->lock[i].futex, NULL));
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

/* Registers as many lists as possible: list n has n % LOCKS_PER_LIST locks. */
static inline int hold_all_lists(struct victim *victim)
{
	int lists = lists_per_thread();

	for (int i = 0; i < lists; i++) {
		struct list *list = &victim->area->list[i];
		/*
		 * Alternates the types if both exist. The last of ten lists is a 32-bit
		 * list.
		 */
		unsigned int type = i & 1 ? ROBUST_LIST_32BIT : victim->type;

		CHECK(hold_list(type, &list->head, list->lock, i % LOCKS_PER_LIST) == i);
	}
	return 0;
}

/* Takes three locks: two on the list, and one pending. */
static inline int hold_pending(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list->head, list->lock, 2) == 0);
	take_locks(&list->lock[2], 1);
	set_pending(victim->type, &list->head, &list->lock[victim->arg]);
	return 0;
}

/* A thread that waits for a lock until the owner unlocks it or dies */
struct waiter {
	struct futex_thread	thread;
	atomic_uint		*futex;
	atomic_bool		waits, returned;
	bool			woken;
};

static inline int wait_for_lock(void *arg)
{
	struct timespec timeout = { .tv_sec = WAIT_SECONDS };
	struct waiter *waiter = arg;
	uint32_t word = atomic_fetch_or(waiter->futex, FUTEX_WAITERS) | FUTEX_WAITERS;

	atomic_store(&waiter->waits, true);
	waiter->woken = !wait_while(waiter->futex, word, &timeout);
	atomic_store(&waiter->returned, true);
	return 0;
}

/* Returns when the waiter sleeps, which it does only in futex(). */
static inline void start_waiter(struct __test_metadata *_metadata, struct waiter *waiter,
				atomic_uint *futex)
{
	waiter->futex = futex;
	atomic_store(&waiter->waits, false);
	atomic_store(&waiter->returned, false);
	ASSERT_EQ(0, futex_thread_create(&waiter->thread, wait_for_lock, waiter));
	while (!atomic_load(&waiter->waits) || thread_state(waiter->thread.tid) != 'S') {
		ASSERT_FALSE(atomic_load(&waiter->returned));
		sched_yield();
	}
}

static inline bool finish_waiter(struct waiter *waiter)
{
	futex_thread_destroy(&waiter->thread);
	return waiter->woken;
}

/* Waits for a PI lock. */
static inline int wait_for_pi(void *arg)
{
	return lock_pi(arg, NULL) ? errno : 0;
}

/* The walk has woken exactly one of the two waiters for this lock. */
static inline void expect_one_woken(struct __test_metadata *_metadata, struct waiter waiter[2],
				    struct lock *lock)
{
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock->futex));
	EXPECT_EQ(1, wake(&lock->futex, INT_MAX));
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(finish_waiter(&waiter[i]));
}

static inline void *map_shared(struct __test_metadata *_metadata, unsigned long address,
			       size_t size)
{
	void *memory;

	memory = mmap((void *)address, size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_EQ(address, (unsigned long)memory);
	return memory;
}

/* Maps private memory, or fails. */
static inline void *map_private(unsigned long address, size_t size)
{
	void *memory = mmap((void *)address, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return memory == (void *)address ? memory : NULL;
}

#define AREA_GUARD	0x12345678

static inline struct area *map_area(struct __test_metadata *_metadata)
{
	struct area *area = map_shared(_metadata, AREA_ADDRESS, sizeof(*area));

	ASSERT_GE(MAX_LISTS, lists_per_thread());
	atomic_store(&area->guard, AREA_GUARD);
	return area;
}

static inline void unmap_area(struct __test_metadata *_metadata, struct area *area)
{
	if (!area)
		return;
	EXPECT_EQ(AREA_GUARD, atomic_load(&area->guard));
	munmap(area, sizeof(*area));
}

/* Expects this registration, or this error, at the index. */
#define EXPECT_LIST(index, head, type)					\
	do {								\
		uint64_t __head = ~0ULL;				\
									\
		EXPECT_EQ((long)(type), get_robust_list2(0, &__head, (index), 0)); \
		EXPECT_EQ((uint64_t)(uintptr_t)(head), __head);		\
	} while (0)

#define EXPECT_NO_LIST(index)						\
	do {								\
		uint64_t __head = ~0ULL;				\
									\
		EXPECT_EQ(-1, get_robust_list2(0, &__head, (index), 0));	\
		EXPECT_EQ(ENOENT, errno);				\
		EXPECT_EQ(~0ULL, __head);				\
	} while (0)

#define EXPECT_SET_ERROR(error, head, index, flags)			\
	do {								\
		void *__head = (void *)(uintptr_t)(head);		\
		unsigned int __flags = (flags);				\
		int __index = (index);					\
									\
		errno = 0;						\
		EXPECT_EQ(-1, set_robust_list2(__head, __index, __flags)) { \
			TH_LOG("head %p index %d flags %#x", __head, __index, __flags); \
		}							\
		EXPECT_EQ((error), errno);				\
	} while (0)

/*
 * Puts the test and its children on one CPU, and gives the test a real-time priority,
 * so that children run only while the test sleeps. Returns false without permission.
 */
static inline bool pin_to_one_cpu(struct __test_metadata *_metadata, int priority)
{
	struct sched_param param = { .sched_priority = priority };
	cpu_set_t one;
	int cpu;

	cpu = sched_getcpu();
	ASSERT_NE(-1, cpu);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	return !sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
}

/* Sleeps for a short time, so that all other threads run. */
static inline void nap(void)
{
	const struct timespec time = { .tv_nsec = 50000 };

	nanosleep(&time, NULL);
}

#endif
