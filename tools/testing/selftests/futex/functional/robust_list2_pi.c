// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI while the owner walks its lists of
 * set_robust_list2(). Waiters see it as any other owner.
 */

#define _GNU_SOURCE

#include "robust_list2_pi.h"

/*
 * Waiters from before the walk wait until the walk ends, whether or not the futex is
 * marked.
 */
TEST_F_TIMEOUT(walk, waiters_before, 300)
{
	struct caller caller[3] = {
		{ .futex = self->first }, { .futex = self->last }, { .futex = self->apart },
	};

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 3; i++) {
		prepare_caller(_metadata, &caller[i]);
		tell_caller(&caller[i]);
		EXPECT_TRUE(is_waiting(&caller[i]));
	}
	begin_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->first));
	for (int i = 0; i < 3; i++)
		EXPECT_TRUE(is_waiting(&caller[i]));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 3; i++)
		expect_got_lock(_metadata, &caller[i]);
}

/*
 * Waiters that arrive during the walk: a marked futex goes to its waiter at once, and
 * the other waiters wait for the owner.
 */
TEST_F_TIMEOUT(walk, waiters_meanwhile, 300)
{
	struct caller caller[3] = {
		{ .futex = self->first }, { .futex = self->last }, { .futex = self->apart },
	};

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 3; i++)
		prepare_caller(_metadata, &caller[i]);
	begin_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 3; i++)
		tell_caller(&caller[i]);
	EXPECT_IN_THE_WALK();
	EXPECT_FALSE(is_waiting(&caller[0]));
	EXPECT_TRUE(is_waiting(&caller[1]));
	EXPECT_TRUE(is_waiting(&caller[2]));
	expect_got_lock(_metadata, &caller[0]);
	finish_walk(_metadata, &self->victim, self->lock);
	expect_got_lock(_metadata, &caller[1]);
	expect_got_lock(_metadata, &caller[2]);
}

/* A marked futex with a waiter from before the walk: a new waiter queues behind that one. */
TEST_F_TIMEOUT(walk, waiter_behind_waiter, 300)
{
	struct caller caller[4] = {
		{ .futex = self->first, .unlock = true }, { .futex = self->first, .unlock = true },
		{ .futex = self->last, .unlock = true }, { .futex = self->last, .unlock = true },
	};
	int died[2] = { 0, 0 };

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 4; i++)
		prepare_caller(_metadata, &caller[i]);
	tell_caller(&caller[0]);
	tell_caller(&caller[2]);
	begin_walk(_metadata, &self->victim, self->lock);
	tell_caller(&caller[1]);
	tell_caller(&caller[3]);
	for (int i = 0; i < 4; i++)
		EXPECT_TRUE(is_waiting(&caller[i]));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);

	/* The waiters get the lock in turn, and the first one learns that the owner died. */
	for (int i = 0; i < 4; i++) {
		futex_thread_destroy(&caller[i].thread);
		EXPECT_EQ(0, caller[i].error);
		EXPECT_EQ(caller[i].thread.tid, caller[i].word & FUTEX_TID_MASK);
		died[i / 2] += !!(caller[i].word & FUTEX_OWNER_DIED);
	}
	EXPECT_LE(1, died[0]);
	EXPECT_LE(1, died[1]);
	EXPECT_EQ(0, atomic_load(self->first) & FUTEX_TID_MASK);
	EXPECT_EQ(0, atomic_load(self->last) & FUTEX_TID_MASK);
}

/* A caller after the walk finds the mark, and no owner. */
TEST_F_TIMEOUT(walk, after, 300)
{
	start_victim(_metadata, &self->victim, become_owner);
	begin_walk(_metadata, &self->victim, self->lock);
	finish_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(self->first));
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(self->last));
	EXPECT_EQ(0, trylock_pi(self->first));
	EXPECT_EQ(0, lock_pi(self->last, NULL));
	EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(self->first));
	EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(self->last));
	EXPECT_EQ(-1, lock_pi(self->apart, NULL));
	EXPECT_EQ(ESRCH, errno);
}

