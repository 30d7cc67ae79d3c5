// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the unlock of robust futexes on lists of set_robust_list2(): the
 * FUTEX_ROBUST_UNLOCK operations, and the vDSO functions of x86.
 *
 * Both clear the futex word and then list_op_pending. The thread can die in between,
 * when the memory may already belong to another lock, and exit must not mark that lock.
 */

#define _GNU_SOURCE

#include "robust_list2_test.h"

#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "../../vDSO/parse_vdso.h"

/* Returns list_op_pending as a number. */
static uint64_t read_pending(unsigned int type, union head *head)
{
	return type == ROBUST_LIST_32BIT ? head->h32.list_op_pending : head->h64.list_op_pending;
}

static unsigned int unlock_flags(unsigned int type)
{
	return FUTEX_ROBUST_UNLOCK | (type == ROBUST_LIST_32BIT ? FUTEX_ROBUST_LIST32 : 0);
}

/* Futex operations that unlock, with lists of either pointer width */
FIXTURE(operation) {
	struct victim victim;
	struct area *area;
	union head *head;
};

FIXTURE_VARIANT(operation) {
	unsigned int type, op, val3;
};

FIXTURE_VARIANT_ADD(operation, wake32) {
	.type = ROBUST_LIST_32BIT,
	.op = FUTEX_WAKE,
};

FIXTURE_VARIANT_ADD(operation, wake_bitset32) {
	.type = ROBUST_LIST_32BIT,
	.op = FUTEX_WAKE_BITSET,
	.val3 = FUTEX_BITSET_MATCH_ANY,
};

FIXTURE_VARIANT_ADD(operation, unlock_pi32) {
	.type = ROBUST_LIST_32BIT,
	.op = FUTEX_UNLOCK_PI,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(operation, wake64) {
	.type = ROBUST_LIST_64BIT,
	.op = FUTEX_WAKE,
};

FIXTURE_VARIANT_ADD(operation, wake_bitset64) {
	.type = ROBUST_LIST_64BIT,
	.op = FUTEX_WAKE_BITSET,
	.val3 = FUTEX_BITSET_MATCH_ANY,
};

FIXTURE_VARIANT_ADD(operation, unlock_pi64) {
	.type = ROBUST_LIST_64BIT,
	.op = FUTEX_UNLOCK_PI,
};
#endif

/* Parameters of the process, one instance per test */
static struct unlock {
	unsigned int	op, val3;
	union head	*head;
	/* The head is read-only. */
	bool		read_only;
} unlock;

FIXTURE_SETUP(operation)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (variant->op == FUTEX_UNLOCK_PI && !have_pi())
		SKIP(return, "no CONFIG_FUTEX_PI");
	self->area = map_area(_metadata);
	self->head = map_shared(_metadata, PAGE_ADDRESS, sysconf(_SC_PAGESIZE));
	self->victim.area = self->area;
	self->victim.type = variant->type;
	unlock.op = variant->op | unlock_flags(variant->type);
	unlock.val3 = variant->val3;
	unlock.head = self->head;
}

FIXTURE_TEARDOWN(operation)
{
	if (!self->area)
		return;
	unmap_area(_metadata, self->area);
	munmap(self->head, sysconf(_SC_PAGESIZE));
}

/*
 * Registers three lists. The head of the second one is at the start of the page, and
 * its list is empty, with lock 0 pending. The process holds all locks of the other
 * lists.
 */
static int register_lists(struct victim *victim)
{
	struct list *list = victim->area->list;

	make_list(victim->type, unlock.head, NULL, 0);
	set_pending(victim->type, unlock.head, &list->lock[0]);
	if (unlock.read_only)
		CHECK(!mprotect(unlock.head, sysconf(_SC_PAGESIZE), PROT_READ));
	CHECK(hold_list(victim->type, &list[1].head, list[1].lock, LOCKS_PER_LIST) == 0);
	CHECK(set_robust_list2(unlock.head, ROBUST_LIST_NEW, victim->type) == 1);
	CHECK(hold_list(victim->type, &list[2].head, list[2].lock, LOCKS_PER_LIST) == 2);
	take_locks(list->lock, 1);
	return 0;
}

