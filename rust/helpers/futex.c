// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>

#ifdef CONFIG_FUTEX_ROBUST_LIST2
__rust_helper void **rust_helper_task_futex_robust_lists(struct task_struct *t)
{
	return (void **)&t->futex.robust_lists;
}
#endif
