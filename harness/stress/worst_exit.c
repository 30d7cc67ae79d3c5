// SPDX-License-Identifier: GPL-2.0
/*
 * The longest exit that a task without privileges can arrange for itself. It is
 * measured, beside the same with set_robust_list(), and while it lasts, another
 * task on the same CPU has to get its share.
 *
 * worst_exit [short] [icount]
 *
 * With "icount", the guest has been started with ICOUNT=1: a nanosecond is an
 * instruction.
 */

#define _GNU_SOURCE

#include "adversity.h"

/* As long as ROBUST_LIST2_LIMIT, and as ROBUST_LIST_LIMIT of set_robust_list() */
#define LIMIT		ROBUST_LIST2_LIMIT
#define LEGACY_LIMIT	2048

/* How long the other task may have to wait for its turn, in seconds: some ticks */
#define LONGEST_GAP	0.02
/* Which part of the CPU it has to get */
#define LEAST_SHARE	0.2

/* How many exits are compared */
#define EXITS		5

#define STACK		65536
#define FIRST_LIST	(AREA + (1UL << 24))

static int nr_lists, nr_entries, nr_far_entries;
static cpu_set_t first_cpu, other_cpu;
static bool have_other_cpu, icount;

static struct meter {
	atomic_int	runs;
	atomic_int	stopped;
	/* In nanoseconds */
	atomic_uint	longest;
	/* Who takes pages away */
	pid_t		taker;
} *meter = (void *)AREA;

static pid_t meter_pid;

enum shape {
	NO_LIST,
	FREE_LOCKS,
	OWN_LOCKS,
	AWAITED_LOCKS,
	CIRCLE,
	FAR_APART,
};

static const char * const shape_names[] = {
	"no list", "free locks", "own locks", "own locks with FUTEX_WAITERS",
	"own locks in a circle", "entries whose pages go away",
};

struct worst {
	enum kind	kind;
	enum shape	shape;
	int		lists;
	int		entries;
};

static size_t stride(enum kind kind)
{
	return 2 * pointer_size(kind);
}

/*
 * Where a walk comes from one page to another with each step, all of the pages come
 * in turn: consecutive entries are one page and one entry apart.
 */
static char *nth_entry(const struct worst *worst, const struct list *list, int n)
{
	const int per_page = sysconf(_SC_PAGESIZE) / stride(worst->kind);
	const int pages = worst->entries / per_page;

	if (worst->shape != FAR_APART)
		return entry_of(list, n);
	/* A step of 17 pages, because a fault brings the neighbours of a page along. */
	return entry_of(list, (n * 17 % pages) * per_page + n / pages);
}

static void build(const struct worst *worst, const struct list *list)
{
	struct list empty = *list;
	__u32 word = gettid32();
	char *from = list->head;

	if (worst->shape == FREE_LOCKS)
		word = 0;
	else if (worst->shape == AWAITED_LOCKS)
		word |= FUTEX_WAITERS;
	empty.len = 0;
	link_list(&empty);
	for (int i = 0; i < list->len; i++) {
		char *entry = nth_entry(worst, list, i);

		set_next(list, from, entry);
		*(__u32 *)(entry + pointer_size(list->kind)) = word;
		from = entry;
	}
	set_next(list, from, worst->shape == CIRCLE ? list->entry : list->head);
}

/* A process with the same memory takes the pages away, as often as it can. */
static int take_pages_away(void *arg)
{
	sched_setaffinity(0, sizeof(other_cpu), &other_cpu);
	for (;;)
		madvise((void *)FIRST_LIST, *(size_t *)arg, MADV_DONTNEED);
	return 0;
}

static size_t size_of(const struct worst *worst)
{
	const size_t page = sysconf(_SC_PAGESIZE);

	return (worst->entries * stride(worst->kind) + 2 * page) & -page;
}

static struct list place(const struct worst *worst, int n)
{
	char *memory = (char *)FIRST_LIST + n * size_of(worst);
	size_t page = sysconf(_SC_PAGESIZE);

	return (struct list) {
		.kind = worst->kind,
		.head = memory,
		.entry = memory + page,
		.word = memory + page + pointer_size(worst->kind),
		.stride = stride(worst->kind),
		/* Half of it is enough where the walk goes around. */
		.len = worst->shape == CIRCLE ? worst->entries / 2 + 1 : worst->entries,
	};
}

