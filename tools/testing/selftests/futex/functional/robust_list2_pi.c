// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of PI futexes whose owner walks its lists of set_robust_list2(), because it
 * exits or execs.
 *
 * During its walk an owner is like any other owner to the callers that want such a
 * futex. To test that, the walk must stop in the middle, where the futex of the first
 * entry is marked and that of the last one is not. So all threads share one CPU, the
 * list is long, the owner is SCHED_IDLE, and the test has a real-time priority. The
 * owner runs only while the test sleeps, and the test sleeps for short times. A thread
 * that wakes up then preempts the owner at once.
 *
 * userfaultfd cannot stop an owner that exits: it raises SIGBUS instead.
 */

#define _GNU_SOURCE

#include "robust_list2.h"

#include <sys/resource.h>

#define TEST_PRIORITY	50
/* Below the test's priority, so that a boosted owner also runs only while the test sleeps. */
#define BOOST_PRIORITY	10

/* Enough for a walk of hundreds of naps of the test */
#define WALK_LOCKS	262144

/* The lists are in shared memory, and so are the futexes. */
#define lock_pi(futex, timeout)						\
	syscall(SYS_futex, (futex), FUTEX_LOCK_PI, 0, (timeout), NULL, 0)
#define trylock_pi(futex)						\
	syscall(SYS_futex, (futex), FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0)
#define unlock_pi(futex)						\
	syscall(SYS_futex, (futex), FUTEX_UNLOCK_PI, 0, NULL, NULL, 0)
#define requeue_pi(cond, value, pi)					\
	syscall(SYS_futex, (cond), FUTEX_CMP_REQUEUE_PI, 1, INT_MAX, (pi), (value))

enum death { EXIT, EXEC_BY_LEADER, EXEC_BY_THREAD };

FIXTURE(walk) {
	struct victim victim;
	struct area *area;
	struct lock *lock;
	/* The PI futexes: marked first, marked last, and on no list */
	atomic_uint *first, *last, *apart;
};

FIXTURE_VARIANT(walk) {
	unsigned int type;
	enum death death;
};

FIXTURE_VARIANT_ADD(walk, exit32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXIT,
};

FIXTURE_VARIANT_ADD(walk, exec_by_leader32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXEC_BY_LEADER,
};

