/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the processes of fuzz_calls: common memory, and single calls with a
 * comparison against the model
 */
#ifndef CALL_CHECKS_H
#define CALL_CHECKS_H

#include "fuzz.h"

#include "call_args.h"
#include "table_model.h"

#define PROCESSES	3
#define THREADS		3
#define ACTORS		(PROCESSES * THREADS)

/* The unprivileged process, which may not read the lists of the others */
#define UNPRIVILEGED	2
#define NOBODY		65534

#define HISTORY		256
#define STEPS		120

/* The file descriptor of the shared memory in a new program */
#define SHARED_FD	100

struct slot {
	/* Numbers of changes of the slot, started and completed */
	atomic_uint		started, done;
	struct registration	history[HISTORY];
};

enum phase { UNBORN, ALIVE, DYING, DEAD, PHASES };

struct actor {
	atomic_int	tid;
	/* The number of its lives, times PHASES, plus its phase */
	atomic_uint	life;
	/* The round that the actor has finished, and the round that it is ready for */
	atomic_uint	finished, ready;
	atomic_uint	steps;
	struct slot	slot[SLOTS];
};

/* Results of a forked process for its actor */
struct child {
	atomic_uint		ready;
	struct registration	slot[SLOTS];
};

struct shared {
	__u64	seed;
	atomic_uint	round;
	/* Changes with each message of an actor to the coordinator */
	atomic_uint	news;
	atomic_bool	failed, stop;
	atomic_uint	calls, deaths, weak;
	struct actor	actor[ACTORS];
};

static struct shared *shared;

/* The event of a round, which each process computes from the seed */
enum event { NO_EVENT, EXIT, KILL, EXEC, EXEC_IN_THREAD, EVENTS };

struct plan {
	bool		quiet;
	enum event	event[PROCESSES];
	/* The threads that end, other than the first one of their process */
	bool		thread_ends[ACTORS];
	/* The process is killed after this many steps. */
	unsigned int	kill_after[PROCESSES];
	/* A dead process stays away in the next round. */
	bool		pause[PROCESSES];
};

static struct plan make_plan(unsigned int round)
{
	struct rng rng = rng_of(shared->seed, round, ACTORS);
	struct plan plan = { .quiet = once_in(&rng, 4) };

	for (int i = 0; i < PROCESSES; i++) {
		unsigned int event = below(&rng, 40);

		plan.kill_after[i] = below(&rng, THREADS * STEPS);
		plan.pause[i] = once_in(&rng, 2);
		plan.event[i] = event < EVENTS ? (enum event)event : NO_EVENT;
	}
	for (int i = 0; i < ACTORS; i++)
		plan.thread_ends[i] = once_in(&rng, 12) && i % THREADS &&
				      plan.event[i / THREADS] == NO_EVENT;
	return plan;
}

static enum phase phase_of(unsigned int life)
{
	return life % PHASES;
}

static void set_phase(struct actor *actor, enum phase phase)
{
	unsigned int life = atomic_load(&actor->life);

	atomic_store(&actor->life, life - life % PHASES + phase);
}

/* Prevents an observer from mistaking this thread for an earlier one of this number. */
static void begin_life(struct actor *actor)
{
	unsigned int life = atomic_load(&actor->life);

	atomic_store(&actor->life, life - life % PHASES + PHASES + UNBORN);
}

/* One thread: its identity, and its own lists, which no other thread can change */
struct self {
	/* The actor's number, or that of its creator */
	unsigned int		number;
	bool			unprivileged;
	unsigned int		round, step;
	struct rng		rng;
	struct results		results;
	unsigned int		calls;
	/* The life of the actor */
	unsigned int		life;
	/* Null for threads that no other thread reads */
	struct actor		*actor;
	struct registration	slot[SLOTS];
};

static void tell_coordinator(void)
{
	atomic_fetch_add(&shared->news, 1);
	wake(&shared->news, 1);
}

__printf(2, 3)
static void mismatch(struct self *self, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* Only the first mismatch, because the others may follow from it */
	if (!atomic_exchange(&shared->failed, true))
		print_line("# seed %llu round %u thread %u step %u: %s",
			   shared->seed, self->round, self->number, self->step, text);
	tell_coordinator();
}

static void count_calls(struct self *self)
{
	atomic_fetch_add(&shared->calls, self->calls);
	self->calls = 0;
}

/* Tells readers that the slot is about to change. end_change() tells them that it has. */
static void begin_change(struct actor *actor, int index, struct registration becomes)
{
	struct slot *slot = &actor->slot[index];
	unsigned int next = atomic_load(&slot->started) + 1;

	slot->history[next % HISTORY] = becomes;
	atomic_store(&slot->started, next);
}

