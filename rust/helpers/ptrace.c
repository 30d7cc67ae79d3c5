// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/signal.h>

__rust_helper struct rw_semaphore *rust_helper_task_exec_update_lock(struct task_struct *t)
{
	return &t->signal->exec_update_lock;
}