FIXTURE_VARIANT_ADD(walk, exec_by_thread32) {
	.type = ROBUST_LIST_32BIT,
	.death = EXEC_BY_THREAD,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(walk, exit64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXIT,
};

FIXTURE_VARIANT_ADD(walk, exec_by_leader64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXEC_BY_LEADER,
};

FIXTURE_VARIANT_ADD(walk, exec_by_thread64) {
	.type = ROBUST_LIST_64BIT,
	.death = EXEC_BY_THREAD,
};
#endif

FIXTURE_SETUP(walk)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (!have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	if (!rule_one_cpu(_metadata, TEST_PRIORITY))
		SKIP(return, "needs the right to have real-time priority");

	self->area = map_area(_metadata);
	self->lock = map_shared(_metadata, LOCKS_ADDRESS, WALK_LOCKS * sizeof(struct lock));
	self->first = &self->lock[0].futex;
	self->last = &self->lock[WALK_LOCKS - 1].futex;
	self->apart = &self->area->list[1].lock[0].futex;
	self->victim.area = self->area;
	self->victim.type = variant->type;
	self->victim.arg = variant->death;
}

FIXTURE_TEARDOWN(walk)
{
	if (!self->area)
		return;
	EXPECT_EQ(AREA_GUARD, atomic_load(&self->area->guard));
	munmap(self->area, sizeof(*self->area));
	munmap(self->lock, WALK_LOCKS * sizeof(struct lock));
}

#define NEW_PROGRAM	"ROBUST_LIST2_NEW_PROGRAM"

/* The owner holds the locks, and execs when the test says so, or is killed. */
static __attribute__((constructor)) void run_as_new_program(void)
{
	if (getenv(NEW_PROGRAM))
		_exit(0);
}

static int own_locks(struct victim *victim)
{
	struct lock *lock = (void *)LOCKS_ADDRESS;
	struct list *list = victim->area->list;

	make_list(victim->type, &list->head, lock, WALK_LOCKS);
	store_pointer(victim->type, &list->head, &lock[0], FUTEX_ROBUST_MOD_PI);
	store_pointer(victim->type, &lock[WALK_LOCKS - 2], &lock[WALK_LOCKS - 1],
		      FUTEX_ROBUST_MOD_PI);
	take_locks(lock, WALK_LOCKS);
	take_locks(list[1].lock, 1);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	atomic_store(&victim->area->tid[0], gettid32());
	return 0;
}

/* The owner's preparation */
static int (*own)(struct victim *victim) = own_locks;

static void exec_when_told(struct victim *victim)
{
	char name[] = "robust_list2_pi", *argv[] = { name, NULL };
	char variable[] = NEW_PROGRAM "=", *envp[] = { variable, NULL };

	while (!atomic_load(&victim->area->go))
		sched_yield();
	execve("/proc/self/exe", argv, envp);
	_exit(2);
}

#define NOT_YET	(-1)

static atomic_int thread_line;

static void *own_and_exec(void *arg)
{
	atomic_store(&thread_line, own(arg));
	exec_when_told(arg);
	return NULL;
}

static int become_owner(struct victim *victim)
{
	struct sched_param param = { .sched_priority = 0 };
	pthread_t thread;
	int line;

	CHECK(!setpriority(PRIO_PROCESS, 0, 19));
	CHECK(!sched_setscheduler(0, SCHED_IDLE, &param));
	if (victim->arg != EXEC_BY_THREAD) {
		if (victim->arg == EXEC_BY_LEADER)
			victim->then = exec_when_told;
		return own(victim);
	}
	atomic_store(&thread_line, NOT_YET);
	CHECK(!pthread_create(&thread, NULL, own_and_exec, victim));
	while ((line = atomic_load(&thread_line)) == NOT_YET)
		sched_yield();
	return line;
}

static bool walk_begun(struct lock *lock)
{
	return atomic_load(&lock[1].futex) == FUTEX_OWNER_DIED;
}

static bool walk_over(struct lock *lock)
{
	return atomic_load(&lock[WALK_LOCKS - 2].futex) == FUTEX_OWNER_DIED;
}

#define EXPECT_IN_THE_WALK()						\
	do {								\
		EXPECT_TRUE(walk_begun(self->lock));			\
		EXPECT_FALSE(walk_over(self->lock)) {			\
			TH_LOG("the owner has ended its walk meanwhile"); \
		}							\
	} while (0)

static void begin_walk(struct __test_metadata *_metadata, struct victim *victim,
		       struct lock *lock)
{
	if (victim->arg == EXIT)
		ASSERT_EQ(0, kill(victim->pid, SIGKILL));
	atomic_store(&victim->area->go, 1);
	while (!walk_begun(lock))
		nap();
	ASSERT_FALSE(walk_over(lock));
}

static void finish_walk(struct __test_metadata *_metadata, struct victim *victim,
			struct lock *lock)
{
	int status;

	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	EXPECT_EQ(victim->arg == EXIT ? SIGKILL : 0, status);
	EXPECT_EQ(WALK_LOCKS - 2, count_died(&lock[1], WALK_LOCKS - 2));
}

/*
 * A thread that makes a call when the test says so. The call may wait. The thread
 * reports its progress and the result.
 */
struct caller {
	struct futex_thread	thread;
	int			(*call)(struct caller *caller);
	atomic_uint		*futex, *cond;
	const struct timespec	*timeout;
	int			priority;
	/* Unlock before the thread ends, so that the next one gets the lock */
	bool			unlock;
	atomic_uint		told;
	atomic_bool		calls, returned;
	int			error;
	uint32_t		word;
};

static int call_when_told(void *arg)
{
	struct caller *caller = arg;
	struct sched_param param = { .sched_priority = caller->priority };

	if (caller->priority)
		sched_setscheduler(0, SCHED_FIFO, &param);
	else
		setpriority(PRIO_PROCESS, gettid32(), -20);
	while (!atomic_load(&caller->told))
		syscall(SYS_futex, &caller->told, FUTEX_WAIT, 0, NULL, NULL, 0);

	atomic_store(&caller->calls, true);
	caller->error = caller->call(caller) ? errno : 0;
	caller->word = atomic_load(caller->futex);
	if (caller->unlock)
		unlock_pi(caller->futex);
	atomic_store(&caller->returned, true);
	return 0;
}

static int call_lock_pi(struct caller *caller)
{
	return lock_pi(caller->futex, caller->timeout);
}

static int call_wait_requeue_pi(struct caller *caller)
{
	return syscall(SYS_futex, caller->cond, FUTEX_WAIT_REQUEUE_PI, atomic_load(caller->cond),
		       caller->timeout, caller->futex, 0);
}

/* Returns when the thread waits for the test. */
static void prepare_caller(struct __test_metadata *_metadata, struct caller *caller)
{
	if (!caller->call)
		caller->call = call_lock_pi;
	ASSERT_EQ(0, futex_thread_create(&caller->thread, call_when_told, caller));
	while (thread_state(caller->thread.tid) != 'S')
		nap();
}

/* Returns when the call waits in the kernel, or has returned. */
static void tell_caller(struct caller *caller)
{
	atomic_store(&caller->told, 1);
	syscall(SYS_futex, &caller->told, FUTEX_WAKE, 1, NULL, NULL, 0);
	while (!atomic_load(&caller->returned) &&
	       (!atomic_load(&caller->calls) || thread_state(caller->thread.tid) != 'S'))
		nap();
}

static bool is_waiting(struct caller *caller)
{
	return !atomic_load(&caller->returned);
}

/* The caller got the lock of an owner that died. */
static void expect_got_lock(struct __test_metadata *_metadata, struct caller *caller)
{
	futex_thread_destroy(&caller->thread);
	EXPECT_EQ(0, caller->error);
	EXPECT_EQ(caller->thread.tid, caller->word & FUTEX_TID_MASK);
	EXPECT_NE(0, caller->word & FUTEX_OWNER_DIED);
}

/* Waiters from before the walk wait until the owner is done, marked or not. */
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
 * Waiters that come during the walk: a marked futex goes to its waiter at once, and the
 * other waiters wait for the owner.
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

/* A marked futex with a waiter from before the walk: a new waiter queues behind it. */
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

	/* One after the other, and the first one learns that the owner died. */
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

/* After the walk a caller finds the mark, and no owner. */
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

/* FUTEX_TRYLOCK_PI does not wait. */
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
	/* The attempt did not keep the walk from marking the futex. */
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->last));
}

