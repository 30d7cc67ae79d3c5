// SPDX-License-Identifier: GPL-2.0
/*
 * The longest exit that an unprivileged task can arrange: ten lists with more entries
 * than the kernel handles. The test compares it with set_robust_list(). Another task on
 * the same CPU must get its share during the exit. worst_threads does this for many
 * threads.
 *
 * worst_exit [short] [icount]
 *
 * "icount" means that the guest runs with ICOUNT=1: a nanosecond is an instruction.
 */

#define _GNU_SOURCE

#include "adversity.h"

/* Seconds that the other task may have to wait for its turn: some ticks */
#define LONGEST_GAP	0.02
/* The least share of the CPU for the other task */
#define LEAST_SHARE	0.2

/* Number of exits in a comparison */
#define EXITS		5

#define FIRST_LIST	(AREA + (1UL << 24))

/* Over all lists of a task: held entries, and entries that are not held */
static int nr_lists, nr_entries, nr_free_entries, nr_far_entries;
static cpu_set_t first_cpu, other_cpu;
static bool have_other_cpu, icount;

static struct meter {
	atomic_int	runs;
	atomic_int	stopped;
	/* Nanoseconds */
	atomic_uint	longest;
	/* The process that takes pages away */
	pid_t		taker;
	atomic_int	copies_ready;
} *meter = (void *)AREA;

static pid_t meter_pid;

enum shape {
	NO_LIST,
	FREE_LOCKS,
	OWN_LOCKS,
	AWAITED_LOCKS,
	CIRCLE,
	FAR_APART,
	COPIED,
};

static const char * const shape_names[] = {
	"no list", "free locks", "own locks", "own locks with FUTEX_WAITERS",
	"own locks in a circle", "entries whose pages go away",
	"own locks in private copies of one page",
};

struct worst {
	enum kind	kind;
	enum shape	shape;
	int		lists;
	int		entries;
};

static size_t stride(enum kind kind)
{
	return 2 * pointer_size(type_of(kind));
}

/*
 * If each step of a walk leads to another page, the walk visits all pages in turn:
 * consecutive entries are one page and one entry apart.
 */
static char *nth_entry(const struct worst *worst, const struct list *list, int n)
{
	const int per_page = sysconf(_SC_PAGESIZE) / stride(worst->kind);
	const int pages = worst->entries / per_page;

	if (worst->shape != FAR_APART)
		return entry_of(list, n);
	/* Steps of 17 pages, because a fault maps the neighbours of a page as well */
	return entry_of(list, (n * 17 % pages) * per_page + n / pages);
}

static void build(const struct worst *worst, const struct list *list)
{
	struct list empty = *list;
	__u32 word = gettid32();
	void *from = list->head;

	if (worst->shape == FREE_LOCKS)
		word = 0;
	else if (worst->shape == AWAITED_LOCKS)
		word |= FUTEX_WAITERS;
	empty.len = 0;
	link_list(&empty);
	for (int i = 0; i < list->len; i++) {
		char *entry = nth_entry(worst, list, i);

		set_next(list, from, entry);
		*(__u32 *)(entry + pointer_size(type_of(list->kind))) = word;
		from = entry;
	}
	set_next(list, from, worst->shape == CIRCLE ? list->entry : (char *)list->head);
}

/* Numbers of entries that the kernel handles, and that it visits */
static int handled(const struct worst *worst)
{
	int all = worst->lists * worst->entries;

	switch (worst->shape) {
	case NO_LIST:
	case FREE_LOCKS:
		return 0;
	default:
		return all < HELD_LIMIT ? all : HELD_LIMIT;
	}
}

static int visited(const struct worst *worst)
{
	int others = worst->entries < ROBUST_LIST_LIMIT ? worst->entries : ROBUST_LIST_LIMIT;

	if (worst->shape == FREE_LOCKS)
		return worst->lists * others;
	/* The kernel needs up to one more lap to reach its limit of foreign entries. */
	if (worst->shape == CIRCLE && worst->kind != LEGACY)
		return handled(worst) + worst->lists * ROBUST_LIST_LIMIT;
	return handled(worst);
}

/* A process with the same memory takes the pages away as often as it can. */
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
		.head = (void *)memory,
		.entry = memory + page,
		.word = memory + page + pointer_size(type_of(worst->kind)),
		.stride = stride(worst->kind),
		.len = worst->entries,
	};
}

static int take(struct victim *victim)
{
	const struct worst *worst = victim->data;
	static size_t size;

	for (int i = 0; i < worst->lists; i++) {
		struct list list = place(worst, i);

		build(worst, &list);
		CHECK(worst->shape == NO_LIST || register_list(&list));
	}
	if (worst->shape == FAR_APART) {
		size = worst->lists * size_of(worst);
		meter->taker = clone_vm(take_pages_away, &size);
		CHECK(meter->taker != -1);
	}
	CHECK(!sched_setaffinity(0, sizeof(first_cpu), &first_cpu));
	return 0;
}

