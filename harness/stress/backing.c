// SPDX-License-Identifier: GPL-2.0
/*
 * What may be behind the addresses in a list when its owner dies: pages that are
 * in the swap, that a file no longer has, that nobody may touch, that another
 * process provides or does not provide.
 *
 * The second half of the entries of each list, or of its futex words, is in such a
 * page. All else is there.
 */

#define _GNU_SOURCE

#include "adversity.h"

#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/swap.h>

#define REGION		0x100000UL
#define SWAP		"/dev/zram0"

enum part {
	ENTRIES,
	WORDS,
	PARTS,
};

static const char * const part_names[] = { "entries", "futex words" };

/*
 * An entry that cannot be read ends its list, and its own futex word has been handled by
 * then. A word that cannot be read or written ends its list at once.
 */
static const int marked_until[] = { LOCKS / 2 + 1, LOCKS / 2 };

static size_t page;
static struct list lists[MAX_KINDS];
static int files[MAX_KINDS][PARTS];

/* What the processes of a test tell each other */
static struct notes {
	atomic_int	go;
	atomic_int	faults;
	atomic_int	resident;
	atomic_int	failed;
	/* A PI futex that the owner has in no list, and one that is requeued to it */
	atomic_uint	pi, condition;
} *notes = (void *)AREA;

struct scenario {
	const char	*name;
	enum part	part;
	/* Entries are in a file, too. */
	bool		in_file;
	/* Makes a page of the owner what the test is about. */
	bool		(*spoil)(char *at, int fd);
	/* All futexes are marked nevertheless. */
	bool		harmless;
	/* The list of set_robust_list() is left alone. */
	bool		new_only;
};

/* Page 0 has the head, pages 1 and 2 have the entries, or the words. */
static char *region(int kind, enum part part)
{
	return (char *)(AREA + REGION * (1 + kind * PARTS + part));
}

static void new_lists(void)
{
	map_shared(AREA, sizeof(*notes));
	for (int kind = 0; kind < KINDS; kind++) {
		for (int part = 0; part < PARTS; part++) {
			if (files[kind][part])
				close(files[kind][part]);
			files[kind][part] = memfd_create("list", MFD_CLOEXEC);
			need(files[kind][part] != -1 && !ftruncate(files[kind][part], 3 * page),
			     "memfd_create");
		}
		lists[kind] = (struct list) {
			.kind = kind,
			.head = region(kind, ENTRIES),
			.entry = region(kind, ENTRIES) + page,
			.word = region(kind, WORDS) + page,
			.stride = 2 * page / LOCKS,
			.len = LOCKS,
		};
	}
}