static struct timespec in_milliseconds(int ms)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec += ms * 1000000;
	if (time.tv_nsec >= 1000000000) {
		time.tv_nsec -= 1000000000;
		time.tv_sec++;
	}
	return time;
}

static bool is_past(const struct timespec *time)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec > time->tv_sec ||
	       (now.tv_sec == time->tv_sec && now.tv_nsec >= time->tv_nsec);
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
	time = in_milliseconds(200);
	for (int i = 0; i < 2; i++)
		tell_caller(&caller[i]);
	/* No other thread runs meanwhile. */
	while (!is_past(&time))
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

/* A signal handler runs at once, and the call continues. */
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

/* Starts a process for the test to kill. The child returns when the test says so. */
static pid_t start_process(struct __test_metadata *_metadata, struct area *area)
{
	pid_t pid;

	atomic_store(&area->seen, 0);
	atomic_store(&area->stop, 0);
	pid = fork_child();
	ASSERT_NE(-1, pid);
	if (!pid) {
		setpriority(PRIO_PROCESS, 0, -20);
		atomic_store(&area->seen, 1);
		while (!atomic_load(&area->stop))
			syscall(SYS_futex, &area->stop, FUTEX_WAIT, 0, NULL, NULL, 0);
	}
	return pid;
}

static char process_state(pid_t pid)
{
	char stat[512];

	read_stat(pid, pid, stat, sizeof(stat));
	return stat[0];
}

/* Waits until "seen" has the value and the process waits for something. */
static void wait_for_process(struct area *area, pid_t pid, unsigned int value)
{
	while (atomic_load(&area->seen) < value || process_state(pid) != 'S')
		nap();
}

static void tell_process(struct area *area)
{
	atomic_store(&area->stop, 1);
	syscall(SYS_futex, &area->stop, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void kill_process(struct __test_metadata *_metadata, pid_t pid)
{
	int status;
	pid_t got;

	ASSERT_EQ(0, kill(pid, SIGKILL));
	while (!(got = waitpid(pid, &status, WNOHANG)))
		nap();
	ASSERT_EQ(pid, got);
	EXPECT_TRUE(WIFSIGNALED(status));
}

/* A fatal signal ends a waiter at once, and leaves no trace of it in the futex. */
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
	tell_process(self->area);
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

/*
 * Requeued waiters: one gets a marked futex, the others wait for the owner, as if they
 * had called FUTEX_LOCK_PI. The requeuer does not wait.
 */
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
		EXPECT_EQ(1, requeue_pi(&cond[i].futex, 0, caller[i].futex));
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

/* The same for two waiters of one futex: the second one follows the first. */
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
	EXPECT_EQ(2, requeue_pi(cond, 0, self->last));
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
	/* This timeout is by CLOCK_MONOTONIC. */
	clock_gettime(CLOCK_MONOTONIC, &time);
	time.tv_sec += WAIT_SECONDS;
	caller.timeout = &time;
	prepare_caller(_metadata, &caller);
	begin_walk(_metadata, &self->victim, self->lock);
	clock_gettime(CLOCK_MONOTONIC, &time);
	time.tv_nsec += 500000000;
	if (time.tv_nsec >= 1000000000) {
		time.tv_nsec -= 1000000000;
		time.tv_sec++;
	}
	tell_caller(&caller);
	EXPECT_EQ(1, requeue_pi(caller.cond, 0, self->last));
	EXPECT_TRUE(is_waiting(&caller));
	while (is_waiting(&caller) && !walk_over(self->lock)) {
		struct timespec until = in_milliseconds(5);

		while (!is_past(&until))
			;
		nap();
	}
	EXPECT_IN_THE_WALK();
	futex_thread_destroy(&caller.thread);
	EXPECT_EQ(ETIMEDOUT, caller.error);
	finish_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(self->last));
}