static bool take(void *arg)
{
	const struct worst *worst = arg;
	static size_t size;
	char *stack;

	for (int i = 0; i < worst->lists; i++) {
		struct list list = place(worst, i);

		build(worst, &list);
		if (worst->shape != NO_LIST && !register_list(&list))
			return false;
	}
	if (worst->shape == FAR_APART) {
		size = worst->lists * size_of(worst);
		stack = malloc(STACK);
		if (!stack)
			return false;
		meter->taker = clone(take_pages_away, stack + STACK, CLONE_VM | SIGCHLD, &size);
		if (meter->taker == -1)
			return false;
	}
	return !sched_setaffinity(0, sizeof(first_cpu), &first_cpu);
}

/* Locks that are not as they should be, in all tests */
static int badly_handled;

/* The memory is that of a file: it goes away with the test, and not with the process. */
static pid_t start_worst(const struct worst *worst)
{
	map_shared(FIRST_LIST, worst->lists * size_of(worst));
	return start(take, NULL, (void *)worst);
}

/* How long the exit takes, in seconds */
static double end_worst(const struct worst *worst, pid_t pid)
{
	const bool marked = worst->shape != NO_LIST && worst->shape != FREE_LOCKS;
	double start = now(), end;
	int status = 0;

	need(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
	     "death of a process");
	end = now();
	if (worst->shape == FAR_APART)
		need(kill_and_reap(meter->taker), "death of a process");
	for (int i = 0; i < worst->lists; i++) {
		struct list list = place(worst, i);

		badly_handled += count_words(&list, FUTEX_OWNER_DIED) != (marked ? list.len : 0);
	}
	munmap((void *)FIRST_LIST, worst->lists * size_of(worst));
	return end - start;
}

static double exit_time(const struct worst *worst)
{
	return end_worst(worst, start_worst(worst));
}

/* The other task */
static void run_meter(void)
{
	double last;
	bool runs;

	sched_setaffinity(0, sizeof(first_cpu), &first_cpu);
	for (;;) {
		atomic_store(&meter->stopped, 1);
		while (!atomic_load(&meter->runs))
			nap();
		atomic_store(&meter->stopped, 0);
		/* What came after the last turn is a gap, too. */
		for (last = now(), runs = true; runs;) {
			double time;
			unsigned int gap;

			runs = atomic_load(&meter->runs);
			time = now();
			gap = (time - last) * 1e9;
			if (gap > atomic_load(&meter->longest))
				atomic_store(&meter->longest, gap);
			last = time;
		}
	}
}

