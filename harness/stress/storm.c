// SPDX-License-Identifier: GPL-2.0
/*
 * storm ROUNDS SEED: in each round a process dies at a random moment, while its threads
 * and threads of other processes take and release the same robust locks on several
 * lists. In some rounds one thread of the process calls execve() before. Afterwards
 *
 * - no thread hangs: each waiter for a lock of the dead process has got the
 *   lock and passed it on,
 * - no lock is lost: every survivor takes every lock once more,
 * - no lock of a living thread was marked or given to another thread.
 *
 * A seed repeats the actions of the threads, but not the moment of the kill.
 */

#define _GNU_SOURCE
#include "fuzz.h"

#include <pthread.h>

#include "storm_locks.h"

#define VICTIMS			16
#define SURVIVOR_PROCESSES	2
#define SURVIVOR_THREADS	3
#define SURVIVORS		(SURVIVOR_PROCESSES * SURVIVOR_THREADS)
#define LOCKS			20
#define MOST_HELD		3

/* Below 4 GiB, for 32-bit lists */
#define SHARED_ADDRESS		0x70000000UL

struct shared {
	__u64	seed;
	atomic_uint	round;
	/* The process of this round has died. */
	atomic_bool	killed;
	/* A thread of the process will exec, and has begun to. */
	bool		to_exec;
	atomic_bool	execs;
	/* Survivors that are ready for the next round */
	atomic_uint	ready;
	atomic_uint	victim_locks, locks, from_dead, exec_count;
	atomic_bool	failed;
	struct lock	lock[LOCKS];
	struct locker	victim[VICTIMS], survivor[SURVIVORS];
};

static struct shared *shared;
static alignas(16) unsigned char stacks[VICTIMS][32 * 1024];
static pid_t survivor_pid[SURVIVOR_PROCESSES];

static void fail(const struct locker *locker, const char *what, const struct lock *lock)
{
	if (atomic_exchange(&shared->failed, true))
		return;
	print_line("# round %u, thread %u: %s: lock %u, word %#x, holder %u",
		   atomic_load(&shared->round), locker->tid, what,
		   (unsigned int)(lock - shared->lock), atomic_load(&lock->futex),
		   atomic_load(&lock->holder));
}

static bool is_survivor(__u32 tid)
{
	for (int i = 0; i < SURVIVORS; i++)
		if (shared->survivor[i].tid == tid)
			return true;
	return false;
}

static bool take(struct locker *locker, unsigned int list, struct lock *lock)
{
	enum lock_result result = take_lock(locker, list, lock);
	__u32 before;

	switch (result) {
	case LOCK_HANGS:
		fail(locker, "nobody woke the waiter", lock);
		return false;
	case LOCK_BROKEN:
		fail(locker, "marked, and has an owner", lock);
		return false;
	default:
		break;
	}
	before = atomic_exchange(&lock->holder, locker->tid);
	if (result == LOCKED && before)
		fail(locker, "its holder did not release it", lock);
	if (result == LOCKED_FROM_DEAD) {
		atomic_fetch_add(&shared->from_dead, 1);
		if (is_survivor(before))
			fail(locker, "marked, and its holder lives", lock);
	}
	atomic_fetch_add(locker->survivor ? &shared->locks : &shared->victim_locks, 1);
	return !atomic_load(&shared->failed);
}

static bool release(struct locker *locker, unsigned int list, struct lock *lock)
{
	if (atomic_exchange(&lock->holder, 0) != locker->tid)
		fail(locker, "taken by two", lock);
	if (!release_lock(locker, list, lock))
		fail(locker, "marked while its holder lives", lock);
	return !atomic_load(&shared->failed);
}

/*
 * A thread that execs keeps its locks, and the new program waits for the kill. A lock
 * on the list of set_robust_list() would stay locked forever, because the kernel walks
 * that list after the thread has got another TID.
 */
static void exec_with_locks(const unsigned int *list, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (!list[i])
			return;
	if (atomic_exchange(&shared->execs, true))
		return;
	atomic_fetch_add(&shared->exec_count, 1);
	execl("/proc/self/exe", "storm", "--pause", NULL);
	must(!"exec");
}

/* Takes a few locks in order, which excludes a deadlock, and releases them. */
static bool take_some(struct locker *locker)
{
	unsigned int held[MOST_HELD], list[MOST_HELD], count = 0, number = 0;
	unsigned int wanted = 1 + below(&locker->rng, MOST_HELD);

	while (count < wanted) {
		number += below(&locker->rng, LOCKS / MOST_HELD);
		list[count] = below(&locker->rng, LISTS);
		if (!take(locker, list[count], &shared->lock[number]))
			return false;
		held[count++] = number++;
	}
	/* A single thread may exit as well. */
	if (!locker->survivor && once_in(&locker->rng, 300))
		syscall(SYS_exit, 0);
	if (!locker->survivor && shared->to_exec && once_in(&locker->rng, 30))
		exec_with_locks(list, count);
	while (count) {
		unsigned int which = below(&locker->rng, count);

		if (!release(locker, list[which], &shared->lock[held[which]]))
			return false;
		count--;
		held[which] = held[count];
		list[which] = list[count];
	}
	return true;
}

static int run_victim(void *arg)
{
	struct locker *locker = arg;

	register_lists(locker);
	while (take_some(locker))
		;
	for (;;)
		pause();
	return 0;
}

static void run_victims(void)
{
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		    CLONE_SYSVSEM;

	/* No thread can start while another one execs. */
	for (int i = 1; i < VICTIMS; i++)
		must(clone(run_victim, stacks[i] + sizeof(stacks[i]), flags,
			   &shared->victim[i]) > 0 || atomic_load(&shared->execs));
	run_victim(&shared->victim[0]);
}

