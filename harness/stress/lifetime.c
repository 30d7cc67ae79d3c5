// SPDX-License-Identifier: GPL-2.0
/*
 * The ways in which an owner of locks comes to its end: killed for its memory,
 * frozen, traced, dumped, by an exec of another thread, in a namespace, with the
 * threads and without the processes that share its memory.
 */

#define _GNU_SOURCE

#include "adversity.h"

#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CGROUP		"/sys/fs/cgroup/lifetime"
#define CORE		"/tmp/core"

/* Who takes part in a test beside the owner of the first lists */
#define PARTIES		24

#define STACK		65536

static struct area {
	char		memory[PARTIES][MAX_KINDS * (LOCKS + 2) * ENTRY];
	char		mark[16];
	atomic_int	go;
	atomic_int	ready;
	atomic_int	pid;
} *area = (void *)AREA;

/* The lists of each party */
static struct list lists[PARTIES][MAX_KINDS];
static pid_t waiter[PARTIES][MAX_KINDS];

static void new_area(void)
{
	map_shared(AREA, sizeof(*area));
	for (int i = 0; i < PARTIES; i++)
		place_lists(lists[i], area->memory[i]);
}

static void wait_for(atomic_int *value, int enough)
{
	double end = now() + PATIENCE;

	while (atomic_load(value) < enough) {
		if (now() > end)
			_exit(1);
		nap();
	}
}

static void start_waiters(int party)
{
	for (int i = 0; i < KINDS; i++)
		waiter[party][i] = start_waiter(word_of(&lists[party][i], LOCKS - 1));
}

/* The owner is dead: a line for each kind of list. */
static void check_died(int party, const char *how)
{
	for (int i = 0; i < KINDS; i++) {
		bool wake = woken(waiter[party][i]);

		ok(all_died(&lists[party][i]) && wake, "%s: %s", how, kind_names[i]);
	}
}

static bool all_owned_by(int party, pid_t pid)
{
	for (int i = 0; i < KINDS; i++) {
		if (count_words(&lists[party][i], pid) != LOCKS)
			return false;
	}
	return true;
}

static bool none_registered(pid_t pid)
{
	__u64 head;

	for (int i = 0; i < LISTS_PER_TASK; i++) {
		if (get_robust_list2(pid, &head, i, 0) != -1 || errno != ENOENT)
			return false;
	}
	return true;
}

/* The lists of this party, and no others, are registered for a process. */
static bool registered(int party, pid_t pid)
{
	for (int i = 1; i < KINDS; i++) {
		__u64 head = 0;

		if (get_robust_list2(pid, &head, i - 1, 0) != (long)type_of(i) ||
		    head != (uintptr_t)lists[party][i].head)
			return false;
	}
	return true;
}

static bool take_first(void *arg)
{
	(void)arg;
	return hold_all(lists[0]);
}

static void wait_for_go(void *arg)
{
	(void)arg;
	wait_for(&area->go, 1);
}

static void exit_on_go(void *arg)
{
	wait_for_go(arg);
	_exit(7);
}

static void test_kill(void)
{
	pid_t pid;

	new_area();
	pid = start(take_first, NULL, NULL);
	start_waiters(0);
	need(kill_and_reap(pid), "kill");
	check_died(0, "killed");
}

/* Memory cgroups. Heads and entries are where the OOM killer looks for memory. */
static bool make_cgroup(void)
{
	return !mkdir(CGROUP, 0755) || errno == EEXIST;
}

static bool take_in_cgroup(void *arg)
{
	char *private = mmap((void *)(AREA + (1 << 24)), 65536, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (private == MAP_FAILED || !write_file(CGROUP "/cgroup.procs", "0"))
		return false;
	/* The words stay where the others see them. */
	for (int i = 0; i < KINDS; i++) {
		lists[0][i].head = private + i * 1024;
		lists[0][i].entry = private + i * 1024 + 256;
	}
	return take_first(arg);
}

static void eat_memory(void *arg)
{
	wait_for_go(arg);
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
	pid = start(take_in_cgroup, eat_memory, NULL);
	start_waiters(0);
	atomic_store(&area->go, 1);
	need(reap(pid, &status), "death of the process that ate the memory");
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
	   read_number(CGROUP "/memory.events", "oom_kill ") == 1,
	   "the OOM killer has killed the owner");
	check_died(0, "killed by the OOM killer");
	rmdir(CGROUP);
}

