/* SPDX-License-Identifier: GPL-2.0 */
/* The threads and processes of fuzz_calls that make the calls, and their deaths */
#ifndef CALL_ACTORS_H
#define CALL_ACTORS_H

#include <pthread.h>

#include "call_checks.h"

/* A new thread has no lists, and its creator keeps its own. */
static void check_birth(struct self *self, pid_t creator, const struct registration *lists)
{
	struct get_call get;

	for (int i = 0; i < SLOTS; i++) {
		plain_get(self, &get, 0, i);
		expect_result(self, &get, "a new thread", -ENOENT);
	}
	for (int i = 0; creator && i < SLOTS; i++) {
		plain_get(self, &get, creator, i);
		/* The creator may die first, and another thread may take its place. */
		if (atomic_load(&shared->actor[self->number].life) != self->life)
			continue;
		expect_registration(self, &get, "its creator", lists[i]);
	}
}

static void make_random_sets(struct self *self, unsigned int count)
{
	struct set_call call;

	for (unsigned int i = 0; i < count; i++) {
		random_set(&self->rng, self->number, &call);
		check_set(self, random_entry(&self->rng), &call);
	}
}

/* A thread whose lists no other actor reads */
static struct self unobserved_self(const struct self *creator)
{
	struct self self = *creator;

	memset(self.slot, 0, sizeof(self.slot));
	self.actor = NULL;
	self.calls = 0;
	return self;
}

struct thread_task {
	struct self	self;
	pid_t		creator;
	const struct registration *lists;
};

static void *short_thread(void *arg)
{
	struct thread_task *thread_task = arg;
	struct self *self = &thread_task->self;

	self->results = map_results(ACTORS + self->number);
	check_birth(self, thread_task->creator, thread_task->lists);
	make_random_sets(self, below(&self->rng, 12));
	count_calls(self);
	unmap_results(&self->results);
	return NULL;
}

static bool start_thread(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	errno = pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return !errno;
}

static void try_thread(struct self *self)
{
	struct thread_task thread_task = { unobserved_self(self), gettid32(), self->slot };
	pthread_t thread;

	thread_task.self.rng.state = rng_next(&self->rng);
	if (!start_thread(&thread, short_thread, &thread_task)) {
		/* pthread_create() fails while another thread of the process execs. */
		must(errno == EAGAIN && phase_of(atomic_load(&self->actor->life)) == DYING);
		return;
	}
	must(!pthread_join(thread, NULL));
	atomic_fetch_add(&shared->deaths, 1);
}

/* The end of a forked process */
enum end { END_EXIT, END_KILLED, END_KILLS_ITSELF, END_EXEC, ENDS };

static void run_child(struct self *parent, struct child *child, enum end end, pid_t creator)
{
	struct self self = unobserved_self(parent);

	check_birth(&self, creator, parent->slot);
	make_random_sets(&self, below(&self.rng, 12));
	count_calls(&self);
	memcpy(child->slot, self.slot, sizeof(child->slot));
	switch (end) {
	case END_KILLED:
		atomic_store(&child->ready, 1);
		wake(&child->ready, 1);
		for (;;)
			pause();
	case END_KILLS_ITSELF:
		kill(getpid(), SIGKILL);
		break;
	case END_EXEC:
		execl("/proc/self/exe", "fuzz_calls", "--empty", NULL);
		break;
	default:
		break;
	}
	_exit(end != END_EXIT);
}

