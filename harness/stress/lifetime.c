// SPDX-License-Identifier: GPL-2.0
/*
 * Deaths of owners of locks: by the OOM killer, frozen, traced, dumping core. groups
 * has owners that die together.
 */

#define _GNU_SOURCE

#include "lifetime.h"

#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CGROUP		"/sys/fs/cgroup/lifetime"
#define CORE		"/tmp/core"

static void test_kill(void)
{
	pid_t pid;

	new_area();
	pid = start(take_first, NULL, NULL);
	start_waiters(0);
	need(kill_and_reap(pid), "kill");
	check_died(0, "killed");
}

/* Memory cgroups. Heads and entries are in memory that counts for the OOM killer. */
static bool make_cgroup(void)
{
	return !mkdir(CGROUP, 0755) || errno == EEXIST;
}

static int take_in_cgroup(struct victim *victim)
{
	char *private = mmap((void *)(AREA + (1 << 24)), 65536, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	CHECK(private != MAP_FAILED && write_file(CGROUP "/cgroup.procs", "0"));
	/* The words stay in memory that the test sees. */
	for (int i = 0; i < KINDS; i++) {
		lists[0][i].head = (void *)(private + i * 1024);
		lists[0][i].entry = private + i * 1024 + 256;
	}
	return take_first(victim);
}

static void exhaust_memory(struct victim *victim)
{
	(void)victim;
	wait_for_go();
	for (;;) {
		char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

		if (more == MAP_FAILED)
			_exit(1);
		memset(more, 1, 1 << 20);
	}
}

static void test_oom(void)
{
	int status = 0;
	pid_t pid;

	if (!write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory") || !make_cgroup() ||
	    !write_file(CGROUP "/memory.max", "16M")) {
		skip("killed by the OOM killer", "no memory cgroups");
		return;
	}
	write_file(CGROUP "/memory.swap.max", "0");
	new_area();
	pid = start(take_in_cgroup, exhaust_memory, NULL);
	start_waiters(0);
	atomic_store(&area->go, 1);
	need(reap(pid, &status), "death of the process that ate the memory");
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
	   read_number(CGROUP "/memory.events", "oom_kill ") == 1,
	   "the OOM killer has killed the owner");
	check_died(0, "killed by the OOM killer");
	rmdir(CGROUP);
}

static int take_in_freezer(struct victim *victim)
{
	CHECK(write_file(CGROUP "/cgroup.procs", "0"));
	return take_first(victim);
}

static void test_frozen(void)
{
	double end = now() + PATIENCE;
	pid_t pid;

	if (!make_cgroup() || !write_file(CGROUP "/cgroup.freeze", "0")) {
		skip("killed while frozen", "no cgroups");
		return;
	}
	new_area();
	pid = start(take_in_freezer, NULL, NULL);
	start_waiters(0);
	need(write_file(CGROUP "/cgroup.freeze", "1"), "cgroup.freeze");
	while (read_number(CGROUP "/cgroup.events", "frozen ") != 1 && now() < end)
		nap();
	ok(read_number(CGROUP "/cgroup.events", "frozen ") == 1 && all_owned_by(0, pid),
	   "the owner is frozen, and its locks are its own");
	ok(kill_and_reap(pid), "a frozen owner is killed");
	check_died(0, "killed while frozen");
	rmdir(CGROUP);
}

static void test_traced(void)
{
	int status = 0;
	pid_t pid;

	new_area();
	pid = start(take_first, exit_on_go, NULL);
	start_waiters(0);
	need(!ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT), "PTRACE_SEIZE");
	atomic_store(&area->go, 1);
	need(waitpid(pid, &status, __WALL) == pid, "waitpid");
	ok(status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8) && all_owned_by(0, pid) &&
	   registered(0, pid), "traced: locks and lists are there when the tracer sees the exit");
	need(!ptrace(PTRACE_CONT, pid, NULL, NULL), "PTRACE_CONT");
	need(reap(pid, &status), "exit of a traced process");
	check_died(0, "traced");
}

/* No tracer is left to continue the owner. */
static void test_tracer_dies(void)
{
	pid_t pid, tracer;

	new_area();
	pid = start(take_first, exit_on_go, NULL);
	start_waiters(0);
	tracer = need_child();
	if (!tracer) {
		if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT))
			_exit(1);
		atomic_store(&area->ready, 1);
		for (;;)
			pause();
	}
	wait_for(&area->ready, 1);
	atomic_store(&area->go, 1);
	need(wait_for_state(pid, 't'), "stop of the traced process");
	ok(all_owned_by(0, pid), "tracer dies: the owner stops before its locks are marked");
	need(kill_and_reap(tracer), "kill");
	need(reap(pid, NULL), "exit of a process whose tracer died");
	check_died(0, "tracer dies");
}

static void abort_on_go(struct victim *victim)
{
	(void)victim;
	setrlimit(RLIMIT_CORE, &(struct rlimit) { RLIM_INFINITY, RLIM_INFINITY });
	wait_for_go();
	abort();
}

static int nothing(struct victim *victim)
{
	(void)victim;
	return 0;
}

/* Returns whether the owner holds its locks in the core file. */
static bool owned_in_core(pid_t pid)
{
	ptrdiff_t to_word = (char *)word_of(&lists[0][0], 0) - area->mark;
	const char *core, *found;
	struct stat stat;
	__u32 word = 0;
	int fd;

	fd = open(CORE, O_RDONLY);
	if (fd == -1 || fstat(fd, &stat))
		return false;
	core = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (core == MAP_FAILED)
		return false;
	found = memmem(core, stat.st_size, area->mark, sizeof(area->mark));
	if (found && found + to_word >= core)
		memcpy(&word, found + to_word, sizeof(word));
	munmap((void *)core, stat.st_size);
	return word == (__u32)pid;
}

static void test_core_dump(void)
{
	int status = 0;
	pid_t pid;

	write_file("/proc/sys/kernel/core_uses_pid", "0");
	need(write_file("/proc/sys/kernel/core_pattern", CORE), "core_pattern");
	new_area();
	atomic_store(&area->go, 1);
	pid = start(nothing, abort_on_go, NULL);
	if (!reap(pid, &status) || !WIFSIGNALED(status) || !WCOREDUMP(status)) {
		skip("dumps core", "no CONFIG_ELF_CORE");
		return;
	}
	unlink(CORE);

	new_area();
	need(getrandom(area->mark, sizeof(area->mark), 0) == sizeof(area->mark), "getrandom");
	pid = start(take_both, abort_on_go, NULL);
	start_waiters(0);
	start_waiters(1);
	atomic_store(&area->go, 1);
	need(reap(pid, &status), "death of a process that dumps core");
	ok(WIFSIGNALED(status) && WCOREDUMP(status) && owned_in_core(pid),
	   "the core shows the locks as the owner held them");
	check_died(0, "dumps core");
	check_died(1, "dumps core, another thread");
	unlink(CORE);
}

int main(void)
{
	tap_begin();
	/* Orphaned processes are reaped here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	test_kill();
	test_oom();
	test_frozen();
	test_traced();
	test_tracer_dies();
	test_core_dump();
	return tap_end();
}
