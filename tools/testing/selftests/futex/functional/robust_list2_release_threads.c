// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of ROBUST_LIST_RELEASE beside other threads: tasks with the same memory,
 * waiters for PI futexes, and threads that release and exit at the same time.
 */

#define _GNU_SOURCE

#include "robust_list2_caller.h"
#include "robust_list2_release.h"

/*
 * A task releases its list 0, while its second list belongs to another task with the
 * same memory, which holds the locks.
 */
struct sharer {
	struct area	*area;
	unsigned int	type;
	int		line;
};

static int release_own_list(void *arg)
{
	struct sharer *sharer = arg;
	struct list *list = sharer->area->list;

	CHECK(release_list(0) == -1 && errno == ENOENT);
	CHECK(hold_list(sharer->type, &list[1].head, list[1].lock, LOCKS_PER_LIST) == 0);
	CHECK(set_robust_list2(&list[0].head, ROBUST_LIST_NEW, sharer->type) == 1);
	CHECK(release_list(1) == 1);
	CHECK(count_died(list[1].lock, LOCKS_PER_LIST) == 0);
	CHECK(release_list(0) == 0);
	CHECK(count_died(list[1].lock, LOCKS_PER_LIST) == LOCKS_PER_LIST);
	return 0;
}

static int release_as_process(void *arg)
{
	struct sharer *sharer = arg;

	sharer->line = release_own_list(sharer);
	return 0;
}

static void *release_as_thread(void *arg)
{
	release_as_process(arg);
	return NULL;
}

static void expect_only_callers_list(struct __test_metadata *_metadata,
				     struct sharer *sharer, struct list *list)
{
	EXPECT_EQ(0, sharer->line) {
		TH_LOG("the other task failed in line %d", sharer->line);
	}
	EXPECT_LIST(0, &list->head, sharer->type);
	EXPECT_EQ(0, count_died(list->lock, LOCKS_PER_LIST));
}

TEST_F(list, shared_memory)
{
	struct sharer sharer = { .area = self->area, .type = variant->type };
	struct list *list = self->area->list;
	pthread_t thread;
	pid_t child;
	int status;

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, LOCKS_PER_LIST);

	sharer.line = -1;
	child = clone_vm(release_as_process, &sharer);
	ASSERT_NE(-1, child);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	expect_only_callers_list(_metadata, &sharer, list);

	sharer.line = -1;
	ASSERT_EQ(0, pthread_create(&thread, NULL, release_as_thread, &sharer));
	pthread_join(thread, NULL);
	expect_only_callers_list(_metadata, &sharer, list);

	expect_release(_metadata, 0);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
}

/*
 * PI futexes are marked at once, but for waiters the thread stays the owner until it
 * exits. Lock 0 and the pending lock 2 have waiters, lock 1 has none.
 */
static int release_pi_locks(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;

	CHECK(release_list(0) == 0);
	/* The thread is no longer the owner in the futex word. */
	CHECK(unlock_pi(&lock[0].futex) == -1 && errno == EPERM);
	return 0;
}

static void release_when_told(struct victim *victim)
{
	wait_for_word(&victim->area->go);
	atomic_store(&victim->area->tid[0], release_pi_locks(victim));
	set_word(&victim->area->seen);
}

TEST_F(list, pi)
{
	struct lock *lock = self->area->list->lock;
	struct caller waiter[4] = { 0 };
	struct timespec soon;

	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	self->victim.arg = 2;
	self->victim.then = release_when_told;
	start_victim(_metadata, &self->victim, hold_pi_locks);
	for (int i = 0; i < 4; i++) {
		waiter[i].futex = &lock[i & 1 ? 2 : 0].futex;
		waiter[i].unlock = true;
		prepare_caller(_metadata, &waiter[i]);
	}
	tell_caller(&waiter[0]);
	tell_caller(&waiter[1]);
	set_word(&self->area->go);
	wait_for_word(&self->area->seen);
	EXPECT_EQ(0, atomic_load(&self->area->tid[0])) {
		TH_LOG("the owner failed in line %u", atomic_load(&self->area->tid[0]));
	}
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock[0].futex));
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&lock[1].futex));
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock[2].futex));

	/* New waiters queue behind the others, and FUTEX_TRYLOCK_PI gets no lock. */
	tell_caller(&waiter[2]);
	tell_caller(&waiter[3]);
	for (int i = 0; i < 3; i += 2) {
		EXPECT_EQ(-1, trylock_pi(&lock[i].futex));
		EXPECT_EQ(EAGAIN, errno);
		clock_gettime(CLOCK_REALTIME, &soon);
		EXPECT_EQ(-1, lock_pi(&lock[i].futex, &soon));
		EXPECT_EQ(ETIMEDOUT, errno);
	}
	EXPECT_EQ(0, trylock_pi(&lock[1].futex));
	EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(&lock[1].futex));
	EXPECT_EQ(0, unlock_pi(&lock[1].futex));
	for (int i = 0; i < 4; i++)
		EXPECT_TRUE(is_waiting(&waiter[i]));

	kill_victim(_metadata, &self->victim);
	for (int i = 0; i < 4; i++) {
		futex_thread_destroy(&waiter[i].thread);
		EXPECT_EQ(0, waiter[i].error);
		EXPECT_EQ(waiter[i].thread.tid, waiter[i].word & FUTEX_TID_MASK);
		if (i < 2)
			EXPECT_NE(0, waiter[i].word & FUTEX_OWNER_DIED);
	}
	EXPECT_EQ(0, atomic_load(&lock[0].futex) & FUTEX_TID_MASK);
	EXPECT_EQ(0, atomic_load(&lock[2].futex) & FUTEX_TID_MASK);
}

