// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of ROBUST_LIST_RELEASE: set_robust_list2() walks one list of the calling thread,
 * as the exit of the thread would, and frees its slot.
 *
 * If no process must die, the test itself holds the locks and releases the list.
 */

#define _GNU_SOURCE

#include "robust_list2_fixture.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

#define lock_pi(futex, timeout)						\
	syscall(SYS_futex, (futex), FUTEX_LOCK_PI, 0, (timeout), NULL, 0)
#define trylock_pi(futex)						\
	syscall(SYS_futex, (futex), FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0)
#define unlock_pi(futex)						\
	syscall(SYS_futex, (futex), FUTEX_UNLOCK_PI, 0, NULL, NULL, 0)

/* Set in the environment of the program that a test executes */
#define NEW_PROGRAM	"ROBUST_LIST2_NEW_PROGRAM"

static __attribute__((constructor)) void run_as_new_program(void)
{
	if (getenv(NEW_PROGRAM))
		_exit(0);
}

static void exec_new_program(void)
{
	char name[] = "robust_list2_release", *argv[] = { name, NULL };
	char variable[] = NEW_PROGRAM "=", *envp[] = { variable, NULL };

	execve("/proc/self/exe", argv, envp);
	_exit(2);
}

static long release_list(int index)
{
	return set_robust_list2(NULL, index, ROBUST_LIST_RELEASE);
}

/* The calling thread registers a list of n locks and holds them all. */
static long hold_list(unsigned int type, union head *head, struct lock *lock, int n)
{
	make_list(type, head, lock, n);
	take_locks(lock, n);
	return set_robust_list2(head, ROBUST_LIST_NEW, type);
}

#define ASSERT_HOLD(index, type, head, lock, n)				\
	ASSERT_EQ((index), hold_list((type), (head), (lock), (n)))

/* No list is registered in the slot, and the slot can be taken again. */
static void expect_release(struct __test_metadata *_metadata, int index)
{
	EXPECT_EQ(index, release_list(index));
	EXPECT_NO_LIST(index);
}

