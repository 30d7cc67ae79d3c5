// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of events during the walk of ROBUST_LIST_RELEASE. As in robust_list2_pi.h, all
 * threads share one CPU, the list is long, and the test has a real-time priority, so
 * that the walk runs only while the test sleeps.
 */

#define _GNU_SOURCE

#include "robust_list2_release.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

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
	if (!pin_to_one_cpu(_metadata, 1))
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
	unmap_area(_metadata, self->area);
	munmap(self->lock, WALK_SIZE);
}

static struct area *handlers_area;

/* Records whether the walk had ended before the handler ran. */
static void record_progress(int signal)
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
	end_itself(victim);
}

static int release_in_thread(struct victim *victim)
{
	struct sigaction action = { .sa_handler = record_progress };
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
 * Waits until the thread has marked this lock. Returns whether the walk goes on,
 * because a nap can outlast the walk on a busy host.
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
	for (int tries = 0; !begin_release(_metadata, &self->victim, self->lock, 1); tries++) {
		ASSERT_GT(10, tries);
		kill_victim(_metadata, &self->victim);
	}
	ASSERT_EQ(0, syscall(SYS_tgkill, self->victim.pid, atomic_load(&self->area->tid[1]),
			     SIGUSR1));
	EXPECT_FALSE(is_marked(&self->lock[WALK_LOCKS - 1]));
	wait_for_word(&self->area->seen);
	EXPECT_EQ(1, atomic_load(&self->area->tid[2]));
	EXPECT_EQ(1, atomic_load(&self->area->stop));
	EXPECT_EQ(WALK_LOCKS, count_died(self->lock, WALK_LOCKS));
	kill_victim(_metadata, &self->victim);
}

/* The process ends at some point of the walk, and every lock is marked. */
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
 * A marked lock gets a new owner at once, who puts the entry on another list. From
 * there no pointer leads back to the rest of the walked list, so a second walk from the
 * head would miss the rest.
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
 * The thread is killed while the walk waits for a page of the list. The access fails
 * with the fatal signal pending, although the page then arrives.
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

	if (hold_list(stopped->type, &list->head, list->lock, LOCKS_PER_LIST))
		_exit(3);
	store_pointer(stopped->type, &list->lock[0], stopped->page, 0);
	store_pointer(stopped->type, stopped->content, &list->lock[1], 0);
	take_locks(stopped->content, 1);
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
	stopped.page = map_private(PAGE_ADDRESS, size);
	ASSERT_TRUE(!!stopped.page);
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
