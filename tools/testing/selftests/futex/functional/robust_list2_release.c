// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of ROBUST_LIST_RELEASE: set_robust_list2() walks one list of the calling thread
 * as its exit would, and frees the slot.
 *
 * The test process itself holds the locks and releases the list, unless a process must
 * die.
 */

#define _GNU_SOURCE

#include "robust_list2_release.h"

TEST_F(list, errors)
{
	static const unsigned int others[] = {
		ROBUST_LIST_UNREGISTER, ROBUST_LIST_QUERY_MAX,
		ROBUST_LIST_UNREGISTER | ROBUST_LIST_QUERY_MAX,
	};
	const unsigned int release = ROBUST_LIST_RELEASE | variant->type;
	struct list *list = self->area->list;
	const int lists = lists_per_thread();

	/* Without a table before the first registration, with a table after it */
	for (int i = 0; i < 2; i++) {
		for (int index = i; index < lists; index++)
			EXPECT_SET_ERROR(ENOENT, NULL, index, release);
		EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, release);
		EXPECT_SET_ERROR(EINVAL, NULL, -2, release);
		EXPECT_SET_ERROR(EINVAL, NULL, lists, release);
		EXPECT_SET_ERROR(EINVAL, NULL, INT_MAX, release);
		EXPECT_SET_ERROR(EINVAL, NULL, INT_MIN, release);
		/* EINVAL comes before ENOENT. */
		for (int index = ROBUST_LIST_NEW; index < 2; index++) {
			EXPECT_SET_ERROR(EINVAL, list, index, release);
			EXPECT_SET_ERROR(EINVAL, 1, index, release);
			for (size_t n = 0; n < ARRAY_SIZE(others); n++)
				EXPECT_SET_ERROR(EINVAL, NULL, index, release | others[n]);
			for (int bit = 4; bit < 32; bit++)
				EXPECT_SET_ERROR(EINVAL, NULL, index, release | 1U << bit);
		}
		if (!i)
			ASSERT_HOLD(0, variant->type, &list->head, list->lock, LOCKS_PER_LIST);
	}

	/* A failed call changes nothing. */
	EXPECT_LIST(0, list, variant->type);
	EXPECT_EQ(0, count_died(list->lock, LOCKS_PER_LIST));
	expect_release(_metadata, 0);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_SET_ERROR(ENOENT, NULL, 0, release);
}

/* The registration has the type, so the call ignores the type bit. */
TEST_F(list, type_is_ignored)
{
	static const unsigned int types[] = { ROBUST_LIST_32BIT, ROBUST_LIST_64BIT };
	struct list *list = self->area->list;

	for (int i = 0; i < 2; i++) {
		ASSERT_HOLD(0, variant->type, &list->head, list->lock, LOCKS_PER_LIST);
		EXPECT_EQ(0, set_robust_list2(NULL, 0, ROBUST_LIST_RELEASE | types[i]));
		EXPECT_NO_LIST(0);
		EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	}
}

