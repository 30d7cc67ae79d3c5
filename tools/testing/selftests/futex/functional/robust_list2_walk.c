// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the walk over the lists of set_robust_list2() when their thread dies.
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

/* The kernel wakes one waiter, and that waiter wakes the next one. */
TEST_F(list, one_waiter_woken)
{
	struct waiter waiter[2];

	start_victim(_metadata, &self->victim, hold_locks);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[0].futex);
	kill_victim(_metadata, &self->victim);

	/* One of the two waiters still sleeps. */
	EXPECT_EQ(1, syscall(SYS_futex, &self->area->list->lock[0].futex, FUTEX_WAKE, INT_MAX,
			     NULL, NULL, 0));
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(finish_waiter(&waiter[i]));
}

TEST_F(list, all_lists)
{
	const int lists = lists_per_thread();

	run_victim(_metadata, &self->victim, hold_all_lists);
	for (int i = 0; i < lists; i++)
		EXPECT_EQ(i % LOCKS_PER_LIST, count_died(self->area->list[i].lock, LOCKS_PER_LIST));
}

/* The walk does not change futex words that the thread does not own. */
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

/* Takes a lock that is pending and not yet on the list. */
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
 * A lock with two waiters, on the list and in list_op_pending, wakes one of them and
 * not both.
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

/* Dies after the unlock and before the wakeup, so the kernel must wake the waiter. */
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
	/* Unlocks for the process that is about to die. */
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

/* Registers lists 0 to 5, each broken in another way, and 6, which is not. */
static int hold_broken_lists(struct victim *victim)
{
	struct list *list = victim->area->list;

	for (int i = 1; i < 7; i++) {
		make_list(victim->type, &list[i].head, list[i].lock, 4);
		take_locks(list[i].lock, 5);
	}
	/* An unmapped head, an unmapped entry, an unmapped or unaligned futex */
	CHECK(set_robust_list2((void *)4096, ROBUST_LIST_NEW, victim->type) == 0);
	store_pointer(victim->type, &list[1].lock[1], (void *)4096, 0);
	set_offset(victim->type, &list[2].head, 0x40000000);
	set_offset(victim->type, &list[3].head, offsetof(struct lock, futex) + 1);
	/* An unmapped pending lock; a null entry */
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

/* A read-only futex ends its list. */
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

/* set_robust_list() would stop after ROBUST_LIST_LIMIT. */
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

/*
 * The 2048th entry that the thread does not hold ends its list. The arg is the number
 * of such entries before a held lock.
 */
static const uint32_t not_held[] = { 0, 1, FUTEX_WAITERS | 1, FUTEX_OWNER_DIED };

static void release_locks(struct lock *lock, int n)
{
	for (int i = 0; i < n; i++)
		atomic_store(&lock[i].futex, not_held[i % ARRAY_SIZE(not_held)]);
}

static int hold_behind_others(struct victim *victim)
{
	struct area *area = victim->area;

	make_list(victim->type, &area->many_head, area->many, victim->arg + 1);
	release_locks(area->many, victim->arg);
	take_locks(&area->many[victim->arg], 1);
	/* That list does not shorten this one. */
	make_list(victim->type, &area->list[0].head, area->list[0].lock, LOCKS_PER_LIST);
	release_locks(area->list[0].lock, LOCKS_PER_LIST - 1);
	take_locks(&area->list[0].lock[LOCKS_PER_LIST - 1], 1);
	/* The pending lock is handled whatever is on the list. */
	take_locks(area->list[1].lock, 1);
	set_pending(victim->type, &area->many_head, &area->list[1].lock[0]);
	CHECK(set_robust_list2(&area->many_head, ROBUST_LIST_NEW, victim->type) == 0);
	CHECK(set_robust_list2(&area->list[0].head, ROBUST_LIST_NEW, victim->type) == 1);
	return 0;
}

TEST_F(list, limit_of_others)
{
	struct area *area = self->area;

	for (int others = ROBUST_LIST_LIMIT - 2; others < ROBUST_LIST_LIMIT + 2; others++) {
		self->victim.arg = others;
		run_victim(_metadata, &self->victim, hold_behind_others);
		EXPECT_EQ(others < ROBUST_LIST_LIMIT ? FUTEX_OWNER_DIED : self->victim.pid,
			  atomic_load(&area->many[others].futex)) {
			TH_LOG("behind %d others", others);
		}
		for (int i = 0; i < others; i++)
			ASSERT_EQ(not_held[i % ARRAY_SIZE(not_held)],
				  atomic_load(&area->many[i].futex));
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&area->list[0].lock[15].futex));
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&area->list[1].lock[0].futex));
	}
}

