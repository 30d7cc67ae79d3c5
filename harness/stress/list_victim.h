/* SPDX-License-Identifier: GPL-2.0 */
/* The victim of fuzz_lists: it makes lists, predicts their end, and registers them. */
#ifndef LIST_VICTIM_H
#define LIST_VICTIM_H

#include <pthread.h>

#include "fuzz.h"
#include "list_maker.h"
#include "list_memory.h"
#include "walk_model.h"

#define I386_SET_ROBUST_LIST	311
#define I386_SET_ROBUST_LIST2	473

#define WAITERS		6
#define TARGETS		3
/* This many cases share the mappings of the arenas. */
#define CASES_PER_MAP	64
/* One case in this many has ballast. */
#define CASES_PER_BALLAST	600

enum death {
	THREAD_EXITS,
	PROCESS_EXITS,
	PROCESS_KILLS_ITSELF,
	PROCESS_EXECS,
	THREAD_EXECS,
	PROCESS_IS_KILLED,
	FORK_EXITS,
	FORK_KILLS_ITSELF,
	FORK_EXECS,
	DEATHS
};

static const char * const death_name[DEATHS] = {
	"thread exits", "process exits", "process kills itself", "process execs",
	"thread execs", "process is killed", "forked process exits", "forked process kills itself",
	"forked process execs",
};

static bool is_fork(enum death death)
{
	return death >= FORK_EXITS;
}

/* A futex with waiters */
struct target {
	__u64	address;
	/* The offset in the images */
	size_t		offset;
	unsigned int	waiting, expected;
};

/*
 * A list before all others, with about as many held entries as one exit handles, so
 * that few are left for the other lists
 */
struct ballast {
	struct robust_list_head32	head;
	__u32				unused;
	/* The list has the last entries of this array. */
	struct {
		__u32	next;
		__u32	word;
	} entry[HELD_LIMIT + 8];
};

#define BALLAST_ADDRESS	0x90000000UL
#define BALLAST_ENTRIES	ARRAY_SIZE(((struct ballast *)0)->entry)

/* Shared by the victim and the test */
struct world {
	__u64		seed;
	unsigned int		number;
	enum death		death;
	bool			racy;
	/* The number of entries of the ballast, or 0 */
	unsigned int		ballast;
	atomic_uint		ready;
	/* The futex of unused waiters */
	atomic_uint		park;
	unsigned int		targets;
	struct target		target[TARGETS];
	struct walk_model	model;
	struct maker		maker;
	/* 1 while pointers are rewritten, 2 to end that */
	atomic_uint		race;
	/* Rewritten pointers between registration and death */
	atomic_uint		rewritten;
	struct rng		race_rng;
	/* The line of the victim that failed, or 0 */
	unsigned int		failed_line;
};

static struct world *world;
static bool have_compat;
static alignas(16) unsigned char stack[256 * 1024], leader_stack[16 * 1024];
static struct ballast *ballast;

/* A check in the victim */
#define check(condition)					\
	do {							\
		if (!(condition) && !world->failed_line)	\
			world->failed_line = __LINE__;		\
	} while (0)

static void *wait_parked(void *arg)
{
	(void)arg;
	for (;;)
		wait_while(&world->park, 0, NULL);
	return NULL;
}

/* Moves waiters to a futex. A waiter that was woken before may still be on its way back. */
static unsigned int move_waiters(__u64 address, unsigned int count)
{
	unsigned int moved = 0;

	while (moved < count) {
		long ret = futex_move(&world->park, 0, (void *)(uintptr_t)address, count - moved);

		if (ret < 0)
			break;
		moved += ret;
		if (!ret)
			sched_yield();
	}
	return moved;
}

/* A futex word of the lists that can have waiters */
static bool random_target(struct rng *rng, struct target *target)
{
	const struct maker *maker = &world->maker;
	const struct list *list = &maker->list[below(rng, maker->lists)];
	__u64 entry = list->pending;

	if (list->count && below(rng, 3))
		entry = maker->entry[list->first + below(rng, list->count)].address;
	target->address = cut_address(list->kind, entry + list->futex_offset);
	if (target->address % sizeof(__u32) ||
	    !is_readable(target->address, sizeof(__u32), &target->offset))
		return false;
	if (is_fork(world->death) && !page_shared(target->offset / memory.page_size))
		return false;
	for (unsigned int i = 0; i < world->targets; i++)
		if (world->target[i].address == target->address)
			return false;
	return true;
}

