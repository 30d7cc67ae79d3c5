// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the limits of the walk over the lists of set_robust_list2(): long lists,
 * cycles, and lists that change during the walk.
 */

#define _GNU_SOURCE

#include "robust_list2_fixture.h"

/* Longer than ROBUST_LIST_LIMIT, where a walk over set_robust_list() stops */
static int hold_many(struct victim *victim)
{
	struct area *area = victim->area;

	CHECK(hold_list(victim->type, &area->many_head, area->many, MANY_LOCKS) == 0);
	if (victim->arg)
		store_pointer(victim->type, &area->many[MANY_LOCKS - 1], &area->many[1234], 0);
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
 * The 2048th entry that the thread does not hold ends the list. victim->arg is the
 * number of such entries before a held lock.
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

	CHECK(hold_list(victim->type, &area->many_head, area->many, victim->arg + 1) == 0);
	release_locks(area->many, victim->arg);
	/* The limit of the first list does not shorten this one. */
	CHECK(hold_list(victim->type, &area->list[0].head, area->list[0].lock,
			LOCKS_PER_LIST) == 1);
	release_locks(area->list[0].lock, LOCKS_PER_LIST - 1);
	/* The pending lock is handled whether or not the list was cut. */
	take_locks(area->list[1].lock, 1);
	set_pending(victim->type, &area->many_head, &area->list[1].lock[0]);
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
 * Held entries do not count: the walk passes 2047 foreign entries among 5000, and
 * handles the lock behind them. One more foreign entry, the last but one, ends the list
 * before that lock.
 */
static int hold_among_others(struct victim *victim)
{
	struct area *area = victim->area;

	CHECK(hold_list(victim->type, &area->many_head, area->many, MANY_LOCKS) == 0);
	for (int i = 0; i < ROBUST_LIST_LIMIT - 1; i++)
		release_locks(&area->many[2 * i], 1);
	if (victim->arg)
		release_locks(&area->many[MANY_LOCKS - 2], 1);
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
 * The walk handles the pending lock last, and counts it as not held if it is also on
 * the list. The list has foreign entries, the pending lock, and a held lock.
 */
static int hold_behind_pending(struct victim *victim)
{
	struct area *area = victim->area;

	CHECK(hold_list(victim->type, &area->many_head, area->many, victim->arg + 2) == 0);
	release_locks(area->many, victim->arg);
	set_pending(victim->type, &area->many_head, &area->many[victim->arg]);
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

/* All lists have as many foreign entries as the limit allows, and then a held lock. */
static int hold_behind_others_in_all(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	int lists = lists_per_thread();

	for (int i = 0; i < lists; i++) {
		struct list *list = &victim->area->list[i];

		CHECK(hold_list(victim->type, &list->head, lock, ROBUST_LIST_LIMIT) == i);
		release_locks(lock, ROBUST_LIST_LIMIT - 1);
		lock += ROBUST_LIST_LIMIT;
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

/* Links all locks into a list that ends in a cycle without the head. */
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

/* A cycle of foreign entries, with one held lock or none */
static int hold_one_in_circle(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_circle(victim));
	store_words(list->lock, LOCKS_PER_LIST, 1);
	if (victim->arg < LOCKS_PER_LIST)
		take_locks(&list->lock[victim->arg], 1);
	else
		store_pointer(victim->type, &list->lock[LOCKS_PER_LIST - 1], &list->lock[0], 0);
	/* The list after the cycle is walked. */
	CHECK(hold_list(victim->type, &list[1].head, list[1].lock, 1) == 1);
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

/* The pending lock points to itself. */
static int hold_pending_circle(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list->head, list->lock, 2) == 0);
	store_pointer(victim->type, &list->lock[1], &list->lock[1], 0);
	set_pending(victim->type, &list->head, &list->lock[1]);
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
	/* The walk wakes one waiter, not one per lap. */
	expect_one_woken(_metadata, waiter, &self->area->list->lock[1]);
}

#define HELD_SIZE	((HELD_LIMIT + 1) * sizeof(struct lock))

/* Registers one list of at least HELD_LIMIT entries. */
static int hold_longest(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	struct list *list = victim->area->list;

	CHECK(hold_list(victim->type, &list->head, lock, HELD_LIMIT + victim->arg) == 0);
	/* The pending lock is handled even after HELD_LIMIT entries. */
	take_locks(list->lock, 1);
	set_pending(victim->type, &list->head, &list->lock[0]);
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

/* Three lists: 5000 entries, all but 3 of the remaining limit, and one with 3 handled */
static int hold_three_long_lists(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	const int length = HELD_LIMIT - MANY_LOCKS - 3;
	struct area *area = victim->area;

	CHECK(hold_list(victim->type, &area->many_head, area->many, MANY_LOCKS) == 0);
	CHECK(hold_list(victim->type, &area->list[1].head, lock, length) == 1);
	CHECK(hold_list(victim->type, &area->list[2].head, area->list[2].lock,
			LOCKS_PER_LIST) == 2);
	/* Foreign entries do not count. */
	store_words(area->list[2].lock, 4, 0);
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
 * Another task shares the CPU with the walk of the longest list, and runs during it: it
 * finds the first futex marked and the last one unmarked.
 */
TEST_F_TIMEOUT(list, walk_is_preemptible, 300)
{
	int in_the_walk = 0;
	struct lock *lock;

	if (!pin_to_one_cpu(_metadata, 1))
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
 * Many threads register the same cycle in all of their lists. The cycle has more
 * entries than any walk visits, and no thread holds one of them. The exit costs about
 * as much per list as with set_robust_list().
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
		if (set_legacy_list(&victim->area->many_head))
			atomic_fetch_add(circle->failed, 1);
	}
	atomic_fetch_add(circle->ready, 1);
	for (;;)
		pause();
	return NULL;
}

static int share_circle(struct victim *victim)
{
	/* set_robust_list() takes native lists only. */
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
	/* Without a limit each list costs half a million entries instead of 2048. */
	EXPECT_LT(took[1], 2 + 4 * lists * took[0]);
	munmap(lock, HELD_SIZE);
}

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

/* 50 victims take a minute on an emulated CPU with a debug kernel. */
TEST_F_TIMEOUT(list, rewritten_under_the_walk, 300)
{
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, rewrite_pointers, &self->victim));
	for (int i = 0; i < 50; i++)
		run_victim(_metadata, &self->victim, hold_many);
	atomic_store(&self->area->list[0].lock[0].futex, 1);
	pthread_join(thread, NULL);

	/*
	 * Each word is marked or still holds the TID of the dead owner, depending on
	 * the race.
	 */
	for (int i = 0; i < MANY_LOCKS; i++) {
		uint32_t word = atomic_load(&self->area->many[i].futex);

		EXPECT_TRUE(word == FUTEX_OWNER_DIED || word == (uint32_t)self->victim.pid);
	}
}

TEST_HARNESS_MAIN
