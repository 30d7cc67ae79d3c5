// SPDX-License-Identifier: GPL-2.0
/*
 * The robust lists of 32-bit guests, by set_robust_list2(), or on older kernels by
 * the emulator as far as possible.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest-robust-list.h"

/* Where a pointer of a list says that the futex is a PI futex */
#define PI_BIT	1u

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
	bool in_kernel = guest_robust_list_in_kernel();
	int index;

	if (len != sizeof(struct robust_list_head32))
		return -EINVAL;

	if (in_kernel && list->index != -1 &&
	    set_robust_list2(head, list->index, ROBUST_LIST_32BIT) == -1) {
		if (errno != ENOENT)
			return -errno;
		/* The index is stale: another host thread has registered it. */
		list->index = -1;
	}
	/* A new list must have a head, so register the first one that is not NULL. */
	if (in_kernel && list->index == -1 && head) {
		index = set_robust_list2(head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
		if (index == -1)
			return -errno;
		list->index = index;
	}
	list->head = head;
	return 0;
}

/*
 * The thread may be in another process of this emulator, so its index is unknown
 * here. But the only 32-bit list of a thread is the guest's.
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

	/* A real emulator returns EFAULT if the guest may not write to these. */
	*(uint32_t *)guest_ptr(len_ptr) = sizeof(struct robust_list_head32);
	*(uint32_t *)guest_ptr(head_ptr) = head;
	return 0;
}

void guest_robust_list_exit(struct guest_robust_list *list)
{
	if (list->index == -1 || set_robust_list2(0, list->index, ROBUST_LIST_RELEASE) == -1)
		guest_robust_list_walk(list);
	guest_robust_list_start(list);
}

/* ---- For kernels without the calls ---- */

/* As in the kernel, a list ends after this many entries that the thread does not hold. */
#define MAX_OTHERS	2048

/* The search for an entry changes nothing, so only this limit ends it in a cycle. */
#define MAX_ENTRIES	1048576

enum holder { THREAD, OTHER, FAULT };

/* With a bad address the system call fails. A load would raise SIGSEGV. */
static bool read_word(uint32_t address, uint32_t *value)
{
	struct iovec from = { guest_ptr(address), sizeof(*value) }, to = { value, sizeof(*value) };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == sizeof(*value);
}

static bool write_word(uint32_t address, uint32_t value)
{
	struct iovec from = { &value, sizeof(value) }, to = { guest_ptr(address), sizeof(value) };

	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == sizeof(value);
}

/*
 * Returns whether an atomic access to a futex word works: the kernel adds 0. Nobody
 * waits for the first futex, and the kernel wakes a waiter for the second only if
 * the word is -1, so this wakes nobody.
 */
static bool can_change(uint32_t address)
{
	static uint32_t first;

	return syscall(SYS_futex, &first, FUTEX_WAKE_OP, 1, 1, guest_ptr(address),
		       FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, -1)) != -1;
}

static void wake_one(uint32_t address)
{
	/* Without FUTEX_PRIVATE_FLAG, like the kernel. */
	syscall(SYS_futex, guest_ptr(address), FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Like handle_futex_death() in kernel/futex/core.c. */
static enum holder owner_died(uint32_t address, uint32_t tid, bool pi, bool pending)
{
	atomic_uint *word = guest_ptr(address);
	uint32_t value;

	if (address % sizeof(value) || !read_word(address, &value))
		return FAULT;
	if ((value & FUTEX_TID_MASK) == tid && !can_change(address))
		return FAULT;
	do {
		if ((value & FUTEX_TID_MASK) != tid) {
			/* The thread may have unlocked the futex and not woken anybody. */
			if (pending && !pi &&
			    (!(value & FUTEX_TID_MASK) || !(value & FUTEX_WAITERS)))
				wake_one(address);
			return OTHER;
		}
		/* The word is still mapped: the caller excludes unmapping. */
	} while (!atomic_compare_exchange_weak(word, &value,
					       (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED));

	/* A PI futex goes to a waiter when the host thread exits. */
	if (!pi && (value & FUTEX_WAITERS))
		wake_one(address);
	return THREAD;
}

static bool in_list(uint32_t head, uint32_t entry)
{
	uint32_t at = head;

	for (int n = 0; n < MAX_ENTRIES && read_word(at, &at); n++) {
		at &= ~PI_BIT;
		if (at == entry || at == head)
			return at == entry;
	}
	return false;
}

/*
 * Like compat_exit_robust_list() in kernel/futex/core.c, but in an order that lets
 * the kernel continue if the emulator is killed.
 *
 * A marked lock has a new owner at once, who puts the entry on another list. So the
 * entry leaves this list before its lock is marked. list_op_pending points to the
 * entry while it is on no list, and while its lock is marked and no waiter is woken.
 */
static void walk(uint32_t head, uint32_t tid)
{
	uint32_t pending_at = head + offsetof(struct robust_list_head32, list_op_pending);
	uint32_t pending, offset, pointer, entry, next;
	enum holder holder = THREAD;
	bool more = true;
	int others = 0;

	if (!read_word(head + offsetof(struct robust_list_head32, futex_offset), &offset) ||
	    !read_word(pending_at, &pending))
		return;

	/* The lock that the guest was locking or unlocking gets its turn if it is on the list. */
	if ((pending & ~PI_BIT) && !in_list(head, pending & ~PI_BIT))
		owner_died((pending & ~PI_BIT) + offset, tid, pending & PI_BIT, true);

	while (more && holder != FAULT && others < MAX_OTHERS && read_word(head, &pointer)) {
		entry = pointer & ~PI_BIT;
		if (entry == head)
			break;
		more = read_word(entry, &next);
		if (!write_word(pending_at, pointer) || !write_word(head, more ? next : head))
			break;
		holder = owner_died(entry + offset, tid, pointer & PI_BIT,
				    entry == (pending & ~PI_BIT));
		others += holder == OTHER;
	}
	write_word(pending_at, 0);
}

void guest_robust_list_walk(const struct guest_robust_list *list)
{
	if (list->head)
		walk(list->head, syscall(SYS_gettid));
}
