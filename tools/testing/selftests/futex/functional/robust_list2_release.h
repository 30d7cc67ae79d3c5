/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the tests of ROBUST_LIST_RELEASE */

#ifndef _ROBUST_LIST2_RELEASE_H
#define _ROBUST_LIST2_RELEASE_H

#include "robust_list2_exec.h"
#include "robust_list2_fixture.h"

#define ASSERT_HOLD(index, type, head, lock, n)				\
	ASSERT_EQ((index), hold_list((type), (head), (lock), (n)))

/* The slot is free, and can be taken again. */
static inline void expect_release(struct __test_metadata *_metadata, int index)
{
	EXPECT_EQ(index, release_list(index));
	EXPECT_NO_LIST(index);
}

/* How the process of a test ends: killed by the test, or by itself */
enum end { KILL, EXIT, EXEC };

static inline void end_itself(struct victim *victim)
{
	if (victim->arg == EXEC)
		exec_new_program(-1);
	if (victim->arg == EXIT)
		_exit(0);
}

#endif
