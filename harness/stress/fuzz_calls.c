// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz_calls SEED COUNT: makes COUNT random calls of set_robust_list2() and
 * get_robust_list2() from threads of several processes, which fork, exec, exit and are
 * killed between the calls, and compares every result with a model.
 *
 * The calling threads are actors. An actor registers its own lists, and reads those of
 * all actors. The seed, the round and the number of an actor determine its calls, so a
 * seed repeats the calls, but not their order in time.
 *
 * Each slot of an actor has a history: the actor records the new state before a call,
 * and the end of the call after it. A reader takes the history before and after its own
 * call, and its result must match one of the states in between. That is mostly a single
 * state, and always in a quiet round, in which no actor changes a slot.
 *
 * An actor is marked before it dies. From then on a reader may also find no lists or no
 * thread. After the death no other result is valid.
 */

#define _GNU_SOURCE
#include "fuzz.h"

#include <fcntl.h>

#include "call_actors.h"

static pid_t process_pid[PROCESSES];
static unsigned int missing_until[PROCESSES];
static struct self watcher = { .number = ACTORS };

static void fork_process(unsigned int process)
{
	for (unsigned int i = process * THREADS; i < (process + 1) * THREADS; i++)
		begin_life(&shared->actor[i]);
}

static void start_process(unsigned int process)
{
	pid_t coordinator = getpid();

	fork_process(process);
	process_pid[process] = fork();
	must(process_pid[process] >= 0);
	if (!process_pid[process])
		become_process(process, coordinator);
}

static bool all_finished(unsigned int process, unsigned int round)
{
	for (unsigned int i = process * THREADS; i < (process + 1) * THREADS; i++)
		if (phase_of(atomic_load(&shared->actor[i].life)) != ALIVE ||
		    atomic_load(&shared->actor[i].finished) != round)
			return false;
	return true;
}

static unsigned int steps_of(unsigned int process)
{
	unsigned int steps = 0;

	for (unsigned int i = process * THREADS; i < (process + 1) * THREADS; i++)
		steps += atomic_load(&shared->actor[i].steps);
	return steps;
}

/* Waits for a condition of the actors. */
static bool wait_until(bool (*condition)(unsigned int process, unsigned int arg),
		       unsigned int process, unsigned int arg)
{
	__u64 end = now_ms() + PATIENCE * 1000;

	for (;;) {
		unsigned int news = atomic_load(&shared->news);

		if (atomic_load(&shared->failed))
			return false;
		if (condition(process, arg))
			return true;
		if (now_ms() > end) {
			mismatch(&watcher, "process %u does not go on", process);
			return false;
		}
		wait_seconds(&shared->news, news, 1);
	}
}

static bool wait_finished(unsigned int process, unsigned int round)
{
	return wait_until(all_finished, process, round);
}

/* All threads of the process are gone, and so are their lists. */
static void check_gone(unsigned int process, long first_result)
{
	struct get_call get;

	for (unsigned int i = 0; i < THREADS; i++) {
		struct actor *actor = &shared->actor[process * THREADS + i];

		for (int index = 0; index < SLOTS; index++) {
			plain_get(&watcher, &get, atomic_load(&actor->tid), index);
			expect_result(&watcher, &get, "a process that ended",
				      i ? -ESRCH : first_result);
		}
	}
}

static bool has_died(unsigned int process, unsigned int arg)
{
	siginfo_t info = { 0 };

	(void)arg;
	must(!waitid(P_PID, process_pid[process], &info, WEXITED | WNOWAIT | WNOHANG));
	if (!info.si_pid)
		usleep(100);
	return info.si_pid;
}

static void reap_process(unsigned int process, const struct plan *plan)
{
	int status, expected = plan->event[process] == KILL ? SIGKILL : 0;

	if (!wait_until(has_died, process, 0))
		return;
	check_gone(process, -ENOENT);
	must(waitpid(process_pid[process], &status, 0) == process_pid[process]);
	check_gone(process, -ESRCH);
	if (status != expected)
		mismatch(&watcher, "process %u ended with status %#x", process, status);
	for (unsigned int i = process * THREADS; i < (process + 1) * THREADS; i++)
		set_phase(&shared->actor[i], DEAD);
	process_pid[process] = 0;
	atomic_fetch_add(&shared->deaths, THREADS);
}

static bool has_new_life(unsigned int process, unsigned int round)
{
	(void)round;
	return phase_of(atomic_load(&shared->actor[process * THREADS].life)) == ALIVE;
}

/*
 * The first actor of the new program runs only after the other threads of the old one
 * are gone.
 */