/* The requeuer is killed while the owner walks: no waiter depends on the requeuer. */
TEST_F_TIMEOUT(walk, killed_requeuer, 300)
{
	struct caller caller = { .futex = self->last, .call = call_wait_requeue_pi };
	pid_t requeuer;

	caller.cond = &self->area->list[2].lock[0].futex;
	requeuer = start_process(_metadata, self->area);
	if (!requeuer) {
		atomic_store(&self->area->seen,
			     requeue_pi(caller.cond, 0, self->last) == 1 ? 2 : 3);
		for (;;)
			pause();
	}
	wait_for_process(self->area, requeuer, 1);
	start_victim(_metadata, &self->victim, become_owner);
	prepare_caller(_metadata, &caller);
	tell_caller(&caller);
	begin_walk(_metadata, &self->victim, self->lock);
	tell_process(self->area);
	while (atomic_load(&self->area->seen) < 2 && !walk_over(self->lock))
		nap();
	EXPECT_EQ(2, atomic_load(&self->area->seen));
	kill_process(_metadata, requeuer);
	EXPECT_TRUE(is_waiting(&caller));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	expect_got_lock(_metadata, &caller);
}

/* A requeued waiter is killed: the next one gets the lock. */
TEST_F_TIMEOUT(walk, killed_requeued_waiter, 300)
{
	atomic_uint *cond = &self->area->list[2].lock[0].futex;
	struct caller caller = { .futex = self->last };
	pid_t waiter;

	waiter = start_process(_metadata, self->area);
	if (!waiter) {
		atomic_store(&self->area->seen, 2);
		syscall(SYS_futex, cond, FUTEX_WAIT_REQUEUE_PI, 0, NULL, self->last, 0);
		_exit(0);
	}
	wait_for_process(self->area, waiter, 1);
	tell_process(self->area);
	wait_for_process(self->area, waiter, 2);
	start_victim(_metadata, &self->victim, become_owner);
	prepare_caller(_metadata, &caller);
	begin_walk(_metadata, &self->victim, self->lock);
	EXPECT_EQ(1, requeue_pi(cond, 0, self->last));
	tell_caller(&caller);
	EXPECT_TRUE(is_waiting(&caller));
	kill_process(_metadata, waiter);
	EXPECT_TRUE(is_waiting(&caller));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	expect_got_lock(_metadata, &caller);
}

/* Returns the owner's priority in the scale of /proc: 39 is nice 19. */
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

/* A waiter lends its priority to a walking owner, as to any other. */
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
	/* The owner no longer has a marked futex, so its waiter lends no priority. */
	tell_caller(&caller[1]);
	EXPECT_FALSE(is_waiting(&caller[1]));
	EXPECT_EQ(-1 - BOOST_PRIORITY, priority_of(&self->victim));
	EXPECT_IN_THE_WALK();
	finish_walk(_metadata, &self->victim, self->lock);
	for (int i = 0; i < 2; i++)
		expect_got_lock(_metadata, &caller[i]);
}

/* The same for a waiter from before the walk. */
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
 * Nothing stops this walk, and the threads run on all CPUs: waiters come before, while
 * and after the walk marks their word. Each gets its lock.
 */
#define STORM_ROUNDS	50

static int own_few_locks(struct victim *victim)
{
	struct list *list = victim->area->list;
	void *from = &list->head;

	make_list(victim->type, &list->head, list->lock, LOCKS_PER_LIST);
	for (int i = 0; i < LOCKS_PER_LIST; i++) {
		store_pointer(victim->type, from, &list->lock[i], FUTEX_ROBUST_MOD_PI);
		from = &list->lock[i];
	}
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
	for (int i = 0; i < LOCKS_PER_LIST / 4; i++) {
		atomic_store(&caller[i].told, 1);
		syscall(SYS_futex, &caller[i].told, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
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
	if (!self->area)
		return;
	EXPECT_EQ(AREA_GUARD, atomic_load(&self->area->guard));
	munmap(self->area, sizeof(*self->area));
}

TEST_F_TIMEOUT(storm, waiters_at_any_time, 300)
{
	for (int round = 0; round < STORM_ROUNDS; round++)
		storm(_metadata, &self->victim);
}

TEST_HARNESS_MAIN
