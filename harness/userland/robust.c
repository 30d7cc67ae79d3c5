// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of a C library's robust mutexes: their owners die in many ways, and the next
 * owner must get EOWNERDEAD, and can repair the mutexes or give them up. The program
 * does not depend on the layout of a mutex, so the same file tests all libraries.
 *
 * With the argument "list2" each owner also has lists of set_robust_list2() with locks
 * of its own, and all results must be the same.
 *
 * A test is a process that prints nothing and reports by its exit status. PATIENCE in
 * the environment is the number of seconds that it may wait.
 */

#define _GNU_SOURCE

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MUTEXES		3
#define LOCKS		4

/* A test without a wakeup fails after this many seconds. */
static unsigned int patience = 30;

/* 32-bit lists must be below 4 GiB. */
#define AREA_ADDRESS	0x60000000UL

#define SKIPPED		4

enum death {
	THREAD_RETURNS,
	/* The thread exits without the library's knowledge, so only the kernel can help. */
	THREAD_EXITS_RAW,
	PROCESS_EXITS,
	PROCESS_IS_KILLED,
	PROCESS_EXECS,
	DEATHS
};

enum way {
	LOCK,
	TIMEDLOCK,
	COND_WAIT,
	LATE_LOCK,
	LATE_TRYLOCK,
	WAYS
};

static const char * const death_name[] = {
	"thread returns", "thread calls exit()", "process exits", "process is killed",
	"process execs",
};

static const char * const way_name[] = {
	"pthread_mutex_lock() waits", "pthread_mutex_timedlock() waits",
	"pthread_cond_wait() waits", "pthread_mutex_lock() comes late",
	"pthread_mutex_trylock() comes late",
};

struct lock {
	__u64		next;
	atomic_uint	futex;
	__u32		unused;
};

struct list {
	union {
		struct {
			__u64	next;
			__s64	futex_offset;
			__u64	list_op_pending;
		} h64;
		struct robust_list_head32 h32;
	} head;
	struct lock	lock[LOCKS];
};

/* Memory that the processes of a test share */
static struct area {
	pthread_mutex_t	mutex[MUTEXES];
	pthread_cond_t	cond;
	/* TIDs: the owner of the mutexes, and the waiter for the first one */
	atomic_int	owner;
	atomic_int	waiter;
	/* The line of the first check that failed */
	atomic_int	line;
	/* The lists of set_robust_list2(), and a lock that is on none of them */
	struct list	list[2];
	atomic_uint	guard;
} *area;

static bool pi, shared, list2;
static enum death death;
static enum way way;
/* The result when the owner of a test takes the mutexes */
static int owner_finds;
static pid_t owner_process;
static pthread_t owner_thread;
static int exec_pipe[2];

static void fail(int line)
{
	int none = 0;

	atomic_compare_exchange_strong(&area->line, &none, line);
	_exit(1);
}

#define CHECK(condition)		\
	do {				\
		if (!(condition))	\
			fail(__LINE__);	\
	} while (0)

static void short_sleep(void)
{
	/* The other process has failed, and this one would wait in vain. */
	if (area->line)
		_exit(1);
	usleep(500);
}

/* Forks a child that dies with its parent. */
static pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	CHECK(pid != -1);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/* Waits until the waiter sleeps in its call. */
static void until_asleep(pid_t process, const atomic_int *tid)
{
	char name[64], stat[256] = "", *state;
	int fd, n;

	while (!*tid)
		short_sleep();
	snprintf(name, sizeof(name), "/proc/%d/task/%d/stat", process, *tid);
	for (;;) {
		fd = open(name, O_RDONLY);
		CHECK(fd != -1);
		n = read(fd, stat, sizeof(stat) - 1);
		close(fd);
		CHECK(n > 0);
		stat[n] = '\0';
		state = strrchr(stat, ')');
		CHECK(state);
		if (state[2] == 'S')
			return;
		short_sleep();
	}
}