/*
 * Held entries in between do not count: the walk passes 2047 others among 5000, and
 * handles the lock behind them. One more, the last but one, ends the list before it.
 */
static int hold_among_others(struct victim *victim)
{
	struct area *area = victim->area;

	make_list(victim->type, &area->many_head, area->many, MANY_LOCKS);
	take_locks(area->many, MANY_LOCKS);
	for (int i = 0; i < ROBUST_LIST_LIMIT - 1; i++)
		release_locks(&area->many[2 * i], 1);
	if (victim->arg)
		release_locks(&area->many[MANY_LOCKS - 2], 1);
	CHECK(set_robust_list2(&area->many_head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, limit_of_others_among_held)
{
	const int held = MANY_LOCKS - (ROBUST_LIST_LIMIT - 1);

	run_victim(_metadata, &self->victim, hold_among_others);
	EXPECT_EQ(held, count_died(self->area->many, MANY_LOCKS));

	self->victim.arg = 1;
	run_victim(_metadata, &self->victim, hold_among_others);
	EXPECT_EQ(held - 2, count_died(self->area->many, MANY_LOCKS));
	EXPECT_EQ(self->victim.pid, atomic_load(&self->area->many[MANY_LOCKS - 1].futex));
}

/*
 * The pending lock is handled last. If it is also on the list, the walk skips it there
 * and counts it as not held. The list has others, the pending lock, and a held one.
 */
static int hold_behind_pending(struct victim *victim)
{
	struct area *area = victim->area;

	make_list(victim->type, &area->many_head, area->many, victim->arg + 2);
	release_locks(area->many, victim->arg);
	take_locks(&area->many[victim->arg], 2);
	set_pending(victim->type, &area->many_head, &area->many[victim->arg]);
	CHECK(set_robust_list2(&area->many_head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, limit_of_others_with_pending)
{
	struct lock *many = self->area->many;

	for (int others = ROBUST_LIST_LIMIT - 2; others < ROBUST_LIST_LIMIT + 1; others++) {
		self->victim.arg = others;
		run_victim(_metadata, &self->victim, hold_behind_pending);
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&many[others].futex));
		EXPECT_EQ(others < ROBUST_LIST_LIMIT - 1 ? FUTEX_OWNER_DIED : self->victim.pid,
			  atomic_load(&many[others + 1].futex)) {
			TH_LOG("behind %d others and the pending lock", others);
		}
	}
}

/* All lists, each with as many others as the limit allows, and a held lock behind them */
static int hold_behind_others_in_all(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	int lists = lists_per_thread();

	for (int i = 0; i < lists; i++) {
		struct list *list = &victim->area->list[i];

		make_list(victim->type, &list->head, lock, ROBUST_LIST_LIMIT);
		release_locks(lock, ROBUST_LIST_LIMIT - 1);
		lock += ROBUST_LIST_LIMIT;
		take_locks(&lock[-1], 1);
		CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == i);
	}
	return 0;
}

TEST_F(list, limit_of_others_is_per_list)
{
	const size_t size = MAX_LISTS * ROBUST_LIST_LIMIT * sizeof(struct lock);
	struct lock *lock = map_shared(_metadata, LOCKS_ADDRESS, size);
	const int lists = lists_per_thread();

	run_victim(_metadata, &self->victim, hold_behind_others_in_all);
	for (int i = 1; i <= lists; i++) {
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&lock[i * ROBUST_LIST_LIMIT - 1].futex)) {
			TH_LOG("list %d", i - 1);
		}
	}
	munmap(lock, size);
}

/* Puts all locks on a list that leads into a cycle without the head. */
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

/* A cycle of others, with one held lock or none */
static int hold_one_in_circle(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_circle(victim));
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		atomic_store(&list->lock[i].futex, 1);
	if (victim->arg < LOCKS_PER_LIST)
		take_locks(&list->lock[victim->arg], 1);
	else
		store_pointer(victim->type, &list->lock[LOCKS_PER_LIST - 1], &list->lock[0], 0);
	/* The next list */
	make_list(victim->type, &list[1].head, list[1].lock, 1);
	take_locks(list[1].lock, 1);
	CHECK(set_robust_list2(&list[1].head, ROBUST_LIST_NEW, victim->type) == 1);
	return 0;
}

