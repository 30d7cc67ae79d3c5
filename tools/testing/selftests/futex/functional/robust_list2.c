// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of set_robust_list2() and get_robust_list2().
 *
 * Most tests let a process register lists and die, and look at the futex words
 * in memory that they share with it. Each of them runs with 32-bit lists, and in
 * 64-bit programs with 64-bit lists too; built for a 32-bit architecture, the
 * same file tests what such a program gets from a 64-bit kernel.
 *
 * What these tests cannot see: that nothing leaks (kmemleak does), and that
 * readers of another task's lists are safe from its exit (KASAN does, given the
 * traffic of get_dying_thread).
 */

#define _GNU_SOURCE

#include "futextest.h"
#include "futex_thread.h"
#include "kselftest_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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

/* A waiter that nobody wakes makes its test fail after this long. */
#define WAIT_SECONDS	20

#define LOCKS_PER_LIST	16
/* More than ROBUST_LIST_LIMIT of set_robust_list() */
#define MANY_LOCKS	5000

/*
 * Where the memory of a test is: 32-bit lists have to be below 4 GiB. A static
 * program has its heap anywhere in the first one.
 */
#define AREA_ADDRESS	0x60000000UL

static long set_robust_list2(void *head, int index, unsigned int flags)
{
	return syscall(__NR_set_robust_list2, head, index, flags);
}

static long get_robust_list2(int pid, uint64_t *head, int index, unsigned int flags)
{
	return syscall(__NR_get_robust_list2, pid, head, index, flags);
}

/* Room for a pointer of either width, and the futex word behind it. */
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
	struct list	list[ROBUST_LISTS_PER_TASK + 1];
	union head	many_head;
	struct lock	many[MANY_LOCKS];
	/* The only word that a test may not touch */
	atomic_uint	guard;
};

static uint32_t gettid32(void)
{
	return syscall(SYS_gettid);
}

/* Stores a pointer as a list of this type has it. */
static void store_pointer(unsigned int type, void *at, const void *to, unsigned int modifier)
{
	uint64_t value = (uintptr_t)to | modifier;

	if (type == ROBUST_LIST_32BIT)
		*(uint32_t *)at = value;
	else
		*(uint64_t *)at = value;
}

static void set_offset(unsigned int type, union head *head, long offset)
{
	if (type == ROBUST_LIST_32BIT)
		head->h32.futex_offset = offset;
	else
		head->h64.futex_offset = offset;
}

static void set_pending(unsigned int type, union head *head, const void *lock)
{
	if (type == ROBUST_LIST_32BIT)
		store_pointer(type, &head->h32.list_op_pending, lock, 0);
	else
		store_pointer(type, &head->h64.list_op_pending, lock, 0);
}

/* Makes a list of the first n of these locks. Nobody owns them. */
static void make_list(unsigned int type, union head *head, struct lock *lock, int n)
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

/* The calling thread takes the first n of these locks. */
static void take_locks(struct lock *lock, int n)
{
	for (int i = 0; i < n; i++)
		atomic_store(&lock[i].futex, gettid32());
}

/*
 * What a process does that is going to die. A failure is the number of the line
 * that it happened in; it gets to the test through a pipe.
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
	pid_t		pid;
};

typedef int (victim_fn)(struct victim *victim);

/*
 * A fork whose child does not outlive the test. What the kernel remembers for
 * this is lost in a change of credentials and in other threads, see there.
 */
static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid)
		die_with(parent);
	return pid;
}

/* Starts a process that runs fn and then waits for its death. */
static void start_victim(struct __test_metadata *_metadata, struct victim *victim, victim_fn *fn)
{
	int fd[2], line = -1;

	ASSERT_EQ(0, pipe(fd));
	victim->pid = fork_child();
	ASSERT_NE(-1, victim->pid);
	if (!victim->pid) {
		line = fn(victim);
		if (write(fd[1], &line, sizeof(line)) != sizeof(line) || line)
			_exit(1);
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

static void kill_victim(struct __test_metadata *_metadata, struct victim *victim)
{
	int status;

	ASSERT_EQ(0, kill(victim->pid, SIGKILL));
	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
}

static void run_victim(struct __test_metadata *_metadata, struct victim *victim, victim_fn *fn)
{
	start_victim(_metadata, victim, fn);
	kill_victim(_metadata, victim);
}

/* How many of the first n locks say that their owner died, and nothing else. */
static int count_died(struct lock *lock, int n)
{
	int died = 0;

	for (int i = 0; i < n; i++)
		died += atomic_load(&lock[i].futex) == FUTEX_OWNER_DIED;
	return died;
}

/* A thread that waits for a lock until its owner lets go or dies. */
struct waiter {
	struct futex_thread	thread;
	atomic_uint		*futex;
	atomic_bool		waits;
	bool			woken;
};

static int wait_for_lock(void *arg)
{
	struct timespec timeout = { .tv_sec = WAIT_SECONDS };
	struct waiter *waiter = arg;
	uint32_t word = atomic_fetch_or(waiter->futex, FUTEX_WAITERS) | FUTEX_WAITERS;

	atomic_store(&waiter->waits, true);
	waiter->woken = !syscall(SYS_futex, waiter->futex, FUTEX_WAIT, word, &timeout, NULL, 0);
	return 0;
}

/* The state of a thread, as /proc has it behind the name in parentheses. */
static char thread_state(pid_t tid)
{
	char name[64], stat[512] = "", *end;
	int fd;

	snprintf(name, sizeof(name), "/proc/self/task/%d/stat", tid);
	fd = open(name, O_RDONLY);
	if (fd == -1)
		return 0;
	if (read(fd, stat, sizeof(stat) - 1) == -1)
		stat[0] = 0;
	close(fd);
	end = strrchr(stat, ')');
	return end ? end[2] : 0;
}

/* Returns when the waiter sleeps: there is but one place where it can do that. */
static void start_waiter(struct __test_metadata *_metadata, struct waiter *waiter,
			 atomic_uint *futex)
{
	waiter->futex = futex;
	atomic_store(&waiter->waits, false);
	ASSERT_EQ(0, futex_thread_create(&waiter->thread, wait_for_lock, waiter));
	while (!atomic_load(&waiter->waits) || thread_state(waiter->thread.tid) != 'S')
		sched_yield();
}

static bool finish_waiter(struct waiter *waiter)
{
	futex_thread_destroy(&waiter->thread);
	return waiter->woken;
}

static struct area *map_area(struct __test_metadata *_metadata)
{
	struct area *area;

	area = mmap((void *)AREA_ADDRESS, sizeof(*area), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_EQ((void *)AREA_ADDRESS, area);
	atomic_store(&area->guard, 0x12345678);
	return area;
}

static bool have_syscall(void)
{
	return set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) != -1 ||
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
 * Tests that are not about a width
 */
FIXTURE(robust_list2) {
	struct area *area;
};

FIXTURE_SETUP(robust_list2)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	self->area = map_area(_metadata);
}

FIXTURE_TEARDOWN(robust_list2)
{
	if (self->area)
		munmap(self->area, sizeof(*self->area));
}

TEST_F(robust_list2, query_max)
{
	EXPECT_EQ(ROBUST_LISTS_PER_TASK,
		  set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX));
	EXPECT_NO_LIST(0);

	EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
	EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_QUERY_MAX);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX | 1);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW,
			 ROBUST_LIST_QUERY_MAX | ROBUST_LIST_UNREGISTER);
	EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_QUERY_MAX | ROBUST_LIST_UNREGISTER);
}

TEST_F(robust_list2, unknown_flags)
{
	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	for (int bit = 3; bit < 32; bit++) {
		EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, 1U << bit);
		EXPECT_SET_ERROR(EINVAL, &self->area->list[1], 0, 1U << bit);
		EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_UNREGISTER | 1U << bit);
	}
	EXPECT_LIST(0, self->area, ROBUST_LIST_32BIT);
	EXPECT_NO_LIST(1);
}

