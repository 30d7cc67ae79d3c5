// SPDX-License-Identifier: GPL-2.0
/*
 * The demonstration of "make run": a thread with locks on three robust lists is killed
 * while other threads wait for the locks. All output is read from memory or measured,
 * and an unexpected value makes the program fail.
 */

#define _GNU_SOURCE
#include "robust_list2_victim.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/utsname.h>

/* The time that a waiter waits in vain */
#define IN_VAIN_MS	300

/* Below 4 GiB, for the 32-bit list; the same address in both processes */
#define SHARED_ADDRESS	0x60000000UL

enum { LIBRARY, OWN, GUEST, LISTS };
enum { LOCKS = 2 };

struct shared {
	union head	head[LISTS];
	struct lock	lock[LISTS][LOCKS];
	/* A lock that is on no list */
	struct lock	forgotten;
	atomic_int	ready;
	long		index[LISTS];
};

static const unsigned int list_type[LISTS] = {
	[LIBRARY] = ROBUST_LIST_64BIT,
	[OWN] = ROBUST_LIST_64BIT,
	[GUEST] = ROBUST_LIST_32BIT,
};

static const char *const list_name[LISTS] = {
	[LIBRARY] = "the C library's",
	[OWN] = "the emulator's own",
	[GUEST] = "the 32-bit guest's",
};

static struct shared *shared;
static bool failed;