TEST_F(list, circles_of_others)
{
	struct list *list = self->area->list;

	for (int held = 0; held <= LOCKS_PER_LIST; held++) {
		self->victim.arg = held;
		run_victim(_metadata, &self->victim, hold_one_in_circle);
		for (int i = 0; i < LOCKS_PER_LIST; i++)
			EXPECT_EQ(i == held ? FUTEX_OWNER_DIED : 1,
				  atomic_load(&list->lock[i].futex));
		EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&list[1].lock[0].futex));
	}
}

/* The pending lock is a cycle of its own. */
static int hold_pending_circle(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, list->lock, 2);
	store_pointer(victim->type, &list->lock[1], &list->lock[1], 0);
	take_locks(list->lock, 2);
	set_pending(victim->type, &list->head, &list->lock[1]);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, circle_of_pending)
{
	struct waiter waiter[2];

	start_victim(_metadata, &self->victim, hold_pending_circle);
	for (int i = 0; i < 2; i++)
		start_waiter(_metadata, &waiter[i], &self->area->list->lock[1].futex);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&self->area->list->lock[0].futex));
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS,
		  atomic_load(&self->area->list->lock[1].futex));
	/* The walk has woken one waiter, and not one for each lap. */
	EXPECT_EQ(1, syscall(SYS_futex, &self->area->list->lock[1].futex, FUTEX_WAKE, INT_MAX,
			     NULL, NULL, 0));
	for (int i = 0; i < 2; i++)
		EXPECT_TRUE(finish_waiter(&waiter[i]));
}

/*
 * The limit of held entries in one exit, over all lists: HELD_LIMIT in
 * kernel/futex/robust_list2/walk.rs.
 */
#define HELD_LIMIT	1048576
#define HELD_SIZE	((HELD_LIMIT + 1) * sizeof(struct lock))

/* Registers one list of at least that length. */
static int hold_longest(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, lock, HELD_LIMIT + victim->arg);
	take_locks(lock, HELD_LIMIT + victim->arg);
	/* The pending lock is handled even after the limit. */
	take_locks(list->lock, 1);
	set_pending(victim->type, &list->head, &list->lock[0]);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F_TIMEOUT(list, limit_of_held, 300)
{
	struct lock *lock = map_shared(_metadata, LOCKS_ADDRESS, HELD_SIZE);

	for (int more = 0; more < 2; more++) {
		self->victim.arg = more;
		run_victim(_metadata, &self->victim, hold_longest);
		EXPECT_EQ(HELD_LIMIT, count_died(lock, HELD_LIMIT));
		EXPECT_EQ(1, count_died(self->area->list->lock, LOCKS_PER_LIST));
	}
	EXPECT_EQ(self->victim.pid, atomic_load(&lock[HELD_LIMIT].futex));
	munmap(lock, HELD_SIZE);
}

/* Three lists: 5000 entries, all but 3 of the rest of the limit, and one with 3 handled */
static int hold_three_long_lists(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	const int length = HELD_LIMIT - MANY_LOCKS - 3;
	struct area *area = victim->area;

	make_list(victim->type, &area->many_head, area->many, MANY_LOCKS);
	take_locks(area->many, MANY_LOCKS);
	make_list(victim->type, &area->list[1].head, lock, length);
	take_locks(lock, length);
	make_list(victim->type, &area->list[2].head, area->list[2].lock, LOCKS_PER_LIST);
	/* Entries of others do not count. */
	take_locks(&area->list[2].lock[4], LOCKS_PER_LIST - 4);
	CHECK(set_robust_list2(&area->many_head, ROBUST_LIST_NEW, victim->type) == 0);
	CHECK(set_robust_list2(&area->list[1].head, ROBUST_LIST_NEW, victim->type) == 1);
	CHECK(set_robust_list2(&area->list[2].head, ROBUST_LIST_NEW, victim->type) == 2);
	return 0;
}

TEST_F_TIMEOUT(list, limit_of_held_is_for_all_lists, 300)
{
	struct lock *lock = map_shared(_metadata, LOCKS_ADDRESS, HELD_SIZE);
	const int length = HELD_LIMIT - MANY_LOCKS - 3;
	struct area *area = self->area;

	run_victim(_metadata, &self->victim, hold_three_long_lists);
	EXPECT_EQ(MANY_LOCKS, count_died(area->many, MANY_LOCKS));
	EXPECT_EQ(length, count_died(lock, length));
	EXPECT_EQ(3, count_died(area->list[2].lock, LOCKS_PER_LIST));
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&area->list[2].lock[6].futex));
	EXPECT_EQ(self->victim.pid, atomic_load(&area->list[2].lock[7].futex));
	munmap(lock, HELD_SIZE);
}

