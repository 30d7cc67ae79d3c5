/* SPDX-License-Identifier: GPL-2.0 */
/* Owners of locks that die under observation, with a list of each kind */
#ifndef LIFETIME_H
#define LIFETIME_H

#include "adversity.h"

#include <pthread.h>

/* The maximum number of parties of a test, the first owner included */
#define PARTIES		24

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

static inline void new_area(void)
{
	map_shared(AREA, sizeof(*area));
	for (int i = 0; i < PARTIES; i++)
		place_lists(lists[i], area->memory[i]);
}

static inline void wait_for(atomic_int *value, int enough)
{
	double end = now() + PATIENCE;

	while (atomic_load(value) < enough) {
		if (now() > end)
			_exit(1);
		nap();
	}
}

static inline void start_waiters(int party)
{
	for (int i = 0; i < KINDS; i++)
		waiter[party][i] = start_waiter(word_of(&lists[party][i], LOCKS - 1));
}

/* After the death of the owner: a result for each kind of list */
static inline void check_died(int party, const char *how)
{
	for (int i = 0; i < KINDS; i++) {
		bool wake = woken(waiter[party][i]);

		ok(all_died(&lists[party][i]) && wake, "%s: %s", how, kind_names[i]);
	}
}

static inline bool all_owned_by(int party, pid_t pid)
{
	for (int i = 0; i < KINDS; i++) {
		if (count_words(&lists[party][i], pid) != LOCKS)
			return false;
	}
	return true;
}

/* Returns whether a process has registered the lists of this party, and no others. */
static inline bool registered(int party, pid_t pid)
{
	for (int i = 1; i < KINDS; i++) {
		__u64 head = 0;

		if (get_robust_list2(pid, &head, i - 1, 0) != (long)type_of(i) ||
		    head != (uintptr_t)lists[party][i].head)
			return false;
	}
	return true;
}

static inline int take_first(struct victim *victim)
{
	(void)victim;
	CHECK(hold_all(lists[0]));
	return 0;
}

static inline void wait_for_go(void)
{
	wait_for(&area->go, 1);
}

static inline void exit_on_go(struct victim *victim)
{
	(void)victim;
	wait_for_go();
	_exit(7);
}

static inline void *take_second(void *arg)
{
	if (hold_all(lists[1]))
		atomic_fetch_add(&area->ready, 1);
	wait_for_go();
	/* The thread dies with its process. */
	for (;;)
		pause();
	return arg;
}

static inline int take_both(struct victim *victim)
{
	pthread_t thread;

	CHECK(!take_first(victim));
	CHECK(!pthread_create(&thread, NULL, take_second, NULL));
	wait_for(&area->ready, 1);
	return 0;
}

#endif