static void finish_exec(unsigned int process, const pid_t *tids)
{
	struct get_call get;

	if (!wait_until(has_new_life, process, 0))
		return;
	for (unsigned int i = 1; i < THREADS; i++) {
		plain_get(&watcher, &get, tids[i], 0);
		expect_result(&watcher, &get, "a thread before an exec", -ESRCH);
	}
	atomic_fetch_add(&shared->deaths, THREADS);
}

static void run_round(unsigned int round)
{
	struct plan plan = make_plan(round);
	pid_t tids[PROCESSES][THREADS];

	watcher.round = round;
	for (unsigned int i = 0; i < ACTORS; i++) {
		struct actor *actor = &shared->actor[i];

		atomic_store(&actor->steps, 0);
		tids[i / THREADS][i % THREADS] = atomic_load(&actor->tid);
		if (process_pid[i / THREADS] && plan.event[i / THREADS] != NO_EVENT)
			set_phase(actor, DYING);
	}
	atomic_store(&shared->round, round);
	wake(&shared->round, INT_MAX);

	for (unsigned int i = 0; i < PROCESSES; i++) {
		if (!process_pid[i] || plan.event[i] != KILL)
			continue;
		while (steps_of(i) < plan.kill_after[i] / 2 && !atomic_load(&shared->failed))
			sched_yield();
		kill(process_pid[i], SIGKILL);
	}
	for (unsigned int i = 0; i < PROCESSES; i++) {
		if (!process_pid[i]) {
			if (round >= missing_until[i]) {
				start_process(i);
				wait_finished(i, round);
			}
			continue;
		}
		switch (plan.event[i]) {
		case NO_EVENT:
			wait_finished(i, round);
			break;
		case EXIT:
		case KILL:
			reap_process(i, &plan);
			missing_until[i] = round + 1 + plan.pause[i];
			break;
		default:
			finish_exec(i, tids[i]);
			wait_finished(i, round);
		}
		if (atomic_load(&shared->failed))
			return;
	}
}

static void stop_processes(void)
{
	for (unsigned int i = 0; i < PROCESSES; i++) {
		if (!process_pid[i])
			continue;
		kill(process_pid[i], SIGKILL);
		waitpid(process_pid[i], NULL, 0);
	}
}

static int fuzz(__u64 seed, __u64 count)
{
	__u64 start = now_ms();
	unsigned int round = 0;
	char file[] = "/tmp/fuzz_calls.XXXXXX";
	int fd = mkostemp(file, O_CLOEXEC);

	must(fd >= 0 && !unlink(file) && !ftruncate(fd, sizeof(*shared)));
	must(dup2(fd, SHARED_FD) == SHARED_FD);
	shared = map_at(0, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
	shared->seed = seed;
	watcher.rng = rng_of(seed, 0, ACTORS + 1);
	watcher.results = map_results(2 * ACTORS);

	print_line("TAP version 13\n# fuzz_calls %llu %llu", seed, count);
#ifdef __x86_64__
	for (int i = 0; i < ENTRIES; i++)
		if (!have_entry[i])
			print_line("# this kernel has no %scalls", entry_name[i]);
#endif

	for (unsigned int i = 0; i < PROCESSES; i++) {
		start_process(i);
		wait_finished(i, 0);
	}
	while (atomic_load(&shared->calls) < count && !atomic_load(&shared->failed))
		run_round(++round);
	atomic_store(&shared->stop, true);
	stop_processes();

	print_line("# calls %u, tasks %u, rounds %u, weakly checked %u, ms %llu",
		   atomic_load(&shared->calls), atomic_load(&shared->deaths), round,
		   atomic_load(&shared->weak), now_ms() - start);
	print_line("%sok 1 fuzz_calls %llu %llu\n1..1", shared->failed ? "not " : "", seed, count);
	return shared->failed;
}

int main(int argc, char *argv[])
{
	setvbuf(stdout, NULL, _IONBF, 0);
	probe_entries();
	if (argc == 2 && !strcmp(argv[1], "--empty"))
		return !has_no_lists(0);
	if (argc == 3 && !strcmp(argv[1], "--process")) {
		unsigned int process = parse_number(argv[2]);

		shared = map_at(0, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED,
				SHARED_FD, 0);
		fork_process(process);
		become_process(process, getppid());
	}
	if (argc != 3) {
		fprintf(stderr, "usage: fuzz_calls SEED COUNT\n");
		return 2;
	}
	skip_without_robust_list2("fuzz_calls");
	return fuzz(parse_number(argv[1]), parse_number(argv[2]));
}