static void expect(bool condition, const char *what)
{
	if (!condition) {
		printf("  WRONG: %s\n", what);
		failed = true;
	}
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* The thread that will be killed registers its lists, takes its locks and waits. */
static void hold_locks(void)
{
	for (int list = 0; list < LISTS; list++) {
		union head *head = &shared->head[list];

		make_list(list_type[list], head, shared->lock[list], LOCKS);
		take_locks(shared->lock[list], LOCKS);
		if (list != LIBRARY)
			shared->index[list] = set_robust_list2(head, ROBUST_LIST_NEW, list_type[list]);
		else if (set_legacy_list(head))
			die("set_robust_list");
	}
	take_locks(&shared->forgotten, 1);
	if (shared->index[OWN] < 0 || shared->index[GUEST] < 0)
		die("set_robust_list2");
	atomic_store(&shared->ready, 1);
	for (;;)
		pause();
}

/* A waiter for a lock */
struct waiter {
	pthread_t		thread;
	struct lock		*lock;
	const char		*name;
	atomic_int		tid;
	bool			woken;
	struct timespec		when;
};

static void *wait_for_lock(void *arg)
{
	struct timespec timeout = { .tv_sec = 20 };
	struct waiter *waiter = arg;
	uint32_t word = atomic_fetch_or(&waiter->lock->futex, FUTEX_WAITERS) | FUTEX_WAITERS;

	if (waiter->lock == &shared->forgotten)
		timeout = (struct timespec){ .tv_nsec = IN_VAIN_MS * 1000000L };
	atomic_store(&waiter->tid, gettid32());
	waiter->woken = !wait_while(&waiter->lock->futex, word, &timeout);
	clock_gettime(CLOCK_MONOTONIC, &waiter->when);
	return NULL;
}

static void start_waiter(struct waiter *waiter, struct lock *lock)
{
	waiter->lock = lock;
	if (pthread_create(&waiter->thread, NULL, wait_for_lock, waiter))
		die("pthread_create");
	while (!atomic_load(&waiter->tid) || thread_state(atomic_load(&waiter->tid)) != 'S')
		sched_yield();
}

static void describe_word(uint32_t word)
{
	printf("0x%08x", word);
	if (word & FUTEX_TID_MASK)
		printf("  owner %u", word & FUTEX_TID_MASK);
	else
		printf("  no owner");
	printf("%s%s\n", word & FUTEX_OWNER_DIED ? ", FUTEX_OWNER_DIED" : "",
	       word & FUTEX_WAITERS ? ", FUTEX_WAITERS" : "");
}

static void print_words(void)
{
	for (int list = 0; list < LISTS; list++)
		for (int i = 0; i < LOCKS; i++) {
			printf("  %-19s lock %d at %p   ", list_name[list], i,
			       (void *)&shared->lock[list][i].futex);
			describe_word(atomic_load(&shared->lock[list][i].futex));
		}
	printf("  %-19s lock   at %p   ", "in no list", (void *)&shared->forgotten.futex);
	describe_word(atomic_load(&shared->forgotten.futex));
}

static void print_lists(pid_t victim)
{
	union head *library;
	uint64_t head[LISTS];
	size_t size;

	printf("  %-19s %-25s 64-bit pointers, head %p\n", list_name[LIBRARY], "set_robust_list()",
	       (void *)&shared->head[LIBRARY]);
	printf("  %-19s %-25s 64-bit pointers, head %p\n", list_name[OWN],
	       "set_robust_list2(), index 0", (void *)&shared->head[OWN]);
	printf("  %-19s %-25s 32-bit pointers, head %p\n", list_name[GUEST],
	       "set_robust_list2(), index 1", (void *)&shared->head[GUEST]);

	/* The registrations as the kernel reports them */
	expect(!syscall(SYS_get_robust_list, victim, &library, &size) && library == &shared->head[LIBRARY],
	       "get_robust_list() does not return the C library's list");
	expect(get_robust_list2(victim, &head[OWN], 0, 0) == ROBUST_LIST_64BIT &&
	       head[OWN] == (uintptr_t)&shared->head[OWN],
	       "get_robust_list2() does not return the 64-bit list");
	expect(get_robust_list2(victim, &head[GUEST], 1, 0) == ROBUST_LIST_32BIT &&
	       head[GUEST] == (uintptr_t)&shared->head[GUEST],
	       "get_robust_list2() does not return the 32-bit list");
}

static double microseconds(const struct timespec *from, const struct timespec *to)
{
	return (to->tv_sec - from->tv_sec) * 1e6 + (to->tv_nsec - from->tv_nsec) / 1e3;
}

int main(void)
{
	static struct waiter waiter[LISTS], in_vain;
	struct timespec killed;
	struct utsname uts;
	uint32_t word;
	pid_t victim;

	if (uname(&uts))
		die("uname");
	if (lists_per_thread() < LISTS - OWN)
		die("set_robust_list2(ROBUST_LIST_QUERY_MAX)");

	shared = mmap((void *)SHARED_ADDRESS, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");

	victim = fork();
	if (victim == -1)
		die("fork");
	if (!victim)
		hold_locks();
	while (!atomic_load(&shared->ready))
		if (waitpid(victim, NULL, WNOHANG))
			exit(1);

	printf("Linux %s on %s. A 64-bit emulator of a 32-bit program holds locks in shared memory.\n\n",
	       uts.release, uts.machine);
	printf("Its thread %d has registered three robust lists, with two locks in each:\n", victim);
	print_lists(victim);

	for (int list = 0; list < LISTS; list++)
		start_waiter(&waiter[list], &shared->lock[list][0]);
	start_waiter(&in_vain, &shared->forgotten);
	printf("\nOther threads sleep in futex(FUTEX_WAIT) for the first lock of each list (%d, %d, %d),\n"
	       "and one (%d) for a lock that is in no list. The futex words:\n",
	       waiter[0].tid, waiter[1].tid, waiter[2].tid, in_vain.tid);
	print_words();

	printf("\nkill -9 %d\n\n", victim);
	clock_gettime(CLOCK_MONOTONIC, &killed);
	if (kill(victim, SIGKILL) || waitpid(victim, NULL, 0) != victim)
		die("kill");
	for (int list = 0; list < LISTS; list++)
		pthread_join(waiter[list].thread, NULL);

	printf("The kernel has walked the three lists. The futex words now:\n");
	print_words();
	printf("\nWho was woken, and how long after the kill:\n");
	for (int list = 0; list < LISTS; list++) {
		printf("  %-19s %d  %s after %.0f us\n", list_name[list], waiter[list].tid,
		       waiter[list].woken ? "woken" : "NOT WOKEN",
		       microseconds(&killed, &waiter[list].when));
		expect(waiter[list].woken, "a waiter was not woken");
		word = atomic_load(&shared->lock[list][0].futex);
		expect(word == (FUTEX_OWNER_DIED | FUTEX_WAITERS), "the word of a lock with a waiter");
		word = atomic_load(&shared->lock[list][1].futex);
		expect(word == FUTEX_OWNER_DIED, "the word of a lock without a waiter");
	}
	pthread_join(in_vain.thread, NULL);
	printf("  %-19s %d  %s, gave up after %.0f us\n", "in no list", in_vain.tid,
	       in_vain.woken ? "WOKEN" : "not woken", microseconds(&killed, &in_vain.when));
	expect(!in_vain.woken, "somebody woke the waiter of a lock in no list");
	expect(atomic_load(&shared->forgotten.futex) == ((uint32_t)victim | FUTEX_WAITERS),
	       "the word of a lock in no list");

	printf("\nWithout set_robust_list2() the kernel would have known the first list only.\n");
	printf("%s\n", failed ? "The result is WRONG." : "All results are as expected.");
	return failed;
}