/*
 * On one CPU, another task runs during the walk of the longest list: it sees a marked
 * futex at the start of the list and an unmarked one at its end.
 */
TEST_F_TIMEOUT(list, walk_is_preemptible, 300)
{
	int in_the_walk = 0;
	struct lock *lock;

	if (!rule_one_cpu(_metadata, 1))
		SKIP(return, "needs the right to have real-time priority");
	lock = map_shared(_metadata, LOCKS_ADDRESS, HELD_SIZE);
	start_victim(_metadata, &self->victim, hold_longest);

	EXPECT_EQ(0, kill(self->victim.pid, SIGKILL));
	while (!waitpid(self->victim.pid, NULL, WNOHANG)) {
		bool begun = atomic_load(&lock[0].futex) == FUTEX_OWNER_DIED;
		bool done = atomic_load(&lock[HELD_LIMIT - 1].futex) == FUTEX_OWNER_DIED;

		in_the_walk += begun && !done;
		nap();
	}
	EXPECT_LT(0, in_the_walk);
	TH_LOG("ran %d times while the list was walked", in_the_walk);
	EXPECT_EQ(HELD_LIMIT, count_died(lock, HELD_LIMIT));
	munmap(lock, HELD_SIZE);
}

/*
 * Many threads register the same cycle in all of their lists. It has more entries than
 * any walk visits, and the threads hold none of them. Their exit costs about as much per
 * list as with set_robust_list().
 */
#define CIRCLE_THREADS	64

struct circle_thread {
	struct victim	*victim;
	atomic_int	*ready, *failed;
};

static void *register_circle(void *arg)
{
	struct circle_thread *circle = arg;
	struct victim *victim = circle->victim;
	int lists = lists_per_thread();

	if (victim->arg) {
		for (int i = 0; i < lists; i++)
			if (set_robust_list2(&victim->area->many_head, ROBUST_LIST_NEW,
					     victim->type) != i)
				atomic_fetch_add(circle->failed, 1);
	} else {
		if (syscall(SYS_set_robust_list, &victim->area->many_head,
			    sizeof(struct robust_list_head)))
			atomic_fetch_add(circle->failed, 1);
	}
	atomic_fetch_add(circle->ready, 1);
	for (;;)
		pause();
	return NULL;
}