TEST_F(list, frees_slot)
{
	struct list *list = self->area->list;
	const int lists = lists_per_thread();

	for (int i = 0; i < lists; i++)
		ASSERT_HOLD(i, variant->type, &list[i].head, list[i].lock, 2);
	expect_release(_metadata, 7);
	expect_release(_metadata, 2);
	for (int i = 0; i < lists; i++) {
		bool released = i == 2 || i == 7;

		EXPECT_EQ(released ? 2 : 0, count_died(list[i].lock, 2));
		if (!released)
			EXPECT_LIST(i, &list[i], variant->type);
	}
	EXPECT_EQ(2, set_robust_list2(&list[MAX_LISTS], ROBUST_LIST_NEW, variant->type));
	EXPECT_EQ(7, set_robust_list2(&list[MAX_LISTS], ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(ENOSPC, &list[MAX_LISTS], ROBUST_LIST_NEW, variant->type);
}

/* A slot without a head, and an empty list */
TEST_F(list, empty)
{
	struct list *list = self->area->list;

	ASSERT_HOLD(0, variant->type, &list[0].head, list[0].lock, 4);
	ASSERT_HOLD(1, variant->type, &list[1].head, NULL, 0);
	ASSERT_EQ(0, set_robust_list2(NULL, 0, variant->type));
	expect_release(_metadata, 0);
	EXPECT_EQ(0, count_died(list[0].lock, 4));
	expect_release(_metadata, 1);
}

TEST_F(list, waiters_woken)
{
	struct list *list = self->area->list;
	struct waiter waiter[LOCKS_PER_LIST];

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, LOCKS_PER_LIST);
	for (int i = 0; i < LOCKS_PER_LIST; i += 2)
		start_waiter(_metadata, &waiter[i], &list->lock[i].futex);
	expect_release(_metadata, 0);
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		EXPECT_EQ(FUTEX_OWNER_DIED | (i & 1 ? 0 : FUTEX_WAITERS),
			  atomic_load(&list->lock[i].futex));
	for (int i = 0; i < LOCKS_PER_LIST; i += 2)
		EXPECT_TRUE(finish_waiter(&waiter[i]));
}

TEST_F(list, one_waiter_woken)
{
	struct list *list = self->area->list;
	struct waiter waiter[2];

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, 1);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &list->lock->futex);
	expect_release(_metadata, 0);
	expect_one_woken(_metadata, waiter, list->lock);
}

TEST_F(list, other_owners)
{
	struct list *list = self->area->list;
	struct lock *lock = list->lock;
	const uint32_t tid = gettid32();

	ASSERT_HOLD(0, variant->type, &list->head, lock, LOCKS_PER_LIST);
	atomic_store(&lock[0].futex, 0);
	atomic_store(&lock[1].futex, tid + 1);
	atomic_store(&lock[2].futex, (tid + 1) | FUTEX_WAITERS);
	atomic_store(&lock[3].futex, FUTEX_OWNER_DIED);
	atomic_store(&lock[4].futex, tid | FUTEX_OWNER_DIED);
	expect_release(_metadata, 0);
	EXPECT_EQ(0, atomic_load(&lock[0].futex));
	EXPECT_EQ(tid + 1, atomic_load(&lock[1].futex));
	EXPECT_EQ((tid + 1) | FUTEX_WAITERS, atomic_load(&lock[2].futex));
	EXPECT_EQ(LOCKS_PER_LIST - 3, count_died(lock, LOCKS_PER_LIST));
}

/* A pending lock before it is on the list, on the list, and after the unlock */
TEST_F(list, list_op_pending)
{
	struct list *list = self->area->list;

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, 2);
	take_locks(&list->lock[2], 2);
	set_pending(variant->type, &list->head, &list->lock[2]);
	expect_release(_metadata, 0);
	EXPECT_EQ(3, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_EQ(gettid32(), atomic_load(&list->lock[3].futex));
}

/* A lock on the list and in list_op_pending wakes one waiter, not two. */
TEST_F(list, list_op_pending_not_twice)
{
	struct list *list = self->area->list;
	struct waiter waiter[2];

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, 3);
	set_pending(variant->type, &list->head, &list->lock[1]);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &list->lock[1].futex);
	expect_release(_metadata, 0);
	EXPECT_EQ(2, count_died(list->lock, 3));
	expect_one_woken(_metadata, waiter, &list->lock[1]);
}

/* The thread has unlocked the lock, but not yet woken its waiter. */
TEST_F(list, list_op_pending_unlocked)
{
	struct list *list = self->area->list;
	struct waiter waiter;

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, 0);
	set_pending(variant->type, &list->head, &list->lock[0]);
	start_waiter(_metadata, &waiter, &list->lock[0].futex);
	atomic_store(&list->lock[0].futex, 0);
	expect_release(_metadata, 0);
	EXPECT_TRUE(finish_waiter(&waiter));
	EXPECT_EQ(0, atomic_load(&list->lock[0].futex));
}

