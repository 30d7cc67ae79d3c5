// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel memory that lists cost: one small table per task that registers a list,
 * charged to its memory cgroup, until the task exits
 *
 * memory [short]
 * memory churn		only allocates tables and frees them
 */

#define _GNU_SOURCE

#include "adversity.h"

#include <pthread.h>
#include <sys/stat.h>

#define CGROUP		"/sys/fs/cgroup/memory-test"

/*
 * KiB that the kernel's memory may grow per round. A leak shows in each round, so the
 * test takes the round with the least growth. The allocator's slabs per CPU and size
 * grow by up to 300 KiB now and then, but not in each round. Tables are objects of 96
 * bytes, so the test notices the loss of one table in forty of a full round.
 */
#define TOLERANCE	64
#define ROUNDS		4

/* Threads that hold lists at the same time */
#define HOLDERS		1000
/* More tables than the slab allocator caches */
#define CHURN		2000
#define STACK		(64UL * 1024)

static struct list lists[MAX_KINDS];
/* few: shorter rounds, for a kernel whose numbers are not compared, or for the short form */
static bool brief, few, keeps_freed_memory, have_cgroup;

/*
 * Slab memory in use, in KiB. The total "kernel" of memory.stat grows by some 80 KiB
 * per 25000 threads, with or without lists, so it is no measure.
 */
struct usage {
	long	slab;
	long	cgroup;
};

static struct usage sample(void)
{
	struct usage usage = { };

	/* Each CPU keeps a part of the counters for itself until then. */
	write_file("/proc/sys/vm/stat_refresh", "1");
	usage.slab = read_number("/proc/meminfo", "SUnreclaim:");
	if (have_cgroup)
		usage.cgroup = read_number(CGROUP "/memory.stat", "slab ") / 1024;
	return usage;
}

/*
 * Waits, because the kernel frees the memory of dead tasks later, and updates the
 * memory cgroup up to two seconds after that.
 */
static struct usage sample_settled(void)
{
	const double wait = few ? 0.3 : 2.5, end = now() + 5 * wait;
	struct usage usage = sample(), least = usage;
	double quiet = now() + wait;

	while (now() < quiet && now() < end) {
		nanosleep(&(struct timespec) { .tv_nsec = 100000000 }, NULL);
		usage = sample();
		if (usage.slab < least.slab || usage.cgroup < least.cgroup) {
			quiet = now() + wait;
			least = usage;
		}
	}
	return usage;
}

static long least_growth(const long *usage)
{
	long least = usage[1] - usage[0];

	for (int i = 2; i < ROUNDS; i++) {
		if (usage[i] - usage[i - 1] < least)
			least = usage[i] - usage[i - 1];
	}
	return least;
}

/* Repeats a round, and compares the memory after each. */
static void check_rounds(const char *name, void (*round)(int n), int n)
{
	long slab[ROUNDS], cgroup[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		struct usage usage;

		round(n);
		usage = sample_settled();
		slab[i] = usage.slab;
		cgroup[i] = usage.cgroup;
	}
	say("%d times %s, slab after each round: %ld %ld %ld %ld KiB", n, name, slab[0], slab[1],
	    slab[2], slab[3]);
	if (have_cgroup)
		say("the memory cgroup's slab memory: %ld %ld %ld %ld KiB", cgroup[0], cgroup[1],
		    cgroup[2], cgroup[3]);
	if (keeps_freed_memory) {
		skip(name, "KASAN keeps freed memory; its leak detector is kmemleak");
		return;
	}
	ok(least_growth(slab) <= TOLERANCE, "%s: slab memory does not grow", name);
	if (have_cgroup)
		ok(least_growth(cgroup) <= TOLERANCE,
		   "%s: the memory cgroup's slab memory does not grow", name);
}

/* Registers all slots, and some of them twice. */
static bool register_everything(void)
{
	bool good = true;

	for (int i = 0; i < LISTS_PER_TASK; i++)
		good &= set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW,
					 ROBUST_LIST_32BIT) == i;
	for (int i = 0; i < LISTS_PER_TASK; i += 3)
		good &= set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER) == i;
	for (int i = 0; i < LISTS_PER_TASK; i += 3)
		good &= set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW,
					 ROBUST_LIST_32BIT) == i;
	good &= set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == -1;
	return good;
}