/* FUTEX_TRYLOCK_PI does not block. */
TEST_F_TIMEOUT(walk, trylock, 300)
{
	start_victim(_metadata, &self->victim, become_owner);
	begin_walk(_metadata, &self->victim, self->lock);

	EXPECT_EQ(-1, trylock_pi(self->last));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_IN_THE_WALK();
	EXPECT_EQ(-1, trylock_pi(self->apart));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_IN_THE_WALK();
	EXPECT_EQ(0, trylock_pi(self->first));
	EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(self->first));
	EXPECT_IN_THE_WALK();

	finish_walk(_metadata, &self->victim, self->lock);
	/* The attempt does not prevent the walk from marking the futex. */
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->last));
}

TEST_F_TIMEOUT(walk, timeout, 300)
{
	struct caller caller[2] = { { .futex = self->last }, { .futex = self->apart } };
	struct timespec time;

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 2; i++) {
		caller[i].timeout = &time;
		prepare_caller(_metadata, &caller[i]);
	}
	begin_walk(_metadata, &self->victim, self->lock);
	time = in_milliseconds(CLOCK_REALTIME, 200);
	for (int i = 0; i < 2; i++)
		tell_caller(&caller[i]);
	/* The busy wait keeps all other threads off the CPU. */
	while (!is_past(CLOCK_REALTIME, &time))
		;
	for (int i = 0; i < 2; i++) {
		while (is_waiting(&caller[i]))
			nap();
		futex_thread_destroy(&caller[i].thread);
		EXPECT_EQ(ETIMEDOUT, caller[i].error);
	}
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->last));
}

static atomic_int signals;

static void count_signal(int signal)
{
	(void)signal;
	atomic_fetch_add(&signals, 1);
}

/* A signal handler runs at once, and the call restarts. */
TEST_F_TIMEOUT(walk, signal, 300)
{
	struct sigaction action = { .sa_handler = count_signal };
	struct caller caller[2] = { { .futex = self->last }, { .futex = self->apart } };

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 2; i++)
		prepare_caller(_metadata, &caller[i]);
	begin_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 2; i++) {
		tell_caller(&caller[i]);
		EXPECT_EQ(0, pthread_kill(caller[i].thread.thread, SIGUSR1));
		while (atomic_load(&signals) == i && !walk_over(self->lock))
			nap();
		EXPECT_EQ(i + 1, atomic_load(&signals));
		EXPECT_TRUE(is_waiting(&caller[i]));
	}
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 2; i++)
		expect_got_lock(_metadata, &caller[i]);
}

/* A fatal signal ends a waiter at once, and leaves no trace of it in the futex word. */
TEST_F_TIMEOUT(walk, killed_waiter, 300)
{
	pid_t waiter;

	waiter = start_process(_metadata, self->area);
	if (!waiter) {
		atomic_store(&self->area->seen, 2);
		lock_pi(self->last, NULL);
		_exit(0);
	}
	wait_for_process(self->area, waiter, 1);
	start_victim(_metadata, &self->victim, become_owner);
	begin_walk(_metadata, &self->victim, self->lock);
	set_word(&self->area->stop);
	while (!walk_over(self->lock) &&
	       (atomic_load(&self->area->seen) < 2 ||
		!(atomic_load(self->last) & FUTEX_WAITERS) || process_state(waiter) != 'S'))
		nap();
	EXPECT_IN_THE_WALK();
	kill_process(_metadata, waiter);
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->last));
	EXPECT_EQ(0, lock_pi(self->last, NULL));
}

/* Returns the priority of the owner in the scale of /proc, where 39 is nice 19. */
static int priority_of(struct victim *victim)
{
	char stat[512], *field = stat;

	read_stat(victim->pid, atomic_load(&victim->area->tid[0]), stat, sizeof(stat));
	/* The priority is field 18, and the line starts with field 3. */
	for (int i = 3; field && i < 18; i++) {
		field = strchr(field, ' ');
		if (field)
			field++;
	}
	return field ? atoi(field) : INT_MAX;
}

#define NICE_PRIORITY	39

