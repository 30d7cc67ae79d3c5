// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the arguments and results of set_robust_list2() and get_robust_list2(), and
 * of their entry points for each ABI. The other robust_list2_*.c test threads that read
 * each other, die or exec.
 *
 * Most tests run with 32-bit lists, and in 64-bit programs also with 64-bit lists. A
 * build for a 32-bit architecture tests a 32-bit program on a 64-bit kernel.
 *
 * These tests cannot see leaks. kmemleak can.
 */

#define _GNU_SOURCE

#include "robust_list2_area.h"
#include "robust_list2_fixture.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

TEST_F(robust_list2, query_max)
{
	EXPECT_LT(0, set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX));
	EXPECT_NO_LIST(0);

	EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
	EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_QUERY_MAX);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX | 1);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW,
			 ROBUST_LIST_QUERY_MAX | ROBUST_LIST_UNREGISTER);
	EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_QUERY_MAX | ROBUST_LIST_UNREGISTER);
}

TEST_F(robust_list2, unknown_flags)
{
	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	for (int bit = 3; bit < 32; bit++) {
		EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, 1U << bit);
		EXPECT_SET_ERROR(EINVAL, &self->area->list[1], 0, 1U << bit);
		EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_UNREGISTER | 1U << bit);
	}
	EXPECT_LIST(0, self->area, ROBUST_LIST_32BIT);
	EXPECT_NO_LIST(1);
}

