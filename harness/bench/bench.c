// SPDX-License-Identifier: GPL-2.0
/*
 * The costs of the system calls and of the walks at exit, in nanoseconds of the guest's
 * clock. With ICOUNT=1 a nanosecond is an instruction.
 *
 * Prints "name run value" lines, for a number of runs. Skips set_robust_list2() if the
 * kernel lacks it.
 */

#define _GNU_SOURCE
#include "robust_list2.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RUNS		3
#define TRIES		9
#define MAX_ENTRIES	1000000
#define CALLS		20000
#define FORKS		500
#define NEW_TASKS	200
#define CHILDREN	1000
#define SLEEPERS	200
#define STACK_SIZE	(256 * 1024)

/* The list of set_robust_list(), in place of a type */
#define LEGACY		(-1)

/* A thread that registers lists and exits, and the time of its exit */
struct task {
	int		type;
	unsigned int	lists;
	unsigned int	entries;	/* of each list */
	bool		owned;
	bool		contended;	/* A thread sleeps on each of the first SLEEPERS locks. */
	uint64_t	begin;
};

static struct lock *locks;
static union head *heads;
static pthread_t sleepers[SLEEPERS];
static atomic_uint ready_sleepers;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* Interrupts and background work disturb some of the times. */
static void keep_shortest(uint64_t *shortest, uint64_t time)
{
	if (time < *shortest)
		*shortest = time;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void report(const char *name, int run, double value)
{
	printf("%s %d %.2f\n", name, run, value);
}

static void *sleep_on_lock(void *arg)
{
	struct lock *lock = arg;
	uint32_t word = lock->futex;

	ready_sleepers++;
	wait_while(&lock->futex, word, NULL);
	return NULL;
}

/*
 * The exit wakes the sleepers of its entries. The thread that exits and the one that joins
 * it have a higher priority, so no sleeper runs in between.
 */
static void start_sleepers(void)
{
	struct sched_param param = { 0 };
	pthread_attr_t attr;

	ready_sleepers = 0;
	if (pthread_attr_init(&attr) || pthread_attr_setstacksize(&attr, STACK_SIZE) ||
	    pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED) ||
	    pthread_attr_setschedpolicy(&attr, SCHED_OTHER) ||
	    pthread_attr_setschedparam(&attr, &param))
		die("pthread_attr");
	for (unsigned int i = 0; i < SLEEPERS; i++)
		if (pthread_create(&sleepers[i], &attr, sleep_on_lock, &locks[i]))
			die("pthread_create");
	while (ready_sleepers < SLEEPERS)
		usleep(1000);
	/* The last one has not called the kernel yet. */
	usleep(10000);
}

/* Wakes those that the exit has not woken. */
static void end_sleepers(void)
{
	for (unsigned int i = 0; i < SLEEPERS; i++) {
		atomic_store(&locks[i].futex, FUTEX_OWNER_DIED);
		wake(&locks[i].futex, 1);
		pthread_join(sleepers[i], NULL);
	}
}

/* Ends with a bare exit, to leave out the C library's work. */
static void *exit_with_lists(void *arg)
{
	struct task *task = arg;
	unsigned int type = task->type == LEGACY ? native_type() : (unsigned int)task->type;
	uint32_t tid = gettid32();
	uint32_t word = (task->owned ? tid : tid + 1) | (task->contended ? FUTEX_WAITERS : 0);

	for (unsigned int i = 0; i < task->lists; i++) {
		make_list(type, &heads[i], &locks[i * task->entries], task->entries);
		store_words(&locks[i * task->entries], task->entries, word);
		if (task->type == LEGACY) {
			if (set_legacy_list(&heads[i]))
				die("set_robust_list");
		} else if (set_robust_list2(&heads[i], ROBUST_LIST_NEW, task->type) != (int)i) {
			die("set_robust_list2");
		}
	}
	/* Drops the empty list that the C library has registered. */
	if (task->type != LEGACY || !task->lists)
		set_legacy_list(NULL);
	if (task->contended) {
		store_words(locks, SLEEPERS, word);
		start_sleepers();
	}
	task->begin = now();
	syscall(SYS_exit, 0);
	return NULL;
}