/* Exit handles the other lists, whatever happens to the second one. */
#define EXPECT_OTHER_LISTS_DIED(area)					\
	do {								\
		for (int __i = 1; __i < 3; __i++)			\
			EXPECT_EQ(LOCKS_PER_LIST,			\
				  count_died((area)->list[__i].lock, LOCKS_PER_LIST)); \
	} while (0)

static int unlock_by_operation(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;
	uint64_t head;
	long ret;

	CHECK(!register_lists(victim));
	ret = syscall(SYS_futex, &lock[0].futex, unlock.op, 1, NULL,
		      pending_of(victim->type, unlock.head), unlock.val3);
	CHECK(!atomic_load(&lock[0].futex));
	if (unlock.read_only) {
		CHECK(ret == -1 && errno == EFAULT);
		CHECK(read_pending(victim->type, unlock.head));
	} else {
		CHECK(!ret);
		CHECK(!read_pending(victim->type, unlock.head));
	}
	/* Only the list with the failed write is empty. */
	CHECK(get_robust_list2(0, &head, 0, 0) == (long)victim->type);
	CHECK(head == (uintptr_t)&victim->area->list[1].head);
	CHECK(get_robust_list2(0, &head, 1, 0) == (long)victim->type);
	CHECK(head == (unlock.read_only ? 0 : (uintptr_t)unlock.head));
	CHECK(get_robust_list2(0, &head, 2, 0) == (long)victim->type);
	CHECK(head == (uintptr_t)&victim->area->list[2].head);

	/*
	 * The memory now belongs to another lock, and its word holds the TID of this
	 * thread.
	 */
	take_locks(lock, 1);
	return 0;
}

TEST_F(operation, unlock)
{
	run_victim(_metadata, &self->victim, unlock_by_operation);
	EXPECT_EQ(self->victim.pid, atomic_load(&self->area->list->lock[0].futex));
	EXPECT_OTHER_LISTS_DIED(self->area);
}

TEST_F(operation, unlock_with_fault)
{
	unlock.read_only = true;
	run_victim(_metadata, &self->victim, unlock_by_operation);
	EXPECT_EQ(self->victim.pid, atomic_load(&self->area->list->lock[0].futex));
	EXPECT_OTHER_LISTS_DIED(self->area);
}

/* A read-only word that is no list_op_pending: no list is emptied. */
static int clear_other_word(struct victim *victim)
{
	struct lock *lock = victim->area->list->lock;
	uint64_t head;

	CHECK(!register_lists(victim));
	CHECK(syscall(SYS_futex, &lock[0].futex, unlock.op, 1, NULL, unlock.head,
		      unlock.val3) == -1 && errno == EFAULT);
	CHECK(!atomic_load(&lock[0].futex));
	CHECK(get_robust_list2(0, &head, 1, 0) == (long)victim->type);
	CHECK(head == (uintptr_t)unlock.head);
	take_locks(lock, 1);
	return 0;
}

TEST_F(operation, other_word)
{
	unlock.read_only = true;
	run_victim(_metadata, &self->victim, clear_other_word);
	EXPECT_EQ(FUTEX_OWNER_DIED, atomic_load(&self->area->list->lock[0].futex));
	EXPECT_OTHER_LISTS_DIED(self->area);
}

#if defined(__x86_64__) || defined(__i386__)
/*
 * Unlock in user space. The test traces the process through the vDSO function, stops it
 * after each number of instructions, and kills it there.
 */
/* More instructions than the function and the code before it */
#define FUNCTION_SIZE	128
#define MAX_STEPS	20000

#ifdef __x86_64__
# define INSTRUCTION_POINTER	offsetof(struct user, regs.rip)
#else
# define INSTRUCTION_POINTER	offsetof(struct user, regs.eip)
#endif

FIXTURE(vdso) {
	struct victim victim;
	struct area *area;
	union head *head;
};

FIXTURE_VARIANT(vdso) {
	unsigned int type;
	const char *function;
	bool read_only;
};