/* All 12 bytes of a 32-bit head are below 4 GiB. */
TEST_F(robust_list2, head_below_4gib)
{
	/* The kernel does not read the head before exit. */
	ASSERT_EQ(0, set_robust_list2((void *)0xfffffff4UL, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_LIST(0, 0xfffffff4UL, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, 0xfffffff8UL, 0, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, 0xfffffffcUL, 0, ROBUST_LIST_32BIT);
#ifdef BUILD_64
	EXPECT_SET_ERROR(EINVAL, 0x100000000UL, 0, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, 0x100001000UL, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	EXPECT_SET_ERROR(EINVAL, -8UL, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	EXPECT_EQ(1, set_robust_list2((void *)0x100001000UL, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
#endif
	EXPECT_LIST(0, 0xfffffff4UL, ROBUST_LIST_32BIT);
}

#ifndef BUILD_64
TEST_F(robust_list2, no_64bit_list_in_32bit_program)
{
	EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, ROBUST_LIST_64BIT);
	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_SET_ERROR(EINVAL, self->area, 0, ROBUST_LIST_64BIT);
	EXPECT_SET_ERROR(EINVAL, NULL, 0, ROBUST_LIST_64BIT);
	EXPECT_LIST(0, self->area, ROBUST_LIST_32BIT);

	/* UNREGISTER ignores the type bit. */
	EXPECT_EQ(0, set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER | ROBUST_LIST_64BIT));
}
#else
/* The arguments index and flags are int: the kernel ignores the upper half of the register. */
TEST_F(robust_list2, garbage_in_upper_halves)
{
	long garbage = 0x5a5a5a5aL << 32;
	uint64_t head = 0;

	EXPECT_EQ(0, syscall(__NR_set_robust_list2, self->area, garbage | 0xffffffffL, garbage));
	EXPECT_EQ(0, syscall(__NR_set_robust_list2, self->area, garbage, garbage | 1));
	EXPECT_EQ(1, syscall(__NR_get_robust_list2, garbage, &head, garbage, garbage));
	EXPECT_EQ((uintptr_t)self->area, head);
}

/* The kernel does not read the head before exit, so a 64-bit head may have any address. */
TEST_F(robust_list2, any_64bit_head)
{
	EXPECT_EQ(0, set_robust_list2((void *)-8UL, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
	EXPECT_LIST(0, -8UL, ROBUST_LIST_64BIT);
	EXPECT_EQ(0, set_robust_list2((void *)8UL, 0, ROBUST_LIST_64BIT));
	EXPECT_LIST(0, 8UL, ROBUST_LIST_64BIT);
}

#endif

TEST_F(robust_list2, get_errors)
{
	const int index[] = { -1, -2, lists_per_thread(), INT_MAX, INT_MIN };
	uint64_t head = ~0ULL;

	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));

	for (int bit = 0; bit < 32; bit++) {
		EXPECT_EQ(-1, get_robust_list2(0, &head, 0, 1U << bit));
		EXPECT_EQ(EINVAL, errno);
	}
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(-1, get_robust_list2(0, &head, index[i], 0));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, get_robust_list2(INT_MAX, &head, 0, 0));
	EXPECT_EQ(ESRCH, errno);
	EXPECT_EQ(-1, get_robust_list2(-1, &head, 0, 0));
	EXPECT_EQ(ESRCH, errno);
	EXPECT_EQ(-1, get_robust_list2(0, &head, 1, 0));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(~0ULL, head);
	EXPECT_EQ(-1, get_robust_list2(0, NULL, 0, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, get_robust_list2(0, (uint64_t *)8, 0, 0));
	EXPECT_EQ(EFAULT, errno);

	/* Errors in their order */
	EXPECT_EQ(-1, get_robust_list2(INT_MAX, NULL, lists_per_thread(), 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, get_robust_list2(0, NULL, 1, 0));
	EXPECT_EQ(ENOENT, errno);
}

/* The kernel stores the head as exactly 64 bits. */
TEST_F(robust_list2, get_stores_64_bits)
{
	uint64_t head[3] = { ~0ULL, ~0ULL, ~0ULL };

	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_EQ(ROBUST_LIST_32BIT, get_robust_list2(0, &head[1], 0, 0));
	EXPECT_EQ(~0ULL, head[0]);
	EXPECT_EQ((uintptr_t)self->area, head[1]);
	EXPECT_EQ(~0ULL, head[2]);
}

/* A seccomp filter can deny both calls. */
static int forbid_syscalls(struct victim *victim)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_set_robust_list2, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_get_robust_list2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 5, .filter = filter };
	uint64_t head;

	CHECK(set_robust_list2(victim->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	CHECK(set_robust_list2(victim->area, 0, ROBUST_LIST_32BIT) == -1 && errno == EDOM);
	CHECK(get_robust_list2(0, &head, 0, 0) == -1 && errno == EDOM);
	return 0;
}

TEST_F(robust_list2, seccomp_filter)
{
	struct victim victim = { .area = self->area };

	if (prctl(PR_GET_SECCOMP) == -1 ||
	    (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1 && errno == EINVAL))
		SKIP(return, "no CONFIG_SECCOMP_FILTER");
	run_victim(_metadata, &victim, forbid_syscalls);
}

#ifdef __x86_64__
TEST_F(robust_list2, i386_entry)
{
	unsigned long garbage = 0x5a5a5a5aUL << 32, area = (unsigned long)self->area;
	uint64_t *head = (uint64_t *)&self->area->many[0];
	pid_t probe = fork_child();
	int status;

	/*
	 * An i386 system call faults if the kernel has no entry point for it. In User Mode
	 * Linux it is one of x86-64. On i386 20 is getpid().
	 */
	if (!probe)
		_exit(int80(20, 0, 0, 0, 0) != getpid());
	ASSERT_EQ(probe, waitpid(probe, &status, 0));
	if (status)
		SKIP(return, "no CONFIG_IA32_EMULATION");

	/* The caller of an i386 system call counts as a 32-bit task. */
	EXPECT_EQ(-EINVAL, int80(473, area, -1, ROBUST_LIST_64BIT, 0));
	EXPECT_EQ(0, int80(473, garbage | area, garbage | 0xffffffffUL, garbage, 0));
	EXPECT_LIST(0, area, ROBUST_LIST_32BIT);
	EXPECT_EQ(0, int80(473, garbage | (area + 8), garbage, garbage, 0));
	EXPECT_EQ(0, int80(474, garbage, garbage | (uintptr_t)head, garbage, garbage));
	EXPECT_EQ(area + 8, *head);
	EXPECT_EQ(0, int80(473, garbage, garbage, garbage | ROBUST_LIST_UNREGISTER, 0));
	EXPECT_NO_LIST(0);

	/* A 32-bit task can change a 64-bit list to a 32-bit one. */
	ASSERT_EQ(0, set_robust_list2(self->area, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
	EXPECT_EQ(1, int80(474, 0, (uintptr_t)head, 0, 0));
	EXPECT_EQ(-EINVAL, int80(473, area, 0, ROBUST_LIST_64BIT, 0));
	EXPECT_EQ(0, int80(473, area + 4, 0, ROBUST_LIST_32BIT, 0));
	EXPECT_LIST(0, area + 4, ROBUST_LIST_32BIT);
}

TEST_F(robust_list2, x32_entry)
{
	const long set = __X32_SYSCALL_BIT | __NR_set_robust_list2;
	const long get = __X32_SYSCALL_BIT | __NR_get_robust_list2;
	uint64_t head = 0;

	if (syscall(set, NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) == -1 && errno == ENOSYS)
		SKIP(return, "no CONFIG_X86_X32_ABI");
	EXPECT_EQ(-1, syscall(set, self->area, ROBUST_LIST_NEW, ROBUST_LIST_64BIT));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, syscall(set, self->area, ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_LIST(0, self->area, ROBUST_LIST_32BIT);
	EXPECT_EQ(0, syscall(get, 0, &head, 0, 0));
	EXPECT_EQ((uintptr_t)self->area, head);
	EXPECT_EQ(0, syscall(set, NULL, 0, ROBUST_LIST_UNREGISTER));
	EXPECT_NO_LIST(0);
}

/*
 * The x32 entry point of set_robust_list() registers a list of 32-bit pointers, and
 * refuses a head at or above 4 GiB. The kernel walks neither that head nor the lower
 * half of its address.
 */
#define HIGH_HEAD	0x7050000000UL

static struct robust_list_head32 *map_head(unsigned long address, struct lock *lock)
{
	struct robust_list_head32 *head = map_private(address, sysconf(_SC_PAGESIZE));

	if (!head)
		return NULL;
	head->list.next = (uintptr_t)lock;
	head->futex_offset = offsetof(struct lock, futex);
	head->list_op_pending = 0;
	store_pointer(ROBUST_LIST_32BIT, lock, head, 0);
	return head;
}

static int set_by_x32(struct victim *victim)
{
	const long set = __X32_SYSCALL_BIT | 530, get = __X32_SYSCALL_BIT | 531;
	struct lock *lock = victim->area->list->lock;
	struct robust_list_head32 *high, *low;
	uint32_t got = ~0U, size;

	high = map_head(HIGH_HEAD, &lock[0]);
	low = map_head((uint32_t)HIGH_HEAD, &lock[1]);
	CHECK(high && low);
	take_locks(lock, 2);

	CHECK(syscall(set, high, sizeof(*high)) == -1 && errno == EINVAL);
	CHECK(syscall(set, 0x100000000UL, sizeof(*high)) == -1 && errno == EINVAL);
	CHECK(!syscall(get, 0, &got, &size) && !got);
	if (!victim->arg)
		return 0;

	/* A refused head leaves the previous head registered. */
	CHECK(!syscall(set, low, sizeof(*low)));
	CHECK(syscall(set, high, sizeof(*high)) == -1 && errno == EINVAL);
	CHECK(!syscall(get, 0, &got, &size) && got == (uintptr_t)low && size == sizeof(*low));
	return 0;
}

TEST_F(robust_list2, x32_set_robust_list)
{
	struct victim victim = { .area = self->area };
	struct lock *lock = self->area->list->lock;

	if (syscall(__X32_SYSCALL_BIT | __NR_set_robust_list2, NULL, ROBUST_LIST_NEW,
		    ROBUST_LIST_QUERY_MAX) == -1 && errno == ENOSYS)
		SKIP(return, "no CONFIG_X86_X32_ABI");
	for (victim.arg = 0; victim.arg < 2; victim.arg++) {
		run_victim(_metadata, &victim, set_by_x32);
		EXPECT_EQ(victim.pid, atomic_load(&lock[0].futex));
		EXPECT_EQ(victim.arg ? FUTEX_OWNER_DIED : victim.pid, atomic_load(&lock[1].futex));
	}
}
#endif

TEST_F(list, new_lowest_free_index)
{
	struct list *list = self->area->list;
	const int lists = lists_per_thread();

	for (int i = 0; i < lists; i++)
		ASSERT_EQ(i, set_robust_list2(&list[i], ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(ENOSPC, &list[MAX_LISTS], ROBUST_LIST_NEW, variant->type);

	EXPECT_EQ(7, set_robust_list2(NULL, 7, ROBUST_LIST_UNREGISTER));
	EXPECT_EQ(2, set_robust_list2(NULL, 2, ROBUST_LIST_UNREGISTER | variant->type));
	EXPECT_NO_LIST(2);
	EXPECT_EQ(2, set_robust_list2(&list[MAX_LISTS], ROBUST_LIST_NEW, variant->type));
	EXPECT_EQ(7, set_robust_list2(&list[MAX_LISTS], ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(ENOSPC, &list[MAX_LISTS], ROBUST_LIST_NEW, variant->type);

	for (int i = 0; i < lists; i++)
		EXPECT_LIST(i, i == 2 || i == 7 ? &list[MAX_LISTS] : &list[i], variant->type);
	EXPECT_EQ(lists, lists_per_thread());
}

TEST_F(list, new_errors)
{
	for (unsigned long i = 1; i < variant->pointer_size; i++)
		EXPECT_SET_ERROR(EINVAL, AREA_ADDRESS + i, ROBUST_LIST_NEW, variant->type);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, variant->type);
	EXPECT_NO_LIST(0);
	EXPECT_EQ(0, set_robust_list2((void *)(AREA_ADDRESS + variant->pointer_size),
				      ROBUST_LIST_NEW, variant->type));
}

TEST_F(list, set_errors)
{
	struct list *list = self->area->list;
	const int lists = lists_per_thread();

	/* Without a table before the first registration, with a table after it */
	for (int i = 0; i < 2; i++) {
		for (int index = i; index < lists; index++) {
			EXPECT_SET_ERROR(ENOENT, list, index, variant->type);
			EXPECT_SET_ERROR(ENOENT, NULL, index, variant->type);
			EXPECT_SET_ERROR(ENOENT, NULL, index, ROBUST_LIST_UNREGISTER);
		}
		EXPECT_SET_ERROR(EINVAL, list, lists, variant->type);
		EXPECT_SET_ERROR(EINVAL, list, -2, variant->type);
		EXPECT_SET_ERROR(EINVAL, list, INT_MAX, variant->type);
		EXPECT_SET_ERROR(EINVAL, list, INT_MIN, variant->type);
		EXPECT_SET_ERROR(EINVAL, NULL, lists, ROBUST_LIST_UNREGISTER);
		EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, ROBUST_LIST_UNREGISTER);
		EXPECT_SET_ERROR(EINVAL, list, 0, ROBUST_LIST_UNREGISTER);
		if (!i)
			ASSERT_EQ(0, set_robust_list2(list, ROBUST_LIST_NEW, variant->type));
	}
	EXPECT_LIST(0, list, variant->type);
}

/* EINVAL comes before ENOENT and ENOSPC. */
TEST_F(list, order_of_errors)
{
	const int lists = lists_per_thread();

	EXPECT_SET_ERROR(EINVAL, AREA_ADDRESS + 2, 5, variant->type);
	for (int i = 0; i < lists; i++)
		ASSERT_EQ(i, set_robust_list2(self->area, ROBUST_LIST_NEW, variant->type));
	EXPECT_SET_ERROR(EINVAL, AREA_ADDRESS + 2, ROBUST_LIST_NEW, variant->type);
	EXPECT_SET_ERROR(EINVAL, NULL, ROBUST_LIST_NEW, variant->type);
	EXPECT_SET_ERROR(EINVAL, self->area, ROBUST_LIST_NEW, variant->type | 8);
}

TEST_F(list, set_changes_head_and_type)
{
	struct list *list = self->area->list;

	ASSERT_EQ(0, set_robust_list2(&list[0], ROBUST_LIST_NEW, ROBUST_LIST_32BIT));
	EXPECT_EQ(0, set_robust_list2(&list[1], 0, variant->type));
	EXPECT_LIST(0, &list[1], variant->type);
	EXPECT_EQ(0, set_robust_list2(NULL, 0, variant->type));
	EXPECT_LIST(0, NULL, variant->type);
	/* An empty list keeps its slot. */
	EXPECT_EQ(1, set_robust_list2(&list[2], ROBUST_LIST_NEW, variant->type));
	EXPECT_EQ(0, set_robust_list2(&list[3], 0, ROBUST_LIST_32BIT));
	EXPECT_LIST(0, &list[3], ROBUST_LIST_32BIT);
	EXPECT_LIST(1, &list[2], variant->type);
}

/* set_robust_list() and set_robust_list2() do not see each other's lists. */
TEST_F(list, beside_set_robust_list)
{
	struct robust_list_head *before = NULL, *after = NULL;
	struct list *list = self->area->list;
	const int lists = lists_per_thread();
	size_t size;

	ASSERT_EQ(0, syscall(SYS_get_robust_list, 0, &before, &size));
	EXPECT_NO_LIST(0);
	for (int i = 0; i < lists; i++)
		ASSERT_EQ(i, set_robust_list2(&list[i], ROBUST_LIST_NEW, variant->type));
	ASSERT_EQ(0, syscall(SYS_get_robust_list, 0, &after, &size));
	EXPECT_TRUE(before == after);

	ASSERT_EQ(0, set_legacy_list(&list[MAX_LISTS]));
	for (int i = 0; i < lists; i++)
		EXPECT_LIST(i, &list[i], variant->type);
	ASSERT_EQ(0, set_legacy_list(before));
}

TEST_HARNESS_MAIN
