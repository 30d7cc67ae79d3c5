// SPDX-License-Identifier: GPL-2.0
/*
 * The demonstration behind "make run": a thread that holds locks in three robust
 * lists is killed while others wait for them.  Everything that is printed was
 * read from memory or measured, and what is not as it should be makes the
 * program fail.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
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
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long a waiter waits that nobody wakes */
#define IN_VAIN_MS	300

/* Below 4 GiB, for the 32-bit list; the same address in both processes */
#define SHARED_ADDRESS	0x60000000UL

/* A lock: a list entry of either width, and the futex word. */
struct lock {
	union {
		struct robust_list	entry64;
		struct robust_list32	entry32;
	};
	_Atomic(uint32_t) word;
};

#define OFFSET ((long)offsetof(struct lock, word))

enum { LIBRARY, OWN, GUEST, LISTS };
enum { LOCKS = 2 };

struct shared {
	struct robust_list_head		library;
	struct robust_list_head		own;
	struct robust_list_head32	guest;
	struct lock			lock[LISTS][LOCKS];
	/* A lock that is in no list */
	struct lock			forgotten;
	_Atomic(int)			ready;
	long				index[LISTS];
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

static long set_robust_list2(void *head, int index, unsigned int flags)
{
	return syscall(__NR_set_robust_list2, head, index, flags);
}

static uint32_t pointer32(const void *pointer)
{
	return (uintptr_t)pointer;
}

/* The thread that will be killed: registers its lists, takes its locks, waits. */
static void hold_locks(void)
{
	uint32_t tid = syscall(SYS_gettid);
	struct robust_list_head *heads[] = { &shared->library, &shared->own };

	for (int list = LIBRARY; list <= OWN; list++) {
		struct lock *lock = shared->lock[list];

		heads[list]->futex_offset = OFFSET;
		heads[list]->list.next = &lock[0].entry64;
		lock[0].entry64.next = &lock[1].entry64;
		lock[1].entry64.next = &heads[list]->list;
	}
	shared->guest.futex_offset = OFFSET;
	shared->guest.list.next = pointer32(&shared->lock[GUEST][0]);
	shared->lock[GUEST][0].entry32.next = pointer32(&shared->lock[GUEST][1]);
	shared->lock[GUEST][1].entry32.next = pointer32(&shared->guest);

	for (int list = 0; list < LISTS; list++)
		for (int i = 0; i < LOCKS; i++)
			atomic_store(&shared->lock[list][i].word, tid);
	atomic_store(&shared->forgotten.word, tid);

	if (syscall(SYS_set_robust_list, &shared->library, sizeof(shared->library)))
		die("set_robust_list");
	shared->index[OWN] = set_robust_list2(&shared->own, ROBUST_LIST_NEW, ROBUST_LIST_64BIT);
	shared->index[GUEST] = set_robust_list2(&shared->guest, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
	if (shared->index[OWN] < 0 || shared->index[GUEST] < 0)
		die("set_robust_list2");
	atomic_store(&shared->ready, 1);
	for (;;)
		pause();
}

/* One of those who wait for a lock. */
struct waiter {
	pthread_t		thread;
	struct lock		*lock;
	const char		*name;
	_Atomic(int)		tid;
	bool			woken;
	struct timespec		when;
};

static void *wait_for_lock(void *arg)
{
	struct timespec timeout = { .tv_sec = 20 };
	struct waiter *waiter = arg;
	uint32_t word = atomic_fetch_or(&waiter->lock->word, FUTEX_WAITERS) | FUTEX_WAITERS;

	if (waiter->lock == &shared->forgotten)
		timeout = (struct timespec){ .tv_nsec = IN_VAIN_MS * 1000000L };
	atomic_store(&waiter->tid, syscall(SYS_gettid));
	waiter->woken = !syscall(SYS_futex, &waiter->lock->word, FUTEX_WAIT, word, &timeout, NULL, 0);
	clock_gettime(CLOCK_MONOTONIC, &waiter->when);
	return NULL;
}

static bool asleep(int tid)
{
	char name[64], stat[512] = "", *end;
	int fd;

	snprintf(name, sizeof(name), "/proc/self/task/%d/stat", tid);
	fd = open(name, O_RDONLY);
	if (fd == -1)
		return false;
	if (read(fd, stat, sizeof(stat) - 1) == -1)
		stat[0] = 0;
	close(fd);
	end = strrchr(stat, ')');
	return end && end[2] == 'S';
}

static void start_waiter(struct waiter *waiter, struct lock *lock)
{
	waiter->lock = lock;
	if (pthread_create(&waiter->thread, NULL, wait_for_lock, waiter))
		die("pthread_create");
	while (!atomic_load(&waiter->tid) || !asleep(atomic_load(&waiter->tid)))
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
			       (void *)&shared->lock[list][i].word);
			describe_word(atomic_load(&shared->lock[list][i].word));
		}
	printf("  %-19s lock   at %p   ", "in no list", (void *)&shared->forgotten.word);
	describe_word(atomic_load(&shared->forgotten.word));
}

static void print_lists(pid_t victim)
{
	struct robust_list_head *library;
	uint64_t head[LISTS];
	size_t size;

	printf("  %-19s %-25s 64-bit pointers, head %p\n", list_name[LIBRARY], "set_robust_list()",
	       (void *)&shared->library);
	printf("  %-19s %-25s 64-bit pointers, head %p\n", list_name[OWN],
	       "set_robust_list2(), index 0", (void *)&shared->own);
	printf("  %-19s %-25s 32-bit pointers, head %p\n", list_name[GUEST],
	       "set_robust_list2(), index 1", (void *)&shared->guest);

	/* What the kernel says is registered */
	expect(!syscall(SYS_get_robust_list, victim, &library, &size) && library == &shared->library,
	       "get_robust_list() does not return the C library's list");
	expect(syscall(__NR_get_robust_list2, victim, &head[OWN], 0, 0) == ROBUST_LIST_64BIT &&
	       head[OWN] == (uintptr_t)&shared->own,
	       "get_robust_list2() does not return the 64-bit list");
	expect(syscall(__NR_get_robust_list2, victim, &head[GUEST], 1, 0) == ROBUST_LIST_32BIT &&
	       head[GUEST] == (uintptr_t)&shared->guest,
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
	if (set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) < LISTS - OWN)
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
		word = atomic_load(&shared->lock[list][0].word);
		expect(word == (FUTEX_OWNER_DIED | FUTEX_WAITERS), "the word of a lock with a waiter");
		word = atomic_load(&shared->lock[list][1].word);
		expect(word == FUTEX_OWNER_DIED, "the word of a lock without a waiter");
	}
	pthread_join(in_vain.thread, NULL);
	printf("  %-19s %d  %s, gave up after %.0f us\n", "in no list", in_vain.tid,
	       in_vain.woken ? "WOKEN" : "not woken", microseconds(&killed, &in_vain.when));
	expect(!in_vain.woken, "somebody woke the waiter of a lock in no list");
	expect(atomic_load(&shared->forgotten.word) == ((uint32_t)victim | FUTEX_WAITERS),
	       "the word of a lock in no list");

	printf("\nWithout set_robust_list2() the kernel would have known the first list only.\n");
	printf("%s\n", failed ? "This is NOT what should have happened." : "All as it should be.");
	return failed;
}