/*
 * Threads release their lists in a loop, while other threads with lists start and exit.
 * However the process ends, no lock keeps a dead owner.
 */
#define RELEASERS	4

static struct churn {
	struct victim	*victim;
	atomic_int	next;
} churn;

static int release_once(struct victim *victim, struct list *list)
{
	long index = set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type);

	CHECK(index == 0);
	take_locks(list->lock, LOCKS_PER_LIST);
	CHECK(release_list(index) == index);
	CHECK(count_died(list->lock, LOCKS_PER_LIST) == LOCKS_PER_LIST);
	atomic_fetch_add(&victim->area->seen, 1);
	return 0;
}

static void *release_for_ever(void *arg)
{
	struct victim *victim = churn.victim;
	struct list *list = &victim->area->list[atomic_fetch_add(&churn.next, 1)];
	int line;

	(void)arg;
	make_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST);
	do
		line = release_once(victim, list);
	while (!line);
	atomic_store(&victim->area->tid[0], line);
	return NULL;
}

static void *hold_and_exit(void *arg)
{
	struct victim *victim = churn.victim;
	struct list *list = &victim->area->list[RELEASERS];

	(void)arg;
	make_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST);
	set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type);
	/* Takes the locks last, because the process may end at any time. */
	take_locks(list->lock, LOCKS_PER_LIST);
	return NULL;
}

static void end_when_told(struct victim *victim)
{
	while (!atomic_load(&victim->area->go)) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, hold_and_exit, NULL) ||
		    pthread_join(thread, NULL))
			_exit(3);
		if (count_died(victim->area->list[RELEASERS].lock, LOCKS_PER_LIST) !=
		    LOCKS_PER_LIST)
			_exit(4);
		atomic_fetch_add(&victim->area->stop, 1);
	}
	end_itself(victim);
}

static int start_releasers(struct victim *victim)
{
	pthread_t thread;

	churn.victim = victim;
	victim->then = end_when_told;
	for (int i = 0; i < RELEASERS; i++)
		CHECK(!pthread_create(&thread, NULL, release_for_ever, NULL));
	return 0;
}

TEST_F_TIMEOUT(list, threads, 300)
{
	struct area *area = self->area;
	int status;

	for (int round = 0; round < 60; round++) {
		self->victim.arg = round % 3;
		atomic_store(&area->go, 0);
		atomic_store(&area->stop, 0);
		atomic_store(&area->seen, 0);
		memset(area->list, 0, sizeof(area->list));
		start_victim(_metadata, &self->victim, start_releasers);
		while (!atomic_load(&area->tid[0]) && process_state(self->victim.pid) != 'Z' &&
		       (atomic_load(&area->seen) < 100U + 7 * round ||
			atomic_load(&area->stop) < 2))
			sched_yield();
		if (self->victim.arg == KILL)
			EXPECT_EQ(0, kill(self->victim.pid, SIGKILL));
		atomic_store(&area->go, 1);
		ASSERT_EQ(self->victim.pid, waitpid(self->victim.pid, &status, 0));
		EXPECT_EQ(self->victim.arg == KILL ? SIGKILL : 0, status);
		ASSERT_EQ(0, atomic_load(&area->tid[0])) {
			TH_LOG("a thread failed in line %u", atomic_load(&area->tid[0]));
		}
		for (int i = 0; i <= RELEASERS; i++)
			for (int j = 0; j < LOCKS_PER_LIST; j++)
				ASSERT_EQ(0, atomic_load(&area->list[i].lock[j].futex) &
					     FUTEX_TID_MASK);
	}
}

TEST_HARNESS_MAIN