static void end_change(struct actor *actor, int index)
{
	struct slot *slot = &actor->slot[index];

	atomic_store(&slot->done, atomic_load(&slot->started));
}

/* All lists of the actor are gone. */
static void forget_lists(struct actor *actor)
{
	for (int i = 0; i < SLOTS; i++) {
		begin_change(actor, i, (struct registration){ 0 });
		end_change(actor, i);
	}
}

static void check_set(struct self *self, enum entry entry, const struct set_call *call)
{
	struct set_call seen = *call;
	struct prediction p;
	long result;

	seen.head = pointer_argument(entry, call->head);
	seen.is_64bit = entry_is_64bit(entry);
	p = predict_set(self->slot, &seen);

	if (self->actor && p.slot >= 0)
		begin_change(self->actor, p.slot, p.becomes);
	result = do_set(entry, call->head, in_register(&self->rng, call->index),
			in_register(&self->rng, call->flags));
	if (p.slot >= 0)
		self->slot[p.slot] = p.becomes;
	if (self->actor && p.slot >= 0)
		end_change(self->actor, p.slot);
	self->calls++;
	if (result != p.result)
		mismatch(self, "%sset(%#llx, %d, %#x): expected %ld, got %ld",
			 entry_name[entry], call->head, call->index, call->flags, p.result, result);
}

/* A call of get_robust_list2(), and its results */
struct get_call {
	enum entry	entry;
	__s32		pid, index;
	__u32	flags;
	__u64	pointer;
	bool		writable;
	long		result;
	__u64	head;
};

static void make_get(struct self *self, struct get_call *get)
{
	__u64 pid = in_register(&self->rng, get->pid);
	__u64 index = in_register(&self->rng, get->index);
	__u64 flags = in_register(&self->rng, get->flags);
	__u64 pointer = pointer_argument(get->entry, get->pointer);

	get->writable = can_store(&self->results, pointer);
	get->result = do_get(get->entry, pid, get->pointer, index, flags);
	if (get->result >= 0 && get->writable)
		memcpy(&get->head, (void *)(uintptr_t)pointer, sizeof(get->head));
	self->calls++;
	if (!clean_results(&self->results, pointer,
			   (get->result >= 0 && get->writable) ||
			   may_write_part(&self->results, pointer, get->result)))
		mismatch(self, "%sget(%d, %#llx, %d, %#x) = %ld: other bytes changed",
			 entry_name[get->entry], get->pid, get->pointer, get->index, get->flags,
			 get->result);
}

static bool is_answer(const struct get_call *get, struct registration slot)
{
	long expected = predict_get(slot, get->writable);

	return get->result == expected && (expected < 0 || get->head == slot.head);
}

static void wrong_answer(struct self *self, const struct get_call *get, const char *about,
			 const char *expected)
{
	mismatch(self, "%sget(%d, %#llx, %d, %#x) of %s: expected %s, got %ld, head %#llx",
		 entry_name[get->entry], get->pid, get->pointer, get->index, get->flags, about,
		 expected, get->result, get->head);
}

static void expect_result(struct self *self, const struct get_call *get, const char *about,
			  long expected)
{
	char text[32];

	if (get->result == expected)
		return;
	snprintf(text, sizeof(text), "%ld", expected);
	wrong_answer(self, get, about, text);
}

static void expect_registration(struct self *self, const struct get_call *get, const char *about,
				struct registration slot)
{
	char text[64];

	if (is_answer(get, slot))
		return;
	snprintf(text, sizeof(text), "%ld, head %#llx", predict_get(slot, get->writable),
		 slot.head);
	wrong_answer(self, get, about, text);
}

/* Arguments that the kernel checks before it looks for the thread */
static bool expect_invalid(struct self *self, const struct get_call *get)
{
	if (!get->flags && valid_index(get->index))
		return false;
	expect_result(self, get, "anybody", -EINVAL);
	return true;
}

static void random_get(struct self *self, struct get_call *get)
{
	struct rng *rng = &self->rng;

	memset(get, 0, sizeof(*get));
	get->entry = random_entry(rng);
	get->index = once_in(rng, 16) ? (__s32)odd_int(rng) : (__s32)below(rng, SLOTS);
	get->flags = once_in(rng, 16) ? odd_flags(rng) : 0;
	get->pointer = random_result_pointer(rng, &self->results);
}

/* A call with valid arguments */
static void plain_get(struct self *self, struct get_call *get, pid_t pid, int index)
{
	memset(get, 0, sizeof(*get));
	get->pid = pid;
	get->index = index;
	get->pointer = (uintptr_t)self->results.good + 8 * below(&self->rng, 8);
	make_get(self, get);
}

