// SPDX-License-Identifier: GPL-2.0
/*
 * The calls from a 32-bit program of an ABI without a C library in Debian. The program
 * is built with nolibc, and tests the differences from 64-bit programs: how the
 * arguments reach the kernel, and which lists the kernel accepts. Prints TAP.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/futex.h>

#define TESTS	7

struct lock {
	uint32_t	next;
	uint32_t	futex;
};

struct memory {
	struct robust_list_head32	head;
	struct lock			lock;
};

static int count, failed;

static void check(int good, const char *what)
{
	printf("%sok %d %s\n", good ? "" : "not ", ++count, what);
	failed |= !good;
}

/* The child registers its list, and dies with a lock on it. */
static void die_with_lock(struct memory *m)
{
	m->head.list.next = (uintptr_t)&m->lock;
	m->head.futex_offset = offsetof(struct lock, futex) - offsetof(struct lock, next);
	m->lock.next = (uintptr_t)&m->head;
	m->lock.futex = getpid();
	_exit(syscall(__NR_set_robust_list2, m, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) ? 1 : 0);
}

int main(void)
{
	static struct robust_list_head32 head = { { 0 }, 0, 0 };
	struct memory *m;
	uint64_t got = ~0ULL;
	int status = -1;
	pid_t child;

	printf("TAP version 13\n1..%d\n", TESTS);
	check(syscall(__NR_set_robust_list2, 0, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) > 0,
	      "there are lists");
	head.list.next = (uintptr_t)&head;
	check(syscall(__NR_set_robust_list2, &head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0,
	      "a 32-bit list gets the first index");
	check(syscall(__NR_get_robust_list2, 0, &got, 0, 0) == ROBUST_LIST_32BIT &&
	      got == (uintptr_t)&head, "the head comes back, and the upper half is 0");
	check(syscall(__NR_set_robust_list2, &head, ROBUST_LIST_NEW, ROBUST_LIST_64BIT) == -1 &&
	      errno == EINVAL, "a 64-bit list is refused");
	check(syscall(__NR_set_robust_list2, &head, -2, ROBUST_LIST_32BIT) == -1 &&
	      errno == EINVAL, "an index of -2 is refused");

	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return 1;
	child = fork();
	if (!child)
		die_with_lock(m);
	check(waitpid(child, &status, 0) == child && status == 0, "a child registers a list");
	check(m->lock.futex == FUTEX_OWNER_DIED, "and its lock is marked when it is gone");
	return failed;
}
