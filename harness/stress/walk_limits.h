/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The limits of the walk at exit. They are the kernel's own and in no header of it,
 * so a test says here what it expects of the kernel.
 */
#ifndef WALK_LIMITS_H
#define WALK_LIMITS_H

#include <linux/futex.h>

/* What ROBUST_LIST_QUERY_MAX returns */
#define LISTS_PER_TASK	10

/* How many entries that the thread holds one exit handles, over all its lists */
#define HELD_LIMIT	1048576

/* With how many entries that the thread does not hold a list ends */
#define FOREIGN_LIMIT	ROBUST_LIST_LIMIT

#endif
