// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>

#include "../../kernel/futex/futex.h"

#ifdef CONFIG_FUTEX
__rust_helper int rust_helper_futex_cmpxchg(u32 *found, u32 __user *uaddr, u32 old, u32 new)
{
	return futex_cmpxchg_value_locked(found, uaddr, old, new);
}
#endif

#ifdef CONFIG_FUTEX_ROBUST_LIST2
__rust_helper void **rust_helper_task_futex_robust_lists(struct task_struct *t)
{
	return (void **)&t->futex.robust_lists;
}
#endif
