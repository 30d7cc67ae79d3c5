// SPDX-License-Identifier: GPL-2.0
/*
 * Owners of locks that die beside or together with others: by an exec of another
 * thread, in a namespace, with their threads, and without the processes that share
 * their memory
 */

#define _GNU_SOURCE

#include "lifetime.h"

/* Two processes in one address space */
static int be_second_process(void *arg)
{
	if (!has_no_lists(0) || !hold_all(lists[1]))
		_exit(1);
	atomic_store(&area->pid, gettid32());
	atomic_store(&area->ready, 1);
	wait_for_go();
	for (;;)
		pause();
	return !!arg;
}

static int take_in_two_processes(struct victim *victim)
{
	CHECK(!take_first(victim));
	CHECK(clone_vm(be_second_process, NULL) != -1);
	wait_for(&area->ready, 1);
	return 0;
}

/* Starts an owner, which starts a second one, and waiters for the locks of both. */
static pid_t start_two(int (*take)(struct victim *victim), pid_t *second)
{
	pid_t first;

	new_area();
	first = start(take, NULL, NULL);
	*second = atomic_load(&area->pid);
	start_waiters(0);
	start_waiters(1);
	return first;
}

static void test_shared_memory(void)
{
	pid_t first, second;

	first = start_two(take_in_two_processes, &second);
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

	first = start_two(take_in_two_processes, &second);
	need(kill_and_reap(first), "kill");
	check_died(0, "CLONE_VM, the first process dies");
	ok(all_owned_by(1, second) && registered(1, second),
	   "CLONE_VM: the death of the first leaves the locks of the second alone");
	need(kill_and_reap(second), "kill");
	check_died(1, "CLONE_VM, the second process dies then");
}

/* The new program is this one, and checks that it has no lists. */
static void exec_self(void)
{
	execl("/proc/self/exe", "groups", "exec", NULL);
	_exit(99);
}

static void *take_and_exec(void *arg)
{
	if (hold_all(lists[2]))
		atomic_fetch_add(&area->ready, 1);
	wait_for_go();
	exec_self();
	return arg;
}

static int take_in_three_threads(struct victim *victim)
{
	pthread_t thread;

	CHECK(!take_first(victim));
	CHECK(!pthread_create(&thread, NULL, take_second, NULL));
	CHECK(!pthread_create(&thread, NULL, take_and_exec, NULL));
	wait_for(&area->ready, 2);
	return 0;
}

static void exec_on_go(struct victim *victim)
{
	(void)victim;
	wait_for_go();
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
 * The thread that calls exec gets the TID of the leader. Its lists of
 * set_robust_list2() are walked before that, and its list of set_robust_list()
 * afterwards, when the locks hold a foreign TID. The test reports this loss, and does
 * not fail.
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

/* PID namespaces: party 0 is the first process of the namespace, party 1 another one. */
static int take_in_namespace(struct victim *victim)
{
	pid_t pid;

	CHECK(!unshare(CLONE_NEWPID));
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getpid() != 1 || take_first(victim))
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
	CHECK(pid != -1);
	return 0;
}

static void test_pid_namespace(void)
{
	pid_t parent, init;

	parent = start_two(take_in_namespace, &init);
	ok(all_owned_by(0, 1) && all_owned_by(1, 2) && registered(0, init),
	   "PID namespace: locks have the TIDs of the namespace");
	kill(init, SIGKILL);
	need(wait_for_state(init, 'Z'), "death of the first process of a PID namespace");
	check_died(0, "PID namespace, its first process");
	check_died(1, "PID namespace, a process that dies with the first one");
	need(kill_and_reap(parent), "kill");
	reap(init, NULL);

	/* The owner does not have the TID that processes outside of its namespace see. */
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

/* One thread ends all others in the middle of their work. */
static void *take_and_work(void *arg)
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

static int take_in_all_threads(struct victim *victim)
{
	pthread_t thread;

	CHECK(!take_first(victim));
	for (int i = 1; i < PARTIES; i++)
		CHECK(!pthread_create(&thread, NULL, take_and_work, lists[i]));
	wait_for(&area->ready, PARTIES - 1);
	return 0;
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
		return !has_no_lists(0);

	tap_begin();
	/* Orphaned processes are reaped here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	test_shared_memory();
	test_exec();
	test_exec_by_thread();
	test_pid_namespace();
	test_exit_group();
	return tap_end();
}
