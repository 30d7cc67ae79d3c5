// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>

#include "../../kernel/futex/futex.h"

#ifdef CONFIG_FUTEX
/* The result in a register, and not in memory. */
__rust_helper bool rust_helper_futex_try_cmpxchg(u32 __user *uaddr, u32 old, u32 new)
{
	u32 found;

	return !futex_cmpxchg_value_locked(&found, uaddr, old, new) && found == old;
}
#endif
