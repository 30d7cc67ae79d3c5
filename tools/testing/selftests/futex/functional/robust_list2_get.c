// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of get_robust_list2() for other threads: permissions, TIDs, and threads that
 * are about to die.
 *
 * A reader that uses the lists of an exiting task after they are freed goes unnoticed
 * here. KASAN reports it while get_dying_thread runs.
 */

#define _GNU_SOURCE

#include "robust_list2_area.h"

static int register_one(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(set_robust_list2(&list[3].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	CHECK(set_robust_list2(NULL, 0, ROBUST_LIST_32BIT) == 0);
	CHECK(set_robust_list2(&list[4].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 1);
	return 0;
}

TEST_F(robust_list2, get_of_other_process)
{
	struct victim victim = { .area = self->area };
	uint64_t head = ~0ULL;

	start_victim(_metadata, &victim, register_one);
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(victim.pid, &head, 0, 0));
	EXPECT_EQ(0, head);
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(victim.pid, &head, 1, 0));
	EXPECT_EQ((uintptr_t)&self->area->list[4].head, head);
	EXPECT_EQ(-1, get_robust_list2(victim.pid, &head, 2, 0));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(-1, get_robust_list2(victim.pid, NULL, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	kill_victim(_metadata, &victim);

	EXPECT_EQ(-1, get_robust_list2(victim.pid, &head, 1, 0));
	EXPECT_EQ(ESRCH, errno);
}

/* A zombie still has a TID, but no lists. */
TEST_F(robust_list2, get_of_zombie)
{
	struct victim victim = { .area = self->area };
	uint64_t head = ~0ULL;
	siginfo_t info;

	start_victim(_metadata, &victim, register_one);
	ASSERT_EQ(0, kill(victim.pid, SIGKILL));
	ASSERT_EQ(0, waitid(P_PID, victim.pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-1, get_robust_list2(victim.pid, &head, 1, 0));
	EXPECT_EQ(ENOENT, errno);
	ASSERT_EQ(victim.pid, waitpid(victim.pid, NULL, 0));
}

static int read_as_nobody(struct victim *victim)
{
	const int lists = lists_per_thread();
	pid_t parent = getppid();
	uint64_t head = ~0ULL;

	CHECK(!setresgid(65534, 65534, 65534));
	CHECK(!setresuid(65534, 65534, 65534));
	die_with(parent);
	CHECK(get_robust_list2(victim->arg, &head, 0, 0) == -1 && errno == EPERM);
	/* EPERM does not reveal whether a list is registered. */
	CHECK(get_robust_list2(victim->arg, &head, lists - 1, 0) == -1 && errno == EPERM);
	CHECK(get_robust_list2(victim->arg, &head, lists, 0) == -1 && errno == EINVAL);
	CHECK(head == ~0ULL);
	/* A caller may always read its own lists. */
	CHECK(get_robust_list2(0, &head, 0, 0) == -1 && errno == ENOENT);
	return 0;
}

TEST_F(robust_list2, get_needs_permission)
{
	struct victim victim = { .area = self->area }, reader = { .area = self->area };

	if (geteuid())
		SKIP(return, "needs root");
	start_victim(_metadata, &victim, register_one);
	reader.arg = victim.pid;
	run_victim(_metadata, &reader, read_as_nobody);
	kill_victim(_metadata, &victim);
}

/* TIDs are those of the PID namespace of the caller. */
static int register_in_namespace(struct victim *victim)
{
	pid_t child, outer = getpid();
	uint64_t head = ~0ULL;
	int status, fd[2];
	char c;

	CHECK(!unshare(CLONE_NEWPID));
	CHECK(!pipe(fd));
	child = fork();
	CHECK(child != -1);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getpid() != 1 || register_one(victim))
			_exit(5);
		/* TID 1 is this process. Processes outside the namespace have no TID here. */
		if (get_robust_list2(1, &head, 1, 0) != ROBUST_LIST_32BIT ||
		    head != (uintptr_t)&victim->area->list[4].head)
			_exit(2);
		if (get_robust_list2(outer, &head, 1, 0) != -1 || errno != ESRCH)
			_exit(3);
		if (write(fd[1], "", 1) != 1)
			_exit(4);
		for (;;)
			pause();
	}
	close(fd[1]);
	if (read(fd[0], &c, 1) != 1) {
		waitpid(child, &status, 0);
		return WEXITSTATUS(status);
	}
	head = ~0ULL;
	CHECK(get_robust_list2(child, &head, 1, 0) == ROBUST_LIST_32BIT);
	CHECK(head == (uintptr_t)&victim->area->list[4].head);
	CHECK(!kill(child, SIGKILL));
	CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	return 0;
}

TEST_F(robust_list2, get_in_pid_namespace)
{
	struct victim victim = { .area = self->area };

	if (geteuid())
		SKIP(return, "needs root");
	run_victim(_metadata, &victim, register_in_namespace);
}

/* Each thread has its own lists, and a reader finds them by TID. */
struct thread_lists {
	struct area		*area;
	uint64_t		head;
	long			index;
	pthread_barrier_t	ready, leave;
	int			tid;
};

static void *register_in_thread(void *arg)
{
	struct thread_lists *lists = arg;

	lists->tid = gettid32();
	lists->index = hold_list(ROBUST_LIST_32BIT, &lists->area->list[1].head,
				 lists->area->list[1].lock, 3);
	pthread_barrier_wait(&lists->ready);
	pthread_barrier_wait(&lists->leave);
	return NULL;
}

TEST_F(robust_list2, threads)
{
	struct thread_lists lists = { .area = self->area };
	uint64_t head = ~0ULL;
	pthread_t thread;

	ASSERT_EQ(0, hold_list(ROBUST_LIST_32BIT, &self->area->list[0].head,
			       self->area->list[0].lock, 3));

	pthread_barrier_init(&lists.ready, NULL, 2);
	pthread_barrier_init(&lists.leave, NULL, 2);
	ASSERT_EQ(0, pthread_create(&thread, NULL, register_in_thread, &lists));
	pthread_barrier_wait(&lists.ready);
	EXPECT_EQ(0, lists.index);
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(lists.tid, &head, 0, 0));
	EXPECT_EQ((uintptr_t)&self->area->list[1].head, head);
	EXPECT_LIST(0, &self->area->list[0].head, ROBUST_LIST_32BIT);
	pthread_barrier_wait(&lists.leave);
	pthread_join(thread, NULL);

	EXPECT_EQ(3, count_died(self->area->list[1].lock, LOCKS_PER_LIST));
	EXPECT_EQ(0, count_died(self->area->list[0].lock, LOCKS_PER_LIST));
	EXPECT_LIST(0, &self->area->list[0].head, ROBUST_LIST_32BIT);
}

/*
 * Threads with lists start and exit while another thread reads their lists. The reader
 * gets one of their heads or none.
 */
#define DYING_THREADS	4
#define ENOUGH_SEEN	500

struct dying_thread {
	struct area	*area;
	pthread_t	thread;
	int		n;
};

static void *register_and_exit(void *arg)
{
	struct dying_thread *self = arg;
	struct list *list = self->area->list;

	set_robust_list2(&list[0].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	atomic_store(&self->area->tid[self->n], gettid32());
	set_robust_list2(&list[1].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	sched_yield();
	set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER);
	set_robust_list2(&list[2].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	return NULL;
}

static int watch_threads(struct victim *victim)
{
	struct list *list = victim->area->list;

	for (int n = 0; !atomic_load(&victim->area->stop); n++) {
		int tid = atomic_load(&victim->area->tid[n % DYING_THREADS]);
		uint64_t head = ~0ULL;
		long ret;

		/* TID 0 would name the caller. */
		if (!tid)
			continue;
		ret = get_robust_list2(tid, &head, n & 1, 0);
		if (ret == -1) {
			CHECK(errno == ESRCH || errno == ENOENT);
			continue;
		}
		CHECK(ret == ROBUST_LIST_32BIT);
		CHECK(head == (uintptr_t)&list[0].head || head == (uintptr_t)&list[1].head ||
		      head == (uintptr_t)&list[2].head);
		atomic_fetch_add(&victim->area->seen, 1);
	}
	return 0;
}

TEST_F(robust_list2, get_dying_thread)
{
	struct dying_thread thread[DYING_THREADS];
	struct victim reader = { .area = self->area };
	int status;

	for (int i = 0; i < 3; i++)
		make_list(ROBUST_LIST_32BIT, &self->area->list[i].head, NULL, 0);
	reader.pid = fork_child();
	ASSERT_NE(-1, reader.pid);
	if (!reader.pid)
		_exit(!!watch_threads(&reader));

	for (int round = 0; round < 3000; round++) {
		if (atomic_load(&self->area->seen) >= ENOUGH_SEEN)
			break;
		for (int i = 0; i < DYING_THREADS; i++) {
			thread[i].area = self->area;
			thread[i].n = i;
			ASSERT_EQ(0, pthread_create(&thread[i].thread, NULL, register_and_exit,
						    &thread[i]));
		}
		for (int i = 0; i < DYING_THREADS; i++)
			pthread_join(thread[i].thread, NULL);
	}
	atomic_store(&self->area->stop, 1);
	ASSERT_EQ(reader.pid, waitpid(reader.pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_LE(ENOUGH_SEEN, atomic_load(&self->area->seen));
}

TEST_HARNESS_MAIN
