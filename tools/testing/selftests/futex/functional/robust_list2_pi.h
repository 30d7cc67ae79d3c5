/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An owner of PI futexes that walks its lists of set_robust_list2() at exit or exec,
 * and threads that lock those futexes during the walk.
 *
 * The callers need a walk that is halfway: the futex of the first entry is marked, and
 * that of the last one is not. So all threads share one CPU, the list is long, the
 * owner is SCHED_IDLE, and the test has a real-time priority. The owner runs only while
 * the test sleeps, the naps are short, and a thread that wakes up preempts the owner at
 * once.
 *
 * userfaultfd cannot stop an exiting owner: it raises SIGBUS instead.
 */

#ifndef _ROBUST_LIST2_PI_H
#define _ROBUST_LIST2_PI_H

#include "robust_list2_caller.h"
#include "robust_list2_exec.h"

#define TEST_PRIORITY	50
/* Below TEST_PRIORITY, so that a boosted owner also runs only while the test sleeps */
#define BOOST_PRIORITY	10

/* Long enough for hundreds of naps of the test */
#define WALK_LOCKS	524288

enum death { EXIT, EXEC_BY_LEADER, EXEC_BY_THREAD };

FIXTURE(walk) {
	struct victim victim;
	struct area *area;
	struct lock *lock;
	/* PI futexes: marked first, marked last, and on no list */
	atomic_uint *first, *last, *apart;
};

FIXTURE_VARIANT(walk) {
	unsigned int type;
	enum death death;
};

FIXTURE_VARIANT_ADD(walk, exit32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXIT,
};

FIXTURE_VARIANT_ADD(walk, exec_by_leader32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXEC_BY_LEADER,
};

FIXTURE_VARIANT_ADD(walk, exec_by_thread32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXEC_BY_THREAD,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(walk, exit64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXIT,
};

FIXTURE_VARIANT_ADD(walk, exec_by_leader64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXEC_BY_LEADER,
};

FIXTURE_VARIANT_ADD(walk, exec_by_thread64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXEC_BY_THREAD,
};
#endif

FIXTURE_SETUP(walk)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	if (!pin_to_one_cpu(_metadata, TEST_PRIORITY))
		SKIP(return, "needs the right to have real-time priority");

	self->area = map_area(_metadata);
	self->lock = map_shared(_metadata, LOCKS_ADDRESS, WALK_LOCKS * sizeof(struct lock));
	self->first = &self->lock[0].futex;
	self->last = &self->lock[WALK_LOCKS - 1].futex;
	self->apart = &self->area->list[1].lock[0].futex;
	self->victim.area = self->area;
	self->victim.type = variant->type;
	self->victim.arg = variant->death;
}

FIXTURE_TEARDOWN(walk)
{
	if (!self->area)
		return;
	unmap_area(_metadata, self->area);
	munmap(self->lock, WALK_LOCKS * sizeof(struct lock));
}

static inline int own_locks(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list->head, lock, WALK_LOCKS) == 0);
	store_pointer(victim->type, &list->head, &lock[0], FUTEX_ROBUST_MOD_PI);
	store_pointer(victim->type, &lock[WALK_LOCKS - 2], &lock[WALK_LOCKS - 1],
		      FUTEX_ROBUST_MOD_PI);
	take_locks(list[1].lock, 1);
	atomic_store(&victim->area->tid[0], gettid32());
	return 0;
}

/* Takes the locks of the owner */
static int (*own)(struct victim *victim) = own_locks;

static inline int become_owner(struct victim *victim)
{
	struct sched_param param = { .sched_priority = 0 };

	CHECK(!setpriority(PRIO_PROCESS, 0, 19));
	CHECK(!sched_setscheduler(0, SCHED_IDLE, &param));
	if (victim->arg == EXIT)
		return own(victim);
	exec.prepare = own;
	exec.from_thread = victim->arg == EXEC_BY_THREAD;
	return prepare_exec(victim);
}

static inline bool walk_begun(struct lock *lock)
{
	return atomic_load(&lock[1].futex) == FUTEX_OWNER_DIED;
}

static inline bool walk_over(struct lock *lock)
{
	return atomic_load(&lock[WALK_LOCKS - 2].futex) == FUTEX_OWNER_DIED;
}

#define EXPECT_IN_THE_WALK()						\
	do {								\
		EXPECT_TRUE(walk_begun(self->lock));			\
		EXPECT_FALSE(walk_over(self->lock)) {			\
			TH_LOG("the owner has ended its walk meanwhile"); \
		}							\
	} while (0)

static inline void begin_walk(struct __test_metadata *_metadata, struct victim *victim,
			      struct lock *lock)
{
	if (victim->arg == EXIT)
		ASSERT_EQ(0, kill(victim->pid, SIGKILL));
	atomic_store(&victim->area->go, 1);
	while (!walk_begun(lock))
		nap();
	ASSERT_FALSE(walk_over(lock));
}

static inline void finish_walk(struct __test_metadata *_metadata, struct victim *victim,
			       struct lock *lock)
{
	int status;

	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	EXPECT_EQ(victim->arg == EXIT ? SIGKILL : 0, status);
	EXPECT_EQ(WALK_LOCKS - 2, count_died(&lock[1], WALK_LOCKS - 2));
}

static inline struct timespec in_milliseconds(clockid_t clock, int ms)
{
	struct timespec time;

	clock_gettime(clock, &time);
	time.tv_nsec += ms * 1000000;
	if (time.tv_nsec >= 1000000000) {
		time.tv_nsec -= 1000000000;
		time.tv_sec++;
	}
	return time;
}

static inline bool is_past(clockid_t clock, const struct timespec *time)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec > time->tv_sec ||
	       (now.tv_sec == time->tv_sec && now.tv_nsec >= time->tv_nsec);
}

/* Starts a process for the test to kill. The child returns on request of the test. */
static inline pid_t start_process(struct __test_metadata *_metadata, struct area *area)
{
	pid_t pid;

	atomic_store(&area->seen, 0);
	atomic_store(&area->stop, 0);
	pid = fork_child();
	ASSERT_NE(-1, pid);
	if (!pid) {
		setpriority(PRIO_PROCESS, 0, -20);
		atomic_store(&area->seen, 1);
		wait_for_word(&area->stop);
	}
	return pid;
}

/* Waits until "seen" has the value and the process sleeps. */
static inline void wait_for_process(struct area *area, pid_t pid, unsigned int value)
{
	while (atomic_load(&area->seen) < value || process_state(pid) != 'S')
		nap();
}

static inline void kill_process(struct __test_metadata *_metadata, pid_t pid)
{
	int status;
	pid_t got;

	ASSERT_EQ(0, kill(pid, SIGKILL));
	while (!(got = waitpid(pid, &status, WNOHANG)))
		nap();
	ASSERT_EQ(pid, got);
	EXPECT_TRUE(WIFSIGNALED(status));
}

#endif