static unsigned int list_type(int n)
{
	return sizeof(long) == 8 && n == 0 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

static void store_pointer(unsigned int type, void *at, const void *to)
{
	if (type == ROBUST_LIST_32BIT)
		*(__u32 *)at = (uintptr_t)to;
	else
		*(__u64 *)at = (uintptr_t)to;
}

/* Registers a list of locks that the caller holds. One of them has a waiter. */
static void register_list(int n)
{
	struct list *list = &area->list[n];
	unsigned int type = list_type(n);
	void *from = &list->head;
	__u64 got = 0;

	memset(list, 0, sizeof(*list));
	if (type == ROBUST_LIST_32BIT)
		list->head.h32.futex_offset = offsetof(struct lock, futex);
	else
		list->head.h64.futex_offset = offsetof(struct lock, futex);
	for (int i = 0; i < LOCKS; i++) {
		list->lock[i].futex = gettid() | (i ? 0 : FUTEX_WAITERS);
		store_pointer(type, from, &list->lock[i]);
		from = &list->lock[i];
	}
	store_pointer(type, from, &list->head);
	CHECK(syscall(__NR_set_robust_list2, &list->head, ROBUST_LIST_NEW, type) == n);
	CHECK(syscall(__NR_get_robust_list2, 0, &got, n, 0) == (long)type);
	CHECK(got == (uintptr_t)&list->head);
	area->guard = gettid();
}

static void check_lists(unsigned int expected)
{
	for (int n = 0; n < 2; n++) {
		for (int i = 0; i < LOCKS; i++)
			CHECK(area->list[n].lock[i].futex == (expected | (i ? 0 : FUTEX_WAITERS)));
	}
	CHECK(!(area->guard & FUTEX_OWNER_DIED));
}

static void *library_list(void)
{
	void *head = NULL;
	size_t size;

	CHECK(!syscall(__NR_get_robust_list, 0, &head, &size));
	return head;
}

/* The caller takes the mutexes, with its own lists registered before and after them. */
static void take_all(void)
{
	void *head;

	if (list2)
		register_list(0);
	for (int i = 0; i < MUTEXES; i++)
		CHECK(pthread_mutex_lock(&area->mutex[i]) == owner_finds);
	/* musl has registered its list by now, which a contended PI mutex alone does not cause. */
	head = library_list();
	CHECK(head || !shared);
	/* musl handles private mutexes itself when a thread ends through the library. */
	if (!head && death == THREAD_EXITS_RAW)
		_exit(SKIPPED);
	if (list2) {
		register_list(1);
		CHECK(library_list() == head);
	}
	area->owner = gettid();
}

/* The owner until its death */
static void live(pid_t waiter)
{
	take_all();
	if (way == COND_WAIT)
		CHECK(!pthread_cond_signal(&area->cond));
	if (way < LATE_LOCK)
		until_asleep(waiter, &area->waiter);
}

static void *owner_thread_fn(void *arg)
{
	live(getpid());
	if (death == THREAD_EXITS_RAW)
		syscall(__NR_exit, 0);
	return arg;
}

static void owner_process_fn(void)
{
	live(getppid());
	switch (death) {
	case PROCESS_EXITS:
		_exit(0);
	case PROCESS_IS_KILLED:
		kill(getpid(), SIGKILL);
		break;
	default:
		execl("/proc/self/exe", "robust", "pause", NULL);
		break;
	}
	fail(__LINE__);
}

static void start_owner(void)
{
	area->owner = 0;
	area->waiter = 0;
	if (death < PROCESS_EXITS) {
		CHECK(!pthread_create(&owner_thread, NULL, owner_thread_fn, NULL));
		return;
	}
	CHECK(!pipe2(exec_pipe, O_CLOEXEC));
	owner_process = fork_child();
	if (!owner_process)
		owner_process_fn();
	close(exec_pipe[1]);
}

/* Waits until the kernel has finished the walk. */
static void until_gone(void)
{
	char c;

	switch (death) {
	case THREAD_RETURNS:
		CHECK(!pthread_join(owner_thread, NULL));
		break;
	case THREAD_EXITS_RAW:
		while (!syscall(__NR_tgkill, getpid(), area->owner, 0))
			short_sleep();
		CHECK(errno == ESRCH);
		break;
	case PROCESS_EXECS:
		/* An exec closes the pipe after the walk. */
		CHECK(!read(exec_pipe[0], &c, 1));
		CHECK(!waitpid(owner_process, NULL, WNOHANG));
		break;
	default:
		CHECK(waitpid(owner_process, NULL, 0) == owner_process);
		break;
	}
}

/* Ends the new program of an exec. */
static void clean_up(void)
{
	if (death == PROCESS_EXECS) {
		kill(owner_process, SIGKILL);
		CHECK(waitpid(owner_process, NULL, 0) == owner_process);
	}
	if (death >= PROCESS_EXITS)
		close(exec_pipe[0]);
}

static void init_mutexes(void)
{
	pthread_mutexattr_t attr;
	pthread_condattr_t condattr;
	int visible = shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE;

	CHECK(!pthread_mutexattr_init(&attr));
	CHECK(!pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
	CHECK(!pthread_mutexattr_setpshared(&attr, visible));
	CHECK(!pthread_mutexattr_setprotocol(&attr, pi ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE));
	for (int i = 0; i < MUTEXES; i++)
		CHECK(!pthread_mutex_init(&area->mutex[i], &attr));
	CHECK(!pthread_condattr_init(&condattr));
	CHECK(!pthread_condattr_setpshared(&condattr, visible));
	CHECK(!pthread_cond_init(&area->cond, &condattr));
}

/* Takes the first mutex from a dying owner. */
static int inherit(void)
{
	struct timespec until;

	while (way != COND_WAIT && !area->owner)
		short_sleep();

	switch (way) {
	case LOCK:
		area->waiter = gettid();
		return pthread_mutex_lock(&area->mutex[0]);
	case TIMEDLOCK:
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += patience;
		area->waiter = gettid();
		return pthread_mutex_timedlock(&area->mutex[0], &until);
	case COND_WAIT:
		area->waiter = gettid();
		return pthread_cond_wait(&area->cond, &area->mutex[0]);
	case LATE_LOCK:
		until_gone();
		return pthread_mutex_lock(&area->mutex[0]);
	default:
		until_gone();
		return pthread_mutex_trylock(&area->mutex[0]);
	}
}

/* An owner dies, and the caller takes all mutexes. */
static void inherit_all(void)
{
	/* The owner signals only when it has the mutex, for which the caller then waits. */
	if (way == COND_WAIT)
		CHECK(!pthread_mutex_lock(&area->mutex[0]));
	start_owner();
	CHECK(inherit() == EOWNERDEAD);
	if (way < LATE_LOCK)
		until_gone();
	for (int i = 1; i < MUTEXES; i++)
		CHECK(pthread_mutex_trylock(&area->mutex[i]) == EOWNERDEAD);
	if (list2)
		check_lists(FUTEX_OWNER_DIED);
	clean_up();
}

static void repair_all(void)
{
	for (int i = 0; i < MUTEXES; i++) {
		CHECK(!pthread_mutex_consistent(&area->mutex[i]));
		CHECK(!pthread_mutex_unlock(&area->mutex[i]));
	}
	for (int i = 0; i < MUTEXES; i++) {
		CHECK(!pthread_mutex_lock(&area->mutex[i]));
		CHECK(!pthread_mutex_unlock(&area->mutex[i]));
		CHECK(!pthread_mutex_destroy(&area->mutex[i]));
	}
}

static void test_repair(void)
{
	inherit_all();
	repair_all();
}

/* The next owner dies as well, with the mutexes not repaired. */
static void test_twice(void)
{
	start_owner();
	while (!area->owner)
		short_sleep();
	until_gone();
	clean_up();
	owner_finds = EOWNERDEAD;
	inherit_all();
	repair_all();
}

static void *lock_fn(void *arg)
{
	area->waiter = gettid();
	return (void *)(long)pthread_mutex_lock(arg);
}

static void *trylock_fn(void *arg)
{
	return (void *)(long)pthread_mutex_trylock(arg);
}

/* No owner repairs the mutexes: a waiter and later callers find them lost. */
static void test_lost(void)
{
	pthread_t waiter;
	void *result;

	inherit_all();
	area->waiter = 0;
	CHECK(!pthread_create(&waiter, NULL, lock_fn, &area->mutex[0]));
	until_asleep(getpid(), &area->waiter);
	for (int i = 0; i < MUTEXES; i++)
		CHECK(!pthread_mutex_unlock(&area->mutex[i]));
	CHECK(!pthread_join(waiter, &result));
	CHECK((long)result == ENOTRECOVERABLE);
	for (int i = 0; i < MUTEXES; i++) {
		CHECK(pthread_mutex_lock(&area->mutex[i]) == ENOTRECOVERABLE);
		CHECK(pthread_mutex_trylock(&area->mutex[i]) == ENOTRECOVERABLE);
		CHECK(!pthread_mutex_destroy(&area->mutex[i]));
	}
	init_mutexes();
	CHECK(!pthread_mutex_lock(&area->mutex[0]));
	CHECK(!pthread_mutex_unlock(&area->mutex[0]));
}

/* The death of a child does not affect the mutexes of its parent. */
static void test_child(void)
{
	pthread_t other;
	void *result;
	pid_t pid;
	__u64 got;

	take_all();
	pid = fork_child();
	if (!pid) {
		for (int i = 0; list2 && i < 2; i++) {
			CHECK(syscall(__NR_get_robust_list2, 0, &got, i, 0) == -1);
			CHECK(errno == ENOENT);
		}
		_exit(0);
	}
	CHECK(waitpid(pid, NULL, 0) == pid);
	for (int i = 0; i < MUTEXES; i++) {
		CHECK(!pthread_create(&other, NULL, trylock_fn, &area->mutex[i]));
		CHECK(!pthread_join(other, &result));
		CHECK((long)result == EBUSY);
		CHECK(pthread_mutex_consistent(&area->mutex[i]) == EINVAL);
		CHECK(!pthread_mutex_unlock(&area->mutex[i]));
	}
	if (list2)
		check_lists(gettid());
}

static int count;
static bool failed;

static void run(void (*test)(void), const char *name, const char *more)
{
	bool skipped, bad;
	int status;
	pid_t pid;

	memset(area, 0, sizeof(*area));
	owner_finds = 0;
	fflush(stdout);
	pid = fork_child();
	if (!pid) {
		alarm(patience);
		init_mutexes();
		test();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
	bad = area->line || (status && !skipped);
	failed |= bad;
	if (area->line)
		printf("# line %d\n", area->line);
	else if (WIFSIGNALED(status))
		printf("# signal %d\n", WTERMSIG(status));
	printf("%s %d %s%s: %s%s%s%s\n", bad ? "not ok" : "ok", ++count,
	       shared ? "process-shared" : "private", pi ? " PI" : "", name,
	       more ? ", " : "", more ? more : "",
	       skipped ? " # SKIP the kernel does not know of this library's private mutexes" : "");
}

static void run_kind(void)
{
	for (death = THREAD_RETURNS; death < (shared ? DEATHS : PROCESS_EXITS); death++) {
		for (way = LOCK; way < WAYS; way++)
			run(test_repair, death_name[death], way_name[way]);
	}
	death = shared ? PROCESS_IS_KILLED : THREAD_RETURNS;
	way = LATE_LOCK;
	run(test_twice, "two owners die", NULL);
	run(test_lost, "nobody repairs it", NULL);
	run(test_child, "a child exits", NULL);
}

int main(int argc, char *argv[])
{
	const char *mode = argc > 1 ? argv[1] : "";

	while (!strcmp(mode, "pause"))
		pause();
	list2 = !strcmp(mode, "list2");
	if (getenv("PATIENCE"))
		patience = atoi(getenv("PATIENCE"));
	area = mmap((void *)AREA_ADDRESS, sizeof(*area), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (area == MAP_FAILED || area != (void *)AREA_ADDRESS) {
		perror("mmap");
		return 1;
	}

	puts("TAP version 13");
	if (list2) {
		if (syscall(__NR_set_robust_list2, NULL, -1, ROBUST_LIST_QUERY_MAX) < 2) {
			puts("ok 1 set_robust_list2() # SKIP this kernel does not have it\n1..1");
			return SKIPPED;
		}
		printf("ok %d set_robust_list2()\n", ++count);
	}
	for (int kind = 0; kind < 4; kind++) {
		shared = kind & 2;
		pi = kind & 1;
		run_kind();
	}
	printf("1..%d\n", count);
	return failed;
}