static void try_fork(struct self *self)
{
	struct child *child = map_shared(sizeof(*child));
	enum end end = below(&self->rng, ENDS);
	pid_t pid, creator = gettid32(), parent = getpid();
	struct get_call get;
	siginfo_t info;
	bool killed;
	int status;

	pid = fork();
	must(pid >= 0);
	if (!pid) {
		die_with(parent);
		run_child(self, child, end, creator);
	}
	/* The child draws the same numbers from a copy. */
	rng_next(&self->rng);
	if (end == END_KILLED) {
		while (!atomic_load(&child->ready))
			wait_seconds(&child->ready, 0, 1);
		for (int i = 0; i < SLOTS; i++) {
			plain_get(self, &get, pid, i);
			expect_registration(self, &get, "a child", child->slot[i]);
		}
		kill(pid, SIGKILL);
	}
	must(!waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	for (int i = 0; i < SLOTS; i++) {
		plain_get(self, &get, pid, i);
		expect_result(self, &get, "a zombie", -ENOENT);
	}
	must(waitpid(pid, &status, 0) == pid);
	plain_get(self, &get, pid, 0);
	expect_result(self, &get, "a child that is gone", -ESRCH);
	killed = end == END_KILLED || end == END_KILLS_ITSELF;
	if (killed ? !WIFSIGNALED(status) : status)
		mismatch(self, "a child ended with status %#x", status);
	munmap(child, sizeof(*child));
	atomic_fetch_add(&shared->deaths, 1);
}

static void one_step(struct self *self, bool quiet)
{
	unsigned int what = below(&self->rng, 256);
	struct set_call call;

	if (what == 0) {
		try_fork(self);
	} else if (what == 1) {
		try_thread(self);
	} else if (what == 2) {
		check_legacy(self);
	} else if (what < 20) {
		check_get_nobody(self);
	} else if (what < 60) {
		check_get_own(self);
	} else if (what < 120 || quiet) {
		check_get_actor(self, below(&self->rng, ACTORS));
	} else {
		random_set(&self->rng, self->number, &call);
		check_set(self, random_entry(&self->rng), &call);
	}
}

static void do_steps(struct self *self, bool quiet)
{
	unsigned int steps = STEPS / 2 + below(&self->rng, STEPS / 2);

	for (self->step = 0; self->step < steps && !atomic_load(&shared->failed); self->step++) {
		one_step(self, quiet);
		atomic_store(&self->actor->steps, self->step + 1);
	}
	count_calls(self);
}

static void *run_actor(void *arg);

struct thread {
	pthread_t	pthread;
	unsigned int	number;
};

static struct thread threads[ACTORS];

static void start_actor(unsigned int number)
{
	struct thread *thread = &threads[number];

	thread->number = number;
	must(start_thread(&thread->pthread, run_actor, thread));
	while (phase_of(atomic_load(&shared->actor[number].life)) != ALIVE)
		sched_yield();
}

/* The first thread of a process replaces the threads that have ended in this round. */
static void replace_threads(struct self *self, const struct plan *plan)
{
	for (unsigned int i = self->number + 1; i < self->number + THREADS; i++) {
		struct get_call get;

		if (!plan->thread_ends[i])
			continue;
		must(!pthread_join(threads[i].pthread, NULL));
		/* The thread may still exist after the join, but without lists. */
		for (int index = 0; index < SLOTS; index++) {
			plain_get(self, &get, atomic_load(&shared->actor[i].tid), index);
			if (get.result != -ESRCH)
				expect_result(self, &get, "a thread that ended", -ENOENT);
		}
		atomic_fetch_add(&shared->deaths, 1);
		start_actor(i);
	}
}

static void exec_actor(struct self *self)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", self->number / THREADS);
	execl("/proc/self/exe", "fuzz_calls", "--process", number, NULL);
	must(!"exec");
}

static void end_by_plan(struct self *self, const struct plan *plan)
{
	switch (plan->event[self->number / THREADS]) {
	case EXIT:
		if (self->number % THREADS == 0)
			exit(0);
		break;
	case EXEC:
		if (self->number % THREADS == 0)
			exec_actor(self);
		break;
	case EXEC_IN_THREAD:
		if (self->number % THREADS == 1)
			exec_actor(self);
		break;
	default:
		break;
	}
}

static void finish_round(struct self *self)
{
	atomic_store(&self->actor->finished, self->round);
	tell_coordinator();
	while (atomic_load(&shared->round) == self->round && !atomic_load(&shared->stop))
		wait_seconds(&shared->round, self->round, PATIENCE);
	self->round++;
}

static void *run_actor(void *arg)
{
	struct thread *thread = arg;
	struct self self = { .number = thread->number };

	self.actor = &shared->actor[self.number];
	self.unprivileged = self.number / THREADS == UNPRIVILEGED;
	self.round = atomic_load(&shared->round);
	self.results = map_results(self.number);
	self.rng = rng_of(shared->seed, self.round, self.number);
	begin_life(self.actor);
	forget_lists(self.actor);
	check_birth(&self, 0, NULL);
	atomic_store(&self.actor->tid, gettid32());
	atomic_store(&self.actor->finished, self.round);
	set_phase(self.actor, ALIVE);
	self.life = atomic_load(&self.actor->life);
	finish_round(&self);

	while (!atomic_load(&shared->stop)) {
		struct plan plan = make_plan(self.round);

		self.rng = rng_of(shared->seed, self.round, self.number);
		do_steps(&self, plan.quiet);
		if (plan.thread_ends[self.number]) {
			set_phase(self.actor, DYING);
			unmap_results(&self.results);
			return NULL;
		}
		end_by_plan(&self, &plan);
		if (self.number % THREADS == 0)
			replace_threads(&self, &plan);
		count_calls(&self);
		finish_round(&self);
	}
	unmap_results(&self.results);
	return NULL;
}

static void run_process(unsigned int process)
{
	unsigned int first = process * THREADS;

	for (unsigned int i = 1; i < THREADS; i++)
		start_actor(first + i);
	threads[first].number = first;
	run_actor(&threads[first]);
	for (unsigned int i = 1; i < THREADS; i++)
		pthread_join(threads[first + i].pthread, NULL);
	exit(0);
}

static void become_process(unsigned int process, pid_t coordinator)
{
	if (process == UNPRIVILEGED && !getuid()) {
		must(!setresgid(NOBODY, NOBODY, NOBODY));
		must(!setresuid(NOBODY, NOBODY, NOBODY));
	}
	/* Without this the process's own children could not read its lists. */
	must(!prctl(PR_SET_DUMPABLE, 1));
	die_with(coordinator);
	run_process(process);
}

#endif