static void *run_survivor(void *arg)
{
	struct locker *locker = arg;
	unsigned int round = 0;

	locker->survivor = true;
	register_lists(locker);
	for (;;) {
		atomic_fetch_add(&shared->ready, 1);
		wake(&shared->ready, 1);
		while (atomic_load(&shared->round) == round)
			wait_seconds(&shared->round, round, PATIENCE);
		round++;
		locker->rng = rng_of(shared->seed, round, VICTIMS + (locker - shared->survivor));

		while (!atomic_load(&shared->killed))
			if (!take_some(locker))
				return NULL;
		/*
		 * The process is dead: each lock is free or has a survivor that
		 * releases it.
		 */
		for (int i = 0; i < LOCKS; i++) {
			unsigned int list = below(&locker->rng, LISTS);

			if (!take(locker, list, &shared->lock[i]) ||
			    !release(locker, list, &shared->lock[i]))
				return NULL;
		}
	}
}

static void run_survivors(struct locker *locker)
{
	pthread_t thread;

	for (int i = 1; i < SURVIVOR_THREADS; i++)
		must(!pthread_create(&thread, NULL, run_survivor, locker + i));
	run_survivor(locker);
	for (;;)
		pause();
}

static void start_survivors(void)
{
	pid_t parent = getpid();

	for (int i = 0; i < SURVIVOR_PROCESSES; i++) {
		survivor_pid[i] = fork();
		must(survivor_pid[i] >= 0);
		if (!survivor_pid[i]) {
			die_with(parent);
			run_survivors(&shared->survivor[i * SURVIVOR_THREADS]);
		}
	}
}

static bool wait_for_survivors(void)
{
	static const struct locker nobody;
	__u64 end = now_ms() + PATIENCE * 1000;
	unsigned int ready;

	while ((ready = atomic_load(&shared->ready)) < SURVIVORS) {
		if (atomic_load(&shared->failed))
			return false;
		if (now_ms() > end) {
			fail(&nobody, "survivors do not go on", shared->lock);
			return false;
		}
		wait_seconds(&shared->ready, ready, 1);
	}
	return !atomic_load(&shared->failed);
}

/*
 * Waits a random time, from the first instructions of the first thread until after the
 * last thread has started.
 */
static void wait_for_victims(struct rng *rng)
{
	unsigned int locks = below(rng, 16) * below(rng, 100);
	struct timespec moment = { .tv_nsec = below(rng, 10000000) };
	__u64 end = now_ms() + 5000;

	if (once_in(rng, 2)) {
		nanosleep(&moment, NULL);
		return;
	}
	while (atomic_load(&shared->victim_locks) < locks && now_ms() < end &&
	       !atomic_load(&shared->execs) && !atomic_load(&shared->failed))
		sched_yield();
}

static bool run_round(unsigned int round)
{
	struct rng rng = rng_of(shared->seed, round, VICTIMS + SURVIVORS);
	pid_t parent = getpid(), pid;
	int status;

	for (int i = 0; i < VICTIMS; i++)
		shared->victim[i].rng = rng_of(shared->seed, round, i);
	atomic_store(&shared->victim_locks, 0);
	atomic_store(&shared->ready, 0);
	atomic_store(&shared->killed, false);
	atomic_store(&shared->execs, false);
	shared->to_exec = once_in(&rng, 4);
	atomic_store(&shared->round, round);
	wake(&shared->round, INT_MAX);

	pid = fork();
	must(pid >= 0);
	if (!pid) {
		die_with(parent);
		run_victims();
	}
	wait_for_victims(&rng);
	if (atomic_load(&shared->execs) && once_in(&rng, 2))
		nanosleep(&(struct timespec) { .tv_nsec = 20000000 }, NULL);
	must(!kill(pid, SIGKILL));
	must(waitpid(pid, &status, 0) == pid);
	atomic_store(&shared->killed, true);

	if (!wait_for_survivors())
		return false;
	for (int i = 0; i < LOCKS; i++) {
		if (!atomic_load(&shared->lock[i].futex))
			continue;
		fail(&shared->victim[0], "not free in the end", &shared->lock[i]);
		return false;
	}
	return true;
}

int main(int argc, char *argv[])
{
	__u64 start = now_ms(), victim_locks = 0;
	unsigned int rounds, round = 0;
	bool good;

	/* The new program waits for the kill. */
	if (argc == 2 && !strcmp(argv[1], "--pause"))
		for (;;)
			pause();
	if (argc != 3) {
		fprintf(stderr, "usage: storm ROUNDS SEED\n");
		return 2;
	}
	skip_without_robust_list2("storm");
	rounds = parse_number(argv[1]);
	shared = map_at(SHARED_ADDRESS, sizeof(*shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared->seed = parse_number(argv[2]);
	print_line("TAP version 13\n# storm %u %llu", rounds, shared->seed);

	start_survivors();
	good = wait_for_survivors();
	while (good && round < rounds) {
		good = run_round(++round);
		victim_locks += atomic_load(&shared->victim_locks);
	}
	for (int i = 0; i < SURVIVOR_PROCESSES; i++)
		kill(survivor_pid[i], SIGKILL);

	print_line("# rounds %u, tasks %u, execs %u, locks %llu, survivors %u, dead %u, ms %llu",
		   round, round * VICTIMS, atomic_load(&shared->exec_count), victim_locks,
		   atomic_load(&shared->locks), atomic_load(&shared->from_dead),
		   now_ms() - start);
	print_line("%sok 1 storm %u %llu\n1..1", good ? "" : "not ", rounds, shared->seed);
	return !good;
}