FIXTURE_VARIANT_ADD(vdso, list32) {
	.type = ROBUST_LIST_32BIT,
	.function = "__vdso_futex_robust_list32_try_unlock",
};

FIXTURE_VARIANT_ADD(vdso, list32_read_only) {
	.type = ROBUST_LIST_32BIT,
	.function = "__vdso_futex_robust_list32_try_unlock",
	.read_only = true,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(vdso, list64) {
	.type = ROBUST_LIST_64BIT,
	.function = "__vdso_futex_robust_list64_try_unlock",
};

FIXTURE_VARIANT_ADD(vdso, list64_read_only) {
	.type = ROBUST_LIST_64BIT,
	.function = "__vdso_futex_robust_list64_try_unlock",
	.read_only = true,
};
#endif

static uint32_t (*try_unlock)(void *lock, uint32_t tid, void *pop);

FIXTURE_SETUP(vdso)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	vdso_init_from_sysinfo_ehdr(getauxval(AT_SYSINFO_EHDR));
	try_unlock = vdso_sym("LINUX_2.6", variant->function);
	if (!try_unlock)
		SKIP(return, "the vDSO has no %s()", variant->function);
	self->area = map_area(_metadata);
	self->head = map_shared(_metadata, PAGE_ADDRESS, sysconf(_SC_PAGESIZE));
	self->victim.area = self->area;
	self->victim.type = variant->type;
	unlock.head = self->head;
	unlock.read_only = variant->read_only;
}

FIXTURE_TEARDOWN(vdso)
{
	if (!self->area)
		return;
	unmap_area(_metadata, self->area);
	munmap(self->head, sysconf(_SC_PAGESIZE));
}

/* Stops for the tracer before and after the call. */
static void call_vdso(struct victim *victim)
{
	uint32_t word;

	raise(SIGSTOP);
	word = try_unlock(&victim->area->list->lock[0].futex, gettid32(),
			  pending_of(victim->type, unlock.head));
	atomic_store(&victim->area->seen, word);
	atomic_store(&victim->area->stop, 1);
	raise(SIGSTOP);
}

static int prepare_unlock(struct victim *victim)
{
	CHECK(!register_lists(victim));
	if (victim->arg)
		atomic_fetch_or(&victim->area->list->lock[0].futex, FUTEX_WAITERS);
	CHECK(!ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	victim->then = call_vdso;
	return 0;
}

/* Returns the signal that stopped the process, or 0 if the process ended. */
static int wait_for_stop(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return 0;
	return WSTOPSIG(status);
}

static unsigned long instruction_pointer(pid_t pid)
{
	return ptrace(PTRACE_PEEKUSER, pid, INSTRUCTION_POINTER, NULL);
}

static bool is_in_function(pid_t pid)
{
	unsigned long ip = instruction_pointer(pid), start = (uintptr_t)try_unlock;

	return ip >= start && ip < start + FUNCTION_SIZE;
}

static int step(pid_t pid)
{
	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL))
		return 0;
	return wait_for_stop(pid);
}

/*
 * Starts a process, and stops it after this many instructions of the function. Returns
 * whether the process is in the function and did not fault.
 */
static bool stop_in_function(struct __test_metadata *_metadata, struct victim *victim, int steps)
{
	int n, signal = SIGTRAP;

	atomic_store(&victim->area->stop, 0);
	start_victim(_metadata, victim, prepare_unlock);
	ASSERT_EQ(SIGSTOP, wait_for_stop(victim->pid));
	for (n = 0; n < MAX_STEPS && instruction_pointer(victim->pid) != (uintptr_t)try_unlock; n++)
		ASSERT_EQ(SIGTRAP, step(victim->pid));
	ASSERT_GT(MAX_STEPS, n);
	for (n = 0; n < steps && signal == SIGTRAP; n++)
		signal = step(victim->pid);
	if (signal != SIGTRAP) {
		EXPECT_EQ(SIGSEGV, signal);
		EXPECT_EQ(steps, n);
	}
	return signal == SIGTRAP && is_in_function(victim->pid);
}