/* A broken list ends at the fault, which is no error, and the slot is free. */
TEST_F(list, broken_lists)
{
	static const int expected[] = { 0, 2, 0, 0, 4, 1, 2, 4 };
	struct list *list = self->area->list;
	const int lists = ARRAY_SIZE(expected);
	const long page = sysconf(_SC_PAGESIZE);
	struct lock *lock;

	lock = map_private(PAGE_ADDRESS, page);
	ASSERT_TRUE(!!lock);
	take_locks(lock, 1);

	/* Unmapped head, unmapped entry, unmapped or unaligned futex */
	ASSERT_EQ(0, set_robust_list2((void *)4096, ROBUST_LIST_NEW, variant->type));
	for (int i = 1; i < lists; i++) {
		ASSERT_HOLD(i, variant->type, &list[i].head, list[i].lock, 4);
		take_locks(&list[i].lock[4], 1);
	}
	store_pointer(variant->type, &list[1].lock[1], (void *)4096, 0);
	set_offset(variant->type, &list[2].head, 0x40000000);
	set_offset(variant->type, &list[3].head, offsetof(struct lock, futex) + 1);
	/* Unmapped pending lock; a null entry ends the list before the pending lock */
	set_pending(variant->type, &list[4].head, (void *)4096);
	store_pointer(variant->type, &list[5].lock[0], NULL, 0);
	set_pending(variant->type, &list[5].head, &list[5].lock[4]);
	/* A read-only futex */
	store_pointer(variant->type, lock, &list[6].lock[2], 0);
	store_pointer(variant->type, &list[6].lock[1], lock, 0);
	ASSERT_EQ(0, mprotect(lock, page, PROT_READ));

	for (int i = 0; i < lists; i++) {
		expect_release(_metadata, i);
		EXPECT_EQ(expected[i], count_died(list[i].lock, LOCKS_PER_LIST)) {
			TH_LOG("list %d", i);
		}
	}
	EXPECT_EQ(gettid32(), atomic_load(&lock->futex));
	munmap(lock, page);
}

/* Cycles of held locks, of foreign entries, and of the pending lock alone */
TEST_F(list, circles)
{
	struct list *list = self->area->list;

	for (int i = 0; i < LOCKS_PER_LIST; i++) {
		ASSERT_HOLD(0, variant->type, &list->head, list->lock, LOCKS_PER_LIST);
		store_pointer(variant->type, &list->lock[LOCKS_PER_LIST - 1], &list->lock[i], 0);
		expect_release(_metadata, 0);
		EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	}

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, LOCKS_PER_LIST);
	store_pointer(variant->type, &list->lock[LOCKS_PER_LIST - 1], &list->lock[0], 0);
	store_words(list->lock, LOCKS_PER_LIST, 1);
	expect_release(_metadata, 0);
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		EXPECT_EQ(1, atomic_load(&list->lock[i].futex));

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, 2);
	store_pointer(variant->type, &list->lock[1], &list->lock[1], 0);
	set_pending(variant->type, &list->head, &list->lock[1]);
	expect_release(_metadata, 0);
	EXPECT_EQ(2, count_died(list->lock, 2));
}

/* 2048 foreign entries end their list, and no other. */
TEST_F(list, limit_of_others)
{
	struct area *area = self->area;

	for (int others = ROBUST_LIST_LIMIT - 1; others < ROBUST_LIST_LIMIT + 2; others++) {
		ASSERT_HOLD(0, variant->type, &area->many_head, area->many, others + 1);
		store_words(area->many, others, 1);
		take_locks(area->list[1].lock, 1);
		set_pending(variant->type, &area->many_head, &area->list[1].lock[0]);
		ASSERT_HOLD(1, variant->type, &area->list[0].head, area->list[0].lock, 4);
		atomic_store(&area->list[0].lock[0].futex, 1);

		expect_release(_metadata, 0);
		EXPECT_EQ(others < ROBUST_LIST_LIMIT ? FUTEX_OWNER_DIED : gettid32(),
			  atomic_load(&area->many[others].futex)) {
			TH_LOG("behind %d others", others);
		}
		for (int i = 0; i < others; i++)
			ASSERT_EQ(1, atomic_load(&area->many[i].futex));
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&area->list[1].lock[0].futex));
		expect_release(_metadata, 1);
		EXPECT_EQ(3, count_died(area->list[0].lock, 4));
	}
}