static int share_circle(struct victim *victim)
{
	/* set_robust_list() takes lists of one type only. */
	unsigned int type = victim->arg ? victim->type : native_type();
	struct lock *lock = (void *)LOCKS_ADDRESS;
	static atomic_int ready, failed;
	static struct circle_thread circle;
	pthread_attr_t attr;

	make_list(type, &victim->area->many_head, lock, HELD_LIMIT);
	store_pointer(type, &lock[HELD_LIMIT - 1], &lock[0], 0);
	circle = (struct circle_thread) { victim, &ready, &failed };
	CHECK(!pthread_attr_init(&attr));
	CHECK(!pthread_attr_setstacksize(&attr, 1 << 18));
	for (int i = 0; i < CIRCLE_THREADS; i++) {
		pthread_t thread;

		CHECK(!pthread_create(&thread, &attr, register_circle, &circle));
	}
	while (atomic_load(&ready) != CIRCLE_THREADS)
		sched_yield();
	CHECK(!atomic_load(&failed));
	return 0;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

TEST_F_TIMEOUT(list, threads_share_one_circle, 300)
{
	struct lock *lock = map_shared(_metadata, LOCKS_ADDRESS, HELD_SIZE);
	const int lists = lists_per_thread();
	double start, took[2];

	for (int i = 0; i < 2; i++) {
		self->victim.arg = i;
		start_victim(_metadata, &self->victim, share_circle);
		start = seconds();
		kill_victim(_metadata, &self->victim);
		took[i] = seconds() - start;
	}
	TH_LOG("%d threads with one list of set_robust_list() each: %.2f s, with %d lists: %.2f s",
	       CIRCLE_THREADS, took[0], lists, took[1]);
	/* Without a limit each list has half a million entries instead of 2048. */
	EXPECT_LT(took[1], 2 + 4 * lists * took[0]);
	munmap(lock, HELD_SIZE);
}

/*
 * A cycle of entries in read-only memory, with futexes elsewhere: the walk does not
 * write to the entries.
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

/* The futex precedes its entry. */
static int hold_negative_offset(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	set_offset(victim->type, &list->head,
		   (long)offsetof(struct lock, futex) - (long)sizeof(struct lock));
	/* The futex of entry 0 would be in the head. */
	store_pointer(victim->type, &list->head, &list->lock[1], 0);
	return 0;
}

TEST_F(list, negative_offset)
{
	run_victim(_metadata, &self->victim, hold_negative_offset);
	EXPECT_EQ(LOCKS_PER_LIST - 1, count_died(self->area->list->lock, LOCKS_PER_LIST - 1));
	EXPECT_EQ(self->victim.pid, atomic_load(&self->area->list->lock[LOCKS_PER_LIST - 1].futex));
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
 * Bit 0 of the pointer to an entry counts, not bit 0 of the pointer in it. If it is set,
 * the walk wakes nobody, so a waiter for a plain lock sleeps on.
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
		EXPECT_EQ(!woken[i], syscall(SYS_futex, &lock[i].futex, FUTEX_WAKE, INT_MAX,
					     NULL, NULL, 0));
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
	EXPECT_EQ(1, syscall(SYS_futex, futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
	EXPECT_TRUE(finish_waiter(&waiter));
}

/* A waiter gets the PI lock of a process that died. */
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

	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	start_victim(_metadata, &self->victim, hold_pi_lock);
	ASSERT_EQ(0, futex_thread_create(&waiter, lock_pi, futex));
	while (!(atomic_load(futex) & FUTEX_WAITERS))
		sched_yield();
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, futex_thread_destroy(&waiter));
	EXPECT_EQ(waiter.tid, atomic_load(futex) & FUTEX_TID_MASK);
	EXPECT_NE(0, atomic_load(futex) & FUTEX_OWNER_DIED);

	/* Without a waiter a later caller gets the lock. The thread above has not unlocked it. */
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
	int lists = lists_per_thread();
	uint64_t head;

	(void)victim;
	for (int i = 0; i < lists; i++) {
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
	/* With its parent's list the child would find its own TID and mark these words. */
	for (int i = 0; i < 4; i++)
		atomic_store(&list->lock[i].futex, self->victim.pid);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(0, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, list, variant->type);

	/* A list of the child's own is walked. */
	run_victim(_metadata, &self->victim, hold_locks);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, list, variant->type);
}

static int hold_legacy_and_new(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	make_list(native_type(), &list[1].head,
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
/* An emulator thread: lists of the C library, of the emulator and of the guest */
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

/* The last 12 bytes below 4 GiB are a valid head. */
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

TEST(list_at_4gib)
{
	struct victim victim = { 0 };

	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (sysconf(_SC_PAGESIZE) != 4096)
		SKIP(return, "needs pages of 4 KiB");
	victim.area = map_area(_metadata);
	run_victim(_metadata, &victim, hold_list_at_4gib);
	EXPECT_EQ(3, count_died(victim.area->list->lock, LOCKS_PER_LIST));
}

/* Entry and offset are below 4 GiB, but their sum is not: it wraps as in a 32-bit program. */
#define HIGH_ENTRIES	0xf0000000UL

static int hold_wrapped_futexes(struct victim *victim)
{
	struct list *list = victim->area->list;
	uint32_t *entry;
	void *wrong;

	entry = mmap((void *)HIGH_ENTRIES, 65536, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(entry == (void *)HIGH_ENTRIES);
	/* The futexes of addresses that do not wrap */
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

TEST(offset_wraps_at_4gib)
{
	struct victim victim = { 0 };

	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	victim.area = map_area(_metadata);
	run_victim(_metadata, &victim, hold_wrapped_futexes);
	EXPECT_EQ(2, count_died(victim.area->list->lock, LOCKS_PER_LIST));
}
#endif

/* Rewrites the pointers while the kernel walks the list. */
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

	/* Each word holds the dead owner's TID or is marked, depending on the races. */
	for (int i = 0; i < MANY_LOCKS; i++) {
		uint32_t word = atomic_load(&self->area->many[i].futex);

		EXPECT_TRUE(word == FUTEX_OWNER_DIED || word == (uint32_t)self->victim.pid);
	}
}

TEST_HARNESS_MAIN
