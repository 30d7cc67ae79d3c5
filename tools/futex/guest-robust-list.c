// SPDX-License-Identifier: GPL-2.0
/*
 * The robust lists of 32-bit guests, by set_robust_list2() or, on a kernel that
 * has no such call, by the emulator as far as it can.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest-robust-list.h"

/* Where a pointer of a list says that the futex is a PI futex */
#define PI_BIT	1u

/* A walk in user space ends here, for lists in a circle. */
#define MAX_ENTRIES	(1 << 20)

static int set_robust_list2(uint32_t head, int index, unsigned int flags)
{
	return syscall(__NR_set_robust_list2, guest_ptr(head), index, flags);
}

/* The number of lists that a thread can have, 0 where the call does not exist. */
static int max_lists(void)
{
	static atomic_int known = -1;
	int max = atomic_load(&known);

	if (max == -1) {
		max = set_robust_list2(0, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
		if (max == -1)
			max = 0;
		atomic_store(&known, max);
	}
	return max;
}

bool guest_robust_list_in_kernel(void)
{
	return max_lists() > 0;
}

void guest_robust_list_start(struct guest_robust_list *list)
{
	list->head = 0;
	list->index = -1;
}

int guest_set_robust_list(struct guest_robust_list *list, uint32_t head, uint32_t len)
{
	int index;

	if (len != sizeof(struct robust_list_head32))
		return -EINVAL;

	/* A slot is taken when there is something to put into it. */
	if (guest_robust_list_in_kernel() && (head || list->index != -1)) {
		/* -1 is ROBUST_LIST_NEW. */
		index = set_robust_list2(head, list->index, ROBUST_LIST_32BIT);
		if (index == -1)
			return -errno;
		list->index = index;
	}
	list->head = head;
	return 0;
}

/*
 * The list may be that of a thread in another process of this emulator. Its index
 * is not known here, but the only 32-bit list is the guest's.
 */
static int read_from_kernel(int pid, uint32_t *guest_head)
{
	uint64_t head;
	int type;

	for (int index = 0; index < max_lists(); index++) {
		type = syscall(__NR_get_robust_list2, pid, &head, index, 0);
		if (type == -1 && errno != ENOENT)
			return -errno;
		if (type == ROBUST_LIST_32BIT) {
			*guest_head = head;
			return 0;
		}
	}
	*guest_head = 0;
	return 0;
}

int guest_get_robust_list(const struct guest_robust_list *list, int pid,
			  uint32_t head_ptr, uint32_t len_ptr)
{
	uint32_t head = list->head;
	int ret = 0;

	if (guest_robust_list_in_kernel())
		ret = read_from_kernel(pid, &head);
	else if (pid && pid != syscall(SYS_gettid))
		ret = -EPERM;
	if (ret)
		return ret;

	/* Real emulators find out here whether the guest may write there: EFAULT. */
	*(uint32_t *)guest_ptr(len_ptr) = sizeof(struct robust_list_head32);
	*(uint32_t *)guest_ptr(head_ptr) = head;
	return 0;
}

static void wake_one(atomic_uint *word)
{
	/* Without FUTEX_PRIVATE_FLAG, as the kernel does it. */
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* What handle_futex_death() in kernel/futex/core.c does for one futex. */
static void owner_died(uint32_t address, uint32_t tid, bool pi, bool pending)
{
	atomic_uint *word = guest_ptr(address);
	uint32_t value = atomic_load(word);

	do {
		if ((value & FUTEX_TID_MASK) != tid) {
			/* Unlocked, but the thread did not get as far as to wake somebody. */
			if (pending && !pi &&
			    (!(value & FUTEX_TID_MASK) || !(value & FUTEX_WAITERS)))
				wake_one(word);
			return;
		}
	} while (!atomic_compare_exchange_weak(word, &value,
					       (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED));

	/* A PI futex goes to a waiter when the host thread exits. */
	if (!pi && (value & FUTEX_WAITERS))
		wake_one(word);
}

static uint32_t read_word(uint32_t address)
{
	return atomic_load((atomic_uint *)guest_ptr(address));
}

static void write_word(uint32_t address, uint32_t value)
{
	atomic_store((atomic_uint *)guest_ptr(address), value);
}

/*
 * What compat_exit_robust_list() in kernel/futex/core.c does for a list. The
 * emulator may be killed when it has marked a futex and has not woken anybody:
 * list_op_pending says where it was, and the kernel wakes a waiter for it. That is why
 * what list_op_pending has itself comes first here: the walk needs the word.
 *
 * Real emulators make sure that a fault in here ends the walk and not the emulator.
 */
static void walk(uint32_t head, uint32_t tid)
{
	uint32_t offset = read_word(head + offsetof(struct robust_list_head32, futex_offset));
	uint32_t pending_at = head + offsetof(struct robust_list_head32, list_op_pending);
	uint32_t pending = read_word(pending_at), entry = read_word(head), next;

	if (pending & ~PI_BIT)
		owner_died((pending & ~PI_BIT) + offset, tid, pending & PI_BIT, true);

	for (int n = 0; (entry & ~PI_BIT) != head && n < MAX_ENTRIES; n++) {
		next = read_word(entry & ~PI_BIT);
		if ((entry & ~PI_BIT) != (pending & ~PI_BIT)) {
			write_word(pending_at, entry);
			owner_died((entry & ~PI_BIT) + offset, tid, entry & PI_BIT, false);
		}
		entry = next;
	}
	write_word(pending_at, 0);
}

/*
 * The kernel would do this when the host thread exits. That is too late: the
 * emulator has told the guest by then that the thread is gone, and the memory of
 * the list may be something else already.
 */
void guest_robust_list_exit(struct guest_robust_list *list)
{
	if (list->head)
		walk(list->head, syscall(SYS_gettid));
	if (list->index != -1)
		set_robust_list2(0, list->index, ROBUST_LIST_UNREGISTER);
	guest_robust_list_start(list);
}