TEST_F_TIMEOUT(vdso, killed_at_each_instruction, 300)
{
	const uintptr_t lock = (uintptr_t)&self->area->list->lock[0];
	atomic_uint *futex = &self->area->list->lock[0].futex;
	int locked = 0, unlocked = 0;
	bool in_function = true;

	for (int steps = 0; in_function; steps++) {
		uint64_t head = ~0ULL, pending;
		bool done;

		in_function = stop_in_function(_metadata, &self->victim, steps);
		done = !atomic_load(futex);
		pending = read_pending(variant->type, self->head);
		ASSERT_EQ((long)variant->type, get_robust_list2(self->victim.pid, &head, 1, 0));
		if (!done) {
			locked++;
			EXPECT_EQ(self->victim.pid, atomic_load(futex));
			EXPECT_EQ(lock, pending);
			EXPECT_EQ((uintptr_t)self->head, head);
		} else {
			unlocked += in_function;
			/*
			 * The kernel clears the word, or empties the list if the write
			 * fails.
			 */
			EXPECT_EQ(variant->read_only ? lock : 0, pending);
			EXPECT_EQ(variant->read_only ? 0 : (uintptr_t)self->head, head);
			/* The memory now belongs to another lock. */
			atomic_store(futex, self->victim.pid);
		}
		kill_victim(_metadata, &self->victim);
		EXPECT_EQ(done ? self->victim.pid : FUTEX_OWNER_DIED, atomic_load(futex)) {
			TH_LOG("after %d instructions", steps);
		}
		EXPECT_OTHER_LISTS_DIED(self->area);
	}
	/* Some instructions precede the unlock, and another one clears list_op_pending. */
	EXPECT_LT(0, locked);
	EXPECT_LT(1, unlocked);
}

/* The function leaves a futex with waiters to the system call, and changes no word. */
TEST_F_TIMEOUT(vdso, contended, 300)
{
	const uintptr_t lock = (uintptr_t)&self->area->list->lock[0];
	atomic_uint *futex = &self->area->list->lock[0].futex;
	bool in_function = true;
	int steps;

	self->victim.arg = 1;
	for (steps = 0; in_function; steps++) {
		uint64_t head = ~0ULL;

		in_function = stop_in_function(_metadata, &self->victim, steps);
		EXPECT_EQ(self->victim.pid | FUTEX_WAITERS, atomic_load(futex));
		EXPECT_EQ(lock, read_pending(variant->type, self->head));
		EXPECT_EQ((long)variant->type, get_robust_list2(self->victim.pid, &head, 1, 0));
		EXPECT_EQ((uintptr_t)self->head, head);
		kill_victim(_metadata, &self->victim);
		EXPECT_EQ(FUTEX_OWNER_DIED | FUTEX_WAITERS, atomic_load(futex));
		EXPECT_OTHER_LISTS_DIED(self->area);
	}
	EXPECT_LT(2, steps);
}

/* The function runs without a tracer. */
TEST_F(vdso, whole)
{
	const uintptr_t lock = (uintptr_t)&self->area->list->lock[0];
	atomic_uint *futex = &self->area->list->lock[0].futex;

	start_victim(_metadata, &self->victim, prepare_unlock);
	ASSERT_EQ(SIGSTOP, wait_for_stop(self->victim.pid));
	ASSERT_EQ(0, ptrace(PTRACE_CONT, self->victim.pid, NULL, NULL));
	ASSERT_EQ(variant->read_only ? SIGSEGV : SIGSTOP, wait_for_stop(self->victim.pid));
	EXPECT_EQ(0, atomic_load(futex));
	EXPECT_EQ(variant->read_only ? lock : 0, read_pending(variant->type, self->head));
	if (!variant->read_only)
		EXPECT_EQ(self->victim.pid, atomic_load(&self->area->seen));
	atomic_store(futex, self->victim.pid);
	kill_victim(_metadata, &self->victim);
	EXPECT_EQ(self->victim.pid, atomic_load(futex));
	EXPECT_OTHER_LISTS_DIED(self->area);
}
#endif

TEST_HARNESS_MAIN