static bool take_in_freezer(void *arg)
{
	return write_file(CGROUP "/cgroup.procs", "0") && take_first(arg);
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

/* Nobody is there any more to let it go on. */
static void test_tracer_dies(void)
{
	pid_t pid, tracer;

	new_area();
	pid = start(take_first, exit_on_go, NULL);
	start_waiters(0);
	tracer = fork_child();
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

static void *take_second(void *arg)
{
	if (hold_all(lists[1]))
		atomic_fetch_add(&area->ready, 1);
	wait_for_go(arg);
	/* The other thread takes this one with it. */
	for (;;)
		pause();
	return NULL;
}

static bool take_both(void *arg)
{
	pthread_t thread;

	if (!take_first(arg) || pthread_create(&thread, NULL, take_second, NULL))
		return false;
	wait_for(&area->ready, 1);
	return true;
}

static void abort_on_go(void *arg)
{
	setrlimit(RLIMIT_CORE, &(struct rlimit) { RLIM_INFINITY, RLIM_INFINITY });
	wait_for_go(arg);
	abort();
}

static bool nothing(void *arg)
{
	(void)arg;
	return true;
}

/* What the locks look like in the core. */
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

/* Two processes in one address space */
static int be_second_process(void *arg)
{
	if (!none_registered(0) || !hold_all(lists[1]))
		_exit(1);
	atomic_store(&area->pid, gettid32());
	atomic_store(&area->ready, 1);
	wait_for_go(arg);
	for (;;)
		pause();
	return 0;
}

static bool take_in_two_processes(void *arg)
{
	char *stack = malloc(STACK);

	if (!stack || !take_first(arg) ||
	    clone(be_second_process, stack + STACK, CLONE_VM | SIGCHLD, NULL) == -1)
		return false;
	wait_for(&area->ready, 1);
	return true;
}

static void test_shared_memory(void)
{
	pid_t first, second;

	new_area();
	first = start(take_in_two_processes, NULL, NULL);
	second = atomic_load(&area->pid);
	start_waiters(0);
	start_waiters(1);
	ok(registered(0, first) && registered(1, second),
	   "CLONE_VM: a list belongs to one of the two processes");
	kill(second, SIGKILL);
	need(wait_for_state(second, 'Z'), "death of the second process");
	check_died(1, "CLONE_VM, the second process dies");
	ok(all_owned_by(0, first) && registered(0, first),
	   "CLONE_VM: the death of the second leaves the locks of the first alone");
	need(kill_and_reap(first), "kill");
	check_died(0, "CLONE_VM, the first process dies then");
	reap(second, NULL);

	new_area();
	first = start(take_in_two_processes, NULL, NULL);
	second = atomic_load(&area->pid);
	start_waiters(0);
	start_waiters(1);
	need(kill_and_reap(first), "kill");
	check_died(0, "CLONE_VM, the first process dies");
	ok(all_owned_by(1, second) && registered(1, second),
	   "CLONE_VM: the death of the first leaves the locks of the second alone");
	need(kill_and_reap(second), "kill");
	check_died(1, "CLONE_VM, the second process dies then");
}

/* exec. The new program is this one, and looks whether it has lists. */
static void exec_self(void)
{
	execl("/proc/self/exe", "lifetime", "exec", NULL);
	_exit(99);
}

static void *take_and_exec(void *arg)
{
	if (hold_all(lists[2]))
		atomic_fetch_add(&area->ready, 1);
	wait_for_go(arg);
	exec_self();
	return NULL;
}

static bool take_in_three_threads(void *arg)
{
	pthread_t thread;

	if (!take_first(arg) || pthread_create(&thread, NULL, take_second, NULL) ||
	    pthread_create(&thread, NULL, take_and_exec, NULL))
		return false;
	wait_for(&area->ready, 2);
	return true;
}

static void exec_on_go(void *arg)
{
	wait_for_go(arg);
	exec_self();
}

static void test_exec(void)
{
	int status = 0;
	pid_t pid;

	new_area();
	pid = start(take_both, exec_on_go, NULL);
	start_waiters(0);
	start_waiters(1);
	atomic_store(&area->go, 1);
	need(reap(pid, &status), "end of the program that was executed");
	ok(!status, "exec: the new program has no lists");
	check_died(0, "exec, the thread itself");
	check_died(1, "exec, another thread");
}

/*
 * The thread that calls exec gets the TID of the leader. Its lists of set_robust_list2()
 * are walked before that. Its list of set_robust_list() is walked after it, when the
 * locks do not look like its own any more: that is said, and no failure.
 */
static void test_exec_by_thread(void)
{
	int status = 0;
	pid_t pid;

	new_area();
	pid = start(take_in_three_threads, NULL, NULL);
	for (int party = 0; party < 3; party++)
		start_waiters(party);
	atomic_store(&area->go, 1);
	need(reap(pid, &status), "end of the program that was executed");
	ok(!status, "exec by a thread: the new program has no lists");
	check_died(0, "exec by a thread, the leader");
	check_died(1, "exec by a thread, another thread");
	for (int i = 1; i < KINDS; i++) {
		bool wake = woken(waiter[2][i]);

		ok(all_died(&lists[2][i]) && wake, "exec by a thread, the thread itself: %s",
		   kind_names[i]);
	}
	say("exec by a thread: set_robust_list() has %d of %d locks of that thread marked",
	    count_words(&lists[2][LEGACY], FUTEX_OWNER_DIED), LOCKS);
	need(kill_and_reap(waiter[2][LEGACY]), "death of a process that waits");
}

/* PID namespaces: party 0 is the namespace's first process, party 1 is another one. */
static bool take_in_namespace(void *arg)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID))
		return false;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getpid() != 1 || !take_first(arg))
			_exit(1);
		if (!fork()) {
			if (!hold_all(lists[1]))
				_exit(1);
			atomic_store(&area->ready, 1);
		}
		for (;;)
			pause();
	}
	atomic_store(&area->pid, pid);
	wait_for(&area->ready, 1);
	return pid != -1;
}

