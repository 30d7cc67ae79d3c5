// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of exec, which ends the old program but not the process: what happens to the
 * lists of set_robust_list2() and to their locks.
 */

#define _GNU_SOURCE

#include "robust_list2_exec.h"

/* The thread that execs, and the type of its lists */
FIXTURE(exec) {
	struct victim victim;
	struct area *area;
	int fd[2];
};

FIXTURE_VARIANT(exec) {
	unsigned int type;
	bool from_thread;
};

FIXTURE_VARIANT_ADD(exec, leader32) {
	.type = ROBUST_LIST_32BIT,
};

FIXTURE_VARIANT_ADD(exec, thread32) {
	.type = ROBUST_LIST_32BIT,
	.from_thread = true,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(exec, leader64) {
	.type = ROBUST_LIST_64BIT,
};

FIXTURE_VARIANT_ADD(exec, thread64) {
	.type = ROBUST_LIST_64BIT,
	.from_thread = true,
};
#endif

FIXTURE_SETUP(exec)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	self->area = map_area(_metadata);
	self->victim.area = self->area;
	self->victim.type = variant->type;
	ASSERT_EQ(0, pipe(self->fd));
	/* The new program inherits and writes only fd[1]. */
	ASSERT_EQ(0, fcntl(self->fd[0], F_SETFD, FD_CLOEXEC));
}

FIXTURE_TEARDOWN(exec)
{
	unmap_area(_metadata, self->area);
}

#define start_exec(prepare_fn)						\
	do {								\
		exec.prepare = (prepare_fn);				\
		exec.fd = self->fd[1];					\
		exec.from_thread = variant->from_thread;		\
		atomic_store(&self->area->go, 0);			\
		start_victim(_metadata, &self->victim, prepare_exec);	\
	} while (0)

/* Returns when the new program runs and has reported success. */
static void finish_exec(struct __test_metadata *_metadata, struct area *area, int fd)
{
	int line = -1;

	atomic_store(&area->go, 1);
	ASSERT_EQ(sizeof(line), read(fd, &line, sizeof(line)));
	EXPECT_EQ(0, line) {
		TH_LOG("the new program failed in line %d", line);
	}
}

TEST_F(exec, locks)
{
	start_exec(hold_locks);
	finish_exec(_metadata, self->area, self->fd[0]);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
	kill_victim(_metadata, &self->victim);
}

TEST_F(exec, all_lists)
{
	const int lists = lists_per_thread();

	start_exec(hold_all_lists);
	finish_exec(_metadata, self->area, self->fd[0]);
	for (int i = 0; i < lists; i++)
		EXPECT_EQ(i % LOCKS_PER_LIST, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
	kill_victim(_metadata, &self->victim);
}

TEST_F(exec, waiters_woken)
{
	struct lock *lock = self->area->list->lock;
	struct waiter waiter[LOCKS_PER_LIST];

	start_exec(hold_locks);
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		start_waiter(_metadata, &waiter[i], &lock[i].futex);
	finish_exec(_metadata, self->area, self->fd[0]);
	for (int i = 0; i < LOCKS_PER_LIST; i++) {
		EXPECT_TRUE(finish_waiter(&waiter[i]));
		EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock[i].futex));
	}
	kill_victim(_metadata, &self->victim);
}

TEST_F(exec, list_op_pending)
{
	self->victim.arg = 2;
	start_exec(hold_pending);
	finish_exec(_metadata, self->area, self->fd[0]);
	EXPECT_EQ(3, count_died(self->area->list->lock, LOCKS_PER_LIST));
	kill_victim(_metadata, &self->victim);
}

/*
 * The other threads of the process die in the exec, with lists of their own. If another
 * thread than the leader execs, the leader dies too, and that thread takes its TID.
 */
static int hold_other_list(struct victim *victim, int n)
{
	struct list *list = &victim->area->list[n];

	CHECK(hold_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST) == 0);
	return 0;
}

static void *hold_in_other_thread(void *arg)
{
	struct victim *victim = arg;

	if (hold_other_list(victim, 1))
		_exit(3);
	atomic_store(&victim->area->seen, 1);
	for (;;)
		pause();
	return NULL;
}

static int hold_in_all_threads(struct victim *victim)
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, hold_in_other_thread, victim));
	while (!atomic_load(&victim->area->seen))
		sched_yield();
	if (exec.from_thread)
		CHECK(!hold_other_list(victim, 2));
	return prepare_exec(victim);
}

TEST_F(exec, other_threads)
{
	const int threads = variant->from_thread ? 3 : 2;

	exec.prepare = hold_locks;
	exec.fd = self->fd[1];
	exec.from_thread = variant->from_thread;
	start_victim(_metadata, &self->victim, hold_in_all_threads);
	finish_exec(_metadata, self->area, self->fd[0]);
	for (int i = 0; i < threads; i++)
		EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
	kill_victim(_metadata, &self->victim);
}

