// SPDX-License-Identifier: GPL-2.0
/*
 * Pages of a list that another process provides or withholds when the owner of the
 * locks dies (userfaultfd). No other task waits for the pages with the owner's exec.
 */

#define _GNU_SOURCE

#include "backing.h"

#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

/* userfaultfd for the page with the second half */
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
	/* Private memory and a file drop a page in different ways. */
	if (madvise(at, page, MADV_DONTNEED))
		return false;
	if (at == region(0, WORDS) + 2 * page || at == region(1, WORDS) + 2 * page ||
	    at == region(2, WORDS) + 2 * page) {
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * page, page))
			return false;
	}
	return !ioctl(uffd, UFFDIO_REGISTER, &range);
}

/* The action of the provider on a request for a page */
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

/* The provider is a child. Only the child has the userfaultfd. */
static int take_and_fork(struct victim *victim)
{
	const struct exec_scenario *exec = victim->data;

	CHECK(take_lists(&exec->scenario));
	if (!need_child())
		provide(exec->provider);
	close(uffd);
	return 0;
}

static void exec_true(struct victim *victim)
{
	(void)victim;
	while (!atomic_load(&notes->go))
		nap();
	execl("/proc/self/exe", "paging", "true", NULL);
	_exit(99);
}

/*
 * The walk waits for a page as long as the provider likes. Callers for a PI futex of
 * the task do not wait with it.
 */
static void exit_in_handler(int signal)
{
	(void)signal;
	_exit(0);
}

static int try_lock(void)
{
	return trylock_pi(&notes->pi) != -1 || errno != EAGAIN;
}

static int lock_with_timeout(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	return lock_pi(&notes->pi, &until) != -1 || errno != ETIMEDOUT;
}

static int lock_and_get_signal(void)
{
	signal(SIGALRM, exit_in_handler);
	alarm(1);
	lock_pi(&notes->pi, NULL);
	return 1;
}

static int requeue(void)
{
	pid_t waiter = need_child();
	atomic_uint *from = &notes->condition;

	if (!waiter) {
		wait_requeue_pi(from, NULL, &notes->pi);
		_exit(1);
	}
	if (!wait_for_state(waiter, 'S'))
		return 1;
	return requeue_pi(from, &notes->pi) != 1 || !kill_and_reap(waiter);
}

/* A waiter that waits until the owner is dead gets the lock. */
static pid_t start_pi_waiter(void)
{
	pid_t pid = need_child();

	if (!pid)
		_exit(lock_pi(&notes->pi, NULL) ||
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

		pid = need_child();
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
	 * Without its provider, the page reads as zeroes: its first entry has a null
	 * pointer, and its words have no owner.
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
		/* An exiting process does not wait: the kernel asks no provider. */
		struct scenario exit = {
			"from another process, at exit", part, .spoil = ask_for,
		};

		run(&exit);
		for (int i = SERVES; i <= SLEEPS; i++) {
			/* set_robust_list() waits as on the base, and is not tested here. */
			struct exec_scenario exec = {
				.scenario = { names[i], part, .spoil = ask_for,
					      .new_only = i == SLEEPS },
				.provider = i,
			};

			run_exec(&exec, expected[i][part]);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "true"))
		return 0;

	tap_begin();
	page = sysconf(_SC_PAGESIZE);
	test_userfaultfd();
	return tap_end();
}
