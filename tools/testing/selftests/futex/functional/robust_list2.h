/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the tests of set_robust_list2(): the calls, lists of both widths in shared
 * memory, processes that die, and threads that wait.
 */

#ifndef _ROBUST_LIST2_H
#define _ROBUST_LIST2_H

#include "futextest.h"
#include "futex_thread.h"
#include "kselftest_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if __SIZEOF_LONG__ == 8
# define BUILD_64
#endif

/* A waiter that nobody wakes fails its test after this many seconds. */
#define WAIT_SECONDS	20

#define LOCKS_PER_LIST	16
/* More than ROBUST_LIST_LIMIT, which is 2048 */
#define MANY_LOCKS	5000

/* Room for the lists of a test. The kernel says how many a thread can register. */
#define MAX_LISTS	32

/*
 * The memory of a test is below 4 GiB for 32-bit lists, and above the first GiB,
 * where a static program may have its heap.
 */
#define AREA_ADDRESS	0x60000000UL
#define LOCKS_ADDRESS	(AREA_ADDRESS + 0x10000000UL)

static inline long set_robust_list2(void *head, int index, unsigned int flags)
{
	return syscall(__NR_set_robust_list2, head, index, flags);
}

static inline long get_robust_list2(int pid, uint64_t *head, int index, unsigned int flags)
{
	return syscall(__NR_get_robust_list2, pid, head, index, flags);
}

static inline int lists_per_thread(void)
{
	return set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
}

/* A pointer of either width, and the futex word behind it. */
struct lock {
	uint64_t		next;
	atomic_uint		futex;
	uint32_t		unused;
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
	/* The only word that a test may not touch */
	atomic_uint	guard;
};

static inline uint32_t gettid32(void)
{
	return syscall(SYS_gettid);
}

/* Returns the type of the list that set_robust_list() takes. */
static inline unsigned int native_type(void)
{
	return sizeof(long) == 8 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

/* Stores a pointer in the width of this list type. */
static inline void store_pointer(unsigned int type, void *at, const void *to, unsigned int modifier)
{
	uint64_t value = (uintptr_t)to | modifier;

	if (type == ROBUST_LIST_32BIT)
		*(uint32_t *)at = value;
	else
		*(uint64_t *)at = value;
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

/* Makes a list of the first n of these locks. Nobody owns them. */
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

/* Takes the first n of these locks for the calling thread. */
static inline void take_locks(struct lock *lock, int n)
{
	uint32_t tid = gettid32();

	for (int i = 0; i < n; i++)
		atomic_store(&lock[i].futex, tid);
}

/* Returns how many of the first n futex words are FUTEX_OWNER_DIED and nothing else. */
static inline int count_died(struct lock *lock, int n)
{
	int died = 0;

	for (int i = 0; i < n; i++)
		died += atomic_load(&lock[i].futex) == FUTEX_OWNER_DIED;
	return died;
}

/*
 * A check in a process that is going to die. It fails with the number of its line,
 * which the test reads from a pipe.
 */
#define CHECK(condition)			\
	do {					\
		if (!(condition))		\
			return __LINE__;	\
	} while (0)

struct victim {
	struct area	*area;
	unsigned int	type;
	int		arg;
	/* The last action of the process, instead of waiting for its death */
	void		(*then)(struct victim *victim);
	pid_t		pid;
};

typedef int (victim_fn)(struct victim *victim);

/*
 * Kills the child when the test dies. A change of credentials clears this, and new
 * threads do not inherit it.
 */
static inline void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static inline pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid)
		die_with(parent);
	return pid;
}

/* Starts a process that runs fn and then waits for its death. */
static inline void start_victim(struct __test_metadata *_metadata, struct victim *victim,
				victim_fn *fn)
{
	int fd[2], line = -1;

	ASSERT_EQ(0, pipe2(fd, O_CLOEXEC));
	victim->pid = fork_child();
	ASSERT_NE(-1, victim->pid);
	if (!victim->pid) {
		line = fn(victim);
		if (write(fd[1], &line, sizeof(line)) != sizeof(line) || line)
			_exit(1);
		if (victim->then)
			victim->then(victim);
		for (;;)
			pause();
	}
	close(fd[1]);
	ASSERT_EQ(sizeof(line), read(fd[0], &line, sizeof(line)));
	close(fd[0]);
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

	make_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST);
	take_locks(list->lock, LOCKS_PER_LIST);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

/* Registers as many lists as possible: list n has n % LOCKS_PER_LIST locks. */
static inline int hold_all_lists(struct victim *victim)
{
	int lists = lists_per_thread();

	for (int i = 0; i < lists; i++) {
		struct list *list = &victim->area->list[i];
		/* Both types, if both exist. The last one of ten is a 32-bit list. */
		unsigned int type = i & 1 ? ROBUST_LIST_32BIT : victim->type;

		make_list(type, &list->head, list->lock, i % LOCKS_PER_LIST);
		take_locks(list->lock, i % LOCKS_PER_LIST);
		CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, type) == i);
	}
	return 0;
}

/* Reads /proc/PID/stat, or that of a thread, from behind the name in parentheses. */
static inline void read_stat(pid_t pid, pid_t tid, char *line, size_t size)
{
	char name[64], stat[512] = "", *end;
	int fd;

	line[0] = 0;
	snprintf(name, sizeof(name), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return;
	if (read(fd, stat, sizeof(stat) - 1) == -1)
		stat[0] = 0;
	close(fd);
	end = strrchr(stat, ')');
	if (end && end[1])
		snprintf(line, size, "%s", end + 2);
}

/* Returns the state of a thread of this process, a letter. */
static inline char thread_state(pid_t tid)
{
	char stat[512];

	read_stat(getpid(), tid, stat, sizeof(stat));
	return stat[0];
}

/* A thread that waits for a lock until the owner unlocks it or dies. */
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
	waiter->woken = !syscall(SYS_futex, waiter->futex, FUTEX_WAIT, word, &timeout, NULL, 0);
	atomic_store(&waiter->returned, true);
	return 0;
}

/* Returns when the waiter sleeps, which it only does in the futex call. */
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

static inline void *map_shared(struct __test_metadata *_metadata, unsigned long address,
			       size_t size)
{
	void *memory;

	memory = mmap((void *)address, size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_EQ(address, (unsigned long)memory);
	return memory;
}

#define AREA_GUARD	0x12345678

static inline struct area *map_area(struct __test_metadata *_metadata)
{
	struct area *area = map_shared(_metadata, AREA_ADDRESS, sizeof(*area));

	ASSERT_GE(MAX_LISTS, lists_per_thread());
	atomic_store(&area->guard, AREA_GUARD);
	return area;
}

static inline bool have_syscall(void)
{
	return lists_per_thread() != -1 || errno != ENOSYS;
}

static inline bool have_pi(void)
{
	atomic_uint futex = 0;

	return syscall(SYS_futex, &futex, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) != -1 ||
	       errno != ENOSYS;
}

/* The registered list at this index, or an error */
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
static inline bool rule_one_cpu(struct __test_metadata *_metadata, int priority)
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

/* Sleeps for a short time, in which all others run. */
static inline void nap(void)
{
	const struct timespec time = { .tv_nsec = 50000 };

	nanosleep(&time, NULL);
}

#endif