static bool map_list(int kind, bool in_file)
{
	const int prot = PROT_READ | PROT_WRITE;
	int flags = MAP_FIXED | (in_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int fd = in_file ? files[kind][ENTRIES] : -1;

	return mmap(region(kind, ENTRIES), 3 * page, prot, flags, fd, 0) != MAP_FAILED &&
	       mmap(region(kind, WORDS), 3 * page, prot, MAP_FIXED | MAP_SHARED,
		    files[kind][WORDS], 0) != MAP_FAILED;
}

static bool take(void *arg)
{
	const struct scenario *scenario = arg;

	for (int kind = 0; kind < KINDS; kind++) {
		bool spoil = scenario->spoil && !(kind == LEGACY && scenario->new_only);

		if (!map_list(kind, scenario->in_file) || !hold(&lists[kind]) ||
		    (spoil && !scenario->spoil(region(kind, scenario->part) + 2 * page,
					       files[kind][scenario->part])))
			return false;
	}
	return true;
}

/* Read from the file, because the tests are about what is mapped. */
static int count_marked(int kind)
{
	int marked = 0;

	for (int i = 0; i < LOCKS; i++) {
		__u32 word = 0;

		if (pread(files[kind][WORDS], &word, sizeof(word), page + i * lists[kind].stride) ==
		    sizeof(word))
			marked += word == FUTEX_OWNER_DIED;
	}
	return marked;
}

static void check_marked(const struct scenario *scenario, int others)
{
	const char *name = scenario->name;
	enum part part = scenario->part;

	for (int kind = 0; kind < KINDS; kind++) {
		int expected = kind == LEGACY && scenario->new_only ? LOCKS : others;
		int marked = count_marked(kind);

		ok(marked == expected, "%s %s: %s", part_names[part], name, kind_names[kind]);
		if (marked != expected)
			say("%d locks are marked, not %d", marked, expected);
	}
}

static void run(struct scenario *scenario)
{
	pid_t pid;

	new_lists();
	pid = start(take, NULL, scenario);
	if (!kill_and_reap(pid)) {
		ok(false, "%s %s: the owner dies", part_names[scenario->part], scenario->name);
		return;
	}
	check_marked(scenario, scenario->harmless ? LOCKS : marked_until[scenario->part]);
}

static bool truncate_file(char *at, int fd)
{
	(void)at;
	return !ftruncate(fd, 2 * page);
}

static bool unmap(char *at, int fd)
{
	(void)fd;
	return !munmap(at, page);
}

static bool forbid(char *at, int fd)
{
	(void)fd;
	return !mprotect(at, page, PROT_NONE);
}

static bool forbid_writing(char *at, int fd)
{
	(void)fd;
	return !mprotect(at, page, PROT_READ);
}

/* The page is where it was, but the page table does not say so any more. */
static bool forget(char *at, int fd)
{
	(void)fd;
	return !madvise(at, page, MADV_DONTNEED);
}

/* Swap in compressed memory */
static bool have_swap(void)
{
	__u32 header[1024 / 4 + 3] = { };
	char *swap;
	int fd;

	if (!write_file("/sys/block/zram0/disksize", "33554432"))
		return false;
	fd = open(SWAP, O_WRONLY | O_CLOEXEC);
	if (fd == -1)
		return false;
	/* union swap_header: version, last_page, nr_badpages */
	header[256] = 1;
	header[257] = 33554432 / page - 1;
	swap = calloc(1, page);
	memcpy(swap, header, sizeof(header));
	memcpy(swap + page - 10, "SWAPSPACE2", 10);
	need(write(fd, swap, page) == (ssize_t)page, SWAP);
	close(fd);
	free(swap);
	need(!swapon(SWAP, 0), "swapon");
	return true;
}

static bool swap_out(char *at, int fd)
{
	double end = now() + PATIENCE;
	unsigned char here = 1;

	(void)fd;
	while (now() < end) {
		if (madvise(at, page, MADV_PAGEOUT) || mincore(at, page, &here))
			return false;
		if (!(here & 1))
			return true;
		nap();
	}
	atomic_fetch_add(&notes->resident, 1);
	return true;
}

static bool swap_out_all(char *at, int fd)
{
	return swap_out(at - 2 * page, fd) && swap_out(at - page, fd) && swap_out(at, fd);
}

static void test_swap(void)
{
	struct scenario swapped[] = {
		{ "in the swap", ENTRIES, .spoil = swap_out_all, .harmless = true },
		{ "in the swap", WORDS, .spoil = swap_out, .harmless = true },
	};

	if (!have_swap()) {
		skip("in the swap", "no CONFIG_ZRAM or no CONFIG_SWAP");
		return;
	}
	for (int i = 0; i < PARTS; i++) {
		run(&swapped[i]);
		ok(!atomic_load(&notes->resident), "%s in the swap: no page was left in memory",
		   part_names[i]);
	}
	swapoff(SWAP);
	write_file("/sys/block/zram0/reset", "1");
}

/* userfaultfd: the second half is in a page that another process is asked for. */
static int uffd = -1;
static char *backup[MAX_KINDS];

static bool open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	return uffd != -1 && !ioctl(uffd, UFFDIO_API, &api);
}

static bool ask_for(char *at, int fd)
{
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)at, .len = page },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (uffd == -1 && !open_uffd())
		return false;
	for (int kind = 0; kind < KINDS; kind++) {
		if (region(kind, ENTRIES) + 2 * page != at && region(kind, WORDS) + 2 * page != at)
			continue;
		backup[kind] = malloc(page);
		memcpy(backup[kind], at, page);
	}
	/* Private memory and a file lose a page in different ways. */
	if (madvise(at, page, MADV_DONTNEED))
		return false;
	if (at == region(0, WORDS) + 2 * page || at == region(1, WORDS) + 2 * page ||
	    at == region(2, WORDS) + 2 * page) {
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * page, page))
			return false;
	}
	return !ioctl(uffd, UFFDIO_REGISTER, &range);
}

/* What the provider of pages does when it is asked for one */
enum provider {
	SERVES,
	GOES_AWAY,
	SLEEPS,
};

static void provide(enum provider provider)
{
	struct uffd_msg message;

	for (;;) {
		struct uffdio_copy copy = { .len = page };
		char *at;

		if (read(uffd, &message, sizeof(message)) != sizeof(message))
			_exit(1);
		atomic_fetch_add(&notes->faults, 1);
		if (provider == GOES_AWAY)
			_exit(0);
		if (provider == SLEEPS)
			continue;
		at = (char *)(uintptr_t)(message.arg.pagefault.address & ~((__u64)page - 1));
		for (int kind = 0; kind < KINDS; kind++) {
			if (at == region(kind, ENTRIES) + 2 * page ||
			    at == region(kind, WORDS) + 2 * page)
				copy.src = (uintptr_t)backup[kind];
		}
		copy.dst = (uintptr_t)at;
		if (ioctl(uffd, UFFDIO_COPY, &copy))
			_exit(1);
	}
}

