// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the walk over the lists of set_robust_list2() when their thread dies:
 * wakeups, marked futexes, and independent lists.
 *
 * A process registers lists and dies, and the test checks the futex words in shared
 * memory.
 */

#define _GNU_SOURCE

#include "robust_list2_fixture.h"

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

/* The kernel wakes one waiter, which wakes the next one. */
TEST_F(list, one_waiter_woken)
{
	struct waiter waiter[2];

	start_victim(_metadata, &self->victim, hold_locks);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[0].futex);
	kill_victim(_metadata, &self->victim);
	expect_one_woken(_metadata, waiter, self->area->list->lock);
}

TEST_F(list, all_lists)
{
	const int lists = lists_per_thread();

	run_victim(_metadata, &self->victim, hold_all_lists);
	for (int i = 0; i < lists; i++)
		EXPECT_EQ(i % LOCKS_PER_LIST, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
}

/* The walk leaves futex words of other owners alone. */
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

/* A lock with two waiters is on the list and in list_op_pending: the walk wakes one. */
TEST_F(list, list_op_pending_not_twice)
{
	struct waiter waiter[2];

	self->victim.arg = 1;
	start_victim(_metadata, &self->victim, hold_pending);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[1].futex);
	kill_victim(_metadata, &self->victim);
	expect_one_woken(_metadata, waiter, &self->area->list->lock[1]);
}

/* Dies after the unlock and before the wakeup, so the kernel has to wake the waiter. */
static int die_in_unlock(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list->head, NULL, 0) == 0);
	set_pending(victim->type, &list->head, &list->lock[0]);
	take_locks(list->lock, 1);
	return 0;
}

TEST_F(list, list_op_pending_unlocked)
{
	struct waiter waiter;

	start_victim(_metadata, &self->victim, die_in_unlock);
	start_waiter(_metadata, &waiter, &self->area->list->lock[0].futex);
	/* Unlocks on behalf of the process, which is about to die. */
	atomic_store(&self->area->list->lock[0].futex, 0);
	kill_victim(_metadata, &self->victim);
	EXPECT_TRUE(finish_waiter(&waiter));
	EXPECT_EQ(0, atomic_load(&self->area->list->lock[0].futex));
}

static int change_lists(struct victim *victim)
{
	struct list *list = victim->area->list;

	for (int i = 0; i < 4; i++)
		CHECK(hold_list(victim->type, &list[i].head, list[i].lock, 4) == i);
	make_list(victim->type, &list[4].head, list[4].lock, 4);
	take_locks(list[4].lock, 4);
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

/* Bit 0 of a pointer is no part of the address. */
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
 * Bit 0 of the pointer to an entry marks the entry as PI, not bit 0 of the pointer in
 * it. The walk wakes nobody for a PI entry, so a waiter for a plain lock sleeps on.
 */
static int hold_two_kinds(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;

	CHECK(!hold_locks(victim));
	/* 0: plain, 1: PI, 2: PI, 3: plain, the rest unchanged */
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
		EXPECT_EQ(!woken[i], wake(&lock[i].futex, INT_MAX));
		EXPECT_TRUE(finish_waiter(&waiter[i]));
	}
}

static int die_in_pi_unlock(struct victim *victim)
{
	union head *head = &victim->area->list->head;

	CHECK(!die_in_unlock(victim));
	store_pointer(victim->type, pending_of(victim->type, head),
		      &victim->area->list->lock[0], FUTEX_ROBUST_MOD_PI);
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
	EXPECT_EQ(1, wake(futex, INT_MAX));
	EXPECT_TRUE(finish_waiter(&waiter));
}

/* A waiter gets the PI lock of a dead process. */
static int hold_pi_lock(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_pi_list(victim->type, &list->head, list->lock, 1);
	CHECK(!lock_pi(&list->lock[0].futex, NULL));
	CHECK(atomic_load(&list->lock[0].futex) == gettid32());
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, pi_lock)
{
	atomic_uint *futex = &self->area->list->lock[0].futex;
	struct futex_thread waiter;

	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	start_victim(_metadata, &self->victim, hold_pi_lock);
	ASSERT_EQ(0, futex_thread_create(&waiter, wait_for_pi, futex));
	while (!(atomic_load(futex) & FUTEX_WAITERS))
		sched_yield();
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, futex_thread_destroy(&waiter));
	EXPECT_EQ(waiter.tid, atomic_load(futex) & FUTEX_TID_MASK);
	EXPECT_NE(0, atomic_load(futex) & FUTEX_OWNER_DIED);

	/*
	 * Without a waiter a later caller gets the lock. The waiter above has not
	 * unlocked it.
	 */
	atomic_store(futex, 0);
	run_victim(_metadata, &self->victim, hold_pi_lock);
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(futex));
	EXPECT_EQ(0, lock_pi(futex, NULL));
	EXPECT_EQ(gettid32() | FUTEX_OWNER_DIED, atomic_load(futex));
	EXPECT_EQ(0, unlock_pi(futex));
}

/* The child of a fork has no lists. */
static int inherit_nothing(struct victim *victim)
{
	int lists = lists_per_thread();

	(void)victim;
	CHECK(has_no_lists(0));
	for (int i = 0; i < lists; i++)
		CHECK(set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER) == -1 && errno == ENOENT);
	return 0;
}

TEST_F(list, fork_starts_with_none)
{
	struct list *list = self->area->list;

	make_list(variant->type, &list->head, list->lock, 4);
	ASSERT_EQ(0, set_robust_list2(&list->head, ROBUST_LIST_NEW, variant->type));
	start_victim(_metadata, &self->victim, inherit_nothing);
	/*
	 * With the list of its parent, the child would find its own TID here and mark
	 * these words.
	 */
	store_words(list->lock, 4, self->victim.pid);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, list, variant->type);

	/* Exit walks a list of the child's own. */
	run_victim(_metadata, &self->victim, hold_locks);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, list, variant->type);
}

static int hold_legacy_and_new(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	make_list(native_type(), &list[1].head, list[1].lock, 5);
	take_locks(list[1].lock, 5);
	CHECK(!set_legacy_list(&list[1].head));
	return 0;
}

TEST_F(list, legacy_and_new)
{
	run_victim(_metadata, &self->victim, hold_legacy_and_new);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list[0].lock, LOCKS_PER_LIST));
	EXPECT_EQ(5, count_died(self->area->list[1].lock, LOCKS_PER_LIST));
}

/* A normal exit also walks the lists. */
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

#ifdef BUILD_64
/* An emulator thread has lists of the C library, of the emulator and of the guest. */
static int hold_three_kinds(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(ROBUST_LIST_64BIT, &list[0].head, list[0].lock, 4);
	take_locks(list[0].lock, 4);
	CHECK(!set_legacy_list(&list[0].head));
	CHECK(hold_list(ROBUST_LIST_64BIT, &list[1].head, list[1].lock, 4) == 0);
	CHECK(hold_list(ROBUST_LIST_32BIT, &list[2].head, list[2].lock, 4) == 1);
	return 0;
}

TEST(legacy_64bit_and_32bit_list)
{
	struct victim victim = { 0 };

	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	victim.area = map_area(_metadata);
	run_victim(_metadata, &victim, hold_three_kinds);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(4, count_died(victim.area->list[i].lock, LOCKS_PER_LIST));
}
#endif

TEST_HARNESS_MAIN
