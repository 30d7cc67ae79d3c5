// SPDX-License-Identifier: GPL-2.0
/*
 * locks CASE...: owners of robust mutexes die in a different way in each case, and the
 * program counts the mutexes that others can lock again. It is an ordinary POSIX
 * program without knowledge of emulators, or of system calls after set_robust_list().
 *
 * Prints a line per case, with tabs between its name, the number of locks that their
 * owners held, the number that others got, and a remark. The status is 1 if locks have
 * been lost.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Seconds until a case counts as hanging */
#define HANGING		600

/* Seconds until a waiter counts its lock as lost, from PATIENCE in the environment */
static int patience = 30;

#define MANY		100000

/* Processes that are killed at random */
#define WORKERS		4

/* Memory that the processes of a case share */
static struct area {
	atomic_int	held;
	atomic_int	recovered;
	/* A thread that is about to die has its locks, or has reached its last step. */
	atomic_int	ready;
	atomic_int	owners_died;
	/* Lock attempts of a process */
	atomic_int	asked[WORKERS];
	char		note[128];
} *area;

static pthread_mutex_t *mutex;

/* Ends a case that cannot go on. */
static void give_up(const char *what, int error)
{
	snprintf(area->note, sizeof(area->note), "%s%s%s", what, error ? ": " : "",
		 error ? strerror(error) : "");
	_exit(2);
}

static void check(const char *what, int error)
{
	if (error)
		give_up(what, error);
}

static void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return memory;
}

/*
 * Makes new mutexes in the memory of the old ones. The number counts as held from here
 * on, so a mutex that cannot be made counts as lost.
 */
static void make_mutexes(int number)
{
	pthread_mutexattr_t attr;

	area->held = number;
	if (!mutex)
		mutex = shared_memory(number * sizeof(*mutex));
	pthread_mutexattr_init(&attr);
	check("setrobust", pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
	check("setpshared", pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
	for (int i = 0; i < number; i++)
		check("pthread_mutex_init()", pthread_mutex_init(&mutex[i], &attr));
}

static void lock_range(int first, int number)
{
	for (int i = first; i < first + number; i++)
		check("the owner's pthread_mutex_lock()", pthread_mutex_lock(&mutex[i]));
}

/* Locks, repairs and unlocks the mutexes of dead owners. */
static void recover(int first, int number)
{
	for (int i = first; i < first + number; i++) {
		if (pthread_mutex_trylock(&mutex[i]) != EOWNERDEAD)
			continue;
		check("pthread_mutex_consistent()", pthread_mutex_consistent(&mutex[i]));
		check("pthread_mutex_unlock()", pthread_mutex_unlock(&mutex[i]));
		area->recovered++;
	}
}

static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == -1)
		give_up("fork()", errno);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void reap(pid_t pid)
{
	if (waitpid(pid, NULL, 0) != pid)
		give_up("waitpid()", errno);
}

static void until_ready(int value)
{
	while (area->ready < value)
		usleep(500);
}

static pthread_t start_thread(void *(*function)(void *), void *arg)
{
	pthread_t thread;

	check("pthread_create()", pthread_create(&thread, NULL, function, arg));
	return thread;
}

static void join(pthread_t thread)
{
	check("pthread_join()", pthread_join(thread, NULL));
}

/* Threads that end with locks. The thread that joins them gets the locks at once. */

#define ROUNDS		50
#define LOCKS		5

enum end { RETURN, PTHREAD_EXIT, RAW_EXIT, ENDS };

static void *ending_thread(void *arg)
{
	lock_range(0, LOCKS);
	switch ((enum end)(intptr_t)arg) {
	case PTHREAD_EXIT:
		pthread_exit(NULL);
	case RAW_EXIT:
		syscall(SYS_exit, 0);
		break;
	default:
		break;
	}
	return NULL;
}

static void case_join(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		make_mutexes(LOCKS);
		area->held = ROUNDS * LOCKS;
		join(start_thread(ending_thread, (void *)(intptr_t)(i % ENDS)));
		recover(0, LOCKS);
	}
}