struct exec_scenario {
	struct scenario	scenario;
	enum provider	provider;
};

/* The provider is a child, and the only one that has the file of userfaultfd(). */
static bool take_and_fork(void *arg)
{
	struct exec_scenario *exec = arg;

	if (!take(&exec->scenario))
		return false;
	if (!fork_child())
		provide(exec->provider);
	close(uffd);
	return true;
}

static void exec_true(void *arg)
{
	(void)arg;
	while (!atomic_load(&notes->go))
		nap();
	execl("/proc/self/exe", "backing", "true", NULL);
	_exit(99);
}

/*
 * The walk waits for a page, for as long as its provider likes. Nobody waits with it who
 * wants a PI futex of the task.
 */
struct pi_time {
	long	tv_sec, tv_nsec;
};

static long pi_call(int op, const struct pi_time *timeout)
{
	return syscall(SYS_futex, &notes->pi, op, 0, timeout, NULL, 0);
}

static void exit_in_handler(int signal)
{
	(void)signal;
	_exit(0);
}

static int try_lock(void)
{
	return pi_call(FUTEX_TRYLOCK_PI, NULL) != -1 || errno != EAGAIN;
}

static int lock_with_timeout(void)
{
	struct timespec time;
	struct pi_time until;

	clock_gettime(CLOCK_REALTIME, &time);
	until = (struct pi_time) { time.tv_sec + 1, time.tv_nsec };
	return pi_call(FUTEX_LOCK_PI, &until) != -1 || errno != ETIMEDOUT;
}

static int lock_and_get_signal(void)
{
	signal(SIGALRM, exit_in_handler);
	alarm(1);
	pi_call(FUTEX_LOCK_PI, NULL);
	return 1;
}

static int requeue(void)
{
	pid_t waiter = fork_child();
	atomic_uint *from = &notes->condition;
	long moved;

	if (!waiter) {
		syscall(SYS_futex, from, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &notes->pi, 0);
		_exit(1);
	}
	if (!wait_for_state(waiter, 'S'))
		return 1;
	moved = syscall(SYS_futex, from, FUTEX_CMP_REQUEUE_PI, 1, NULL, &notes->pi, 0);
	return moved != 1 || !kill_and_reap(waiter);
}

/* Who waits for the lock until the owner is dead gets it. */
static pid_t start_pi_waiter(void)
{
	pid_t pid = fork_child();

	if (!pid)
		_exit(pi_call(FUTEX_LOCK_PI, NULL) ||
		      (atomic_load(&notes->pi) & FUTEX_TID_MASK) != gettid32());
	return pid;
}

static pid_t check_pi_futex(pid_t owner, const char *part, const char *name)
{
	static const struct {
		const char	*what;
		int		(*try)(void);
	} tries[] = {
		{ "FUTEX_TRYLOCK_PI comes back", try_lock },
		{ "FUTEX_LOCK_PI keeps its timeout", lock_with_timeout },
		{ "FUTEX_LOCK_PI is interrupted by a signal", lock_and_get_signal },
		{ "FUTEX_CMP_REQUEUE_PI comes back", requeue },
	};
	int status = 0;
	pid_t pid;

	atomic_store(&notes->pi, owner);
	atomic_store(&notes->condition, 0);
	for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++) {
		bool back;

		pid = fork_child();
		if (!pid)
			_exit(tries[i].try());
		status = 1;
		back = reap(pid, &status);
		if (!back)
			kill(pid, SIGKILL);
		ok(back && !status, "%s %s: %s", part, name, tries[i].what);
	}
	pid = start_pi_waiter();
	ok(wait_for_state(pid, 'S') && kill_and_reap(pid),
	   "%s %s: a waiter for a PI futex can be killed", part, name);
	pid = start_pi_waiter();
	need(wait_for_state(pid, 'S'), "a process that waits for a PI futex");
	return pid;
}

/* An exec waits for a page of a list. */
static void run_exec(struct exec_scenario *exec, int expected)
{
	const char *part = part_names[exec->scenario.part], *name = exec->scenario.name;
	double end = now() + PATIENCE;
	int status = 0, got = 1;
	pid_t pid, waiter = 0;
	bool died;
	__u64 head;

	new_lists();
	pid = start(take_and_fork, exec_true, exec);
	atomic_store(&notes->go, 1);
	while (!atomic_load(&notes->faults) && now() < end)
		nap();
	if (exec->provider == SLEEPS) {
		need(wait_for_state(pid, 'S'), "wait for a page");
		ok(get_robust_list2(pid, &head, 0, 0) == -1 && errno == ENOENT,
		   "%s %s: other processes do not wait, and find no lists", part, name);
		waiter = check_pi_futex(pid, part, name);
		kill(pid, SIGKILL);
	}
	died = reap(pid, &status);
	ok(died && (exec->provider == SLEEPS ? WIFSIGNALED(status) : !status),
	   "%s %s: the exec ends", part, name);
	if (!died)
		kill(pid, SIGKILL);
	ok(atomic_load(&notes->faults) >= 1, "%s %s: a page was asked for", part, name);
	if (waiter)
		ok(reap(waiter, &got) && !got, "%s %s: a waiter gets the PI futex of the dead",
		   part, name);
	check_marked(&exec->scenario, expected);
}