static void test_pid_namespace(void)
{
	pid_t parent, init;

	new_area();
	parent = start(take_in_namespace, NULL, NULL);
	init = atomic_load(&area->pid);
	start_waiters(0);
	start_waiters(1);
	ok(all_owned_by(0, 1) && all_owned_by(1, 2) && registered(0, init),
	   "PID namespace: locks have the TIDs of the namespace");
	kill(init, SIGKILL);
	need(wait_for_state(init, 'Z'), "death of the first process of a PID namespace");
	check_died(0, "PID namespace, its first process");
	check_died(1, "PID namespace, a process that dies with the first one");
	need(kill_and_reap(parent), "kill");
	reap(init, NULL);

	/* The TID that others see is not that of the owner. */
	new_area();
	parent = start(take_in_namespace, NULL, NULL);
	init = atomic_load(&area->pid);
	for (int i = 0; i < KINDS; i++)
		set_words(&lists[0][i], init);
	kill(init, SIGKILL);
	need(wait_for_state(init, 'Z'), "death of the first process of a PID namespace");
	ok(all_owned_by(0, init), "PID namespace: a TID of outside is not the owner's");
	need(kill_and_reap(parent), "kill");
	reap(init, NULL);
}

/* One thread ends all of them, while they do this and that. */
static void *take_and_be_busy(void *arg)
{
	int party = (struct list (*)[MAX_KINDS])arg - lists;

	if (hold_all(lists[party]))
		atomic_fetch_add(&area->ready, 1);
	for (;;) {
		if (party % 3 == 0)
			pause();
		else if (party % 3 == 1)
			sched_yield();
		else if (!atomic_load(&area->ready))
			break;
	}
	return NULL;
}

static bool take_in_all_threads(void *arg)
{
	pthread_t thread;

	if (!take_first(arg))
		return false;
	for (int i = 1; i < PARTIES; i++) {
		if (pthread_create(&thread, NULL, take_and_be_busy, lists[i]))
			return false;
	}
	wait_for(&area->ready, PARTIES - 1);
	return true;
}

static void test_exit_group(void)
{
	int died[MAX_KINDS] = {}, status = 0;
	pid_t pid;

	new_area();
	pid = start(take_in_all_threads, exit_on_go, NULL);
	start_waiters(PARTIES - 1);
	atomic_store(&area->go, 1);
	need(reap(pid, &status), "exit of many threads");
	for (int i = 0; i < PARTIES; i++) {
		for (int kind = 0; kind < KINDS; kind++)
			died[kind] += all_died(&lists[i][kind]);
	}
	for (int kind = 0; kind < KINDS; kind++) {
		ok(died[kind] == PARTIES && WEXITSTATUS(status) == 7 &&
		   woken(waiter[PARTIES - 1][kind]),
		   "exit_group() with %d threads: %s", PARTIES, kind_names[kind]);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "exec"))
		return !none_registered(0);

	tap_begin();
	/* Processes that lose their parent are reaped here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	test_kill();
	test_oom();
	test_frozen();
	test_traced();
	test_tracer_dies();
	test_core_dump();
	test_shared_memory();
	test_exec();
	test_exec_by_thread();
	test_pid_namespace();
	test_exit_group();
	return tap_end();
}