/* An exec that fails ends no program and walks no list. */
static int fail_to_exec(struct victim *victim)
{
	char name[] = "none", *argv[] = { name, NULL };
	uint64_t head = 0;

	CHECK(!hold_locks(victim));
	CHECK(execve("/proc/self/none", argv, argv + 1) == -1 && errno == ENOENT);
	CHECK(execve("/proc/self/status", argv, argv + 1) == -1 && errno == EACCES);
	/* The program exists, but the kernel cannot read its arguments. */
	argv[0] = (char *)8;
	CHECK(execve("/proc/self/exe", argv, argv + 1) == -1 && errno == EFAULT);
	CHECK(!count_died(victim->area->list->lock, LOCKS_PER_LIST));
	CHECK(get_robust_list2(0, &head, 0, 0) == (long)victim->type);
	CHECK(head == (uintptr_t)victim->area->list);
	return 0;
}

TEST_F(exec, failed)
{
	start_exec(fail_to_exec);
	EXPECT_EQ(0, count_died(self->area->list->lock, LOCKS_PER_LIST));
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/*
 * A waiter gets its PI lock, whether the lock is on the list, pending, or only in the
 * PI state of the owner.
 */
TEST_F(exec, pi_locks)
{
	struct lock *lock = self->area->list->lock;
	struct futex_thread waiter[3];

	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	self->victim.arg = 1;
	start_exec(hold_pi_locks);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, futex_thread_create(&waiter[i], wait_for_pi, &lock[i].futex));
		while (!(atomic_load(&lock[i].futex) & FUTEX_WAITERS) ||
		       thread_state(waiter[i].tid) != 'S')
			sched_yield();
	}
	finish_exec(_metadata, self->area, self->fd[0]);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0, futex_thread_destroy(&waiter[i]));
		EXPECT_EQ(waiter[i].tid, atomic_load(&lock[i].futex) & FUTEX_TID_MASK);
		EXPECT_NE(0, atomic_load(&lock[i].futex) & FUTEX_OWNER_DIED);
	}
	kill_victim(_metadata, &self->victim);
}

/* Without a waiter, a later caller gets the lock. */
TEST_F(exec, pi_locks_later)
{
	struct lock *lock = self->area->list->lock;

	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	self->victim.arg = 1;
	start_exec(hold_pi_locks);
	finish_exec(_metadata, self->area, self->fd[0]);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&lock[i].futex));
		EXPECT_EQ(0, lock_pi(&lock[i].futex, NULL));
		EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(&lock[i].futex));
		EXPECT_EQ(0, unlock_pi(&lock[i].futex));
	}
	kill_victim(_metadata, &self->victim);
}

/*
 * A process registers lists and execs in a loop. A reader gets the list of the old
 * program, of the new program, or none.
 */
static int watch_execs(struct victim *victim)
{
	struct area *area = victim->area;
	int last = lists_per_thread() - 1;

	for (int n = 0; !atomic_load(&area->stop); n++) {
		int tid = atomic_load(&area->tid[n & 1]);
		uint64_t head = ~0ULL;
		long ret;

		if (!tid)
			continue;
		ret = get_robust_list2(tid, &head, last, 0);
		if (ret == -1) {
			CHECK(errno == ESRCH || errno == ENOENT);
			continue;
		}
		CHECK(ret == (last & 1 ? ROBUST_LIST_32BIT : (long)victim->type) ||
		      (ret == ROBUST_LIST_32BIT && head == NEW_HEAD));
		CHECK(head == NEW_HEAD || head == (uintptr_t)&area->list[last].head);
		atomic_fetch_add(&area->seen, 1);
	}
	return 0;
}

static int hold_all_and_tell(struct victim *victim)
{
	CHECK(!hold_all_lists(victim));
	/* TIDs of the thread that execs, before and after the exec */
	atomic_store(&victim->area->tid[0], gettid32());
	atomic_store(&victim->area->tid[1], getpid());
	return 0;
}

/* Enough rounds for the reader to see a list on a busy machine */
#define EXEC_ROUNDS	20
#define MAX_EXEC_ROUNDS	500

TEST_F_TIMEOUT(exec, get_meanwhile, 300)
{
	struct victim reader = self->victim;
	int status;

	reader.pid = fork_child();
	ASSERT_NE(-1, reader.pid);
	if (!reader.pid)
		_exit(!!watch_execs(&reader));

	for (int i = 0; i < MAX_EXEC_ROUNDS; i++) {
		if (i >= EXEC_ROUNDS && atomic_load(&self->area->seen))
			break;
		start_exec(hold_all_and_tell);
		finish_exec(_metadata, self->area, self->fd[0]);
		kill_victim(_metadata, &self->victim);
	}
	atomic_store(&self->area->stop, 1);
	ASSERT_EQ(reader.pid, waitpid(reader.pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_LT(0, atomic_load(&self->area->seen));
}

TEST_HARNESS_MAIN