static void test_userfaultfd(void)
{
	static const char * const names[] = {
		"from another process, at exec",
		"from a process that goes away, at exec",
		"from a process that sleeps, killed at exec",
	};
	/*
	 * When the provider is gone, there is a page of zeroes. Its first entry has no next
	 * one, and its words have no owner.
	 */
	const int expected[3][PARTS] = {
		{ LOCKS, LOCKS },
		{ LOCKS / 2 + 1, LOCKS / 2 },
		{ LOCKS / 2 + 1, LOCKS / 2 },
	};

	if (!open_uffd()) {
		skip("from another process", "no CONFIG_USERFAULTFD");
		return;
	}
	close(uffd);
	uffd = -1;
	for (int part = 0; part < PARTS; part++) {
		/* A process that exits is not made to wait: the kernel asks nobody. */
		struct scenario exit = {
			"from another process, at exit", part, .spoil = ask_for,
		};

		run(&exit);
		for (int i = SERVES; i <= SLEEPS; i++) {
			/* The list of set_robust_list() is the base's, and so is its wait. */
			struct exec_scenario exec = {
				.scenario = { names[i], part, .spoil = ask_for,
					      .new_only = i == SLEEPS },
				.provider = i,
			};

			run_exec(&exec, expected[i][part]);
		}
	}
}

/*
 * arm64 ignores the top byte of an address, and the kernel does so for processes that
 * have asked for it. What a memory allocator with tags returns is such an address.
 */
#ifdef __aarch64__
static char *tagged(char *at)
{
	return (char *)((uintptr_t)at | 0x2aUL << 56);
}

static bool take_tagged(void *arg)
{
	const bool *ask = arg;

	if (*ask && prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0))
		return false;
	for (int kind = 0; kind < KINDS; kind++) {
		struct list list = lists[kind];

		if (is_64bit(kind)) {
			list.head = tagged(list.head);
			list.entry = tagged(list.entry);
			list.word = tagged(list.word);
		}
		if (!map_list(kind, false) || !hold(&list))
			return false;
	}
	return true;
}

static void test_tags(void)
{
	const struct scenario scenario = { .name = "with tagged addresses" };
	bool ask = false;
	pid_t pid;

	new_lists();
	pid = start(take_tagged, NULL, &ask);
	ok(kill_and_reap(pid), "tagged addresses that nobody has asked for: the owner dies");
	for (int kind = 0; kind < KINDS; kind++)
		ok(count_marked(kind) == (is_64bit(kind) ? 0 : LOCKS),
		   "tagged addresses that nobody has asked for: %s", kind_names[kind]);

	if (prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0) < 0) {
		skip("tagged addresses", "no CONFIG_ARM64_TAGGED_ADDR_ABI");
		return;
	}
	new_lists();
	ask = true;
	pid = start(take_tagged, NULL, &ask);
	ok(kill_and_reap(pid), "tagged addresses: the owner dies");
	check_marked(&scenario, LOCKS);
}
#else
static void test_tags(void)
{
}
#endif

int main(int argc, char **argv)
{
	struct scenario scenarios[] = {
		{ "all there", ENTRIES, .harmless = true },
		{ "not in the page table", ENTRIES, .in_file = true, .spoil = forget,
		  .harmless = true },
		{ "not in the page table", WORDS, .spoil = forget, .harmless = true },
		{ "behind the end of the file", ENTRIES, .in_file = true,
		  .spoil = truncate_file },
		{ "behind the end of the file", WORDS, .spoil = truncate_file },
		{ "not mapped", ENTRIES, .spoil = unmap },
		{ "not mapped", WORDS, .spoil = unmap },
		{ "with PROT_NONE", ENTRIES, .spoil = forbid },
		{ "with PROT_NONE", WORDS, .spoil = forbid },
		{ "with PROT_READ", ENTRIES, .spoil = forbid_writing, .harmless = true },
		{ "with PROT_READ", WORDS, .spoil = forbid_writing },
	};

	if (argc > 1 && !strcmp(argv[1], "true"))
		return 0;

	tap_begin();
	page = sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
		run(&scenarios[i]);
	test_tags();
	test_swap();
	test_userfaultfd();
	return tap_end();
}
