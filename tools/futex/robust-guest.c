// SPDX-License-Identifier: GPL-2.0
/*
 * Plays an emulator of 32-bit programs, and a guest whose threads die with a lock
 * held while another thread waits for the lock.
 *
 * The guest has the memory layout, the system call numbers and the robust list of
 * an i386 program. It is written in C, because translated code makes no difference
 * to robust lists. guest-robust-list.c has the emulator's side of them.
 *
 * Exits with 0 if all locks were recovered, with 2 if the kernel has no
 * set_robust_list2() and all locks were recovered that can be, and otherwise with 1.
 */

#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest-robust-list.h"

static_assert(sizeof(void *) == 8, "the emulator is a 64-bit program");

enum { EXIT_NO_SYSCALL = 2 };

static void fail(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* ---- The emulator ---- */

/*
 * The guest's memory is below 4 GiB, at the same address for the guest, and above
 * the first GiB, where a static program may have its heap.
 */
#define GUEST_MEMORY	0x60000000UL

/* The system calls of an i386 program that this guest makes */
enum {
	GUEST_NR_EXIT = 1,
	GUEST_NR_EXECVE = 11,
	GUEST_NR_GETTID = 224,
	GUEST_NR_FUTEX = 240,
	GUEST_NR_EXIT_GROUP = 252,
	GUEST_NR_SET_TID_ADDRESS = 258,
	GUEST_NR_SET_ROBUST_LIST = 311,
	GUEST_NR_GET_ROBUST_LIST = 312,
	GUEST_NR_FUTEX_TIME64 = 422,
};

struct guest_timespec {
	int32_t tv_sec, tv_nsec;
};

/* The timespec of system calls with 64-bit times */
struct guest_timespec64 {
	int64_t tv_sec;
	/* The kernel reads 64 bits, but the C library may write only the lower half. */
	int32_t tv_nsec, unused;
};

/* A lock of the emulator's own, on a list beside the guest's. */
struct emulator_lock {
	struct robust_list	entry;
	atomic_uint	word;
};

struct guest_thread {
	pthread_t			host;
	void				(*entry)(uint32_t arg);
	uint32_t			arg;
	uint32_t			clear_child_tid;
	struct guest_robust_list	robust_list;
	struct robust_list_head		emulator_list;
};

static __thread struct guest_thread *current;

/* The fourth argument is a timeout for these operations, and val2 for the others. */
static bool futex_has_timeout(uint32_t op)
{
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
	case FUTEX_WAIT_REQUEUE_PI:
	case FUTEX_LOCK_PI:
	case FUTEX_LOCK_PI2:
		return true;
	default:
		return false;
	}
}

static struct timespec host_timespec(uint32_t timeout, bool time64)
{
	const struct guest_timespec64 *from64 = guest_ptr(timeout);
	const struct guest_timespec *from = guest_ptr(timeout);

	if (time64)
		return (struct timespec){ from64->tv_sec, from64->tv_nsec };
	return (struct timespec){ from->tv_sec, from->tv_nsec };
}

static long guest_futex(bool time64, uint32_t uaddr, uint32_t op, uint32_t val,
			uint32_t timeout, uint32_t uaddr2, uint32_t val3)
{
	unsigned long fourth = timeout;
	struct timespec to;
	long ret;

	/*
	 * uaddr2 is the guest's list_op_pending. A kernel without 32-bit lists would
	 * unlock, fail to clear list_op_pending, and wake nobody.
	 */
	if ((op & FUTEX_ROBUST_LIST32) && !guest_robust_list_in_kernel())
		return -ENOSYS;
	if (timeout && futex_has_timeout(op)) {
		to = host_timespec(timeout, time64);
		fourth = (unsigned long)&to;
	}
	ret = syscall(SYS_futex, guest_ptr(uaddr), op, val, fourth, guest_ptr(uaddr2), val3);
	return ret == -1 ? -errno : ret;
}