static void *live_and_die(void *arg)
{
	if (!register_everything())
		_exit(1);
	return arg;
}

static pthread_t new_thread(void *(*fn)(void *arg), char *stack)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	if (stack)
		pthread_attr_setstack(&attr, stack, STACK);
	need(!pthread_create(&thread, &attr, fn, NULL), "pthread_create");
	return thread;
}

#define BATCH	16

static void cycle_threads(int n)
{
	pthread_t thread[BATCH];

	for (; n > 0; n -= BATCH) {
		for (int i = 0; i < BATCH; i++)
			thread[i] = new_thread(live_and_die, NULL);
		for (int i = 0; i < BATCH; i++)
			pthread_join(thread[i], NULL);
	}
}

/* The parent has a table as well. */
static void fork_cycles(int n)
{
	need(register_everything(), "registration");
	while (n--) {
		pid_t pid = need_child();

		if (!pid)
			_exit(!register_everything());
		need(waitpid(pid, NULL, 0) == pid, "exit");
	}
	for (int i = 0; i < LISTS_PER_TASK; i++)
		set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER);
}

static void exec_once_more(int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	if (!register_everything())
		_exit(1);
	execl("/proc/self/exe", "memory", "exec", text, NULL);
	_exit(1);
}

static void exec_cycles(int n)
{
	pid_t pid = need_child();
	int status = 0;

	if (!pid)
		exec_once_more(n);
	need(waitpid(pid, &status, 0) == pid && !status, "exec");
}

/* Threads register and unregister lists as fast as they can, and one of them forks. */
static atomic_int racing;

static void *race(void *arg)
{
	while (atomic_fetch_sub(&racing, 1) > 0) {
		if (!register_everything())
			_exit(1);
		for (int i = 0; i < LISTS_PER_TASK; i++)
			set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER);
	}
	return arg;
}

static void race_cycles(int n)
{
	pthread_t thread[8];

	atomic_store(&racing, n);
	for (int i = 0; i < 8; i++)
		thread[i] = new_thread(race, NULL);
	while (atomic_load(&racing) > 0) {
		pid_t pid = need_child();

		if (!pid)
			_exit(!register_everything());
		need(waitpid(pid, NULL, 0) == pid, "exit");
	}
	for (int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
}

/* Threads do the same step at the same time. The test measures between the steps. */
enum step {
	NOTHING,
	REGISTER_ONE,
	REGISTER_ALL,
	CHANGE,
	UNREGISTER_ALL,
	STEPS,
};

static pthread_barrier_t before, after;
static enum step step;
static int changes;
static atomic_int step_failed;

static bool take_step(enum step step)
{
	bool good = true;

	switch (step) {
	case REGISTER_ONE:
		return set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW,
					ROBUST_LIST_32BIT) == 0;
	case REGISTER_ALL:
		for (int i = 1; i < LISTS_PER_TASK; i++)
			good &= set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW,
						 ROBUST_LIST_32BIT) == i;
		return good;
	case CHANGE:
		for (int i = 0; i < changes; i++) {
			int index = i % LISTS_PER_TASK;

			good &= set_robust_list2(NULL, index, ROBUST_LIST_UNREGISTER) == index &&
				set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW,
						 ROBUST_LIST_32BIT) == index;
		}
		return good;
	case UNREGISTER_ALL:
		for (int i = 0; i < LISTS_PER_TASK; i++)
			good &= set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER) == i;
		return good;
	default:
		return true;
	}
}

static void *take_steps(void *arg)
{
	for (int i = 0; i < STEPS; i++) {
		pthread_barrier_wait(&before);
		if (!take_step(step))
			atomic_store(&step_failed, 1);
		pthread_barrier_wait(&after);
	}
	return arg;
}