/* Without a join, a waiter gets the lock. */
static void case_wait(void)
{
	struct timespec until;
	pthread_attr_t attr;
	pthread_t thread;

	make_mutexes(LOCKS);
	area->held = ROUNDS;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < ROUNDS; i++) {
		check("pthread_create()",
		      pthread_create(&thread, &attr, ending_thread, (void *)(intptr_t)(i % ENDS)));
		for (;;) {
			int ret;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += patience;
			ret = pthread_mutex_timedlock(&mutex[LOCKS - 1], &until);
			if (ret == EOWNERDEAD)
				break;
			check("a waiter's pthread_mutex_timedlock()", ret);
			pthread_mutex_unlock(&mutex[LOCKS - 1]);
			usleep(100);
		}
		pthread_mutex_consistent(&mutex[LOCKS - 1]);
		pthread_mutex_unlock(&mutex[LOCKS - 1]);
		for (int n = LOCKS - 2; n >= 0; n--) {
			if (pthread_mutex_lock(&mutex[n]) == EOWNERDEAD)
				pthread_mutex_consistent(&mutex[n]);
			pthread_mutex_unlock(&mutex[n]);
		}
		area->recovered++;
	}
}

/*
 * The memory of a joined thread may be reused. Its stack still has the head of the
 * list, which leads to words that look like locks of the dead thread.
 */
static atomic_int ended_tid;

static void *thread_with_stack(void *arg)
{
	ended_tid = syscall(SYS_gettid);
	lock_range(0, LOCKS);
	return arg;
}

static void case_memory(void)
{
	size_t stack_size = 1 << 18;
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, shared_memory(stack_size), stack_size);
	for (int i = 0; i < ROUNDS; i++) {
		make_mutexes(LOCKS);
		area->held = ROUNDS * LOCKS;
		check("pthread_create()", pthread_create(&thread, &attr, thread_with_stack, NULL));
		join(thread);
		for (int n = 0; n < LOCKS; n++)
			area->recovered += pthread_mutex_trylock(&mutex[n]) == EOWNERDEAD;
		/* The lock is the first word of a mutex. The entries stay linked. */
		for (int n = 0; n < LOCKS; n++)
			*(atomic_int *)&mutex[n] = ended_tid;
		usleep(2000);
		for (int n = 0; n < LOCKS; n++) {
			if (*(atomic_int *)&mutex[n] != ended_tid)
				give_up("memory of a thread that has been joined has changed", 0);
		}
	}
}

/* Many locks */

static void *owner_of_many(void *arg)
{
	lock_range(0, (intptr_t)arg);
	return NULL;
}

static void many_in_thread(intptr_t number)
{
	make_mutexes(number);
	join(start_thread(owner_of_many, (void *)number));
	recover(0, number);
}

static void many_in_process(int number)
{
	pid_t pid;

	make_mutexes(number);
	pid = fork_child();
	if (!pid) {
		lock_range(0, number);
		area->ready = 1;
		pause();
	}
	while (!area->ready && !area->note[0])
		usleep(500);
	kill(pid, SIGKILL);
	reap(pid);
	recover(0, number);
}

static void case_thread_1000(void) { many_in_thread(1000); }
static void case_thread_100000(void) { many_in_thread(MANY); }
static void case_process_1000(void) { many_in_process(1000); }
static void case_process_100000(void) { many_in_process(MANY); }

/* Processes that die while a second thread has locks */

enum death { EXIT_GROUP, SEGFAULT, ABORT, TERM, KILL_RUNNING, KILL_WAITING, EXEC, EXEC_BY_THREAD,
	     DEATHS };

static int exec_pipe[2];

static void exec_pause(void)
{
	execl("/proc/self/exe", "locks", "pause", NULL);
	give_up("execl()", errno);
}

static void *second_owner(void *arg)
{
	enum death death = (intptr_t)arg;
	volatile int spin = 1;

	lock_range(LOCKS, LOCKS);
	area->ready++;
	until_ready(2);
	switch (death) {
	case EXIT_GROUP:
		_exit(0);
	case KILL_RUNNING:
		area->ready++;
		while (spin)
			;
		break;
	case KILL_WAITING:
		area->ready++;
		pthread_mutex_lock(&mutex[0]);
		break;
	case EXEC_BY_THREAD:
		exec_pause();
		break;
	default:
		for (;;)
			pause();
	}
	return NULL;
}