/* A waiter boosts a walking owner like any other. */
TEST_F_TIMEOUT(walk, priority_inheritance, 300)
{
	struct caller caller[2] = { { .futex = self->last }, { .futex = self->first } };

	start_victim(_metadata, &self->victim, become_owner);
	for (int i = 0; i < 2; i++) {
		caller[i].priority = BOOST_PRIORITY + i;
		prepare_caller(_metadata, &caller[i]);
	}
	EXPECT_EQ(NICE_PRIORITY, priority_of(&self->victim));
	begin_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(NICE_PRIORITY, priority_of(&self->victim));
	tell_caller(&caller[0]);
	EXPECT_TRUE(is_waiting(&caller[0]));
	EXPECT_EQ(-1 - BOOST_PRIORITY, priority_of(&self->victim));
	/* The owner no longer owns a marked futex, so its waiter does not boost the owner. */
	tell_caller(&caller[1]);
	EXPECT_FALSE(is_waiting(&caller[1]));
	EXPECT_EQ(-1 - BOOST_PRIORITY, priority_of(&self->victim));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 2; i++)
		expect_got_lock(_metadata, &caller[i]);
}

/* The boost by a waiter from before the walk */
TEST_F_TIMEOUT(walk, priority_inherited_before, 300)
{
	struct caller caller = { .futex = self->first, .priority = BOOST_PRIORITY };

	start_victim(_metadata, &self->victim, become_owner);
	prepare_caller(_metadata, &caller);
	tell_caller(&caller);
	EXPECT_EQ(-1 - BOOST_PRIORITY, priority_of(&self->victim));
	begin_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(-1 - BOOST_PRIORITY, priority_of(&self->victim));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	expect_got_lock(_metadata, &caller);
}

/*
 * The walk runs freely, and the threads use all CPUs: waiters arrive before, during and
 * after the marking of their word. Each one gets its lock.
 */
#define STORM_ROUNDS	50

static int own_few_locks(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_pi_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST);
	take_locks(list->lock, LOCKS_PER_LIST);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

static int call_lock_pi_later(struct caller *caller)
{
	unsigned int seed = gettid32();

	for (int n = rand_r(&seed) % 20000; n; n--)
		atomic_load(caller->futex);
	return lock_pi(caller->futex, NULL);
}

static void storm(struct __test_metadata *_metadata, struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;
	struct caller caller[LOCKS_PER_LIST / 4];
	int status;

	memset(caller, 0, sizeof(caller));
	atomic_store(&victim->area->go, 0);
	start_victim(_metadata, victim, become_owner);
	for (int i = 0; i < LOCKS_PER_LIST / 4; i++) {
		caller[i].futex = &lock[4 * i].futex;
		caller[i].call = call_lock_pi_later;
		prepare_caller(_metadata, &caller[i]);
	}
	for (int i = 0; i < LOCKS_PER_LIST / 4; i++)
		set_word(&caller[i].told);
	if (victim->arg == EXIT)
		ASSERT_EQ(0, kill(victim->pid, SIGKILL));
	atomic_store(&victim->area->go, 1);
	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	for (int i = 0; i < LOCKS_PER_LIST; i++) {
		if (i % 4)
			EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&lock[i].futex));
	}
	for (int i = 0; i < LOCKS_PER_LIST / 4; i++)
		expect_got_lock(_metadata, &caller[i]);
}

FIXTURE(storm) {
	struct victim victim;
	struct area *area;
};

FIXTURE_VARIANT(storm) {
	unsigned int type;
	enum death death;
};

FIXTURE_VARIANT_ADD(storm, exit32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXIT,
};

FIXTURE_VARIANT_ADD(storm, exec_by_leader32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXEC_BY_LEADER,
};

FIXTURE_VARIANT_ADD(storm, exec_by_thread32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXEC_BY_THREAD,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(storm, exit64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXIT,
};

FIXTURE_VARIANT_ADD(storm, exec_by_leader64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXEC_BY_LEADER,
};

FIXTURE_VARIANT_ADD(storm, exec_by_thread64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXEC_BY_THREAD,
};
#endif

FIXTURE_SETUP(storm)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	self->area = map_area(_metadata);
	self->victim.area = self->area;
	self->victim.type = variant->type;
	self->victim.arg = variant->death;
	own = own_few_locks;
}

FIXTURE_TEARDOWN(storm)
{
	unmap_area(_metadata, self->area);
}

TEST_F_TIMEOUT(storm, waiters_at_any_time, 300)
{
	for (int round = 0; round < STORM_ROUNDS; round++)
		storm(_metadata, &self->victim);
}

TEST_HARNESS_MAIN