/* A 32-bit list has its 12 bytes below 4 GiB. */
TEST_F(robust_list2, head_below_4gib)
{
	/* Nobody reads the head before the end. */
	ASSERT_EQ(0, set_robust_list2((void *)0xfffffff4UL, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_LIST(0, 0xfffffff4UL, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, 0xfffffff8UL, 0, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, 0xfffffffcUL, 0, ROBUST_LIST_32BIT);
#ifdef BUILD_64
	EXPECT_SET_ERROR(EINVAL, 0x100000000UL, 0, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, 0x100001000UL, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, -8UL, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	EXPECT_EQ(1, set_robust_list2((void *)0x100001000UL, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
#endif
	EXPECT_LIST(0, 0xfffffff4UL, ROBUST_LIST_32BIT);
}

#ifndef BUILD_64
TEST_F(robust_list2, no_64bit_list_in_32bit_program)
{
	EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, ROBUST_LIST_64BIT);
	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_SET_ERROR(EINVAL, self->area, 0, ROBUST_LIST_64BIT);
	EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_64BIT);
	EXPECT_LIST(0, self->area, ROBUST_LIST_32BIT);

	/* The type bit does not matter here. */
	EXPECT_EQ(0, set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER | ROBUST_LIST_64BIT));
}
#else
/* The upper half of a register is not part of an int. */
TEST_F(robust_list2, garbage_in_upper_halves)
{
	long garbage = 0x5a5a5a5aL << 32;
	uint64_t head = 0;

	EXPECT_EQ(0, syscall(__NR_set_robust_list2, self->area, garbage | 0xffffffffL, garbage));
	EXPECT_EQ(0, syscall(__NR_set_robust_list2, self->area, garbage, garbage | 1));
	EXPECT_EQ(1, syscall(__NR_get_robust_list2, garbage, &head, garbage, garbage));
	EXPECT_EQ((uintptr_t)self->area, head);
}

/* A 64-bit head may be anywhere; nobody reads it before the end. */
TEST_F(robust_list2, any_64bit_head)
{
	EXPECT_EQ(0, set_robust_list2((void *)-8UL, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
	EXPECT_LIST(0, -8UL, ROBUST_LIST_64BIT);
	EXPECT_EQ(0, set_robust_list2((void *)8UL, 0, ROBUST_LIST_64BIT));
	EXPECT_LIST(0, 8UL, ROBUST_LIST_64BIT);
}

/* An emulator's thread: the C library's list, one of the emulator, one of the guest. */
static int hold_three_kinds(struct victim *victim)
{
	struct area *area = victim->area;

	for (int i = 0; i < 3; i++) {
		make_list(i == 2 ? ROBUST_LIST_32BIT : ROBUST_LIST_64BIT, &area->list[i].head,
			  area->list[i].lock, 4);
		take_locks(area->list[i].lock, 4);
	}
	CHECK(!syscall(SYS_set_robust_list, &area->list[0].head, sizeof(struct robust_list_head)));
	CHECK(set_robust_list2(&area->list[1].head, ROBUST_LIST_NEW, ROBUST_LIST_64BIT) == 0);
	CHECK(set_robust_list2(&area->list[2].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 1);
	return 0;
}

TEST_F(robust_list2, legacy_64bit_and_32bit_list)
{
	struct victim victim = { .area = self->area };

	run_victim(_metadata, &victim, hold_three_kinds);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(4, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
}
#endif

TEST_F(robust_list2, get_errors)
{
	uint64_t head = ~0ULL;

	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));

	for (int bit = 0; bit < 32; bit++) {
		EXPECT_EQ(-1, get_robust_list2(0, &head, 0, 1U << bit));
		EXPECT_EQ(EINVAL, errno);
	}
	for (int i = 0; i < 5; i++) {
		static const int index[] = { -1, -2, ROBUST_LISTS_PER_TASK, INT_MAX, INT_MIN };

		EXPECT_EQ(-1, get_robust_list2(0, &head, index[i], 0));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, get_robust_list2(INT_MAX, &head, 0, 0));
	EXPECT_EQ(ESRCH, errno);
	EXPECT_EQ(-1, get_robust_list2(-1, &head, 0, 0));
	EXPECT_EQ(ESRCH, errno);
	EXPECT_EQ(-1, get_robust_list2(0, &head, 1, 0));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(~0ULL, head);
	EXPECT_EQ(-1, get_robust_list2(0, NULL, 0, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, get_robust_list2(0, (uint64_t *)8, 0, 0));
	EXPECT_EQ(EFAULT, errno);

	/* The order of errors */
	EXPECT_EQ(-1, get_robust_list2(INT_MAX, NULL, 10, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, get_robust_list2(0, NULL, 1, 0));
	EXPECT_EQ(ENOENT, errno);
}

/* The head is always stored as 64 bits, and as no more than that. */
TEST_F(robust_list2, get_stores_64_bits)
{
	uint64_t head[3] = { ~0ULL, ~0ULL, ~0ULL };

	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(0, &head[1], 0, 0));
	EXPECT_EQ(~0ULL, head[0]);
	EXPECT_EQ((uintptr_t)self->area, head[1]);
	EXPECT_EQ(~0ULL, head[2]);
}

static int register_one(struct victim *victim)
{
	CHECK(set_robust_list2(&victim->area->list[3].head, ROBUST_LIST_NEW,
			       ROBUST_LIST_32BIT) == 0);
	CHECK(set_robust_list2(NULL, 0, ROBUST_LIST_32BIT) == 0);
	CHECK(set_robust_list2(&victim->area->list[4].head, ROBUST_LIST_NEW,
			       ROBUST_LIST_32BIT) == 1);
	return 0;
}

TEST_F(robust_list2, get_of_other_process)
{
	struct victim victim = { .area = self->area };
	uint64_t head = ~0ULL;

	start_victim(_metadata, &victim, register_one);
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(victim.pid, &head, 0, 0));
	EXPECT_EQ(0, head);
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(victim.pid, &head, 1, 0));
	EXPECT_EQ((uintptr_t)&self->area->list[4].head, head);
	EXPECT_EQ(-1, get_robust_list2(victim.pid, &head, 2, 0));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, get_robust_list2(victim.pid, NULL, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	kill_victim(_metadata, &victim);

	EXPECT_EQ(-1, get_robust_list2(victim.pid, &head, 1, 0));
	EXPECT_EQ(ESRCH, errno);
}

/* A zombie has a TID and no lists any more. */
TEST_F(robust_list2, get_of_zombie)
{
	struct victim victim = { .area = self->area };
	uint64_t head = ~0ULL;
	siginfo_t info;

	start_victim(_metadata, &victim, register_one);
	ASSERT_EQ(0, kill(victim.pid, SIGKILL));
	ASSERT_EQ(0, waitid(P_PID, victim.pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-1, get_robust_list2(victim.pid, &head, 1, 0));
	EXPECT_EQ(ENOENT, errno);
	ASSERT_EQ(victim.pid, waitpid(victim.pid, NULL, 0));
}

static int read_as_nobody(struct victim *victim)
{
	pid_t parent = getppid();
	uint64_t head = ~0ULL;

	CHECK(!setresgid(65534, 65534, 65534));
	CHECK(!setresuid(65534, 65534, 65534));
	die_with(parent);
	CHECK(get_robust_list2(victim->arg, &head, 0, 0) == -1 && errno == EPERM);
	/* Not even whether there is a list */
	CHECK(get_robust_list2(victim->arg, &head, 9, 0) == -1 && errno == EPERM);
	CHECK(get_robust_list2(victim->arg, &head, 10, 0) == -1 && errno == EINVAL);
	CHECK(head == ~0ULL);
	/* One's own lists are one's own. */
	CHECK(get_robust_list2(0, &head, 0, 0) == -1 && errno == ENOENT);
	return 0;
}

TEST_F(robust_list2, get_needs_permission)
{
	struct victim victim = { .area = self->area }, reader = { .area = self->area };

	if (geteuid())
		SKIP(return, "needs root");
	start_victim(_metadata, &victim, register_one);
	reader.arg = victim.pid;
	run_victim(_metadata, &reader, read_as_nobody);
	kill_victim(_metadata, &victim);
}

/* TIDs are those of the caller's PID namespace. */
static int register_in_namespace(struct victim *victim)
{
	pid_t child, outer = getpid();
	uint64_t head = ~0ULL;
	int status, fd[2];
	char c;

	CHECK(!unshare(CLONE_NEWPID));
	CHECK(!pipe(fd));
	child = fork();
	CHECK(child != -1);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getpid() != 1 || register_one(victim))
			_exit(5);
		/* 1 is this process, and nobody outside has a TID. */
		if (get_robust_list2(1, &head, 1, 0) != ROBUST_LIST_32BIT ||
		    head != (uintptr_t)&victim->area->list[4].head)
			_exit(2);
		if (get_robust_list2(outer, &head, 1, 0) != -1 || errno != ESRCH)
			_exit(3);
		if (write(fd[1], "", 1) != 1)
			_exit(4);
		for (;;)
			pause();
	}
	close(fd[1]);
	if (read(fd[0], &c, 1) != 1) {
		waitpid(child, &status, 0);
		return WEXITSTATUS(status);
	}
	head = ~0ULL;
	CHECK(get_robust_list2(child, &head, 1, 0) == ROBUST_LIST_32BIT);
	CHECK(head == (uintptr_t)&victim->area->list[4].head);
	CHECK(!kill(child, SIGKILL));
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	return 0;
}

TEST_F(robust_list2, get_in_pid_namespace)
{
	struct victim victim = { .area = self->area };

	if (geteuid())
		SKIP(return, "needs root");
	run_victim(_metadata, &victim, register_in_namespace);
}

/* A filter can keep a program from both calls. */
static int forbid_syscalls(struct victim *victim)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_set_robust_list2, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_get_robust_list2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 5, .filter = filter };
	uint64_t head;

	CHECK(set_robust_list2(victim->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	CHECK(set_robust_list2(victim->area, 0, ROBUST_LIST_32BIT) == -1 && errno == EDOM);
	CHECK(get_robust_list2(0, &head, 0, 0) == -1 && errno == EDOM);
	return 0;
}

TEST_F(robust_list2, seccomp_filter)
{
	struct victim victim = { .area = self->area };

	if (prctl(PR_GET_SECCOMP) == -1 ||
	    (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EINVAL))
		SKIP(return, "no CONFIG_SECCOMP_FILTER");
	run_victim(_metadata, &victim, forbid_syscalls);
}

#ifdef __x86_64__
/* The calling convention of i386 programs, with registers that such a program does not have */
static long int80(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	long ret = nr;

	asm volatile("int $0x80" : "+a" (ret) : "b" (a), "c" (b), "d" (c), "S" (d)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

TEST_F(robust_list2, i386_entry)
{
	unsigned long garbage = 0x5a5a5a5aUL << 32, area = (unsigned long)self->area;
	uint64_t *head = (uint64_t *)&self->area->many[0];

	pid_t probe = fork_child();
	int status;

	/* Where there is no entry for i386 programs, the attempt is a fault. */
	if (!probe)
		_exit(int80(473, 0, -1, ROBUST_LIST_QUERY_MAX, 0) == -ENOSYS);
	ASSERT_EQ(probe, waitpid(probe, &status, 0));
	if (status)
		SKIP(return, "no CONFIG_IA32_EMULATION");

	/* A 32-bit task, as far as this call is concerned */
	EXPECT_EQ(-EINVAL, int80(473, area, -1, ROBUST_LIST_64BIT, 0));
	EXPECT_EQ(0, int80(473, garbage | area, garbage | 0xffffffffUL, garbage, 0));
	EXPECT_LIST(0, area, ROBUST_LIST_32BIT);
	EXPECT_EQ(0, int80(473, garbage | (area + 8), garbage, garbage, 0));
	EXPECT_EQ(0, int80(474, garbage, garbage | (uintptr_t)head, garbage, garbage));
	EXPECT_EQ(area + 8, *head);
	EXPECT_EQ(0, int80(473, garbage, garbage, garbage | ROBUST_LIST_UNREGISTER, 0));
	EXPECT_NO_LIST(0);

	/* A list of 64-bit pointers is changed by a 32-bit task to one that it can have. */
	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
	EXPECT_EQ(1, int80(474, 0, (uintptr_t)head, 0, 0));
	EXPECT_EQ(-EINVAL, int80(473, area, 0, ROBUST_LIST_64BIT, 0));
	EXPECT_EQ(0, int80(473, area + 4, 0, ROBUST_LIST_32BIT, 0));
	EXPECT_LIST(0, area + 4, ROBUST_LIST_32BIT);
}

#ifndef __X32_SYSCALL_BIT
# define __X32_SYSCALL_BIT	0x40000000
#endif

TEST_F(robust_list2, x32_entry)
{
	const long set = __X32_SYSCALL_BIT | __NR_set_robust_list2;
	const long get = __X32_SYSCALL_BIT | __NR_get_robust_list2;
	uint64_t head = 0;

	if (syscall(set, NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) == -1 && errno == ENOSYS)
		SKIP(return, "no CONFIG_X86_X32_ABI");
	EXPECT_EQ(-1, syscall(set, self->area, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, syscall(set, self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_LIST(0, self->area, ROBUST_LIST_32BIT);
	EXPECT_EQ(0, syscall(get, 0, &head, 0, 0));
	EXPECT_EQ((uintptr_t)self->area, head);
	EXPECT_EQ(0, syscall(set, NULL, 0, ROBUST_LIST_UNREGISTER));
	EXPECT_NO_LIST(0);
}
#endif

#ifdef BUILD_64
/* The last 12 bytes below 4 GiB are a head like any other. */
#define LAST_PAGE	0xfffff000UL
#define LAST_HEAD	0xfffffff4UL

static int hold_list_at_4gib(struct victim *victim)
{
	struct robust_list_head32 *head = (void *)LAST_HEAD;
	struct lock *lock = victim->area->list->lock;
	void *page;

	page = mmap((void *)LAST_PAGE, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(page == (void *)LAST_PAGE);
	take_locks(lock, 3);
	head->list.next = (uintptr_t)&lock[0];
	head->futex_offset = offsetof(struct lock, futex);
	head->list_op_pending = (uintptr_t)&lock[2];
	store_pointer(ROBUST_LIST_32BIT, &lock[0], &lock[1], 0);
	store_pointer(ROBUST_LIST_32BIT, &lock[1], head, 0);
	CHECK(set_robust_list2(head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	return 0;
}

TEST_F(robust_list2, list_at_4gib)
{
	struct victim victim = { .area = self->area };

	if (sysconf(_SC_PAGESIZE) != 4096)
		SKIP(return, "needs pages of 4 KiB");
	run_victim(_metadata, &victim, hold_list_at_4gib);
	EXPECT_EQ(3, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/* Entry and offset are below 4 GiB, their sum is not: a 32-bit program has the carry nowhere. */
#define HIGH_ENTRIES	0xf0000000UL

static int hold_wrapped_futexes(struct victim *victim)
{
	struct list *list = victim->area->list;
	uint32_t *entry;
	void *wrong;

	entry = mmap((void *)HIGH_ENTRIES, 65536, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(entry == (void *)HIGH_ENTRIES);
	/* Where the futexes were if the addresses did not wrap */
	wrong = mmap((void *)(AREA_ADDRESS + (1UL << 32)), sizeof(struct area),
		     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		     -1, 0);
	CHECK(wrong != MAP_FAILED);

	take_locks(list->lock, 2);
	list->head.h32.list.next = HIGH_ENTRIES;
	list->head.h32.futex_offset = (uint32_t)((uintptr_t)&list->lock[0].futex - HIGH_ENTRIES);
	list->head.h32.list_op_pending = 0;
	entry[0] = HIGH_ENTRIES + sizeof(struct lock);
	entry[sizeof(struct lock) / sizeof(*entry)] = (uintptr_t)&list->head;
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	return 0;
}

TEST_F(robust_list2, offset_wraps_at_4gib)
{
	struct victim victim = { .area = self->area };

	run_victim(_metadata, &victim, hold_wrapped_futexes);
	EXPECT_EQ(2, count_died(self->area->list->lock, LOCKS_PER_LIST));
}
#endif

/* Threads have lists of their own, which are read by TID. */
struct thread_lists {
	struct area		*area;
	uint64_t		head;
	long			index, type;
	pthread_barrier_t	ready, leave;
	int			tid;
};

static void *register_in_thread(void *arg)
{
	struct thread_lists *lists = arg;

	lists->tid = gettid32();
	lists->index = set_robust_list2(&lists->area->list[1].head, ROBUST_LIST_NEW,
					ROBUST_LIST_32BIT);
	make_list(ROBUST_LIST_32BIT, &lists->area->list[1].head, lists->area->list[1].lock, 3);
	take_locks(lists->area->list[1].lock, 3);
	pthread_barrier_wait(&lists->ready);
	pthread_barrier_wait(&lists->leave);
	return NULL;
}

TEST_F(robust_list2, threads)
{
	struct thread_lists lists = { .area = self->area };
	uint64_t head = ~0ULL;
	pthread_t thread;

	make_list(ROBUST_LIST_32BIT, &self->area->list[0].head, self->area->list[0].lock, 3);
	take_locks(self->area->list[0].lock, 3);
	ASSERT_EQ(0, set_robust_list2(&self->area->list[0].head, ROBUST_LIST_NEW,
				      ROBUST_LIST_32BIT));

	pthread_barrier_init(&lists.ready, NULL, 2);
	pthread_barrier_init(&lists.leave, NULL, 2);
	ASSERT_EQ(0, pthread_create(&thread, NULL, register_in_thread, &lists));
	pthread_barrier_wait(&lists.ready);
	EXPECT_EQ(0, lists.index);
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(lists.tid, &head, 0, 0));
	EXPECT_EQ((uintptr_t)&self->area->list[1].head, head);
	EXPECT_LIST(0, &self->area->list[0].head, ROBUST_LIST_32BIT);
	pthread_barrier_wait(&lists.leave);
	pthread_join(thread, NULL);

	EXPECT_EQ(3, count_died(self->area->list[1].lock, LOCKS_PER_LIST));
	EXPECT_EQ(0, count_died(self->area->list[0].lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, &self->area->list[0].head, ROBUST_LIST_32BIT);
}

/*
 * Threads come and go, with lists, under a reader of their lists, who sees one of
 * their heads or none. The area has their TIDs, what the reader has seen, and
 * when it is to stop.
 */
#define DYING_THREADS	4
#define ENOUGH_SEEN	500

static atomic_uint *tid_of(struct area *area, int n)
{
	return &area->many[n].futex;
}

static atomic_uint *seen_in(struct area *area)
{
	return &area->many[DYING_THREADS].futex;
}

static atomic_uint *stop_in(struct area *area)
{
	return &area->many[DYING_THREADS + 1].futex;
}

struct dying_thread {
	struct area	*area;
	pthread_t	thread;
	int		n;
};

static void *register_and_exit(void *arg)
{
	struct dying_thread *self = arg;
	struct list *list = self->area->list;

	set_robust_list2(&list[0].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	atomic_store(tid_of(self->area, self->n), gettid32());
	set_robust_list2(&list[1].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	sched_yield();
	set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER);
	set_robust_list2(&list[2].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	return NULL;
}

static int watch_threads(struct victim *victim)
{
	struct list *list = victim->area->list;

	for (int n = 0; !atomic_load(stop_in(victim->area)); n++) {
		int tid = atomic_load(tid_of(victim->area, n % DYING_THREADS));
		uint64_t head = ~0ULL;
		long ret;

		/* 0 would be this process. */
		if (!tid)
			continue;
		ret = get_robust_list2(tid, &head, n & 1, 0);
		if (ret == -1) {
			CHECK(errno == ESRCH || errno == ENOENT);
			continue;
		}
		CHECK(ret == ROBUST_LIST_32BIT);
		CHECK(head == (uintptr_t)&list[0].head || head == (uintptr_t)&list[1].head ||
		      head == (uintptr_t)&list[2].head);
		atomic_fetch_add(seen_in(victim->area), 1);
	}
	return 0;
}

TEST_F(robust_list2, get_dying_thread)
{
	struct dying_thread thread[DYING_THREADS];
	struct victim reader = { .area = self->area };
	int status;

	for (int i = 0; i < 3; i++)
		make_list(ROBUST_LIST_32BIT, &self->area->list[i].head, NULL, 0);
	reader.pid = fork_child();
	ASSERT_NE(-1, reader.pid);
	if (!reader.pid)
		_exit(!!watch_threads(&reader));

	for (int round = 0; round < 3000; round++) {
		if (atomic_load(seen_in(self->area)) >= ENOUGH_SEEN)
			break;
		for (int i = 0; i < DYING_THREADS; i++) {
			thread[i].area = self->area;
			thread[i].n = i;
			ASSERT_EQ(0, pthread_create(&thread[i].thread, NULL, register_and_exit,
						    &thread[i]));
		}
		for (int i = 0; i < DYING_THREADS; i++)
			pthread_join(thread[i].thread, NULL);
	}
	atomic_store(stop_in(self->area), 1);
	ASSERT_EQ(reader.pid, waitpid(reader.pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_LE(ENOUGH_SEEN, atomic_load(seen_in(self->area)));
}

/*
 * Tests with lists of either width
 */
FIXTURE(list) {
	struct victim victim;
	struct area *area;
};

FIXTURE_VARIANT(list) {
	unsigned int type, pointer_size;
};

FIXTURE_VARIANT_ADD(list, list32) {
	.type = ROBUST_LIST_32BIT,
	.pointer_size = 4,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(list, list64) {
	.type = ROBUST_LIST_64BIT,
	.pointer_size = 8,
};
#endif

FIXTURE_SETUP(list)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	self->area = map_area(_metadata);
	self->victim.area = self->area;
	self->victim.type = variant->type;
}

FIXTURE_TEARDOWN(list)
{
	if (!self->area)
		return;
	EXPECT_EQ(0x12345678, atomic_load(&self->area->guard));
	munmap(self->area, sizeof(*self->area));
}

TEST_F(list, new_lowest_free_index)
{
	struct list *list = self->area->list;

	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		ASSERT_EQ(i, set_robust_list2(&list[i], ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(ENOSPC, &list[10], ROBUST_LIST_NEW, variant->type);

	EXPECT_EQ(7, set_robust_list2(NULL, 7, ROBUST_LIST_UNREGISTER));
	EXPECT_EQ(2, set_robust_list2(NULL, 2, ROBUST_LIST_UNREGISTER | variant->type));
	EXPECT_NO_LIST(2);
	EXPECT_EQ(2, set_robust_list2(&list[10], ROBUST_LIST_NEW, variant->type));
	EXPECT_EQ(7, set_robust_list2(&list[10], ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(ENOSPC, &list[10], ROBUST_LIST_NEW, variant->type);

	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		EXPECT_LIST(i, i == 2 || i == 7 ? &list[10] : &list[i], variant->type);
	EXPECT_EQ(10, set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX));
}

TEST_F(list, new_errors)
{
	for (unsigned long i = 1; i < variant->pointer_size; i++)
		EXPECT_SET_ERROR(EINVAL, AREA_ADDRESS + i, ROBUST_LIST_NEW, variant->type);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, variant->type);
	EXPECT_NO_LIST(0);
	EXPECT_EQ(0, set_robust_list2((void *)(AREA_ADDRESS + variant->pointer_size),
				      ROBUST_LIST_NEW, variant->type));
}

TEST_F(list, set_errors)
{
	struct list *list = self->area->list;

	/* Before the first registration there is no table, after it there is. */
	for (int i = 0; i < 2; i++) {
		for (int index = i; index < ROBUST_LISTS_PER_TASK; index++) {
			EXPECT_SET_ERROR(ENOENT, list, index, variant->type);
			EXPECT_SET_ERROR(ENOENT, NULL, index, variant->type);
			EXPECT_SET_ERROR(ENOENT, NULL, index, ROBUST_LIST_UNREGISTER);
		}
		EXPECT_SET_ERROR(EINVAL, list, ROBUST_LISTS_PER_TASK, variant->type);
		EXPECT_SET_ERROR(EINVAL, list, -2, variant->type);
		EXPECT_SET_ERROR(EINVAL, list, INT_MAX, variant->type);
		EXPECT_SET_ERROR(EINVAL, list, INT_MIN, variant->type);
		EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LISTS_PER_TASK, ROBUST_LIST_UNREGISTER);
		EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, ROBUST_LIST_UNREGISTER);
		EXPECT_SET_ERROR(EINVAL, list, 0, ROBUST_LIST_UNREGISTER);
		if (!i)
			ASSERT_EQ(0, set_robust_list2(list, ROBUST_LIST_NEW, variant->type));
	}
	EXPECT_LIST(0, list, variant->type);
}

/* EINVAL comes before ENOENT and ENOSPC. */
TEST_F(list, order_of_errors)
{
	EXPECT_SET_ERROR(EINVAL, AREA_ADDRESS + 2, 5, variant->type);
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		ASSERT_EQ(i, set_robust_list2(self->area, ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(EINVAL, AREA_ADDRESS + 2, ROBUST_LIST_NEW, variant->type);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, variant->type);
	EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, variant->type | 8);
}

TEST_F(list, set_changes_head_and_type)
{
	struct list *list = self->area->list;

	ASSERT_EQ(0, set_robust_list2(&list[0], ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_EQ(0, set_robust_list2(&list[1], 0, variant->type));
	EXPECT_LIST(0, &list[1], variant->type);
	EXPECT_EQ(0, set_robust_list2(NULL, 0, variant->type));
	EXPECT_LIST(0, NULL, variant->type);
	/* An empty list still has its slot. */
	EXPECT_EQ(1, set_robust_list2(&list[2], ROBUST_LIST_NEW, variant->type));
	EXPECT_EQ(0, set_robust_list2(&list[3], 0, ROBUST_LIST_32BIT));
	EXPECT_LIST(0, &list[3], ROBUST_LIST_32BIT);
	EXPECT_LIST(1, &list[2], variant->type);
}

static int hold_locks(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST);
	take_locks(list->lock, LOCKS_PER_LIST);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, waiters_woken)
{
	struct waiter waiter[LOCKS_PER_LIST];

	start_victim(_metadata, &self->victim, hold_locks);
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[i].futex);
	kill_victim(_metadata, &self->victim);
	for (int i = 0; i < LOCKS_PER_LIST; i++) {
		EXPECT_TRUE(finish_waiter(&waiter[i]));
		EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS,
			  atomic_load(&self->area->list->lock[i].futex));
	}
}

/* One waiter, not all: the next one is the woken one's business. */
TEST_F(list, one_waiter_woken)
{
	struct waiter waiter[2];

	start_victim(_metadata, &self->victim, hold_locks);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[0].futex);
	kill_victim(_metadata, &self->victim);

	/* One of the two is still there to be woken. */
	EXPECT_EQ(1, syscall(SYS_futex, &self->area->list->lock[0].futex, FUTEX_WAKE, INT_MAX,
			     NULL, NULL, 0));
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(finish_waiter(&waiter[i]));
}

static int hold_ten_lists(struct victim *victim)
{
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++) {
		struct list *list = &victim->area->list[i];
		/* Both types, where there are both */
		unsigned int type = i & 1 ? ROBUST_LIST_32BIT : victim->type;

		make_list(type, &list->head, list->lock, i);
		take_locks(list->lock, i);
		CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, type) == i);
	}
	return 0;
}

TEST_F(list, ten_lists)
{
	run_victim(_metadata, &self->victim, hold_ten_lists);
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		EXPECT_EQ(i, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
}

/* The walk leaves alone what the thread does not own. */
static int hold_other_words(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;

	CHECK(!hold_locks(victim));
	atomic_store(&lock[0].futex, 0);
	atomic_store(&lock[1].futex, gettid32() + 1);
	atomic_store(&lock[2].futex, (gettid32() + 1) | FUTEX_WAITERS);
	atomic_store(&lock[3].futex, FUTEX_OWNER_DIED);
	atomic_store(&lock[4].futex, gettid32() | FUTEX_OWNER_DIED);
	return 0;
}

TEST_F(list, other_owners)
{
	struct lock *lock = self->area->list->lock;

	run_victim(_metadata, &self->victim, hold_other_words);
	EXPECT_EQ(0, atomic_load(&lock[0].futex));
	EXPECT_EQ(self->victim.pid + 1, atomic_load(&lock[1].futex));
	EXPECT_EQ((self->victim.pid + 1) | FUTEX_WAITERS, atomic_load(&lock[2].futex));
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&lock[3].futex));
	EXPECT_EQ(LOCKS_PER_LIST - 3, count_died(lock, LOCKS_PER_LIST));
}

/* A lock that was taken and is not yet in the list */
static int hold_pending(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, list->lock, 2);
	take_locks(list->lock, 3);
	set_pending(victim->type, &list->head, &list->lock[victim->arg]);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, list_op_pending)
{
	self->victim.arg = 2;
	run_victim(_metadata, &self->victim, hold_pending);
	EXPECT_EQ(3, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

TEST_F(list, list_op_pending_in_list)
{
	self->victim.arg = 1;
	run_victim(_metadata, &self->victim, hold_pending);
	EXPECT_EQ(2, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/*
 * A pending lock that is both in the list and waited for by two wakes one of
 * them, not one for each time it is mentioned.
 */
TEST_F(list, list_op_pending_not_twice)
{
	struct waiter waiter[2];

	self->victim.arg = 1;
	start_victim(_metadata, &self->victim, hold_pending);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[1].futex);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(1, syscall(SYS_futex, &self->area->list->lock[1].futex, FUTEX_WAKE, INT_MAX,
			     NULL, NULL, 0));
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(finish_waiter(&waiter[i]));
}

/* Died after the unlock, before the wake: somebody has to wake the waiter. */
static int die_in_unlock(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, list->lock, 0);
	set_pending(victim->type, &list->head, &list->lock[0]);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	atomic_store(&list->lock[0].futex, gettid32());
	return 0;
}

TEST_F(list, list_op_pending_unlocked)
{
	struct waiter waiter;

	start_victim(_metadata, &self->victim, die_in_unlock);
	start_waiter(_metadata, &waiter, &self->area->list->lock[0].futex);
	/* On behalf of the process that is about to die */
	atomic_store(&self->area->list->lock[0].futex, 0);
	kill_victim(_metadata, &self->victim);
	EXPECT_TRUE(finish_waiter(&waiter));
	EXPECT_EQ(0, atomic_load(&self->area->list->lock[0].futex));
}

static int change_lists(struct victim *victim)
{
	struct list *list = victim->area->list;

	for (int i = 0; i < 5; i++) {
		make_list(victim->type, &list[i].head, list[i].lock, 4);
		take_locks(list[i].lock, 4);
	}
	for (int i = 0; i < 4; i++)
		CHECK(set_robust_list2(&list[i].head, ROBUST_LIST_NEW, victim->type) == i);
	CHECK(set_robust_list2(&list[4].head, 1, victim->type) == 1);
	CHECK(set_robust_list2(NULL, 2, victim->type) == 2);
	CHECK(set_robust_list2(NULL, 3, ROBUST_LIST_UNREGISTER) == 3);
	return 0;
}

TEST_F(list, set_empty_and_unregistered)
{
	static const int expected[] = { 4, 0, 0, 0, 4 };

	run_victim(_metadata, &self->victim, change_lists);
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(expected[i], count_died(self->area->list[i].lock, LOCKS_PER_LIST));
}

/* Lists 0 to 5 are broken, each in its own way, and 6 is not. */
static int hold_broken_lists(struct victim *victim)
{
	struct list *list = victim->area->list;

	for (int i = 1; i < 7; i++) {
		make_list(victim->type, &list[i].head, list[i].lock, 4);
		take_locks(list[i].lock, 5);
	}
	/* No head; an entry that is nowhere; a futex that is nowhere or not aligned */
	CHECK(set_robust_list2((void *)4096, ROBUST_LIST_NEW, victim->type) == 0);
	store_pointer(victim->type, &list[1].lock[1], (void *)4096, 0);
	set_offset(victim->type, &list[2].head, 0x40000000);
	set_offset(victim->type, &list[3].head, offsetof(struct lock, futex) + 1);
	/* The pending lock is nowhere; an entry that is a null pointer */
	set_pending(victim->type, &list[4].head, (void *)4096);
	store_pointer(victim->type, &list[5].lock[0], NULL, 0);
	set_pending(victim->type, &list[5].head, &list[5].lock[4]);
	for (int i = 1; i < 7; i++)
		CHECK(set_robust_list2(&list[i].head, ROBUST_LIST_NEW, victim->type) == i);
	return 0;
}

TEST_F(list, broken_lists)
{
	static const int expected[] = { 0, 2, 0, 0, 4, 1, 4 };

	run_victim(_metadata, &self->victim, hold_broken_lists);
	for (int i = 0; i < 7; i++) {
		EXPECT_EQ(expected[i], count_died(self->area->list[i].lock, LOCKS_PER_LIST)) {
			TH_LOG("list %d", i);
		}
	}
}

/* A futex that cannot be written ends its list. */
static int hold_read_only(struct victim *victim)
{
	struct lock *lock;

	CHECK(!hold_locks(victim));
	lock = mmap((void *)(AREA_ADDRESS + 0x1000000), 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(lock != MAP_FAILED);
	/* 0, 1, the read-only one, 2, ... */
	take_locks(lock, 1);
	store_pointer(victim->type, &victim->area->list->lock[1], lock, 0);
	store_pointer(victim->type, lock, &victim->area->list->lock[2], 0);
	CHECK(!mprotect(lock, 4096, PROT_READ));
	return 0;
}

TEST_F(list, read_only_futex)
{
	run_victim(_metadata, &self->victim, hold_read_only);
	EXPECT_EQ(2, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/* All locks are in a list that leads into a circle without the head. */
static int hold_circle(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	store_pointer(victim->type, &list->lock[LOCKS_PER_LIST - 1], &list->lock[victim->arg], 0);
	return 0;
}

TEST_F(list, circles)
{
	for (int i = 0; i < LOCKS_PER_LIST; i++) {
		self->victim.arg = i;
		run_victim(_metadata, &self->victim, hold_circle);
		EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
	}
}

/* set_robust_list() would stop after 2048. */
static int hold_many(struct victim *victim)
{
	struct area *area = victim->area;

	make_list(victim->type, &area->many_head, area->many, MANY_LOCKS);
	take_locks(area->many, MANY_LOCKS);
	if (victim->arg)
		store_pointer(victim->type, &area->many[MANY_LOCKS - 1], &area->many[1234], 0);
	CHECK(set_robust_list2(&area->many_head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, many_locks)
{
	run_victim(_metadata, &self->victim, hold_many);
	EXPECT_EQ(MANY_LOCKS, count_died(self->area->many, MANY_LOCKS));
}

TEST_F(list, many_locks_in_circle)
{
	self->victim.arg = 1;
	run_victim(_metadata, &self->victim, hold_many);
	EXPECT_EQ(MANY_LOCKS, count_died(self->area->many, MANY_LOCKS));
}

/* A list of the greatest length, and one entry more: the last one is not handled. */
#define LIMIT_ADDRESS	(AREA_ADDRESS + 0x10000000UL)
#define LIMIT_SIZE	((ROBUST_LIST2_LIMIT + 1) * sizeof(struct lock))

static int hold_limit(struct victim *victim)
{
	struct lock *lock = (void *)LIMIT_ADDRESS;
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, lock, ROBUST_LIST2_LIMIT + victim->arg);
	take_locks(lock, ROBUST_LIST2_LIMIT + victim->arg);
	/* Still handled, after the limit too */
	take_locks(list->lock, 1);
	set_pending(victim->type, &list->head, &list->lock[0]);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F_TIMEOUT(list, limit, 300)
{
	struct lock *lock;

	lock = mmap((void *)LIMIT_ADDRESS, LIMIT_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_EQ((void *)LIMIT_ADDRESS, lock);
	for (int more = 0; more < 2; more++) {
		self->victim.arg = more;
		run_victim(_metadata, &self->victim, hold_limit);
		EXPECT_EQ(ROBUST_LIST2_LIMIT, count_died(lock, ROBUST_LIST2_LIMIT));
		EXPECT_EQ(1, count_died(self->area->list->lock, LOCKS_PER_LIST));
	}
	EXPECT_EQ(self->victim.pid, atomic_load(&lock[ROBUST_LIST2_LIMIT].futex));
	munmap(lock, LIMIT_SIZE);
}

/*
 * On one CPU, another task runs while the longest list is walked: it sees a
 * futex at the beginning that is marked and one at the end that is not yet.
 */
TEST_F_TIMEOUT(list, walk_is_preemptible, 300)
{
	const struct timespec nap = { .tv_nsec = 100000 };
	struct sched_param param = { .sched_priority = 1 };
	int in_the_walk = 0;
	struct lock *lock;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param))
		SKIP(return, "needs the right to have real-time priority");
	lock = mmap((void *)LIMIT_ADDRESS, LIMIT_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_EQ((void *)LIMIT_ADDRESS, lock);
	start_victim(_metadata, &self->victim, hold_limit);

	EXPECT_EQ(0, kill(self->victim.pid, SIGKILL));
	while (!waitpid(self->victim.pid, NULL, WNOHANG)) {
		bool begun = atomic_load(&lock[0].futex) == FUTEX_OWNER_DIED;
		bool done = atomic_load(&lock[ROBUST_LIST2_LIMIT - 1].futex) == FUTEX_OWNER_DIED;

		in_the_walk += begun && !done;
		nanosleep(&nap, NULL);
	}
	EXPECT_LT(0, in_the_walk);
	TH_LOG("ran %d times while the list was walked", in_the_walk);
	EXPECT_EQ(ROBUST_LIST2_LIMIT, count_died(lock, ROBUST_LIST2_LIMIT));
	munmap(lock, LIMIT_SIZE);
}

/*
 * The entries are in memory that can only be read, in a circle, and the futexes
 * elsewhere: nothing is written to find the circle.
 */
static int hold_read_only_entries(struct victim *victim)
{
	struct list *list = victim->area->list;
	const long page = sysconf(_SC_PAGESIZE);
	struct lock *entry;

	entry = mmap((void *)(AREA_ADDRESS + 0x1000000), page, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(entry != MAP_FAILED);
	make_list(victim->type, &list->head, entry, LOCKS_PER_LIST);
	set_offset(victim->type, &list->head, (long)&list->lock[0].futex - (long)entry);
	store_pointer(victim->type, &entry[LOCKS_PER_LIST - 1], &entry[victim->arg], 0);
	CHECK(!mprotect(entry, page, PROT_READ));
	take_locks(list->lock, LOCKS_PER_LIST);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, read_only_entries)
{
	for (int i = 0; i < LOCKS_PER_LIST; i += 5) {
		self->victim.arg = i;
		run_victim(_metadata, &self->victim, hold_read_only_entries);
		EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
	}
}

/* The futex is before the entry. */
static int hold_negative_offset(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	set_offset(victim->type, &list->head,
		   (long)offsetof(struct lock, futex) - (long)sizeof(struct lock));
	/* Entry 0 would have its futex in the head. */
	store_pointer(victim->type, &list->head, &list->lock[1], 0);
	return 0;
}

TEST_F(list, negative_offset)
{
	run_victim(_metadata, &self->victim, hold_negative_offset);
	EXPECT_EQ(LOCKS_PER_LIST - 1, count_died(self->area->list->lock, LOCKS_PER_LIST - 1));
	EXPECT_EQ(self->victim.pid, atomic_load(&self->area->list->lock[LOCKS_PER_LIST - 1].futex));
}

/* Bit 0 of a pointer is not a part of the address. */
static int hold_pi_entries(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	store_pointer(victim->type, &list->head, &list->lock[0], 1);
	for (int i = 1; i < LOCKS_PER_LIST; i += 2)
		store_pointer(victim->type, &list->lock[i - 1], &list->lock[i], 1);
	return 0;
}

TEST_F(list, pi_bit)
{
	run_victim(_metadata, &self->victim, hold_pi_entries);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/*
 * The bit is that of the pointer to the entry, not of the one in it, and says that
 * nobody is to be woken: whoever waits as if for a plain lock, sleeps on.
 */
static int hold_two_kinds(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;

	CHECK(!hold_locks(victim));
	/* 0: plain, 1: PI, 2: PI, 3: plain, and so on as before */
	store_pointer(victim->type, &lock[0], &lock[1], FUTEX_ROBUST_MOD_PI);
	store_pointer(victim->type, &lock[1], &lock[2], FUTEX_ROBUST_MOD_PI);
	return 0;
}

TEST_F(list, pi_bit_wakes_nobody)
{
	static const bool woken[] = { true, false, false, true };
	struct lock *lock = self->area->list->lock;
	struct waiter waiter[4];

	start_victim(_metadata, &self->victim, hold_two_kinds);
	for (int i = 0; i < 4; i++)
		start_waiter(_metadata, &waiter[i], &lock[i].futex);
	kill_victim(_metadata, &self->victim);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock[i].futex));
		EXPECT_EQ(!woken[i], syscall(SYS_futex, &lock[i].futex, FUTEX_WAKE, INT_MAX,
					     NULL, NULL, 0));
		EXPECT_TRUE(finish_waiter(&waiter[i]));
	}
}

static int die_in_pi_unlock(struct victim *victim)
{
	union head *head = &victim->area->list->head;

	CHECK(!die_in_unlock(victim));
	if (victim->type == ROBUST_LIST_32BIT)
		head->h32.list_op_pending |= FUTEX_ROBUST_MOD_PI;
	else
		head->h64.list_op_pending |= FUTEX_ROBUST_MOD_PI;
	return 0;
}

TEST_F(list, pi_pending_wakes_nobody)
{
	atomic_uint *futex = &self->area->list->lock[0].futex;
	struct waiter waiter;

	start_victim(_metadata, &self->victim, die_in_pi_unlock);
	start_waiter(_metadata, &waiter, futex);
	atomic_store(futex, 0);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, atomic_load(futex));
	EXPECT_EQ(1, syscall(SYS_futex, futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
	EXPECT_TRUE(finish_waiter(&waiter));
}

/* A PI lock of a process that died goes to who waits for it. */
static int hold_pi_lock(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, list->lock, 1);
	store_pointer(victim->type, &list->head, &list->lock[0], FUTEX_ROBUST_MOD_PI);
	CHECK(!syscall(SYS_futex, &list->lock[0].futex, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	CHECK(atomic_load(&list->lock[0].futex) == gettid32());
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

static int lock_pi(void *arg)
{
	return syscall(SYS_futex, arg, FUTEX_LOCK_PI, 0, NULL, NULL, 0) ? errno : 0;
}

TEST_F(list, pi_lock)
{
	atomic_uint *futex = &self->area->list->lock[0].futex;
	struct futex_thread waiter;

	if (syscall(SYS_futex, futex, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) && errno == ENOSYS)
		SKIP(return, "no CONFIG_FUTEX_PI");
	start_victim(_metadata, &self->victim, hold_pi_lock);
	ASSERT_EQ(0, futex_thread_create(&waiter, lock_pi, futex));
	while (!(atomic_load(futex) & FUTEX_WAITERS))
		sched_yield();
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, futex_thread_destroy(&waiter));
	EXPECT_EQ(waiter.tid, atomic_load(futex) & FUTEX_TID_MASK);
	EXPECT_NE(0, atomic_load(futex) & FUTEX_OWNER_DIED);

	/* And without a waiter, to who comes later; the thread above has not let go. */
	atomic_store(futex, 0);
	run_victim(_metadata, &self->victim, hold_pi_lock);
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(futex));
	EXPECT_EQ(0, lock_pi(futex));
	EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(futex));
	EXPECT_EQ(0, syscall(SYS_futex, futex, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
}

/* The child of a fork has no lists. */
static int inherit_nothing(struct victim *victim)
{
	uint64_t head;

	(void)victim;
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++) {
		CHECK(get_robust_list2(0, &head, i, 0) == -1 && errno == ENOENT);
		CHECK(set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER) == -1 && errno == ENOENT);
	}
	return 0;
}

TEST_F(list, fork_starts_with_none)
{
	struct list *list = self->area->list;

	make_list(variant->type, &list->head, list->lock, 4);
	ASSERT_EQ(0, set_robust_list2(&list->head, ROBUST_LIST_NEW, variant->type));
	start_victim(_metadata, &self->victim, inherit_nothing);
	/* If the child had its parent's list, it would find its own TID there. */
	for (int i = 0; i < 4; i++)
		atomic_store(&list->lock[i].futex, self->victim.pid);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, list, variant->type);

	/* With a list of its own there, it does. */
	run_victim(_metadata, &self->victim, hold_locks);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, list, variant->type);
}

/*
 * exec() is the death of the old program, not of the process. The new one is
 * this file again: it says through a pipe what it found, registers a list of its
 * own at the old program's last index, and lives on until the test has looked at
 * the locks.
 */
#define EXEC_VARIABLE	"ROBUST_LIST2_EXEC_FD"

static __attribute__((constructor)) void run_as_new_program(void)
{
	const char *fd = getenv(EXEC_VARIABLE);
	uint64_t head;
	int line = 0;

	if (!fd)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		if (get_robust_list2(0, &head, i, 0) != -1 || errno != ENOENT)
			line = __LINE__;
	/* The heads are nowhere, and empty before the end. */
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		if (set_robust_list2((void *)4096, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) != i)
			line = __LINE__;
	if (write(atoi(fd), &line, sizeof(line)) != sizeof(line))
		_exit(1);
	for (;;)
		pause();
}

struct exec_thread {
	struct victim	*victim;
	char		variable[64], *argv[2], *envp[2];
};

static void prepare_exec(struct exec_thread *exec, struct victim *victim, int fd)
{
	snprintf(exec->variable, sizeof(exec->variable), EXEC_VARIABLE "=%d", fd);
	exec->victim = victim;
	exec->argv[0] = "robust_list2";
	exec->argv[1] = NULL;
	exec->envp[0] = exec->variable;
	exec->envp[1] = NULL;
}

static void *exec_in_thread(void *arg)
{
	struct exec_thread *exec = arg;

	execve("/proc/self/exe", exec->argv, exec->envp);
	_exit(2);
}

/* A thread with a list of its own becomes the process, and has the process's TID then. */
static void *register_and_exec_in_thread(void *arg)
{
	struct exec_thread *exec = arg;
	struct list *list = &exec->victim->area->list[ROBUST_LISTS_PER_TASK];

	make_list(exec->victim->type, &list->head, list->lock, 6);
	for (int i = 0; i < 6; i++)
		atomic_store(&list->lock[i].futex, getpid());
	if (set_robust_list2(&list->head, ROBUST_LIST_NEW, exec->victim->type) != 0)
		_exit(3);
	return exec_in_thread(arg);
}

TEST_F(list, exec)
{
	/* From the thread group's leader, and from another thread */
	for (int from_thread = 0; from_thread < 2; from_thread++) {
		int fd[2], line = -1;

		memset(self->area->list, 0, sizeof(self->area->list));
		ASSERT_EQ(0, pipe(fd));
		self->victim.pid = fork_child();
		ASSERT_NE(-1, self->victim.pid);
		if (!self->victim.pid) {
			struct exec_thread exec;
			pthread_t thread;

			prepare_exec(&exec, &self->victim, fd[1]);
			if (hold_ten_lists(&self->victim))
				_exit(1);
			if (!from_thread)
				exec_in_thread(&exec);
			pthread_create(&thread, NULL, register_and_exec_in_thread, &exec);
			for (;;)
				pause();
		}
		close(fd[1]);
		EXPECT_EQ(sizeof(line), read(fd[0], &line, sizeof(line)));
		EXPECT_EQ(0, line);
		close(fd[0]);
		for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
			EXPECT_EQ(i, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
		EXPECT_EQ(from_thread ? 6 : 0,
			  count_died(self->area->list[ROBUST_LISTS_PER_TASK].lock, LOCKS_PER_LIST));
		kill_victim(_metadata, &self->victim);
	}
}

/*
 * A reader of a process that registers and execs sees the old program's list, the
 * new one's, or none.
 */
static int watch_execs(struct victim *victim)
{
	struct area *area = victim->area;

	while (!atomic_load(stop_in(area))) {
		int pid = atomic_load(tid_of(area, 0));
		uint64_t head = ~0ULL;
		long ret;

		if (!pid)
			continue;
		/* hold_ten_lists() makes the last list of each type a 32-bit one. */
		ret = get_robust_list2(pid, &head, ROBUST_LISTS_PER_TASK - 1, 0);
		if (ret == -1) {
			CHECK(errno == ESRCH || errno == ENOENT);
			continue;
		}
		CHECK(ret == ROBUST_LIST_32BIT);
		CHECK(head == 4096 ||
		      head == (uintptr_t)&area->list[ROBUST_LISTS_PER_TASK - 1].head);
		atomic_fetch_add(seen_in(area), 1);
	}
	return 0;
}

TEST_F(list, get_of_process_in_exec)
{
	struct victim reader = self->victim;
	int status;

	reader.pid = fork_child();
	ASSERT_NE(-1, reader.pid);
	if (!reader.pid)
		_exit(!!watch_execs(&reader));

	for (int i = 0; i < 20; i++) {
		int fd[2], line = -1;

		ASSERT_EQ(0, pipe(fd));
		self->victim.pid = fork_child();
		ASSERT_NE(-1, self->victim.pid);
		if (!self->victim.pid) {
			struct exec_thread exec;

			prepare_exec(&exec, &self->victim, fd[1]);
			if (hold_ten_lists(&self->victim))
				_exit(1);
			atomic_store(tid_of(self->area, 0), getpid());
			exec_in_thread(&exec);
		}
		close(fd[1]);
		EXPECT_EQ(sizeof(line), read(fd[0], &line, sizeof(line)));
		EXPECT_EQ(0, line);
		close(fd[0]);
		kill_victim(_metadata, &self->victim);
	}
	atomic_store(stop_in(self->area), 1);
	ASSERT_EQ(reader.pid, waitpid(reader.pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_LT(0, atomic_load(seen_in(self->area)));
}

/* The two interfaces do not see each other. */
TEST_F(list, beside_set_robust_list)
{
	struct robust_list_head *before = NULL, *after = NULL;
	struct list *list = self->area->list;
	size_t size;

	ASSERT_EQ(0, syscall(SYS_get_robust_list, 0, &before, &size));
	EXPECT_NO_LIST(0);
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		ASSERT_EQ(i, set_robust_list2(&list[i], ROBUST_LIST_NEW, variant->type));
	ASSERT_EQ(0, syscall(SYS_get_robust_list, 0, &after, &size));
	EXPECT_EQ(before, after);

	ASSERT_EQ(0, syscall(SYS_set_robust_list, &list[10], sizeof(struct robust_list_head)));
	for (int i = 0; i < ROBUST_LISTS_PER_TASK; i++)
		EXPECT_LIST(i, &list[i], variant->type);
	ASSERT_EQ(0, syscall(SYS_set_robust_list, before, sizeof(struct robust_list_head)));
}

static int hold_legacy_and_new(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	make_list(sizeof(long) == 8 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT, &list[1].head,
		  list[1].lock, 5);
	take_locks(list[1].lock, 5);
	CHECK(!syscall(SYS_set_robust_list, &list[1].head, sizeof(struct robust_list_head)));
	return 0;
}

TEST_F(list, legacy_and_new)
{
	run_victim(_metadata, &self->victim, hold_legacy_and_new);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list[0].lock, LOCKS_PER_LIST));
	EXPECT_EQ(5, count_died(self->area->list[1].lock, LOCKS_PER_LIST));
}

/* A normal exit is a death like any other. */
TEST_F(list, exit)
{
	int status;

	self->victim.pid = fork_child();
	ASSERT_NE(-1, self->victim.pid);
	if (!self->victim.pid)
		_exit(!!hold_locks(&self->victim));
	ASSERT_EQ(self->victim.pid, waitpid(self->victim.pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/* FUTEX_ROBUST_UNLOCK clears the list_op_pending that it is told about. */
static unsigned int robust_unlock(unsigned int type)
{
	return FUTEX_WAKE | FUTEX_ROBUST_UNLOCK |
	       (type == ROBUST_LIST_32BIT ? FUTEX_ROBUST_LIST32 : 0);
}

static void *pending_of(unsigned int type, union head *head)
{
	return type == ROBUST_LIST_32BIT ? (void *)&head->h32.list_op_pending :
					   (void *)&head->h64.list_op_pending;
}

TEST_F(list, robust_unlock)
{
	struct list *list = self->area->list;

	make_list(variant->type, &list->head, list->lock, 1);
	take_locks(list->lock, 1);
	set_pending(variant->type, &list->head, &list->lock[0]);
	ASSERT_EQ(0, set_robust_list2(&list->head, ROBUST_LIST_NEW, variant->type));
	EXPECT_EQ(0, syscall(SYS_futex, &list->lock[0].futex, robust_unlock(variant->type), 1,
			     NULL, pending_of(variant->type, &list->head), 0));
	EXPECT_EQ(0, atomic_load(&list->lock[0].futex));
	EXPECT_EQ(0, memcmp(pending_of(variant->type, &list->head), "\0\0\0\0\0\0\0\0",
			    variant->pointer_size));
	EXPECT_LIST(0, list, variant->type);
	ASSERT_EQ(0, set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER));
}

/* Where it cannot write the word, it empties the list of that word, and no other. */
TEST_F(list, robust_unlock_fault)
{
	struct list *list = self->area->list;
	union head *head;

	head = mmap((void *)(AREA_ADDRESS + 0x1000000), 4096, PROT_READ,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_NE(MAP_FAILED, head);
	ASSERT_EQ(0, set_robust_list2(list, ROBUST_LIST_NEW, variant->type));
	ASSERT_EQ(1, set_robust_list2(head, ROBUST_LIST_NEW, variant->type));
	ASSERT_EQ(2, set_robust_list2(&head[1], ROBUST_LIST_NEW, variant->type));

	/* The word is not the list_op_pending of a list. */
	take_locks(list->lock, 1);
	EXPECT_EQ(-1, syscall(SYS_futex, &list->lock[0].futex, robust_unlock(variant->type), 1,
			      NULL, &head->h64.next, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, atomic_load(&list->lock[0].futex));
	EXPECT_LIST(1, head, variant->type);

	take_locks(list->lock, 1);
	EXPECT_EQ(-1, syscall(SYS_futex, &list->lock[0].futex, robust_unlock(variant->type), 1,
			      NULL, pending_of(variant->type, head), 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, atomic_load(&list->lock[0].futex));
	EXPECT_LIST(0, list, variant->type);
	EXPECT_LIST(1, NULL, variant->type);
	EXPECT_LIST(2, &head[1], variant->type);
	munmap(head, 4096);
}

/* Somebody else rewrites the pointers while the kernel walks over them. */
static void *rewrite_pointers(void *arg)
{
	struct victim *victim = arg;
	struct area *area = victim->area;
	unsigned int seed = 1;

	while (!atomic_load(&area->list[0].lock[0].futex)) {
		int from = rand_r(&seed) % MANY_LOCKS, to = rand_r(&seed) % MANY_LOCKS;

		store_pointer(victim->type, &area->many[from], &area->many[to], rand_r(&seed) & 1);
	}
	return NULL;
}

TEST_F(list, rewritten_under_the_walk)
{
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, rewrite_pointers, &self->victim));
	for (int i = 0; i < 50; i++)
		run_victim(_metadata, &self->victim, hold_many);
	atomic_store(&self->area->list[0].lock[0].futex, 1);
	pthread_join(thread, NULL);

	/* Each word is the dead owner's, or was marked; what is reachable is chance. */
	for (int i = 0; i < MANY_LOCKS; i++) {
		uint32_t word = atomic_load(&self->area->many[i].futex);

		EXPECT_TRUE(word == FUTEX_OWNER_DIED || word == (uint32_t)self->victim.pid);
	}
}

TEST_HARNESS_MAIN