/* Waits until another process sets the word. */
static void wait_for_word(atomic_uint *word)
{
	while (!atomic_load(word))
		syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void set_word(atomic_uint *word)
{
	atomic_store(word, 1);
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

TEST_F(list, errors)
{
	static const unsigned int others[] = {
		ROBUST_LIST_UNREGISTER, ROBUST_LIST_QUERY_MAX,
		ROBUST_LIST_UNREGISTER | ROBUST_LIST_QUERY_MAX,
	};
	const unsigned int release = ROBUST_LIST_RELEASE | variant->type;
	struct list *list = self->area->list;
	const int lists = lists_per_thread();

	/* Before the first registration there is no table, afterwards there is one. */
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

	/* A call that fails changes nothing. */
	EXPECT_LIST(0, list, variant->type);
	EXPECT_EQ(0, count_died(list->lock, LOCKS_PER_LIST));
	expect_release(_metadata, 0);
	EXPECT_EQ(LOCKS_PER_LIST, count_died(list->lock, LOCKS_PER_LIST));
	EXPECT_SET_ERROR(ENOENT, NULL, 0, release);
}

/* The list has a type, so the call ignores the type bit. */
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

/* A slot that was set to NULL, and a list without an entry */
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

/* Of two waiters for a lock one still sleeps. */
static void expect_one_woken(struct __test_metadata *_metadata, struct waiter waiter[2],
			     struct lock *lock)
{
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock->futex));
	EXPECT_EQ(1, syscall(SYS_futex, &lock->futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
	for (int i = 0; i < 2; i++)
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

/* A pending lock: not yet on the list, on the list, and already unlocked */
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

/* The thread has unlocked the lock and not yet woken its waiter. */
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

/* A broken list ends where it is broken. That is no error, and frees the slot. */
TEST_F(list, broken_lists)
{
	static const int expected[] = { 0, 2, 0, 0, 4, 1, 2, 4 };
	struct list *list = self->area->list;
	const int lists = ARRAY_SIZE(expected);
	const long page = sysconf(_SC_PAGESIZE);
	struct lock *lock;

	lock = mmap((void *)(AREA_ADDRESS + 0x1000000), page, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_TRUE(lock != MAP_FAILED);
	take_locks(lock, 1);

	/* An unmapped head, an unmapped entry, an unmapped or unaligned futex */
	ASSERT_EQ(0, set_robust_list2((void *)4096, ROBUST_LIST_NEW, variant->type));
	for (int i = 1; i < lists; i++) {
		ASSERT_HOLD(i, variant->type, &list[i].head, list[i].lock, 4);
		take_locks(&list[i].lock[4], 1);
	}
	store_pointer(variant->type, &list[1].lock[1], (void *)4096, 0);
	set_offset(variant->type, &list[2].head, 0x40000000);
	set_offset(variant->type, &list[3].head, offsetof(struct lock, futex) + 1);
	/* An unmapped pending lock; a null entry ends the list before the pending lock */
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

/* Cycles of held locks, of others, and of the pending lock alone */
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
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		atomic_store(&list->lock[i].futex, 1);
	expect_release(_metadata, 0);
	for (int i = 0; i < LOCKS_PER_LIST; i++)
		EXPECT_EQ(1, atomic_load(&list->lock[i].futex));

	ASSERT_HOLD(0, variant->type, &list->head, list->lock, 2);
	store_pointer(variant->type, &list->lock[1], &list->lock[1], 0);
	set_pending(variant->type, &list->head, &list->lock[1]);
	expect_release(_metadata, 0);
	EXPECT_EQ(2, count_died(list->lock, 2));
}

/* 2048 entries that the thread does not hold end their list, and no other. */
TEST_F(list, limit_of_others)
{
	struct area *area = self->area;

	for (int others = ROBUST_LIST_LIMIT - 1; others < ROBUST_LIST_LIMIT + 2; others++) {
		ASSERT_HOLD(0, variant->type, &area->many_head, area->many, others + 1);
		for (int i = 0; i < others; i++)
			atomic_store(&area->many[i].futex, 1);
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

/*
 * The limit of held entries in one walk, HELD_LIMIT in
 * kernel/futex/robust_list2/walk.rs. Each call has a limit of its own.
 */
#define HELD_LIMIT	1048576
#define HELD_SIZE	((HELD_LIMIT + 1) * sizeof(struct lock))

TEST_F_TIMEOUT(list, limit_of_held, 300)
{
	struct lock *lock = map_shared(_metadata, LOCKS_ADDRESS, HELD_SIZE);
	struct list *list = self->area->list;

	ASSERT_HOLD(0, variant->type, &list[0].head, lock, HELD_LIMIT + 1);
	ASSERT_HOLD(1, variant->type, &list[1].head, list[1].lock, LOCKS_PER_LIST);
	/* The pending lock is handled even after the limit. */
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

/* Releases every other list, and leaves the rest to exit. */
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
 * and the test finds them unmarked. Exit walks the other list.
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

static void then_exit(struct victim *victim)
{
	(void)victim;
	_exit(0);
}

static void then_exec(struct victim *victim)
{
	(void)victim;
	exec_new_program();
}

TEST_F(list, not_walked_again)
{
	void (*const then[])(struct victim *victim) = { then_exit, then_exec };
	struct list *list = self->area->list;
	int status;

	for (size_t n = 0; n < ARRAY_SIZE(then); n++) {
		self->victim.then = then[n];
		start_victim(_metadata, &self->victim, release_and_take_again);
		ASSERT_EQ(self->victim.pid, waitpid(self->victim.pid, &status, 0));
		EXPECT_EQ(0, status);
		for (int i = 0; i < LOCKS_PER_LIST; i++)
			EXPECT_EQ(self->victim.pid, atomic_load(&list[0].lock[i].futex));
		EXPECT_EQ(LOCKS_PER_LIST, count_died(list[1].lock, LOCKS_PER_LIST));
	}
}

/*
 * A task that shares the memory of another task releases its own list 0. Its second list
 * is the list of the other task, which holds the locks.
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

static uint64_t child_stack[8192];

static pid_t clone_vm(int (*fn)(void *arg), void *arg)
{
	return clone(fn, &child_stack[ARRAY_SIZE(child_stack)], CLONE_VM | SIGCHLD, arg);
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
 * PI futexes are marked at once, but to waiters the thread stays their owner until it
 * exits. Lock 0 and the pending lock 2 have waiters, lock 1 has none.
 */
static int hold_pi_locks(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, list->lock, 2);
	store_pointer(victim->type, &list->head, &list->lock[0], FUTEX_ROBUST_MOD_PI);
	store_pointer(victim->type, &list->lock[0], &list->lock[1], FUTEX_ROBUST_MOD_PI);
	store_pointer(victim->type, pending_of(victim->type, &list->head), &list->lock[2],
		      FUTEX_ROBUST_MOD_PI);
	for (int i = 0; i < 3; i++)
		CHECK(!lock_pi(&list->lock[i].futex, NULL));
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

static int release_pi_locks(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;

	CHECK(release_list(0) == 0);
	/* The thread no longer owns the locks. */
	CHECK(unlock_pi(&lock[0].futex) == -1 && errno == EPERM);
	return 0;
}

static void release_when_told(struct victim *victim)
{
	wait_for_word(&victim->area->go);
	atomic_store(&victim->area->tid[0], release_pi_locks(victim));
	set_word(&victim->area->seen);
}

struct pi_waiter {
	struct futex_thread	thread;
	atomic_uint		*futex;
	atomic_bool		calls, returned;
	int			error;
	uint32_t		word;
};

static int wait_for_pi(void *arg)
{
	struct pi_waiter *waiter = arg;

	atomic_store(&waiter->calls, true);
	waiter->error = lock_pi(waiter->futex, NULL) ? errno : 0;
	waiter->word = atomic_load(waiter->futex);
	if (!waiter->error)
		unlock_pi(waiter->futex);
	atomic_store(&waiter->returned, true);
	return 0;
}

static void start_pi_waiter(struct __test_metadata *_metadata, struct pi_waiter *waiter,
			    atomic_uint *futex)
{
	*waiter = (struct pi_waiter) { .futex = futex };
	ASSERT_EQ(0, futex_thread_create(&waiter->thread, wait_for_pi, waiter));
	while (!atomic_load(&waiter->calls) || thread_state(waiter->thread.tid) != 'S') {
		ASSERT_FALSE(atomic_load(&waiter->returned));
		sched_yield();
	}
}

TEST_F(list, pi)
{
	struct lock *lock = self->area->list->lock;
	struct pi_waiter waiter[4];
	struct timespec soon;

	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	self->victim.then = release_when_told;
	start_victim(_metadata, &self->victim, hold_pi_locks);
	start_pi_waiter(_metadata, &waiter[0], &lock[0].futex);
	start_pi_waiter(_metadata, &waiter[1], &lock[2].futex);
	set_word(&self->area->go);
	wait_for_word(&self->area->seen);
	EXPECT_EQ(0, atomic_load(&self->area->tid[0])) {
		TH_LOG("the owner failed in line %u", atomic_load(&self->area->tid[0]));
	}
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock[0].futex));
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&lock[1].futex));
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(&lock[2].futex));

	/* New waiters queue behind the others, and FUTEX_TRYLOCK_PI gets no lock. */
	start_pi_waiter(_metadata, &waiter[2], &lock[0].futex);
	start_pi_waiter(_metadata, &waiter[3], &lock[2].futex);
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
		EXPECT_FALSE(atomic_load(&waiter[i].returned));

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
 * Threads release their lists in a loop, and other threads with lists start and exit.
 * However the process ends, no lock is left with a dead owner.
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
	/* Take the locks last: the process may end at any time. */
	take_locks(list->lock, LOCKS_PER_LIST);
	return NULL;
}

/* The end of the process */
enum end { KILL, EXIT, EXEC };

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
	if (victim->arg == EXEC)
		exec_new_program();
	if (victim->arg == EXIT)
		_exit(0);
}

static bool is_zombie(pid_t pid)
{
	char stat[512];

	read_stat(pid, pid, stat, sizeof(stat));
	return stat[0] == 'Z';
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
		while (!atomic_load(&area->tid[0]) && !is_zombie(self->victim.pid) &&
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

/*
 * Events in the middle of a walk. As in robust_list2_pi.c, all threads share one CPU,
 * the list is long, and the test has a real-time priority, so that the walk runs only
 * while the test sleeps.
 */
#define WALK_LOCKS	65536
#define WALK_SIZE	(WALK_LOCKS * sizeof(struct lock))

FIXTURE(walk) {
	struct victim victim;
	struct area *area;
	struct lock *lock;
};

FIXTURE_VARIANT(walk) {
	unsigned int type;
};

FIXTURE_VARIANT_ADD(walk, list32) {
	.type = ROBUST_LIST_32BIT,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(walk, list64) {
	.type = ROBUST_LIST_64BIT,
};
#endif

FIXTURE_SETUP(walk)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (!rule_one_cpu(_metadata, 1))
		SKIP(return, "needs the right to have real-time priority");
	self->area = map_area(_metadata);
	self->lock = map_shared(_metadata, LOCKS_ADDRESS, WALK_SIZE);
	self->victim.area = self->area;
	self->victim.type = variant->type;
}

FIXTURE_TEARDOWN(walk)
{
	if (!self->area)
		return;
	EXPECT_EQ(AREA_GUARD, atomic_load(&self->area->guard));
	munmap(self->area, sizeof(*self->area));
	munmap(self->lock, WALK_SIZE);
}

static struct area *handlers_area;

/* Records whether the walk was over when the handler ran. */
static void look_at_locks(int signal)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;

	(void)signal;
	atomic_store(&handlers_area->stop,
		     atomic_load(&lock[WALK_LOCKS - 1].futex) == FUTEX_OWNER_DIED ? 1 : 2);
}

static void *hold_and_release(void *arg)
{
	struct victim *victim = arg;
	struct area *area = victim->area;

	if (hold_list(victim->type, &area->many_head, (void *)LOCKS_ADDRESS, WALK_LOCKS))
		_exit(3);
	atomic_store(&area->tid[1], gettid32());
	wait_for_word(&area->go);
	atomic_store(&area->tid[2], 1 + release_list(0));
	set_word(&area->seen);
	for (;;)
		pause();
	return NULL;
}

static void end_in_the_walk(struct victim *victim)
{
	wait_for_word(&victim->area->stop);
	if (victim->arg == EXEC)
		exec_new_program();
	if (victim->arg == EXIT)
		_exit(0);
}

static int release_in_thread(struct victim *victim)
{
	struct sigaction action = { .sa_handler = look_at_locks };
	pthread_t thread;

	handlers_area = victim->area;
	CHECK(!sigaction(SIGUSR1, &action, NULL));
	victim->then = end_in_the_walk;
	CHECK(!pthread_create(&thread, NULL, hold_and_release, victim));
	while (!atomic_load(&victim->area->tid[1]))
		sched_yield();
	return 0;
}

static bool is_marked(struct lock *lock)
{
	return atomic_load(&lock->futex) & FUTEX_OWNER_DIED;
}

/*
 * Waits until the thread has marked this lock. Returns whether the walk goes on: on a
 * busy host a nap can be longer than the walk.
 */
static bool begin_release(struct __test_metadata *_metadata, struct victim *victim,
			  struct lock *lock, int marked)
{
	struct area *area = victim->area;

	atomic_store(&area->go, 0);
	atomic_store(&area->stop, 0);
	atomic_store(&area->seen, 0);
	atomic_store(&area->tid[1], 0);
	atomic_store(&area->tid[2], 0);
	start_victim(_metadata, victim, release_in_thread);
	set_word(&area->go);
	while (!is_marked(&lock[marked]))
		nap();
	return !is_marked(&lock[WALK_LOCKS - 1]);
}

static void end_process(struct __test_metadata *_metadata, struct victim *victim)
{
	int status;

	if (victim->arg == KILL)
		kill(victim->pid, SIGKILL);
	else
		set_word(&victim->area->stop);
	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	EXPECT_EQ(victim->arg == KILL ? SIGKILL : 0, status);
}

/* A signal handler runs after the walk, and the call succeeds. */
TEST_F_TIMEOUT(walk, signal, 300)
{
	ASSERT_TRUE(begin_release(_metadata, &self->victim, self->lock, 1));
	ASSERT_EQ(0, syscall(SYS_tgkill, self->victim.pid, atomic_load(&self->area->tid[1]),
			     SIGUSR1));
	EXPECT_FALSE(is_marked(&self->lock[WALK_LOCKS - 1]));
	wait_for_word(&self->area->seen);
	EXPECT_EQ(1, atomic_load(&self->area->tid[2]));
	EXPECT_EQ(1, atomic_load(&self->area->stop));
	EXPECT_EQ(WALK_LOCKS, count_died(self->lock, WALK_LOCKS));
	kill_victim(_metadata, &self->victim);
}

/* The process ends at any time of the walk, and every lock is marked. */
#define ROUNDS		12
#define ROUND_LOCKS	(WALK_LOCKS / 64)

TEST_F_TIMEOUT(walk, ends_meanwhile, 300)
{
	int in_the_walk = 0;

	for (int round = 0; round < ROUNDS; round++) {
		self->victim.arg = round % 3;
		in_the_walk += begin_release(_metadata, &self->victim, self->lock,
					     round * ROUND_LOCKS);
		end_process(_metadata, &self->victim);
		EXPECT_EQ(WALK_LOCKS, count_died(self->lock, WALK_LOCKS)) {
			TH_LOG("end %d, round %d", self->victim.arg, round);
		}
	}
	EXPECT_LE(ROUNDS / 2, in_the_walk);
}

/*
 * A marked lock gets a new owner at once, who puts it on another list. The lock then no
 * longer points to the rest of the walked list, so a walk that began again would lose
 * the rest.
 */
static uint32_t take_and_link(unsigned int type, struct lock *lock, void *head)
{
	uint32_t died = FUTEX_OWNER_DIED;

	if (!atomic_compare_exchange_strong(&lock->futex, &died, gettid32()))
		return 0;
	store_pointer(type, lock, head, 0);
	return 1;
}

TEST_F_TIMEOUT(walk, new_owners, 300)
{
	union head *head = &self->area->list[0].head;
	int in_the_walk = 0;

	for (int round = 0; round < ROUNDS; round++) {
		const int marked = round * ROUND_LOCKS;
		int taken = 0;

		self->victim.arg = round % 3;
		make_list(variant->type, head, NULL, 0);
		begin_release(_metadata, &self->victim, self->lock, marked);
		for (int i = 0; i <= marked; i++)
			taken += take_and_link(variant->type, &self->lock[i], head);
		EXPECT_EQ(marked + 1, taken);
		in_the_walk += !is_marked(&self->lock[WALK_LOCKS - 1]);
		end_process(_metadata, &self->victim);
		for (int i = 0; i <= marked; i++)
			ASSERT_EQ(gettid32(), atomic_load(&self->lock[i].futex));
		EXPECT_EQ(WALK_LOCKS - taken, count_died(&self->lock[taken], WALK_LOCKS - taken)) {
			TH_LOG("end %d, round %d", self->victim.arg, round);
		}
	}
	EXPECT_LE(ROUNDS / 2, in_the_walk);
}

/*
 * The walk waits for a page of the list, and the thread is killed meanwhile. Once the
 * page is there, the access still fails as if it were not.
 */
struct stopped {
	struct area	*area;
	struct lock	*page, *content;
	unsigned int	type;
	int		uffd;
};

static int release_list_with_page(void *arg)
{
	struct stopped *stopped = arg;
	struct list *list = stopped->area->list;

	make_list(stopped->type, &list->head, list->lock, LOCKS_PER_LIST);
	store_pointer(stopped->type, &list->lock[0], stopped->page, 0);
	store_pointer(stopped->type, stopped->content, &list->lock[1], 0);
	take_locks(list->lock, LOCKS_PER_LIST);
	take_locks(stopped->content, 1);
	if (set_robust_list2(&list->head, ROBUST_LIST_NEW, stopped->type))
		_exit(3);
	release_list(0);
	_exit(4);
}

static bool open_uffd(struct stopped *stopped, size_t size)
{
	struct uffdio_register missing = {
		.range = { (uintptr_t)stopped->page, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };

	stopped->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	return stopped->uffd != -1 && !ioctl(stopped->uffd, UFFDIO_API, &api) &&
	       !ioctl(stopped->uffd, UFFDIO_REGISTER, &missing);
}

static void kill_in_fault(struct __test_metadata *_metadata, struct list *list,
			  struct stopped *stopped, size_t size, bool take)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)stopped->page, .src = (uintptr_t)stopped->content,
		.len = size, .mode = UFFDIO_COPY_MODE_DONTWAKE,
	};
	struct pollfd fault = { .fd = stopped->uffd, .events = POLLIN };
	struct uffd_msg message;
	pid_t child;
	int status;

	child = clone_vm(release_list_with_page, stopped);
	ASSERT_NE(-1, child);
	ASSERT_EQ(1, poll(&fault, 1, 1000 * WAIT_SECONDS));
	ASSERT_EQ(sizeof(message), read(stopped->uffd, &message, sizeof(message)));
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&list->lock[0].futex));
	if (take)
		EXPECT_EQ(1, take_and_link(stopped->type, &list->lock[0], &list[1].head));
	ASSERT_EQ(0, ioctl(stopped->uffd, UFFDIO_COPY, &copy));
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(take ? gettid32() : FUTEX_OWNER_DIED, atomic_load(&list->lock[0].futex));
	EXPECT_EQ(1, count_died(stopped->page, 1));
	EXPECT_EQ(LOCKS_PER_LIST - 1, count_died(&list->lock[1], LOCKS_PER_LIST - 1));
}

TEST_F(list, killed_in_fault)
{
	const size_t size = sysconf(_SC_PAGESIZE);
	struct list *list = self->area->list;
	struct stopped stopped = { .area = self->area, .type = variant->type };

	stopped.content = calloc(1, size);
	stopped.page = mmap((void *)(AREA_ADDRESS + 0x1000000), size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ASSERT_TRUE(stopped.page != MAP_FAILED);
	if (!open_uffd(&stopped, size))
		SKIP(return, "needs userfaultfd() for accesses of the kernel");
	make_list(variant->type, &list[1].head, NULL, 0);
	for (int take = 0; take < 2; take++) {
		ASSERT_EQ(0, madvise(stopped.page, size, MADV_DONTNEED));
		kill_in_fault(_metadata, list, &stopped, size, take);
	}
	close(stopped.uffd);
	munmap(stopped.page, size);
}

TEST_HARNESS_MAIN