static void place_waiters(struct rng *rng)
{
	world->targets = 0;
	for (int i = 0; i < TARGETS && world->maker.lists; i++) {
		unsigned int count = 1 + below(rng, WAITERS / TARGETS);
		struct target *target = &world->target[world->targets];

		if (!random_target(rng, target))
			continue;
		target->waiting = move_waiters(target->address, count);
		/* No thread can wait for a read-only private word. */
		check(target->waiting == count ||
		      !page_writable(target->offset / memory.page_size));
		if (target->waiting)
			world->targets++;
	}
}

static long set_list(__u64 head, int index, __u32 flags)
{
	return raw_result(set_robust_list2((void *)(uintptr_t)head, index, flags));
}

static void register_list(const struct list *list, int index)
{
	__u64 other = arena_start[0] + 8 * (index + 1);

	switch (list->kind) {
	case LEGACY:
		check(!set_legacy_list((void *)(uintptr_t)list->head));
		return;
	case LEGACY_COMPAT:
		check(!int80(I386_SET_ROBUST_LIST, list->head, 12, 0, 0));
		return;
	default:
		break;
	}
	if (list->fate == REPLACES_ANOTHER || !list->head) {
		check(set_list(other, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == index);
		check(set_list(list->head, index, type_of(list->kind)) == index);
	} else {
		check(set_list(list->head, ROBUST_LIST_NEW, type_of(list->kind)) == index);
	}
}

/* Only the words differ from case to case. */
static void init_ballast(void)
{
	ballast = map_at(BALLAST_ADDRESS, sizeof(*ballast), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned int i = 0; i < BALLAST_ENTRIES; i++)
		ballast->entry[i].next = i + 1 < BALLAST_ENTRIES ?
					 (uintptr_t)&ballast->entry[i + 1] : (uintptr_t)ballast;
	ballast->head.futex_offset = sizeof(__u32);
}

static void take_ballast(struct rng *rng)
{
	unsigned int missing = below(rng, once_in(rng, 4) ? 3000 : 40);

	world->ballast = HELD_LIMIT + 4 - missing;
	ballast->head.list.next = (uintptr_t)&ballast->entry[BALLAST_ENTRIES - world->ballast];
	for (unsigned int i = 0; i < BALLAST_ENTRIES; i++)
		ballast->entry[i].word = world->maker.tid;
}

/* Registers all lists before it drops the first one, so that their indexes differ. */
static void register_lists(void)
{
	const struct maker *maker = &world->maker;
	const int first = !!world->ballast;
	int index = first;

	if (world->ballast)
		check(!set_list((uintptr_t)ballast, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	for (unsigned int i = 0; i < maker->lists; i++) {
		register_list(&maker->list[i], index);
		index += !is_legacy(maker->list[i].kind);
	}
	index = first;
	for (unsigned int i = 0; i < maker->lists; i++) {
		const struct list *list = &maker->list[i];

		if (is_legacy(list->kind))
			continue;
		if (list->fate == EMPTIED)
			check(set_list(0, index, type_of(list->kind)) == index);
		if (list->fate == UNREGISTERED)
			check(set_list(0, index, ROBUST_LIST_UNREGISTER) == index);
		if (list->fate == RELEASED)
			check(set_list(0, index, ROBUST_LIST_RELEASE) == index);
		index++;
	}
}

/* Each release has limits of its own. */
static void predict_releases(void)
{
	const struct maker *maker = &world->maker;

	for (unsigned int i = 0; i < maker->lists; i++) {
		const struct list *list = &maker->list[i];

		if (is_legacy(list->kind) || list->fate != RELEASED)
			continue;
		world->model.held_left = HELD_LIMIT;
		model_walk(&world->model, list->kind, list->head);
	}
}

static void predict_walks(bool legacy)
{
	const struct maker *maker = &world->maker;

	for (unsigned int i = 0; i < maker->lists; i++) {
		const struct list *list = &maker->list[i];

		if (is_legacy(list->kind) == legacy &&
		    (legacy || list->fate == KEPT || list->fate == REPLACES_ANOTHER))
			model_walk(&world->model, list->kind, list->head);
	}
}

static void predict(void)
{
	struct walk_model *model = &world->model;

	model->tid = world->maker.tid;
	model->marked = 0;
	model->wakes = 0;
	predict_releases();
	model->held_left = HELD_LIMIT;
	if (world->ballast)
		model->held_left -= world->ballast < HELD_LIMIT ? world->ballast : HELD_LIMIT;
	predict_walks(false);
	/*
	 * The walk over set_robust_list() comes after the thread has taken the TID of
	 * the leader.
	 */
	if (world->death == THREAD_EXECS)
		model->tid = getpid();
	predict_walks(true);
	for (unsigned int i = 0; i < world->targets; i++) {
		struct target *target = &world->target[i];
		unsigned int wakes = 0;

		for (unsigned int j = 0; j < model->wakes; j++)
			wakes += model->woken[j] == target->address;
		target->expected = wakes < target->waiting ? wakes : target->waiting;
	}
}

/* Prepares the death of a task. The words hold its TID, so the task makes its lists itself. */
static void prepare_death(void)
{
	struct maker *maker = &world->maker;

	maker->rng = rng_of(world->seed, world->number, 1);
	maker->number = world->number + 1;
	maker->tid = gettid32();
	make_lists(maker, world->racy, have_compat, LISTS_PER_TASK - !!world->ballast);
	if (world->ballast)
		take_ballast(&maker->rng);
	publish_image(&maker->rng);
	place_waiters(&maker->rng);
	predict();
	register_lists();
	if (world->racy) {
		world->race_rng.state = rng_next(&maker->rng);
		atomic_store(&world->race, 1);
		wake(&world->race, 1);
		/* Some lists have no pointer to rewrite. */
		for (int i = 0; i < 1000 && !atomic_load(&world->rewritten); i++)
			sched_yield();
	}
}

static int die(void *arg)
{
	(void)arg;
	prepare_death();
	switch (world->death) {
	case PROCESS_KILLS_ITSELF:
	case FORK_KILLS_ITSELF:
		kill(getpid(), SIGKILL);
		break;
	case PROCESS_EXECS:
	case FORK_EXECS:
		execl("/proc/self/exe", "fuzz_lists", "--empty", NULL);
		break;
	case THREAD_EXECS:
		execl("/proc/self/exe", "fuzz_lists", "--empty", NULL);
		/* Ends the leader as well, which would wait forever. */
		_exit(1);
	case PROCESS_IS_KILLED:
		atomic_store(&world->ready, 1);
		for (;;)
			pause();
	default:
		return 0;
	}
	return 1;
}

#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | \
			 CLONE_SYSVSEM)

/* The leader of a process in which another thread dies */
static int run_leader(void *arg)
{
	if (clone(die, stack + sizeof(stack), THREAD_FLAGS, arg) == -1)
		return 1;
	for (;;)
		pause();
}

/* Rewrites the pointer of an entry during the walk. */
static void rewrite_pointer(struct rng *rng)
{
	struct maker *maker = &world->maker;
	const struct entry *entry = &maker->entry[below(rng, maker->entries)];
	const struct entry *to = &maker->entry[below(rng, maker->entries)];
	unsigned int size = size_of(entry->kind), pi;
	__u64 value = to->address;
	size_t offset;

	if (once_in(rng, 64))
		value = bad_address(rng, entry->kind);
	pi = once_in(rng, 4);
	if (entry->address % size || !find_image(entry->address, size, &offset) ||
	    !page_writable(offset / memory.page_size))
		return;
	store_pointer(type_of(entry->kind), (void *)(uintptr_t)entry->address,
		      (void *)(uintptr_t)value, pi);
	atomic_fetch_add(&world->rewritten, 1);
}

/*
 * On one CPU the tasks take turns, and no TLB flush has to interrupt another CPU. A
 * race needs two CPUs.
 */
static void use_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *race(void *arg)
{
	(void)arg;
	use_cpu(1);
	for (;;) {
		switch (atomic_load(&world->race)) {
		case 0:
			wait_while(&world->race, 0, NULL);
			break;
		case 1:
			if (world->maker.entries)
				rewrite_pointer(&world->race_rng);
			break;
		default:
			atomic_store(&world->race, 0);
		}
	}
	return NULL;
}

static void stop_race(void)
{
	if (!world->racy)
		return;
	atomic_store(&world->race, 2);
	while (atomic_load(&world->race))
		sched_yield();
}

#endif
