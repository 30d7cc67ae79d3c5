// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>

#include "../../kernel/futex/futex.h"

#ifdef CONFIG_FUTEX
__rust_helper int rust_helper_futex_cmpxchg_value_locked(u32 *found, u32 __user *uaddr,
							 u32 old, u32 new)
{
	return futex_cmpxchg_value_locked(found, uaddr, old, new);
}
#endif