static void dying_process(enum death death)
{
	volatile int * volatile nowhere = NULL;

	start_thread(second_owner, (void *)(intptr_t)death);
	lock_range(0, LOCKS);
	area->ready++;
	until_ready(2);
	switch (death) {
	case SEGFAULT:
		*nowhere = 0;
		break;
	case ABORT:
		abort();
	case TERM:
		raise(SIGTERM);
		break;
	case EXEC:
		exec_pause();
		break;
	default:
		break;
	}
	for (;;)
		pause();
}

static void die(enum death death)
{
	pid_t pid;
	char c;

	area->ready = 0;
	check("pipe2()", pipe2(exec_pipe, O_CLOEXEC) ? errno : 0);
	pid = fork_child();
	if (!pid)
		dying_process(death);
	close(exec_pipe[1]);
	if (death == KILL_RUNNING || death == KILL_WAITING) {
		until_ready(3);
		/*
		 * Lets the process sleep in its wait. If it is late, it is killed
		 * running once more.
		 */
		usleep(20000);
		kill(pid, SIGKILL);
	}
	/* The end of a process or an exec closes the pipe, after the walk. */
	if (read(exec_pipe[0], &c, 1))
		give_up("read()", errno);
	close(exec_pipe[0]);
	kill(pid, SIGKILL);
	reap(pid);
}

static void case_deaths(void)
{
	for (enum death death = 0; death < EXEC; death++) {
		make_mutexes(2 * LOCKS);
		area->held = EXEC * 2 * LOCKS;
		die(death);
		recover(0, 2 * LOCKS);
	}
}

static void case_exec(void)
{
	for (enum death death = EXEC; death < DEATHS; death++) {
		make_mutexes(2 * LOCKS);
		area->held = 2 * 2 * LOCKS;
		die(death);
		recover(0, 2 * LOCKS);
	}
}

/* Processes that are killed at any moment */

#define MUTEXES		24
#define KILLS		40

static unsigned int seed = 1;
static int worker_number;

static unsigned int below(unsigned int *state, unsigned int limit)
{
	return rand_r(state) / 7 % limit;
}

/* Gets the mutex if possible. Without recovery, a few mutexes are lost at once. */
static bool get(int n)
{
	struct timespec until;
	int ret;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 100000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	ret = pthread_mutex_timedlock(&mutex[n], &until);
	if (ret == EOWNERDEAD) {
		area->owners_died++;
		pthread_mutex_consistent(&mutex[n]);
	}
	return ret == 0 || ret == EOWNERDEAD;
}

/* Locks in the order of the mutexes, to exclude a deadlock. */
static void *get_some(void *arg)
{
	unsigned int *state = arg;
	int n = below(state, 4);
	bool have[MUTEXES] = { };

	for (; n < MUTEXES; n += 1 + below(state, 6)) {
		have[n] = get(n);
		area->asked[worker_number]++;
	}
	usleep(below(state, 300));
	for (n = 0; n < MUTEXES; n++) {
		if (have[n] && below(state, 2))
			pthread_mutex_unlock(&mutex[n]);
	}
	/* The thread ends here with half of its locks. */
	return NULL;
}

static pid_t start_worker(int number, unsigned int state)
{
	pid_t pid;

	area->asked[number] = 0;
	pid = fork_child();
	if (pid)
		return pid;
	worker_number = number;
	for (;;) {
		unsigned int second = rand_r(&state);
		pthread_t thread = start_thread(get_some, &state);

		join(start_thread(get_some, &second));
		join(thread);
	}
}

static void case_kills(void)
{
	pid_t pid[WORKERS];

	make_mutexes(MUTEXES);
	for (int i = 0; i < WORKERS; i++)
		pid[i] = start_worker(i, seed + i);
	for (int i = 0; i < KILLS; i++) {
		int n = below(&seed, WORKERS), when = 1 + below(&seed, 30);

		/* However slow the machine is, the victim has done some work by now. */
		while (area->asked[n] < when)
			usleep(500);
		usleep(below(&seed, 2000));
		kill(pid[n], SIGKILL);
		reap(pid[n]);
		pid[n] = start_worker(n, seed + WORKERS + i);
	}
	for (int i = 0; i < WORKERS; i++) {
		kill(pid[i], SIGKILL);
		reap(pid[i]);
	}
	for (int i = 0; i < MUTEXES; i++)
		area->recovered += get(i);
	if (!area->owners_died)
		give_up("no process had a lock when it was killed", 0);
}