/* Locks in a wrong state, over all tests */
static int badly_handled;

/* File memory outlives the process, so that the test can check it. */
static pid_t start_worst(const struct worst *worst)
{
	map_shared(FIRST_LIST, worst->lists * size_of(worst));
	return start(take, NULL, worst);
}

/* Returns the seconds that the exit takes. */
static double end_worst(const struct worst *worst, pid_t pid)
{
	double start = now(), end;
	int status = 0, marked = 0;

	need(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status),
	     "death of a process");
	end = now();
	if (worst->shape == FAR_APART)
		need(kill_and_reap(meter->taker), "death of a process");
	for (int i = 0; i < worst->lists; i++) {
		struct list list = place(worst, i);

		marked += count_words(&list, FUTEX_OWNER_DIED);
	}
	if (marked != handled(worst)) {
		say("%d locks are marked, not %d", marked, handled(worst));
		badly_handled++;
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
		/* The time since the last turn is a gap as well. */
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

/* Reports the time of an exit. Returns that of the same exit without lists. */
static double report(const struct worst *worst, double time)
{
	struct worst nothing = *worst;
	double base;

	nothing.shape = NO_LIST;
	base = exit_time(&nothing);
	say("%s, %s, %d x %d entries: %.6f s, without %.6f s, that is %.0f ns for each of %d",
	    kind_names[worst->kind], shape_names[worst->shape], worst->lists, worst->entries, time,
	    base, (time - base) * 1e9 / visited(worst), visited(worst));
	return base;
}

static struct worst longest_of(enum kind kind, enum shape shape)
{
	struct worst worst = {
		.kind = kind,
		.shape = shape,
		.lists = kind == LEGACY ? 1 : nr_lists,
		.entries = kind == LEGACY ? ROBUST_LIST_LIMIT : nr_entries / nr_lists + 1,
	};

	if (kind == LEGACY)
		return worst;
	if (shape == FREE_LOCKS)
		worst.entries = nr_free_entries;
	/* One page fault per entry would take minutes. */
	if (shape == FAR_APART) {
		worst.lists = 1;
		worst.entries = nr_far_entries;
	}
	return worst;
}

/* The longest lists */
static void test_longest(enum shape shape)
{
	double longest = 0;

	if (shape == FAR_APART && !have_other_cpu) {
		skip("entries whose pages go away", "needs two CPUs");
		return;
	}
	badly_handled = 0;
	for (int kind = 0; kind < KINDS; kind++) {
		struct worst worst = longest_of(kind, shape);
		double time = exit_time(&worst), base = report(&worst, time);

		if (kind == LEGACY)
			continue;
		if (handled(&worst))
			time = base + (time - base) * HELD_LIMIT / handled(&worst);
		if (time > longest)
			longest = time;
	}
	say("row: %s: %.6f s", shape_names[shape], longest);
	ok(!badly_handled, "%s: as many as the limit says are marked", shape_names[shape]);
}

/*
 * One filled page is mapped privately many times, and the kernel copies it when it
 * marks the first lock in each mapping. The copies are freed with the address space, so
 * a process that shares it checks them.
 */
#define COPY_ENTRIES	(AREA + (1UL << 24))
#define COPY_WORDS	(AREA + (1UL << 26))

static struct list copy_list;

static int hold_copies(void *arg)
{
	const int fd = *(int *)arg, per_page = sysconf(_SC_PAGESIZE) / sizeof(__u32);
	__u32 tid = gettid32();

	for (int i = 0; i < per_page; i++)
		if (pwrite(fd, &tid, sizeof(tid), i * sizeof(tid)) != sizeof(tid))
			_exit(1);
	link_list(&copy_list);
	if (!register_list(&copy_list))
		_exit(1);
	atomic_store(&meter->copies_ready, 1);
	for (;;)
		pause();
	return 0;
}

static void die_with_copies(void)
{
	const size_t page = sysconf(_SC_PAGESIZE), size = nr_entries * sizeof(__u32);
	int fd = memfd_create("word", MFD_CLOEXEC), status = 0;
	double start;
	pid_t pid;

	need(fd != -1 && !ftruncate(fd, page), "memfd_create");
	map_shared(COPY_ENTRIES, page + size);
	for (size_t at = 0; at < size; at += page)
		need(mmap((void *)(COPY_WORDS + at), page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED, "mmap");
	copy_list = (struct list) {
		.kind = LIST32,
		.head = (void *)COPY_ENTRIES,
		.entry = (char *)COPY_ENTRIES + page,
		.word = (char *)COPY_WORDS,
		.stride = sizeof(__u32),
		.len = nr_entries,
	};
	atomic_store(&meter->copies_ready, 0);
	pid = clone_vm(hold_copies, &fd);
	need(pid != -1, "clone");
	while (!atomic_load(&meter->copies_ready))
		need(waitpid(pid, &status, WNOHANG) == 0, "a process with locks");
	start = now();
	need(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid, "death of a process");
	start = now() - start;
	say("%s, one page of words, %d entries: %.6f s, that is %.0f ns for each",
	    shape_names[COPIED], nr_entries, start, start * 1e9 / nr_entries);
	say("row: %s: %.6f s", shape_names[COPIED], start * HELD_LIMIT / nr_entries);
	_exit(!all_died(&copy_list));
}

static void test_copies(void)
{
	int status = 1;
	pid_t pid = need_child();

	if (!pid)
		die_with_copies();
	need(waitpid(pid, &status, 0) == pid, "a process that looks at copies");
	ok(!status, "%s: all are marked", shape_names[COPIED]);
}

static double less(double a, double b)
{
	return a < b ? a : b;
}

/* Compares lists as long as those of set_robust_list(), by the shortest of some exits. */
static void test_like_legacy(enum shape shape)
{
	double least[] = { 1e9, 1e9, 1e9 }, base = 1e9, slowest = 0, legacy;
	/* set_robust_list() stops in the first lap, other lists after a second one. */
	const int laps = shape == CIRCLE ? 2 : 1;

	for (int i = 0; i < EXITS; i++) {
		for (int kind = 0; kind < KINDS; kind++) {
			struct worst worst = { kind, shape, 1, ROBUST_LIST_LIMIT };
			struct worst nothing = { kind, NO_LIST, 1, ROBUST_LIST_LIMIT };

			least[kind] = less(least[kind], exit_time(&worst));
			base = less(base, exit_time(&nothing));
		}
	}
	for (int kind = LIST32; kind < KINDS; kind++) {
		if (least[kind] - base > slowest)
			slowest = least[kind] - base;
	}
	legacy = least[LEGACY] - base;
	say("%s, %d entries: %.0f us with set_robust_list(), %.0f us with set_robust_list2()",
	    shape_names[shape], ROBUST_LIST_LIMIT, legacy * 1e6, slowest * 1e6);
	ok(slowest <= 1.25 * laps * legacy, "%s: as fast as set_robust_list()", shape_names[shape]);
}

/* Another task runs during the longest exit. */
static void test_others_run(enum shape shape)
{
	struct worst worst = longest_of(LIST32, shape);
	double time, share, gap;
	pid_t pid;

	if (shape == FAR_APART && !have_other_cpu) {
		skip("entries whose pages go away: others run", "needs two CPUs");
		return;
	}
	pid = start_worst(&worst);
	atomic_store(&meter->longest, 0);
	atomic_store(&meter->runs, 1);
	share = cpu_time(meter_pid);
	time = end_worst(&worst, pid);
	share = (cpu_time(meter_pid) - share) / time;
	atomic_store(&meter->runs, 0);
	/* The other task has ended its last turn. */
	while (!atomic_load(&meter->stopped))
		nap();
	gap = atomic_load(&meter->longest) / 1e9;
	say("%s, another task runs: %.6f s, it gets %.0f %% of the CPU, waits for %.6f s at most",
	    shape_names[shape], time, share * 100, gap);
	/* Without icount, the gap includes waits for other work of the machine. */
	if (icount)
		ok(gap <= LONGEST_GAP, "%s: others run within %.2f s", shape_names[shape],
		   LONGEST_GAP);
	ok(share >= LEAST_SHARE, "%s: others get their share of the CPU", shape_names[shape]);
}

int main(int argc, char **argv)
{
	/* KASAN makes the test ten times slower. */
	const bool brief = has_argument(argc, argv, "short") || have_kasan();
	cpu_set_t cpus;

	tap_begin();
	icount = has_argument(argc, argv, "icount");
	map_shared(AREA, sizeof(*meter));
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* The kernel reports a soft lockup after twice this time. */
	if (write_file("/proc/sys/kernel/watchdog_thresh", "1"))
		say("a soft lockup is reported after 2 s");
	if (write_file("/proc/sys/kernel/hung_task_timeout_secs", "2"))
		say("a hung task is reported after 2 s");
	nr_lists = LISTS_PER_TASK;
	nr_entries = brief ? HELD_LIMIT / 8 : HELD_LIMIT;
	nr_free_entries = 2 * ROBUST_LIST_LIMIT;
	nr_far_entries = brief ? HELD_LIMIT / 64 : HELD_LIMIT / 8;

	CPU_SET(0, &first_cpu);
	CPU_SET(1, &other_cpu);
	have_other_cpu = !sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_ISSET(1, &cpus);
	if (have_other_cpu)
		sched_setaffinity(0, sizeof(other_cpu), &other_cpu);

	meter_pid = need_child();
	if (!meter_pid)
		run_meter();
	for (int shape = FREE_LOCKS; shape <= FAR_APART; shape++)
		test_longest(shape);
	test_copies();
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