#define HELD_SIZE	((HELD_LIMIT + 1) * sizeof(struct lock))

/* Each call has a limit of its own. */
TEST_F_TIMEOUT(list, limit_of_held, 300)
{
	struct lock *lock = map_shared(_metadata, LOCKS_ADDRESS, HELD_SIZE);
	struct list *list = self->area->list;

	ASSERT_HOLD(0, variant->type, &list[0].head, lock, HELD_LIMIT + 1);
	ASSERT_HOLD(1, variant->type, &list[1].head, list[1].lock, LOCKS_PER_LIST);
	/* The pending lock is handled even after HELD_LIMIT entries. */
	take_locks(list[0].lock, 1);
	set_pending(variant->type, &list[0].head, &list[0].lock[0]);
	expect_release(_metadata, 0);
	EXPECT_EQ(HELD_LIMIT, count_died(lock, HELD_LIMIT));
	EXPECT_EQ(gettid32(), atomic_load(&lock[HELD_LIMIT].futex));
	EXPECT_EQ(1, count_died(list[0].lock, 1));
	expect_release(_metadata, 1);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list[1].lock, LOCKS_PER_LIST));
	munmap(lock, HELD_SIZE);
}

/* Releases every other list, and leaves the others to exit. */
static int release_every_other(struct victim *victim)
{
	int lists = lists_per_thread();

	CHECK(!hold_all_lists(victim));
	for (int i = 1; i < lists; i += 2)
		CHECK(release_list(i) == i);
	return 0;
}

TEST_F(list, other_lists)
{
	const int lists = lists_per_thread();
	struct list *list = self->area->list;

	start_victim(_metadata, &self->victim, release_every_other);
	for (int i = 0; i < lists; i++)
		EXPECT_EQ(i & 1 ? i % LOCKS_PER_LIST : 0, count_died(list[i].lock, LOCKS_PER_LIST));
	kill_victim(_metadata, &self->victim);
	for (int i = 0; i < lists; i++)
		EXPECT_EQ(i % LOCKS_PER_LIST, count_died(list[i].lock, LOCKS_PER_LIST));
}

/*
 * Exit does not walk a released list: the thread takes its locks again, still linked,
 * and they stay unmarked. Exit walks the other list.
 */
static int release_and_take_again(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list[0].head, list[0].lock, LOCKS_PER_LIST) == 0);
	CHECK(hold_list(victim->type, &list[1].head, list[1].lock, LOCKS_PER_LIST) == 1);
	CHECK(release_list(0) == 0);
	CHECK(count_died(list[0].lock, LOCKS_PER_LIST) == LOCKS_PER_LIST);
	take_locks(list[0].lock, LOCKS_PER_LIST);
	return 0;
}

TEST_F(list, not_walked_again)
{
	struct list *list = self->area->list;
	int status;

	self->victim.then = end_itself;
	for (self->victim.arg = EXIT; self->victim.arg <= EXEC; self->victim.arg++) {
		start_victim(_metadata, &self->victim, release_and_take_again);
		ASSERT_EQ(self->victim.pid, waitpid(self->victim.pid, &status, 0));
		EXPECT_EQ(0, status);
		for (int i = 0; i < LOCKS_PER_LIST; i++)
			EXPECT_EQ(self->victim.pid, atomic_load(&list[0].lock[i].futex));
		EXPECT_EQ(LOCKS_PER_LIST, count_died(list[1].lock, LOCKS_PER_LIST));
	}
}

TEST_HARNESS_MAIN