/* Returns the time from the exit of a thread until the thread that joins it continues. */
static uint64_t time_exit(struct task task)
{
	uint32_t died = FUTEX_OWNER_DIED | (task.contended ? FUTEX_WAITERS : 0);
	unsigned int entries = task.lists * task.entries, handled;
	pthread_t thread;
	uint64_t end;

	if (pthread_create(&thread, NULL, exit_with_lists, &task))
		die("pthread_create");
	pthread_join(thread, NULL);
	end = now();

	handled = count_futexes(locks, entries, died);
	if (task.contended)
		end_sleepers();
	if (handled != (task.owned ? entries : 0)) {
		fprintf(stderr, "bench: %u of %u locks handled\n", handled, entries);
		exit(1);
	}
	return end - task.begin;
}

static void set_scheduler(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };

	if (sched_setscheduler(0, policy, &param))
		die("sched_setscheduler");
}

/*
 * Instructions per visited entry: the additional time of the exit compared with empty
 * lists and the same sleepers: an exit from a process of many threads costs more. A list
 * ends with the 2048th entry that the thread does not own.
 *
 * Both kinds of exit alternate, so that background work of the kernel meets both. With a
 * real-time priority, the joining thread sleeps before the other one exits, and it continues
 * after the whole exit, not where the exit wakes it.
 */
static void measure_exits(const char *name, struct task full)
{
	bool slow = full.owned && full.lists * full.entries > 10000;
	int tries = slow ? RUNS : RUNS * TRIES;
	uint64_t shortest_full = UINT64_MAX, shortest_empty = UINT64_MAX;
	unsigned int visited = full.entries;
	struct task empty = full;

	if (!full.owned && visited > ROBUST_LIST_LIMIT)
		visited = ROBUST_LIST_LIMIT;
	empty.entries = 0;
	set_scheduler(SCHED_FIFO, 1);
	for (int i = 0; i < tries; i++) {
		keep_shortest(&shortest_empty, time_exit(empty));
		keep_shortest(&shortest_full, time_exit(full));
	}
	set_scheduler(SCHED_OTHER, 0);
	report(name, 0, ((double)shortest_full - shortest_empty) / (full.lists * visited));
}

static void measure_walk(const char *name, int type, unsigned int lists, unsigned int entries,
			 bool owned)
{
	measure_exits(name, (struct task){ type, lists, entries, owned, false, 0 });
}

static void measure_contended_walk(const char *name, int type)
{
#ifdef __loongarch__
	/*
	 * With -icount, QEMU's loongarch64 exits when a CPU sends itself an interrupt, as the
	 * kernel does with many tasks.
	 */
	return;
#endif
	measure_exits(name, (struct task){ type, 1, SLEEPERS, true, true, 0 });
}

/*
 * The lower bound of a walk: two loads and a compare-and-exchange for each entry, in user
 * space.
 */
#define measure_floor(name, list_type, pointer)						\
	do {										\
		uint32_t tid_ = gettid32(), word_;					\
											\
		for (int run_ = 0; run_ < RUNS; run_++) {				\
			uint64_t begin_;						\
			pointer entry_;							\
											\
			make_list(list_type, heads, locks, 2000);			\
			store_words(locks, 2000, tid_);					\
			begin_ = now();							\
			entry_ = *(pointer *)heads;					\
			while (entry_ != (pointer)(uintptr_t)heads) {			\
				struct lock *lock_ = (void *)(uintptr_t)entry_;		\
											\
				entry_ = *(volatile pointer *)lock_;			\
				word_ = atomic_load_explicit(&lock_->futex,		\
							     memory_order_relaxed);	\
				if (word_ == tid_)					\
					atomic_compare_exchange_strong(&lock_->futex,	\
								       &word_,		\
								       FUTEX_OWNER_DIED); \
			}								\
			report(name, run_, (now() - begin_) / 2000.0);			\
		}									\
	} while (0)

