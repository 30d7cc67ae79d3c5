// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/signal.h>

__rust_helper int rust_helper_task_lock_exec_update(struct task_struct *t)
{
	return down_read_killable(&t->signal->exec_update_lock);
}

__rust_helper void rust_helper_task_unlock_exec_update(struct task_struct *t)
{
	up_read(&t->signal->exec_update_lock);
}