/* The system calls themselves, as glibc and debuggers use them */

struct head { void *next; long offset; void *pending; };

static void *reading_thread(void *arg)
{
	area->ready = syscall(SYS_gettid);
	while (area->ready)
		usleep(500);
	return arg;
}

static bool fails_with(int error, long ret)
{
	return ret == -1 && errno == error;
}

static void case_calls(void)
{
	struct head *head = NULL, *other = NULL, own = { &own, 0, NULL };
	bool ok[10] = { };
	size_t size = 0;
	pthread_t thread;
	pid_t pid;

	area->held = 10;
	ok[0] = !syscall(SYS_get_robust_list, 0, &head, &size) && head;
	ok[1] = size == sizeof(own);
	ok[2] = !syscall(SYS_get_robust_list, getpid(), &other, &size) && other == head;

	thread = start_thread(reading_thread, NULL);
	until_ready(1);
	ok[3] = !syscall(SYS_get_robust_list, (int)area->ready, &other, &size) &&
		other && other != head;
	area->ready = 0;
	join(thread);

	pid = fork_child();
	if (!pid) {
		/*
		 * The C library of the child has registered its own list, at the same
		 * address.
		 */
		area->ready = 1 + (!syscall(SYS_get_robust_list, 0, &other, &size) &&
				   other == head);
		for (;;)
			pause();
	}
	until_ready(1);
	ok[4] = area->ready == 2 &&
		!syscall(SYS_get_robust_list, pid, &other, &size) && other == head;
	kill(pid, SIGKILL);
	reap(pid);
	ok[5] = fails_with(ESRCH, syscall(SYS_get_robust_list, pid, &other, &size));
	ok[6] = fails_with(EFAULT, syscall(SYS_get_robust_list, 0, 16, &size));
	ok[7] = fails_with(EINVAL, syscall(SYS_set_robust_list, &own, sizeof(own) + 1));
	ok[8] = !syscall(SYS_set_robust_list, &own, sizeof(own)) &&
		!syscall(SYS_get_robust_list, 0, &other, &size) && other == &own;
	ok[9] = !syscall(SYS_set_robust_list, NULL, sizeof(own)) &&
		!syscall(SYS_get_robust_list, 0, &other, &size) && !other &&
		!syscall(SYS_set_robust_list, head, sizeof(own));
	for (int i = 0; i < area->held; i++) {
		area->recovered += ok[i];
		if (!ok[i] && !area->note[0])
			snprintf(area->note, sizeof(area->note),
				 "the first wrong answer is number %d", i);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "calls", case_calls },
	{ "join", case_join },
	{ "wait", case_wait },
	{ "memory", case_memory },
	{ "deaths", case_deaths },
	{ "exec", case_exec },
	{ "kills", case_kills },
	{ "thread-1000", case_thread_1000 },
	{ "process-1000", case_process_1000 },
	{ "thread-100000", case_thread_100000 },
	{ "process-100000", case_process_100000 },
};

/* Runs a case in a process of its own, which may end in any way. */
static bool run(const char *name, void (*function)(void))
{
	bool good;
	int status;
	pid_t pid;

	memset(area, 0, sizeof(*area));
	fflush(stdout);
	pid = fork_child();
	if (!pid) {
		alarm(HANGING);
		function();
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		exit(2);
	if (WIFSIGNALED(status) && !area->note[0])
		snprintf(area->note, sizeof(area->note), "ended by signal %d", WTERMSIG(status));
	good = !status && area->held && area->recovered == area->held;
	printf("%s\t%d\t%d\t%s\n", name, area->held, area->recovered, area->note);
	return good;
}

int main(int argc, char *argv[])
{
	bool good = true;

	while (argc == 2 && !strcmp(argv[1], "pause"))
		pause();
	if (getenv("PATIENCE"))
		patience = atoi(getenv("PATIENCE"));
	area = shared_memory(sizeof(*area));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool wanted = argc == 1;

		for (int n = 1; n < argc; n++)
			wanted |= !strcmp(argv[n], cases[i].name);
		if (wanted)
			good &= run(cases[i].name, cases[i].run);
	}
	return !good;
}
