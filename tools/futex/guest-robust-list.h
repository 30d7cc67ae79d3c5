/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The robust lists of 32-bit guests, for an emulator that is a 64-bit program.
 *
 * The emulator must
 *
 *  - run each guest thread on one host thread for all of its life, and give the
 *    guest that thread's host TID,
 *  - use guest addresses as host addresses (guest base 0).
 *
 * Documentation/userspace-api/robust-lists-emulators.rst says why, and what other
 * emulators can do.
 */
#ifndef GUEST_ROBUST_LIST_H
#define GUEST_ROBUST_LIST_H

#include <stdbool.h>
#include <stdint.h>

/* The list of a guest thread. Only that thread uses this structure. */
struct guest_robust_list {
	/* The head that the guest has set */
	uint32_t	head;
	/* The index of the list in the kernel, or -1 */
	int		index;
};

/* Returns the host address of a guest address. */
static inline void *guest_ptr(uint32_t address)
{
	return (void *)(uintptr_t)address;
}

/* Returns whether the kernel walks the lists. */
bool guest_robust_list_in_kernel(void);

/* A guest thread begins: after the host's clone(), and in the child after a fork(). */
void guest_robust_list_start(struct guest_robust_list *list);

/*
 * A guest thread ends by its exit system call. Call this before the guest can see
 * that the thread is gone.
 *
 * The guest may reuse the memory of the list once it knows, so the kernel's walk at
 * the exit of the host thread comes too late.
 */
void guest_robust_list_exit(struct guest_robust_list *list);

/*
 * Walks the list of the calling thread without the kernel's help: on kernels
 * without the calls, when the guest calls exit_group() or execve(). The emulator
 * must not unmap guest memory during the walk.
 */
void guest_robust_list_walk(const struct guest_robust_list *list);

/* The guest's system calls. They return a negative errno on failure. */
int guest_set_robust_list(struct guest_robust_list *list, uint32_t head, uint32_t len);
int guest_get_robust_list(const struct guest_robust_list *list, int pid,
			  uint32_t head_ptr, uint32_t len_ptr);

#endif