static void test_cost(void)
{
	static pthread_t thread[HOLDERS];
	struct usage usage[STEPS];
	char *stacks;
	long bytes;

	pthread_barrier_init(&before, NULL, HOLDERS + 1);
	pthread_barrier_init(&after, NULL, HOLDERS + 1);
	/*
	 * Own stacks, because the C library would cache its stacks, and each fork would
	 * copy them
	 */
	stacks = mmap(NULL, HOLDERS * STACK, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(stacks != MAP_FAILED, "mmap");
	for (int i = 0; i < HOLDERS; i++)
		thread[i] = new_thread(take_steps, stacks + i * STACK);
	for (int i = 0; i < STEPS; i++) {
		step = i;
		pthread_barrier_wait(&before);
		pthread_barrier_wait(&after);
		usage[i] = sample_settled();
	}
	for (int i = 0; i < HOLDERS; i++)
		pthread_join(thread[i], NULL);
	munmap(stacks, HOLDERS * STACK);

	ok(!atomic_load(&step_failed), "%d threads register all they can", HOLDERS);
	bytes = (usage[REGISTER_ONE].slab - usage[NOTHING].slab) * 1024 / HOLDERS;
	say("a task's first list costs %ld bytes, 9 more cost %ld, %d changes cost %ld", bytes,
	    (usage[REGISTER_ALL].slab - usage[REGISTER_ONE].slab) * 1024 / HOLDERS, 2 * changes,
	    (usage[CHANGE].slab - usage[REGISTER_ALL].slab) * 1024 / HOLDERS);
	if (keeps_freed_memory) {
		skip("the cost of a table", "KASAN makes memory larger");
		return;
	}
	/* A table has 96 bytes, and 8 more for the memory cgroup. */
	ok(bytes >= 90 && bytes <= 256, "a first list costs one small table");
	ok(usage[REGISTER_ALL].slab - usage[REGISTER_ONE].slab <= TOLERANCE,
	   "more lists cost nothing");
	ok(usage[CHANGE].slab - usage[REGISTER_ALL].slab <= TOLERANCE,
	   "%d changes cost nothing", HOLDERS * 2 * changes);
	ok(usage[UNREGISTER_ALL].slab - usage[REGISTER_ALL].slab <= TOLERANCE,
	   "a table stays, and is not replaced, when its lists are gone");
	if (have_cgroup)
		ok(usage[REGISTER_ONE].cgroup - usage[NOTHING].cgroup >= HOLDERS * 90 / 1024,
		   "tables are charged to the memory cgroup");
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "exec")) {
		int n = atoi(argv[2]);

		map_shared(AREA, 0x10000);
		place_lists(lists, (char *)AREA);
		if (n)
			exec_once_more(n - 1);
		return 0;
	}

	if (has_argument(argc, argv, "churn")) {
		map_shared(AREA, 0x10000);
		place_lists(lists, (char *)AREA);
		cycle_threads(CHURN);
		return 0;
	}

	brief = has_argument(argc, argv, "short");
	tap_begin();
	keeps_freed_memory = have_kasan();
	few = brief || keeps_freed_memory;
	if (brief)
		skip("memory cgroups", "this is the short form");
	have_cgroup = !brief && write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory") &&
		      (!mkdir(CGROUP, 0755) || errno == EEXIST) &&
		      write_file(CGROUP "/cgroup.procs", "0");
	if (!brief && !have_cgroup)
		skip("memory cgroups", "no CONFIG_MEMCG");
	map_shared(AREA, 0x10000);
	place_lists(lists, (char *)AREA);

	changes = few ? 100 : 1000;
	test_cost();
	check_rounds("a thread registers lists and exits", cycle_threads, few ? 2000 : 25008);
	check_rounds("a process registers lists and exits", fork_cycles, few ? 200 : 2000);
	check_rounds("a process registers lists and execs", exec_cycles, few ? 100 : 1000);
	check_rounds("threads race", race_cycles, few ? 2000 : 100000);

	write_file("/sys/fs/cgroup/cgroup.procs", "0");
	rmdir(CGROUP);
	return tap_end();
}