static void measure_walks(bool new)
{
	measure_floor("floor_32", ROBUST_LIST_32BIT, uint32_t);
	if (native_type() == ROBUST_LIST_64BIT)
		measure_floor("floor_64", ROBUST_LIST_64BIT, uint64_t);
	measure_contended_walk("walk_legacy_contended", LEGACY);
	measure_walk("walk_legacy_owned", LEGACY, 1, 2000, true);
	measure_walk("walk_legacy_other", LEGACY, 1, 2000, false);
	if (!new)
		return;
	if (native_type() == ROBUST_LIST_64BIT) {
		measure_contended_walk("walk_64_contended", ROBUST_LIST_64BIT);
		measure_walk("walk_64_owned", ROBUST_LIST_64BIT, 1, 2000, true);
		measure_walk("walk_64_other", ROBUST_LIST_64BIT, 1, 2000, false);
		measure_walk("walk_64_other_256", ROBUST_LIST_64BIT, 1, 256, false);
		measure_walk("walk_64_other_1000000", ROBUST_LIST_64BIT, 1, MAX_ENTRIES, false);
		measure_walk("walk_64_owned_1000", ROBUST_LIST_64BIT, 1, 1000, true);
		measure_walk("walk_64_owned_1000000", ROBUST_LIST_64BIT, 1, MAX_ENTRIES, true);
		measure_walk("walk_64_owned_10x200", ROBUST_LIST_64BIT, 10, 200, true);
	}
	measure_contended_walk("walk_32_contended", ROBUST_LIST_32BIT);
	measure_walk("walk_32_owned", ROBUST_LIST_32BIT, 1, 2000, true);
	measure_walk("walk_32_other", ROBUST_LIST_32BIT, 1, 2000, false);
	measure_walk("walk_32_other_256", ROBUST_LIST_32BIT, 1, 256, false);
	measure_walk("walk_32_other_1000000", ROBUST_LIST_32BIT, 1, MAX_ENTRIES, false);
	measure_walk("walk_32_owned_1000", ROBUST_LIST_32BIT, 1, 1000, true);
	measure_walk("walk_32_owned_1000000", ROBUST_LIST_32BIT, 1, MAX_ENTRIES, true);
	measure_walk("walk_32_owned_10x200", ROBUST_LIST_32BIT, 10, 200, true);
}

/* The cost of a call, averaged over many */
#define measure_call(name, call)						\
	do {									\
		for (int run_ = 0; run_ < RUNS; run_++) {			\
			uint64_t begin_ = now();				\
										\
			for (int i_ = 0; i_ < CALLS; i_++) {			\
				if ((call) < 0)					\
					die(name);				\
			}							\
			report(name, run_, (double)(now() - begin_) / CALLS);	\
		}								\
	} while (0)

static void *sleep_on(void *arg)
{
	atomic_uint *tid = arg;

	if (set_robust_list2(heads, ROBUST_LIST_NEW, native_type()) && errno != ENOSYS)
		die("set_robust_list2");
	*tid = syscall(SYS_gettid);
	for (;;)
		pause();
	return NULL;
}

static void measure_calls(bool new)
{
	struct robust_list_head *legacy;
	atomic_uint other = 0;
	pthread_t thread;
	uint64_t head;
	size_t size;

	if (pthread_create(&thread, NULL, sleep_on, &other))
		die("pthread_create");
	while (!other)
		sched_yield();

	measure_call("call_getppid", syscall(SYS_getppid));
	/* Arguments that fail first: the costs of the way to the function */
	measure_call("invalid_legacy", -syscall(SYS_set_robust_list, NULL, 0));
	measure_call("set_legacy", set_legacy_list(heads));
	measure_call("get_legacy_self", syscall(SYS_get_robust_list, 0, &legacy, &size));
	measure_call("get_legacy_other", syscall(SYS_get_robust_list, other, &legacy, &size));
	if (!new)
		return;
	if (set_robust_list2(heads, ROBUST_LIST_NEW, native_type()))
		die("set_robust_list2");
	measure_call("invalid_2", -set_robust_list2(heads, 0, ~0U));
	measure_call("set_2", set_robust_list2(heads, 0, native_type()));
	measure_call("get_2_self", get_robust_list2(0, &head, 0, 0));
	measure_call("get_2_other", get_robust_list2(other, &head, 0, 0));
}

struct first {
	uint64_t	first;
	uint64_t	again;
	uint64_t	clock;
};

static void *register_first(void *arg)
{
	struct first *times = arg;
	uint64_t t[4];
	long index;

	t[0] = now();
	index = set_robust_list2(heads, ROBUST_LIST_NEW, native_type());
	t[1] = now();
	index |= set_robust_list2(heads, 0, native_type());
	t[2] = now();
	t[3] = now();
	if (index)
		die("set_robust_list2");
	keep_shortest(&times->first, t[1] - t[0]);
	keep_shortest(&times->again, t[2] - t[1]);
	keep_shortest(&times->clock, t[3] - t[2]);
	return NULL;
}

static void measure_first(void)
{
	for (int run = 0; run < RUNS; run++) {
		struct first times = { UINT64_MAX, UINT64_MAX, UINT64_MAX };

		for (int i = 0; i < NEW_TASKS; i++) {
			pthread_t thread;

			if (pthread_create(&thread, NULL, register_first, &times))
				die("pthread_create");
			pthread_join(thread, NULL);
		}
		report("first_registration", run, times.first - times.clock);
		report("second_registration", run, times.again - times.clock);
	}
}