static void check_get_own(struct self *self)
{
	struct get_call get;

	random_get(self, &get);
	get.pid = once_in(&self->rng, 2) ? 0 : gettid32();
	make_get(self, &get);
	if (!expect_invalid(self, &get))
		expect_registration(self, &get, "itself", self->slot[get.index]);
}

static void check_get_nobody(struct self *self)
{
	static const __s32 pids[] = { -1, INT_MAX, INT_MIN, 0x400001, -2, 0x7ffffff0 };
	struct get_call get;

	random_get(self, &get);
	get.pid = pids[below(&self->rng, ARRAY_SIZE(pids))];
	make_get(self, &get);
	if (!expect_invalid(self, &get))
		expect_result(self, &get, "nobody", -ESRCH);
}

/* Returns whether any thread could have registered this list. */
static bool is_possible(const struct get_call *get)
{
	if (get->result == -ENOENT)
		return true;
	if (!get->writable)
		return get->result == -EFAULT;
	return (get->result == ROBUST_LIST_32BIT || get->result == ROBUST_LIST_64BIT) &&
	       valid_head(get->head, get->result);
}

static bool is_in_history(const struct get_call *get, const struct slot *slot,
			  unsigned int first, unsigned int last)
{
	if (last - first >= HISTORY - 2)
		return false;
	for (unsigned int i = first; i != last + 1; i++)
		if (is_answer(get, slot->history[i % HISTORY]))
			return true;
	return false;
}

/*
 * A thread that execs gets the TID of the first thread of its process shortly before
 * its own lists are gone.
 */
static bool is_of_exec(unsigned int number, const struct get_call *get)
{
	const struct slot *slot;
	unsigned int last;

	if (number % THREADS)
		return false;
	slot = &shared->actor[number + 1].slot[get->index];
	last = atomic_load(&slot->started);
	return is_in_history(get, slot, last > HISTORY / 2 ? last - HISTORY / 2 : 0, last);
}

/* Reads the lists of an actor, possibly its own by TID. */
static void check_get_actor(struct self *self, unsigned int number)
{
	bool stranger = number / THREADS != self->number / THREADS;
	struct actor *actor = &shared->actor[number];
	unsigned int life, first, last;
	struct slot *slot = NULL;
	struct get_call get;
	char about[32];

	snprintf(about, sizeof(about), "thread %u", number);
	random_get(self, &get);
	if (valid_index(get.index))
		slot = &actor->slot[get.index];

	life = atomic_load(&actor->life);
	get.pid = atomic_load(&actor->tid);
	first = slot ? atomic_load(&slot->done) : 0;
	/*
	 * An unborn actor has no TID. The call is made anyway, to draw the same random
	 * numbers.
	 */
	if (phase_of(life) == UNBORN)
		get.pid = INT_MAX;
	make_get(self, &get);
	last = slot ? atomic_load(&slot->started) : 0;

	if (expect_invalid(self, &get))
		return;
	if (phase_of(life) != UNBORN && atomic_load(&actor->life) != life)
		life = DYING;

	switch (phase_of(life)) {
	case UNBORN:
	case DEAD:
		expect_result(self, &get, about, -ESRCH);
		return;
	case DYING:
		if (get.result == -ESRCH || get.result == -ENOENT)
			return;
		break;
	default:
		break;
	}
	if (self->unprivileged && stranger) {
		expect_result(self, &get, about, -EPERM);
		return;
	}
	if (is_in_history(&get, slot, first, last))
		return;
	if (phase_of(life) == DYING && is_of_exec(number, &get))
		return;
	/* With too many changes during the call, the history of the slot is incomplete. */
	if (atomic_load(&slot->started) - first >= HISTORY - 2 && is_possible(&get)) {
		atomic_fetch_add(&shared->weak, 1);
		return;
	}
	if (first == last)
		expect_registration(self, &get, about, slot->history[first % HISTORY]);
	else
		wrong_answer(self, &get, about, "one of several");
}

/* set_robust_list() and get_robust_list() use another list. */
static void check_legacy(struct self *self)
{
	void *before = NULL, *after = NULL, *other = (void *)(uintptr_t)(NOWHERE + 8);
	struct get_call get;
	size_t len = 0;

	if (raw_syscall(SYS_get_robust_list, 0, &before, &len) ||
	    raw_syscall(SYS_set_robust_list, other, len) ||
	    raw_syscall(SYS_get_robust_list, 0, &after, &len) || after != other ||
	    raw_syscall(SYS_set_robust_list, before, len))
		mismatch(self, "set_robust_list(): got %p", after);
	for (int i = 0; i < SLOTS; i++) {
		plain_get(self, &get, 0, i);
		expect_registration(self, &get, "itself", self->slot[i]);
	}
}

#endif