static double cpu_time(pid_t pid)
{
	struct timespec time;
	clockid_t clock;

	need(!clock_getcpuclockid(pid, &clock) && !clock_gettime(clock, &time), "CPU time");
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void report(const struct worst *worst, double time)
{
	struct worst nothing = *worst;
	int entries = worst->lists * worst->entries;
	double base;

	nothing.shape = NO_LIST;
	base = exit_time(&nothing);
	say("%s, %s, %d x %d entries: %.6f s, without the list %.6f s, that is %.0f ns an entry",
	    kind_names[worst->kind], shape_names[worst->shape], worst->lists, worst->entries, time,
	    base, (time - base) * 1e9 / entries);
}

/* One page fault for each entry would take minutes. */
static void shorten(struct worst *worst)
{
	worst->lists = 1;
	worst->entries = nr_far_entries;
}

/* The longest lists */
static void test_longest(enum shape shape)
{
	double longest = 0;
	bool counted_up = false;

	if (shape == FAR_APART && !have_other_cpu) {
		skip("entries whose pages go away", "needs two CPUs");
		return;
	}
	badly_handled = 0;
	for (int kind = 0; kind < KINDS; kind++) {
		struct worst worst = {
			.kind = kind,
			.shape = shape,
			.lists = kind == LEGACY ? 1 : nr_lists,
			.entries = kind == LEGACY ? LEGACY_LIMIT : nr_entries,
		};
		double time;

		if (kind != LEGACY && shape == FAR_APART)
			shorten(&worst);
		time = exit_time(&worst);
		report(&worst, time);
		if (kind == LEGACY)
			continue;
		counted_up |= worst.lists * worst.entries != ROBUST_LISTS_PER_TASK * LIMIT;
		time *= (double)ROBUST_LISTS_PER_TASK * LIMIT / (worst.lists * worst.entries);
		if (time > longest)
			longest = time;
	}
	say("%s: %d lists of %d entries %s %.6f s", shape_names[shape], ROBUST_LISTS_PER_TASK,
	    LIMIT, counted_up ? "would take" : "take", longest);
	ok(!badly_handled, "%s: all that the owner holds are marked, and no others",
	   shape_names[shape]);
}

static void keep_less(double *least, double value)
{
	if (value < *least)
		*least = value;
}

/* Lists as long as those of set_robust_list(). The shortest of some exits is compared. */
static void test_like_legacy(enum shape shape)
{
	double least[] = { 1e9, 1e9, 1e9 }, base = 1e9, slowest = 0, legacy;

	for (int i = 0; i < EXITS; i++) {
		for (int kind = 0; kind < KINDS; kind++) {
			struct worst worst = { kind, shape, 1, LEGACY_LIMIT };
			struct worst nothing = { kind, NO_LIST, 1, LEGACY_LIMIT };

			keep_less(&least[kind], exit_time(&worst));
			keep_less(&base, exit_time(&nothing));
		}
	}
	for (int kind = LIST32; kind < KINDS; kind++) {
		if (least[kind] - base > slowest)
			slowest = least[kind] - base;
	}
	legacy = least[LEGACY] - base;
	say("%s, %d entries: %.0f us with set_robust_list(), %.0f us with set_robust_list2()",
	    shape_names[shape], LEGACY_LIMIT, legacy * 1e6, slowest * 1e6);
	ok(slowest <= 1.25 * legacy, "%s: as fast as set_robust_list()", shape_names[shape]);
}

/* Another task runs while the longest of them lasts. */
static void test_others_run(enum shape shape)
{
	struct worst worst = { LIST32, shape, nr_lists, nr_entries };
	double time, share, gap;
	pid_t pid;

	if (shape == FAR_APART && !have_other_cpu) {
		skip("entries whose pages go away: others run", "needs two CPUs");
		return;
	}
	if (shape == FAR_APART)
		shorten(&worst);
	pid = start_worst(&worst);
	atomic_store(&meter->longest, 0);
	atomic_store(&meter->runs, 1);
	share = cpu_time(meter_pid);
	time = end_worst(&worst, pid);
	share = (cpu_time(meter_pid) - share) / time;
	atomic_store(&meter->runs, 0);
	/* The other task is at the end of its last turn. */
	while (!atomic_load(&meter->stopped))
		nap();
	gap = atomic_load(&meter->longest) / 1e9;
	say("%s, another task runs: %.6f s, it gets %.0f %% of the CPU, waits for %.6f s at most",
	    shape_names[shape], time, share * 100, gap);
	/* Otherwise it waits for whatever the machine is busy with, too. */
	if (icount)
		ok(gap <= LONGEST_GAP, "%s: others run within %.2f s", shape_names[shape],
		   LONGEST_GAP);
	ok(share >= LEAST_SHARE, "%s: others get their share of the CPU", shape_names[shape]);
}

int main(int argc, char **argv)
{
	/* KASAN costs ten times as much. */
	const bool brief = has_argument(argc, argv, "short") || have_kasan();
	cpu_set_t cpus;

	tap_begin();
	icount = has_argument(argc, argv, "icount");
	map_shared(AREA, sizeof(*meter));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* Soft lockups are reported after twice this time. */
	if (write_file("/proc/sys/kernel/watchdog_thresh", "1"))
		say("a soft lockup is reported after 2 s");
	if (write_file("/proc/sys/kernel/hung_task_timeout_secs", "2"))
		say("a hung task is reported after 2 s");
	nr_lists = brief ? 1 : ROBUST_LISTS_PER_TASK;
	nr_entries = brief ? LIMIT / 8 : LIMIT;
	nr_far_entries = brief ? LIMIT / 64 : LIMIT / 8;

	CPU_SET(0, &first_cpu);
	CPU_SET(1, &other_cpu);
	have_other_cpu = !sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_ISSET(1, &cpus);
	if (have_other_cpu)
		sched_setaffinity(0, sizeof(other_cpu), &other_cpu);

	meter_pid = fork_child();
	if (!meter_pid)
		run_meter();
	for (int shape = FREE_LOCKS; shape <= FAR_APART; shape++)
		test_longest(shape);
	for (int shape = FREE_LOCKS; shape <= CIRCLE; shape++) {
		if (icount)
			test_like_legacy(shape);
		else
			skip("as fast as set_robust_list()", "needs ICOUNT=1 for a fair clock");
	}
	test_others_run(AWAITED_LOCKS);
	test_others_run(CIRCLE);
	test_others_run(FAR_APART);
	kill(meter_pid, SIGKILL);
	return tap_end();
}
