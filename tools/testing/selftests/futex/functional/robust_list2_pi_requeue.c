// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of FUTEX_CMP_REQUEUE_PI to futexes whose owner walks its lists of
 * set_robust_list2(). The requeuer does not wait for the walk, and requeued waiters
 * wait as in FUTEX_LOCK_PI.
 */

#define _GNU_SOURCE

#include "robust_list2_pi.h"

/* Of the requeued waiters, one gets a marked futex, and the others wait for the owner. */
TEST_F_TIMEOUT(walk, requeue, 300)
{
	struct caller caller[3] = {
		{ .futex = self->first }, { .futex = self->last }, { .futex = self->apart },
	};
	struct lock *cond = self->area->list[2].lock;

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 3; i++) {
		caller[i].call = call_wait_requeue_pi;
		caller[i].cond = &cond[i].futex;
		prepare_caller(_metadata, &caller[i]);
		tell_caller(&caller[i]);
	}
	begin_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(1, requeue_pi(&cond[i].futex, caller[i].futex));
		EXPECT_IN_THE_WALK();
	}
	while (is_waiting(&caller[0]) && !walk_over(self->lock))
		nap();
	EXPECT_FALSE(is_waiting(&caller[0]));
	EXPECT_TRUE(is_waiting(&caller[1]));
	EXPECT_TRUE(is_waiting(&caller[2]));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 3; i++)
		expect_got_lock(_metadata, &caller[i]);
}

/* Two waiters for one futex: the second one follows the first. */
TEST_F_TIMEOUT(walk, requeue_two, 300)
{
	struct caller caller[2] = {
		{ .futex = self->last, .unlock = true }, { .futex = self->last, .unlock = true },
	};
	atomic_uint *cond = &self->area->list[2].lock[0].futex;

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 2; i++) {
		caller[i].call = call_wait_requeue_pi;
		caller[i].cond = cond;
		prepare_caller(_metadata, &caller[i]);
		tell_caller(&caller[i]);
	}
	begin_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(2, requeue_pi(cond, self->last));
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(is_waiting(&caller[i]));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 2; i++) {
		futex_thread_destroy(&caller[i].thread);
		EXPECT_EQ(0, caller[i].error);
		EXPECT_EQ(caller[i].thread.tid, caller[i].word & FUTEX_TID_MASK);
	}
	EXPECT_EQ(0, atomic_load(self->last) & FUTEX_TID_MASK);
}

/* The timeout of a requeued waiter ends its wait. */
TEST_F_TIMEOUT(walk, requeue_timeout, 300)
{
	struct caller caller = { .futex = self->last, .call = call_wait_requeue_pi };
	struct timespec time;

	caller.cond = &self->area->list[2].lock[0].futex;
	start_victim(_metadata, &self->victim, become_owner);
	/* The timeout of FUTEX_WAIT_REQUEUE_PI is CLOCK_MONOTONIC here. */
	time = in_milliseconds(CLOCK_MONOTONIC, 0);
	time.tv_sec += WAIT_SECONDS;
	caller.timeout = &time;
	prepare_caller(_metadata, &caller);
	begin_walk(_metadata, &self->victim, self->lock);
	time = in_milliseconds(CLOCK_MONOTONIC, 900);
	tell_caller(&caller);
	EXPECT_EQ(1, requeue_pi(caller.cond, self->last));
	EXPECT_TRUE(is_waiting(&caller));
	/* The busy wait keeps the owner off the CPU. */
	while (!is_past(CLOCK_MONOTONIC, &time))
		;
	while (is_waiting(&caller) && !walk_over(self->lock))
		nap();
	EXPECT_IN_THE_WALK();
	futex_thread_destroy(&caller.thread);
	EXPECT_EQ(ETIMEDOUT, caller.error);
	finish_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->last));
}

/* The requeuer is killed during the walk: no waiter depends on it. */
TEST_F_TIMEOUT(walk, killed_requeuer, 300)
{
	struct caller caller = { .futex = self->last, .call = call_wait_requeue_pi };
	pid_t requeuer;

	caller.cond = &self->area->list[2].lock[0].futex;
	requeuer = start_process(_metadata, self->area);
	if (!requeuer) {
		atomic_store(&self->area->seen, requeue_pi(caller.cond, self->last) == 1 ? 2 : 3);
		for (;;)
			pause();
	}
	wait_for_process(self->area, requeuer, 1);
	start_victim(_metadata, &self->victim, become_owner);
	prepare_caller(_metadata, &caller);
	tell_caller(&caller);
	begin_walk(_metadata, &self->victim, self->lock);
	set_word(&self->area->stop);
	while (atomic_load(&self->area->seen) < 2 && !walk_over(self->lock))
		nap();
	EXPECT_EQ(2, atomic_load(&self->area->seen));
	kill_process(_metadata, requeuer);
	EXPECT_TRUE(is_waiting(&caller));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	expect_got_lock(_metadata, &caller);
}

/* A requeued waiter is killed, and the next one gets the lock. */
TEST_F_TIMEOUT(walk, killed_requeued_waiter, 300)
{
	atomic_uint *cond = &self->area->list[2].lock[0].futex;
	struct caller caller = { .futex = self->last };
	pid_t waiter;

	waiter = start_process(_metadata, self->area);
	if (!waiter) {
		atomic_store(&self->area->seen, 2);
		wait_requeue_pi(cond, NULL, self->last);
		_exit(0);
	}
	wait_for_process(self->area, waiter, 1);
	set_word(&self->area->stop);
	wait_for_process(self->area, waiter, 2);
	start_victim(_metadata, &self->victim, become_owner);
	prepare_caller(_metadata, &caller);
	begin_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(1, requeue_pi(cond, self->last));
	tell_caller(&caller);
	EXPECT_TRUE(is_waiting(&caller));
	kill_process(_metadata, waiter);
	EXPECT_TRUE(is_waiting(&caller));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	expect_got_lock(_metadata, &caller);
}

TEST_HARNESS_MAIN
