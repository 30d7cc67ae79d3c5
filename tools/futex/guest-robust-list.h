/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The robust lists of 32-bit guests, for an emulator that is a 64-bit program.
 *
 * It is for emulators in which
 *
 *  - each guest thread is a host thread for all of its life, and the guest is
 *    told that thread's host TID,
 *  - a guest address is the same host address (guest base 0).
 *
 * Documentation/userspace-api/robust-lists-emulators.rst says why, and what the
 * others can do.
 */
#ifndef GUEST_ROBUST_LIST_H
#define GUEST_ROBUST_LIST_H

#include <stdbool.h>
#include <stdint.h>

/* What the emulator remembers of a guest thread. Only that thread uses it. */
struct guest_robust_list {
	/* What the guest has set */
	uint32_t	head;
	/* Where the kernel has it, or -1 */
	int		index;
};

/* Where the guest's memory is for the host. */
static inline void *guest_ptr(uint32_t address)
{
	return (void *)(uintptr_t)address;
}

/* Returns whether the kernel takes care of the lists. */
bool guest_robust_list_in_kernel(void);

/* A guest thread begins: after the host's clone(), and in the child after a fork(). */
void guest_robust_list_start(struct guest_robust_list *list);

/*
 * A guest thread ends by its exit system call. Call this before anybody can see
 * that it is gone.
 *
 * The kernel would walk the list when the host thread exits. That is too late: the
 * emulator has told the guest by then that the thread is gone, and the memory of
 * the list may be something else already.
 */
void guest_robust_list_exit(struct guest_robust_list *list);

/*
 * Walks the list of the calling thread without the kernel's help. This is for
 * kernels without the calls, where the guest calls exit_group() or execve(). The
 * emulator must not unmap memory of the guest meanwhile.
 */
void guest_robust_list_walk(const struct guest_robust_list *list);

/* The guest's system calls. They return a negative errno on failure. */
int guest_set_robust_list(struct guest_robust_list *list, uint32_t head, uint32_t len);
int guest_get_robust_list(const struct guest_robust_list *list, int pid,
			  uint32_t head_ptr, uint32_t len_ptr);

#endif