/* A task without lists */
static void measure_forks(void)
{
	for (int run = 0; run < RUNS; run++) {
		uint64_t begin = now();

		for (int i = 0; i < FORKS; i++) {
			pid_t pid = fork();

			if (pid < 0)
				die("fork");
			if (!pid)
				_exit(0);
			waitpid(pid, NULL, 0);
		}
		report("fork_exit", run, (double)(now() - begin) / FORKS);
	}
}

/* The cost of a table in the memory cgroup, averaged over many tables at the same time */
static long slab_bytes(void)
{
	static char text[65536];
	char *at;
	FILE *f = fopen("/sys/fs/cgroup/bench/memory.stat", "r");

	if (!f)
		die("memory.stat");
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	at = strstr(text, "\nslab_unreclaimable ");
	if (!at)
		die("slab_unreclaimable");
	return atol(at + strlen("\nslab_unreclaimable "));
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		die(path);
}

/* Children that wait, with or without a list */
static long bytes_of_children(bool with_list)
{
	static pid_t child[CHILDREN];
	int ready[2];
	long before, bytes;
	char c;

	if (pipe(ready))
		die("pipe");
	/* Freed memory of earlier tasks is gone after a grace period. */
	sleep(2);
	before = slab_bytes();
	for (int i = 0; i < CHILDREN; i++) {
		child[i] = fork();
		if (child[i] < 0)
			die("fork");
		if (!child[i]) {
			if (with_list && set_robust_list2(heads, ROBUST_LIST_NEW, native_type()))
				_exit(1);
			if (write(ready[1], "", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
	}
	close(ready[1]);
	for (int i = 0; i < CHILDREN; i++)
		if (read(ready[0], &c, 1) != 1)
			die("read");
	bytes = slab_bytes() - before;
	for (int i = 0; i < CHILDREN; i++) {
		kill(child[i], SIGKILL);
		waitpid(child[i], NULL, 0);
	}
	close(ready[0]);
	return bytes;
}

static void measure_memory(void)
{
	long without, with;

	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir("/sys/fs/cgroup/bench", 0755))
		die("mkdir");
	write_file("/sys/fs/cgroup/bench/cgroup.procs", "0");
	bytes_of_children(false);
	without = bytes_of_children(false);
	with = bytes_of_children(true);
	printf("table_bytes 0 %.0f\n", (double)(with - without) / CHILDREN);
}

/* Instructions per entry, by the length of the list */
static void draw_curves(void)
{
	static const unsigned int lengths[] = {
		1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000, MAX_ENTRIES
	};
	char name[64];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		if (lengths[i] <= 2000) {
			snprintf(name, sizeof(name), "curve_legacy_%u", lengths[i]);
			measure_walk(name, LEGACY, 1, lengths[i], true);
		}
		if (native_type() == ROBUST_LIST_64BIT) {
			snprintf(name, sizeof(name), "curve_64_%u", lengths[i]);
			measure_walk(name, ROBUST_LIST_64BIT, 1, lengths[i], true);
		}
		snprintf(name, sizeof(name), "curve_32_%u", lengths[i]);
		measure_walk(name, ROBUST_LIST_32BIT, 1, lengths[i], true);
	}
}

int main(int argc, char *argv[])
{
	const char *what = argc > 1 ? argv[1] : "";
	bool new = lists_per_thread() > 0;

	if (!strcmp(what, "forks")) {
		measure_forks();
		return 0;
	}

	/* What was measured before QEMU or the kernel fails */
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Below 4 GiB for 32-bit lists, and above the first GiB, which may have the heap */
	locks = mmap((void *)0x60000000, (MAX_ENTRIES + 1) * sizeof(*locks), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
	heads = mmap((void *)0x5f000000, 4096, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
	if (locks == MAP_FAILED || heads == MAP_FAILED)
		die("mmap");

	if (!strcmp(what, "curves")) {
		draw_curves();
		return 0;
	}
	if (!strcmp(what, "exit") && argc == 4) {
		time_exit((struct task){ .type = atoi(argv[2]), .lists = 1, .entries = atoi(argv[3]),
					 .owned = true });
		return 0;
	}
	if (!strcmp(what, "memory")) {
		/* A fork would copy the page tables of all locks. */
		munmap(locks, (MAX_ENTRIES + 1) * sizeof(*locks));
		measure_memory();
		return 0;
	}
	measure_walks(new);
	measure_calls(new);
	if (new)
		measure_first();
	return 0;
}
