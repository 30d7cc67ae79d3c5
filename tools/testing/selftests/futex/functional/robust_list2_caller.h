/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that lock PI futexes on request */

#ifndef _ROBUST_LIST2_CALLER_H
#define _ROBUST_LIST2_CALLER_H

#include "robust_list2_test.h"

#include <sys/resource.h>

/*
 * A thread that makes one call on request of the test, and reports its progress and the
 * result. The call may block.
 */
struct caller {
	struct futex_thread	thread;
	int			(*call)(struct caller *caller);
	atomic_uint		*futex, *cond;
	const struct timespec	*timeout;
	int			priority;
	/* Unlock before the thread ends, so that the next waiter gets the lock */
	bool			unlock;
	atomic_uint		told;
	atomic_bool		calls, returned;
	int			error;
	uint32_t		word;
};

static inline int call_when_told(void *arg)
{
	struct caller *caller = arg;
	struct sched_param param = { .sched_priority = caller->priority };

	if (caller->priority)
		sched_setscheduler(0, SCHED_FIFO, &param);
	else
		setpriority(PRIO_PROCESS, gettid32(), -20);
	wait_for_word(&caller->told);
	atomic_store(&caller->calls, true);
	caller->error = caller->call(caller) ? errno : 0;
	caller->word = atomic_load(caller->futex);
	if (caller->unlock)
		unlock_pi(caller->futex);
	atomic_store(&caller->returned, true);
	return 0;
}

static inline int call_lock_pi(struct caller *caller)
{
	return lock_pi(caller->futex, caller->timeout);
}

static inline int call_wait_requeue_pi(struct caller *caller)
{
	return wait_requeue_pi(caller->cond, caller->timeout, caller->futex);
}

/* Returns when the thread is ready for the request. */
static inline void prepare_caller(struct __test_metadata *_metadata, struct caller *caller)
{
	if (!caller->call)
		caller->call = call_lock_pi;
	ASSERT_EQ(0, futex_thread_create(&caller->thread, call_when_told, caller));
	while (thread_state(caller->thread.tid) != 'S')
		nap();
}

/* Returns when the call blocks in the kernel or has returned. */
static inline void tell_caller(struct caller *caller)
{
	set_word(&caller->told);
	while (!atomic_load(&caller->returned) &&
	       (!atomic_load(&caller->calls) || thread_state(caller->thread.tid) != 'S'))
		nap();
}

static inline bool is_waiting(struct caller *caller)
{
	return !atomic_load(&caller->returned);
}

/* The caller got the lock from an owner that died. */
static inline void expect_got_lock(struct __test_metadata *_metadata, struct caller *caller)
{
	futex_thread_destroy(&caller->thread);
	EXPECT_EQ(0, caller->error);
	EXPECT_EQ(caller->thread.tid, caller->word & FUTEX_TID_MASK);
	EXPECT_NE(0, caller->word & FUTEX_OWNER_DIED);
}

#endif