/*
 * The guest reuses the thread's memory as soon as the word is 0, so the list comes
 * first, as in the kernel.
 */
static void guest_exit(void)
{
	atomic_uint *child_tid = guest_ptr(current->clear_child_tid);

	guest_robust_list_exit(&current->robust_list);
	if (child_tid) {
		atomic_store(child_tid, 0);
		syscall(SYS_futex, child_tid, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	pthread_exit(NULL);
}

/* The kernel walks the lists of all threads. If it cannot, walk that of this thread. */
static void guest_exit_group(int status)
{
	if (!guest_robust_list_in_kernel())
		guest_robust_list_walk(&current->robust_list);
	_exit(status);
}

/* The same, but an exec that fails must not touch the list, so check the file first. */
static long guest_execve(const char *path)
{
	if (!guest_robust_list_in_kernel()) {
		if (access(path, X_OK))
			return -errno;
		guest_robust_list_walk(&current->robust_list);
	}
	/* This program executes itself, and then ends at once. */
	execl(path, "robust-guest", "executed", NULL);
	return -errno;
}

static long guest_syscall(int nr, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e,
			  uint32_t f)
{
	switch (nr) {
	case GUEST_NR_EXIT:
		guest_exit();
		return 0;
	case GUEST_NR_EXIT_GROUP:
		guest_exit_group(a);
		return 0;
	case GUEST_NR_EXECVE:
		return guest_execve(guest_ptr(a));
	case GUEST_NR_GETTID:
		return syscall(SYS_gettid);
	case GUEST_NR_FUTEX:
	case GUEST_NR_FUTEX_TIME64:
		return guest_futex(nr == GUEST_NR_FUTEX_TIME64, a, b, c, d, e, f);
	case GUEST_NR_SET_TID_ADDRESS:
		current->clear_child_tid = a;
		return syscall(SYS_gettid);
	case GUEST_NR_SET_ROBUST_LIST:
		return guest_set_robust_list(&current->robust_list, a, b);
	case GUEST_NR_GET_ROBUST_LIST:
		return guest_get_robust_list(&current->robust_list, a, b, c);
	default:
		return -ENOSYS;
	}
}

/* Starts the host thread of a guest thread, or the child of a fork(). */
static void start_guest_thread(struct guest_thread *thread)
{
	struct robust_list_head *own = &thread->emulator_list;

	current = thread;
	thread->clear_child_tid = 0;
	guest_robust_list_start(&thread->robust_list);

	own->list.next = &own->list;
	own->futex_offset = offsetof(struct emulator_lock, word);
	own->list_op_pending = NULL;
	if (guest_robust_list_in_kernel() &&
	    syscall(__NR_set_robust_list2, own, ROBUST_LIST_NEW, ROBUST_LIST_64BIT) == -1)
		fail("set_robust_list2");
}

/* Not a real lock: nobody else takes it, and nothing kills the thread in here. */
static void emulator_take(struct emulator_lock *lock)
{
	atomic_store(&lock->word, syscall(SYS_gettid));
	lock->entry.next = current->emulator_list.list.next;
	current->emulator_list.list.next = &lock->entry;
}

static void *run_guest_thread(void *arg)
{
	struct guest_thread *thread = arg;

	start_guest_thread(thread);
	thread->entry(thread->arg);
	guest_exit();
	return NULL;
}

static void create_guest_thread(struct guest_thread *thread, void (*entry)(uint32_t), uint32_t arg)
{
	thread->entry = entry;
	thread->arg = arg;
	errno = pthread_create(&thread->host, NULL, run_guest_thread, thread);
	if (errno)
		fail("pthread_create");
}

static pid_t create_guest_process(void (*entry)(uint32_t), uint32_t arg)
{
	pid_t child = fork();

	if (child == -1)
		fail("fork");
	if (!child) {
		/* The child has another TID, and no list is registered. */
		start_guest_thread(current);
		entry(arg);
		exit(EXIT_FAILURE);
	}
	return child;
}

/* ---- The guest ---- */

/* A guest pointer is a uint32_t. */
struct guest_lock {
	uint32_t		next;
	atomic_uint	word;
	/* The data under the lock. Unless somebody holds it, done equals begun. */
	uint32_t		begun, done;
};

/* A C library's data of a thread */
struct guest_tcb {
	struct robust_list_head32	robust;
	atomic_uint		tid;
	/* The result of taking the lock: 0 or an errno */
	uint32_t			result;
};

/*
 * The walk must take long enough for another thread to get a lock and act before its
 * end: MANY for the kernel's walk, FEW for the emulator's, which is slower.
 */
#define MANY	20000
#define FEW	2000

struct guest_memory {
	struct guest_lock	lock;
	struct guest_tcb	main, victim, waiter;
	atomic_uint	die;
	/* The guest's timeout for a lock */
	struct guest_timespec	patience;
	struct guest_timespec64	patience64;
	/* Two futexes that are no locks, and the result of waiting for the first */
	atomic_uint	first, second;
	atomic_int	waited;
	/* The locks of a walk, and the progress of the thread that walks */
	struct guest_lock	many[MANY];
	atomic_bool	ready, walked;
	/* The argument of the guest's execve() */
	char		program[16];
	/* Results of the guest's get_robust_list() */
	uint32_t		list_head, list_len;
	/* The emulator's, in memory that its processes share */
	struct emulator_lock	emulator_lock;
};

static struct guest_memory *const memory = (struct guest_memory *)GUEST_MEMORY;

#define barrier() atomic_signal_fence(memory_order_seq_cst)

static uint32_t address(const void *p)
{
	return (uintptr_t)p;
}

static void guest_start(struct guest_tcb *tcb)
{
	tcb->robust.list.next = address(&tcb->robust.list);
	tcb->robust.futex_offset = offsetof(struct guest_lock, word);
	tcb->robust.list_op_pending = 0;
	atomic_store(&tcb->tid, guest_syscall(GUEST_NR_SET_TID_ADDRESS, address(&tcb->tid), 0, 0,
					      0, 0, 0));
	if (guest_syscall(GUEST_NR_SET_ROBUST_LIST, address(&tcb->robust),
			  sizeof(tcb->robust), 0, 0, 0, 0))
		exit(EXIT_FAILURE);
}

static int guest_lock(struct guest_tcb *tcb, struct guest_lock *lock)
{
	uint32_t tid = guest_syscall(GUEST_NR_GETTID, 0, 0, 0, 0, 0, 0), waiters = 0, word;
	long ret = 0;

	tcb->robust.list_op_pending = address(lock);
	barrier();
	for (;;) {
		word = atomic_load(&lock->word);
		if (!(word & FUTEX_TID_MASK)) {
			uint32_t mine = tid | waiters | (word & FUTEX_WAITERS);

			if (atomic_compare_exchange_strong(&lock->word, &word, mine))
				break;
			continue;
		}
		if (!(word & FUTEX_WAITERS) &&
		    !atomic_compare_exchange_strong(&lock->word, &word, word | FUTEX_WAITERS))
			continue;
		if (ret == -ETIMEDOUT) {
			tcb->robust.list_op_pending = 0;
			return -ret;
		}
		ret = guest_syscall(GUEST_NR_FUTEX, address(&lock->word), FUTEX_WAIT,
				    word | FUTEX_WAITERS, address(&memory->patience), 0, 0);
		waiters = FUTEX_WAITERS;
	}
	lock->next = tcb->robust.list.next;
	barrier();
	tcb->robust.list.next = address(lock);
	barrier();
	tcb->robust.list_op_pending = 0;
	return word & FUTEX_OWNER_DIED ? EOWNERDEAD : 0;
}

/* No guest holds more than one lock here, so the lock is the first of its list. */
static void guest_unlock(struct guest_tcb *tcb, struct guest_lock *lock)
{
	tcb->robust.list_op_pending = address(lock);
	barrier();
	tcb->robust.list.next = lock->next;
	barrier();
	if (guest_syscall(GUEST_NR_FUTEX, address(&lock->word), FUTEX_UNLOCK_WAKE_LIST32, 1, 0,
			  address(&tcb->robust.list_op_pending), 0) == -ENOSYS) {
		atomic_store(&lock->word, 0);
		guest_syscall(GUEST_NR_FUTEX, address(&lock->word), FUTEX_WAKE, 1, 0, 0, 0);
		tcb->robust.list_op_pending = 0;
	}
}

/* Takes the lock, and does half of the work. */
static void victim_begin(void)
{
	guest_start(&memory->victim);
	if (guest_lock(&memory->victim, &memory->lock))
		exit(EXIT_FAILURE);
	memory->lock.begun++;
	while (!atomic_load(&memory->die))
		usleep(1000);
}

static void waiter(uint32_t arg)
{
	(void)arg;
	guest_start(&memory->waiter);
	memory->waiter.result = guest_lock(&memory->waiter, &memory->lock);
	if (memory->waiter.result == ETIMEDOUT)
		return;
	memory->lock.done = memory->lock.begun;
	guest_unlock(&memory->waiter, &memory->lock);
	if (memory->waiter.robust.list_op_pending)
		exit(EXIT_FAILURE);
}

/* ---- How guest threads die ---- */

static void die_by_exit(uint32_t arg)
{
	(void)arg;
	victim_begin();
	guest_syscall(GUEST_NR_EXIT, 0, 0, 0, 0, 0, 0);
}

/* As after SECCOMP_RET_KILL_THREAD: the emulator does not notice. */
static void die_alone(uint32_t arg)
{
	(void)arg;
	victim_begin();
	syscall(SYS_exit, 0);
}

static void die_by_signal(uint32_t arg)
{
	(void)arg;
	emulator_take(&memory->emulator_lock);
	victim_begin();
	kill(getpid(), SIGKILL);
}

static void die_by_exit_group(uint32_t arg)
{
	(void)arg;
	emulator_take(&memory->emulator_lock);
	victim_begin();
	guest_syscall(GUEST_NR_EXIT_GROUP, 0, 0, 0, 0, 0, 0);
}

static void die_by_exec(uint32_t arg)
{
	(void)arg;
	emulator_take(&memory->emulator_lock);
	victim_begin();
	memcpy(memory->program, "/proc/self/exe", sizeof("/proc/self/exe"));
	guest_syscall(GUEST_NR_EXECVE, address(memory->program), 0, 0, 0, 0, 0);
}

static const struct death {
	const char	*name;
	void		(*victim)(uint32_t arg);
	bool		process;
	/* Whether the emulator can recover the lock without the kernel */
	bool		emulated;
} deaths[] = {
	{ "thread, exit()", die_by_exit, .process = false, .emulated = true },
	{ "thread, killed alone", die_alone, .process = false, .emulated = false },
	{ "process, SIGKILL", die_by_signal, .process = true, .emulated = false },
	{ "process, exit_group()", die_by_exit_group, .process = true, .emulated = true },
	{ "process, execve()", die_by_exec, .process = true, .emulated = true },
	{ }
};

/* The guest reads back the list of a thread of its own or of another process. */
static bool list_reads_back(uint32_t pid, const struct guest_tcb *tcb)
{
	long ret = guest_syscall(GUEST_NR_GET_ROBUST_LIST, pid, address(&memory->list_head),
				 address(&memory->list_len), 0, 0, 0);

	return !ret && memory->list_head == address(&tcb->robust) && memory->list_len == 12;
}

/* ---- Futexes that are no locks ---- */

static void wait_for_first(uint32_t nr)
{
	uint32_t timeout = nr == GUEST_NR_FUTEX_TIME64 ? address(&memory->patience64) :
							 address(&memory->patience);

	atomic_store(&memory->waited, guest_syscall(nr, address(&memory->first), FUTEX_WAIT, 0,
						    timeout, 0, 0));
}

/* The guest's futex() with all of its arguments, and its result */
static bool futex_works(int nr)
{
	const int still_waiting = 1, patience = memory->patience.tv_sec;
	const uint32_t first = address(&memory->first), second = address(&memory->second);
	static struct guest_thread sleeper;
	bool good = true;
	long moved, ret;

	/* Without waiters the kernel ignores val2, but compares val3. */
	good &= guest_syscall(nr, first, FUTEX_REQUEUE, 0, 1, second, 0) == 0;
	good &= guest_syscall(nr, first, FUTEX_CMP_REQUEUE, 0, 1, second, 1) == -EAGAIN;
	good &= guest_syscall(nr, first, FUTEX_CMP_REQUEUE_PI, 1, 1, second, 1) == -EAGAIN;
	good &= guest_syscall(nr, first, FUTEX_CMP_REQUEUE_PI, 1, 1, second, 0) == 0;
	good &= guest_syscall(nr, first, FUTEX_WAKE, 1, 0, 0, 0) == 0;

	/* Move the waiter from the first futex to the second, and wake it there. */
	atomic_store(&memory->waited, still_waiting);
	create_guest_thread(&sleeper, wait_for_first, nr);
	do {
		usleep(1000);
		moved = guest_syscall(nr, first, FUTEX_CMP_REQUEUE, 0, 1, second, 0);
	} while (!moved && atomic_load(&memory->waited) == still_waiting);
	good &= moved == 1;
	ret = guest_syscall(nr, first, FUTEX_WAKE_OP, 1, 1, second,
			    FUTEX_OP(FUTEX_OP_ADD, 7, FUTEX_OP_CMP_EQ, 0));
	good &= ret == 1 && atomic_exchange(&memory->second, 0) == 7;
	pthread_join(sleeper.host, NULL);
	good &= atomic_load(&memory->waited) == 0;

	/* The fourth argument is a timeout: nothing else ends this wait. */
	memory->patience.tv_sec = 0;
	memory->patience64.tv_sec = 0;
	wait_for_first(nr);
	good &= atomic_load(&memory->waited) == -ETIMEDOUT;
	memory->patience.tv_sec = patience;
	memory->patience64.tv_sec = patience;
	return good;
}

/* Returns whether this kernel's locks were recovered as far as it can. */
static bool show(const struct death *death)
{
	static struct guest_thread victim, survivor;
	bool in_kernel = guest_robust_list_in_kernel(), good = true;
	uint32_t result;
	pid_t child = 0;

	memset(memory, 0, offsetof(struct guest_memory, main));
	memset(&memory->victim, 0, sizeof(memory->victim));
	memset(&memory->emulator_lock, 0, sizeof(memory->emulator_lock));
	atomic_store(&memory->die, 0);

	if (death->process)
		child = create_guest_process(death->victim, 0);
	else
		create_guest_thread(&victim, death->victim, 0);
	while (!atomic_load(&memory->lock.word))
		usleep(1000);
	if (in_kernel)
		good &= list_reads_back(memory->victim.tid, &memory->victim);

	create_guest_thread(&survivor, waiter, 0);
	while (!(atomic_load(&memory->lock.word) & FUTEX_WAITERS))
		usleep(1000);
	atomic_store(&memory->die, 1);

	if (death->victim == die_by_exit) {
		/* As after pthread_join() in a guest: reuse the thread's memory. */
		while (atomic_load(&memory->victim.tid))
			usleep(1000);
		memset(&memory->victim, 0xff, sizeof(memory->victim));
	}
	if (death->process)
		waitpid(child, NULL, 0);
	else
		pthread_join(victim.host, NULL);
	pthread_join(survivor.host, NULL);

	result = memory->waiter.result;
	if (in_kernel || death->emulated)
		good &= result == EOWNERDEAD && memory->lock.done == 1 && !memory->lock.word;
	else
		good &= result == ETIMEDOUT;
	if (in_kernel && death->process)
		good &= memory->emulator_lock.word == FUTEX_OWNER_DIED;
	printf("%-22s the guest that waits: %s%s\n", death->name,
	       result == EOWNERDEAD ? "EOWNERDEAD, repaired" : strerror(result),
	       good ? "" : "  WRONG");
	return good;
}

/* ---- Disturbed walks ---- */

/* An unmapped address */
#define NOWHERE		0x1000u

/* A read-only page after the guest's memory */
#define READ_ONLY	(GUEST_MEMORY + 0x1000000)

static const struct trouble {
	const char	*name;
	/* The lock that another process waits for, and puts on its own list */
	uint32_t	wanted;
	/* The other process then kills the thread that walks. */
	bool		kill;
	/* The lock is in list_op_pending and also on the list. */
	bool		pending;
	/* The pointer of the last entry, if not to the head */
	uint32_t	last;
} troubles[] = {
	{ "killed meanwhile", .kill = true },
	{ "linked and pending", .wanted = FEW / 2, .pending = true },
	{ "pointer to nowhere", .last = NOWHERE },
	{ "read-only futex", .last = READ_ONLY },
	{ "circle", .last = GUEST_MEMORY + offsetof(struct guest_memory, many[FEW / 2]) },
	{ }
};

/* The disturbed walk is guest_robust_list_walk() instead of guest_robust_list_exit(). */
static bool walk_is_own;

static int nr_locks(void)
{
	return walk_is_own ? FEW : MANY;
}

/* The thread takes this many locks, and puts them on its list. */
static void hold(struct guest_tcb *tcb, int count, uint32_t last)
{
	struct guest_lock *many = memory->many;

	for (int i = 0; i < count; i++) {
		many[i].next = address(&many[i + 1]);
		many[i].word = tcb->tid;
	}
	many[count - 1].next = last ? last : address(&tcb->robust.list);
	tcb->robust.list.next = address(many);
}

static void make_read_only_lock(uint32_t tid)
{
	struct guest_lock *lock = (void *)READ_ONLY;

	if (mmap(lock, sizeof(*lock), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != lock)
		fail("mmap");
	lock->next = address(&memory->victim.robust.list);
	lock->word = tid;
	if (mprotect(lock, sizeof(*lock), PROT_READ))
		fail("mprotect");
}

/* Holds many locks when its thread ends for the guest. */
static void walk_in_trouble(uint32_t number)
{
	const struct trouble *trouble = &troubles[number];
	struct guest_tcb *tcb = &memory->victim;
	struct guest_lock *many = memory->many;
	uint64_t head;
	int index;

	guest_start(tcb);
	make_read_only_lock(tcb->tid);
	hold(tcb, nr_locks(), trouble->last);
	if (trouble->pending)
		tcb->robust.list_op_pending = address(&many[trouble->wanted]);

	/* Ends a walk in an endless loop. */
	alarm(120);
	atomic_store(&memory->ready, true);
	while (!(atomic_load(&many[trouble->wanted].word) & FUTEX_WAITERS))
		usleep(1000);
	index = current->robust_list.index;
	if (walk_is_own)
		guest_robust_list_walk(&current->robust_list);
	else
		guest_robust_list_exit(&current->robust_list);
	atomic_store(&memory->walked, true);
	if (!walk_is_own && syscall(__NR_get_robust_list2, 0, &head, index, 0) != -1)
		_exit(EXIT_FAILURE);

	/* Hide the rest of the list from the kernel, unless the thread is killed. */
	if (trouble->kill)
		pause();
	if (guest_syscall(GUEST_NR_SET_ROBUST_LIST, 0, sizeof(tcb->robust), 0, 0, 0, 0))
		_exit(EXIT_FAILURE);
	_exit(EXIT_SUCCESS);
}

/* Returns how many locks are lost, or -1 if the test did not get that far. */
static int survive(const struct trouble *trouble)
{
	struct guest_lock *many = memory->many, *wanted = &many[trouble->wanted];
	int lost = 0, result, status;
	pid_t child;

	memset(many, 0, sizeof(memory->many));
	memset(&memory->victim, 0, sizeof(memory->victim));
	atomic_store(&memory->ready, false);
	atomic_store(&memory->walked, false);

	child = create_guest_process(walk_in_trouble, trouble - troubles);
	while (!atomic_load(&memory->ready))
		usleep(1000);
	result = guest_lock(&memory->main, wanted);
	if (trouble->kill || result != EOWNERDEAD)
		kill(child, SIGKILL);
	waitpid(child, &status, 0);
	if (result != EOWNERDEAD)
		return -1;

	for (struct guest_lock *lock = many; lock < many + nr_locks(); lock++)
		lost += lock != wanted && atomic_load(&lock->word) != FUTEX_OWNER_DIED;
	guest_unlock(&memory->main, wanted);
	return trouble->kill || status == 0 ? lost : -1;
}

static bool show_trouble(const struct trouble *trouble)
{
	/* The kill must come before the end of the walk. */
	int rounds = trouble->kill ? 50 : 1, lost;

	do {
		lost = survive(trouble);
	} while (--rounds && trouble->kill && !lost && atomic_load(&memory->walked));

	printf("%-9s %-20s ", walk_is_own ? "own walk," : "at exit,", trouble->name);
	if (lost)
		printf(lost == -1 ? "WRONG\n" : "%d locks of %d lost  WRONG\n", lost,
		       nr_locks());
	else if (trouble->kill && atomic_load(&memory->walked))
		printf("not tested, the kill is always too late  WRONG\n");
	else
		printf("all %d locks recovered\n", nr_locks());
	return !lost && !(trouble->kill && atomic_load(&memory->walked));
}

static bool survive_troubles(void)
{
	bool in_kernel = guest_robust_list_in_kernel(), good = true;

	for (int own = !in_kernel; own <= 1; own++) {
		walk_is_own = own;
		for (const struct trouble *trouble = troubles; trouble->name; trouble++) {
			/* Only the kernel can continue the walk of a dead thread. */
			if (trouble->kill && !in_kernel)
				printf("own walk, %-20s needs set_robust_list2()\n", trouble->name);
			else
				good &= show_trouble(trouble);
		}
	}
	return good;
}

/* ---- The emulator's own walk, killed at each of its steps ---- */

/* The target of list_op_pending when the walk begins */
enum pending { NOTHING, LINKED, UNLINKED, NR_PENDING };

/* This many locks are on the list. The next one is not. */
#define IN_LIST	3

static void walk_in_steps(uint32_t pending)
{
	struct guest_tcb *tcb = &memory->victim;
	struct guest_lock *many = memory->many;

	guest_start(tcb);
	hold(tcb, IN_LIST, 0);
	many[IN_LIST].word = pending == UNLINKED ? tcb->tid : FUTEX_OWNER_DIED;
	for (int i = 0; i <= IN_LIST; i++)
		many[i].word |= FUTEX_WAITERS;
	if (pending != NOTHING)
		tcb->robust.list_op_pending = address(&many[pending == LINKED ? 1 : IN_LIST]);

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(EXIT_FAILURE);
	raise(SIGSTOP);
	guest_robust_list_walk(&current->robust_list);
	_exit(EXIT_SUCCESS);
}

/* A step ends at the entry or exit of a system call. Returns whether step n exists. */
static bool kill_at_step(enum pending pending, int step, int *lost)
{
	struct guest_lock *taken[IN_LIST + 1];
	int nr_taken = 0, status;
	bool stopped;
	pid_t child;

	memset(&memory->victim, 0, sizeof(memory->victim));
	child = create_guest_process(walk_in_steps, pending);
	waitpid(child, &status, 0);
	for (int i = 0; i < step && WIFSTOPPED(status); i++) {
		ptrace(PTRACE_SYSCALL, child, NULL, NULL);
		waitpid(child, &status, 0);
	}
	stopped = WIFSTOPPED(status);

	/* Each marked lock has a new owner, who puts it on another list. */
	for (struct guest_lock *lock = memory->many; lock <= memory->many + IN_LIST; lock++) {
		if (!(atomic_load(&lock->word) & FUTEX_TID_MASK)) {
			guest_lock(&memory->main, lock);
			taken[nr_taken++] = lock;
		}
	}
	if (stopped) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	while (nr_taken)
		guest_unlock(&memory->main, taken[--nr_taken]);
	for (struct guest_lock *lock = memory->many; lock <= memory->many + IN_LIST; lock++)
		*lost += !!(atomic_load(&lock->word) & FUTEX_TID_MASK);
	return stopped;
}

static bool survive_steps(void)
{
	int steps = 0, lost = 0;

	for (enum pending pending = NOTHING; pending < NR_PENDING; pending++) {
		for (int step = 1; kill_at_step(pending, step, &lost); step++)
			steps++;
	}
	printf("own walk, %-20s ", "killed at each step");
	if (lost || steps < NR_PENDING * IN_LIST)
		printf("%d steps, %d locks lost  WRONG\n", steps, lost);
	else
		printf("%d steps, all locks recovered\n", steps);
	return !lost && steps >= NR_PENDING * IN_LIST;
}

int main(int argc, char *argv[])
{
	static struct guest_thread main_thread;
	struct robust_list_head *before, *after;
	bool good = true, works;
	size_t len;

	if (argc == 2 && !strcmp(argv[1], "executed"))
		return EXIT_SUCCESS;

	/* A child must not print the buffered output again. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mmap((void *)GUEST_MEMORY, sizeof(*memory), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)memory)
		fail("mmap");
	memory->patience.tv_sec = guest_robust_list_in_kernel() ? 20 : 1;
	memory->patience.tv_nsec = 1000000;
	memory->patience64 = (struct guest_timespec64){
		memory->patience.tv_sec, memory->patience.tv_nsec, -1
	};
	printf("The guests' robust lists: %s\n", guest_robust_list_in_kernel() ?
	       "set_robust_list2()" : "this kernel has no set_robust_list2()");

	if (syscall(SYS_get_robust_list, 0, &before, &len))
		fail("get_robust_list");
	start_guest_thread(&main_thread);
	guest_start(&memory->main);
	good &= list_reads_back(0, &memory->main);
	printf("%-22s %s\n", "get_robust_list()", good ? "what the guest has set" : "WRONG");

	/* An emulator with a stale index registers anew. */
	if (guest_robust_list_in_kernel()) {
		syscall(__NR_set_robust_list2, NULL, main_thread.robust_list.index,
			ROBUST_LIST_UNREGISTER);
		guest_start(&memory->main);
		works = list_reads_back(0, &memory->main);
		printf("%-22s %s\n", "stale index", works ? "registered anew" : "WRONG");
		good &= works;
	}

	works = futex_works(GUEST_NR_FUTEX) && futex_works(GUEST_NR_FUTEX_TIME64);
	printf("%-22s %s\n", "futex()", works ? "moves, wakes and counts" : "WRONG");
	good &= works;

	for (const struct death *death = deaths; death->name; death++)
		good &= show(death);
	good &= survive_troubles();
	if (guest_robust_list_in_kernel())
		good &= survive_steps();

	/* The list of the emulator's own C library is untouched. */
	if (syscall(SYS_get_robust_list, 0, &after, &len))
		fail("get_robust_list");
	good &= before && before == after;
	printf("%-22s %s\n", "the host's C library", before && before == after ?
	       "has the list that it had" : "WRONG");

	if (!good)
		return EXIT_FAILURE;
	return guest_robust_list_in_kernel() ? EXIT_SUCCESS : EXIT_NO_SYSCALL;
}
