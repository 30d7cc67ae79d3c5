// SPDX-License-Identifier: GPL-2.0
/*
 * A library with robust locks of its own, beside those of the C library, by
 * set_robust_list2().
 *
 * A process takes such a lock and a robust mutex of the C library, and is killed
 * while it changes the data under them. Another process waits for both locks, gets
 * them and repairs the data.
 *
 * Documentation/userspace-api/set_robust_list2.rst explains this program. Exits
 * with 0 on success.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The list of this program has the pointers of this program. */
#if __SIZEOF_POINTER__ == 8
# define LIST_TYPE	ROBUST_LIST_64BIT
# define UNLOCK_WAKE	FUTEX_UNLOCK_WAKE_LIST64
#else
# define LIST_TYPE	ROBUST_LIST_32BIT
# define UNLOCK_WAKE	FUTEX_UNLOCK_WAKE_LIST32
#endif

/* ---- The library ---- */

/* The two parts of a lock that the kernel knows: its entry on a list, and its futex word. */
struct lock {
	struct robust_list	entry;
	atomic_uint	word;
};

/* One list per thread. It must exist for as long as the thread does. */
static __thread struct {
	struct robust_list_head	head;
	uint32_t		tid;
} self;

/*
 * The thread may die between any two instructions, and the kernel then reads the
 * list. So the compiler must keep the order of the stores. The CPU keeps it for the
 * thread's own view of its memory.
 */
#define barrier() atomic_signal_fence(memory_order_seq_cst)

/* Call this once in every thread, and once in the child of a fork(). */
static int register_thread(void)
{
	self.tid = syscall(SYS_gettid);
	self.head.list.next = &self.head.list;
	self.head.futex_offset = offsetof(struct lock, word);
	self.head.list_op_pending = NULL;
	return syscall(__NR_set_robust_list2, &self.head, ROBUST_LIST_NEW, LIST_TYPE);
}

/*
 * Returns 0, or EOWNERDEAD if the last owner died with the lock. The caller holds
 * the lock in both cases.
 *
 * The kernel wakes without FUTEX_PRIVATE_FLAG, so the lock waits without it.
 */
static int robust_lock(struct lock *lock)
{
	uint32_t waiters = 0, word;

	self.head.list_op_pending = &lock->entry;
	barrier();
	for (;;) {
		word = atomic_load(&lock->word);
		if (!(word & FUTEX_TID_MASK)) {
			/* Free, or the owner died. Others may wait, so keep FUTEX_WAITERS. */
			uint32_t mine = self.tid | waiters | (word & FUTEX_WAITERS);

			if (atomic_compare_exchange_strong(&lock->word, &word, mine))
				break;
			continue;
		}
		if (!(word & FUTEX_WAITERS) &&
		    !atomic_compare_exchange_strong(&lock->word, &word, word | FUTEX_WAITERS))
			continue;
		syscall(SYS_futex, &lock->word, FUTEX_WAIT, word | FUTEX_WAITERS, NULL, NULL, 0);
		/* An unlock clears FUTEX_WAITERS, but wakes only one waiter. */
		waiters = FUTEX_WAITERS;
	}
	lock->entry.next = self.head.list.next;
	barrier();
	self.head.list.next = &lock->entry;
	barrier();
	self.head.list_op_pending = NULL;
	return word & FUTEX_OWNER_DIED ? EOWNERDEAD : 0;
}

static void robust_unlock(struct lock *lock)
{
	struct robust_list *from = &self.head.list;
	uint32_t word = self.tid;

	self.head.list_op_pending = &lock->entry;
	barrier();
	while (from->next != &lock->entry)
		from = from->next;
	from->next = lock->entry.next;
	barrier();
	if (!atomic_compare_exchange_strong(&lock->word, &word, 0)) {
		/* Somebody waits: the kernel unlocks, clears list_op_pending and wakes. */
		syscall(SYS_futex, &lock->word, UNLOCK_WAKE, 1, NULL,
			&self.head.list_op_pending, 0);
	}
	barrier();
	self.head.list_op_pending = NULL;
}

/* ---- The program ---- */

#define TOTAL		100
#define PART		30

/* A waiter that nobody wakes ends the program after this many seconds. */
#define PATIENCE	20

/* The sum is TOTAL unless somebody holds the lock of the account. */
struct account {
	int left, right;
};

/* The memory that both processes share */
struct shared {
	struct lock	lock;
	struct account	ours;
	pthread_mutex_t	mutex;
	struct account	libc;
};

static void fail(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static struct shared *create_shared(void)
{
	pthread_mutexattr_t attr;
	struct shared *shared;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		fail("mmap");
	shared->ours.left = TOTAL;
	shared->libc.left = TOTAL;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	errno = pthread_mutex_init(&shared->mutex, &attr);
	if (errno)
		fail("pthread_mutex_init");
	return shared;
}

/* Dies with both locks and half of the work done, once the other process waits. */
static void victim(struct shared *shared)
{
	if (register_thread() == -1)
		fail("set_robust_list2");
	if (robust_lock(&shared->lock) || pthread_mutex_lock(&shared->mutex))
		exit(EXIT_FAILURE);

	shared->ours.left -= PART;
	shared->libc.left -= PART;
	while (!(atomic_load(&shared->lock.word) & FUTEX_WAITERS))
		usleep(1000);
	kill(getpid(), SIGKILL);
}

/* Returns whether the account was as the victim left it. */
static bool repair(const char *name, int status, struct account *account)
{
	bool expected = status == EOWNERDEAD && account->left == TOTAL - PART && !account->right;

	printf("%-20s %s, left %d, right %d\n", name,
	       status == EOWNERDEAD ? "EOWNERDEAD" : "not EOWNERDEAD",
	       account->left, account->right);
	account->right = TOTAL - account->left;
	return expected;
}

int main(void)
{
	struct shared *shared;
	bool good = true;
	int max, status;
	pid_t child;

	/* Probe for set_robust_list2(), and ask how many lists a thread can have. */
	max = syscall(__NR_set_robust_list2, NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
	if (max == -1)
		fail("set_robust_list2");
	printf("%-20s %d\n", "lists per thread", max);

	shared = create_shared();
	child = fork();
	if (child == -1)
		fail("fork");
	if (!child)
		victim(shared);

	alarm(PATIENCE);
	if (register_thread() == -1)
		fail("set_robust_list2");
	while (!atomic_load(&shared->lock.word))
		usleep(1000);

	status = robust_lock(&shared->lock);
	good &= repair("set_robust_list2()", status, &shared->ours);
	robust_unlock(&shared->lock);

	status = pthread_mutex_lock(&shared->mutex);
	good &= repair("the C library", status, &shared->libc);
	if (status == EOWNERDEAD)
		pthread_mutex_consistent(&shared->mutex);
	pthread_mutex_unlock(&shared->mutex);

	/* Nobody has died since, so the lock is as usual. */
	good &= robust_lock(&shared->lock) == 0 && shared->ours.right == PART;
	robust_unlock(&shared->lock);

	waitpid(child, NULL, 0);
	printf("%s\n", good ? "repaired" : "FAILED");
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
