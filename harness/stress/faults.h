/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Faults that the kernel injects: of the allocations and futex keys in a call, fork,
 * exec or exit, the first one fails, then the second one, and so on, until none is left
 * (/proc/thread-self/fail-nth).
 */
#ifndef FAULTS_H
#define FAULTS_H

#include "adversity.h"

/* The limit for a path that repeats a failed step forever */
#define MAX_POINTS	600

#define DEBUGFS		"/sys/kernel/debug/"

/* Results of the processes */
static struct notes {
	atomic_int	enomem;
	atomic_int	efault;
	atomic_int	emptied;
	atomic_int	bad_line;
	atomic_int	injected;
} *notes = (void *)AREA;

/* Records the number of the first line with a wrong result. */
#define EXPECT(condition)					\
	do {							\
		int expected = 0;				\
								\
		if (!(condition))				\
			atomic_compare_exchange_strong(&notes->bad_line, &expected, __LINE__); \
	} while (0)

static inline bool have_fault_injection(void)
{
	static const char * const knobs[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
		{ "fail_futex/ignore-private", "N" },
		{ "fail_futex/verbose", "0" },
	};
	char name[128];

	for (size_t i = 0; i < sizeof(knobs) / sizeof(*knobs); i++) {
		snprintf(name, sizeof(name), DEBUGFS "%s", knobs[i][0]);
		if (!write_file(name, knobs[i][1]))
			return false;
	}
	return !access("/proc/thread-self/fail-nth", W_OK);
}

/* Makes the nth point of failure of the calling thread fail. */
static inline void arm(int fd, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	if (pwrite(fd, text, len, 0) != len)
		_exit(90);
}

/* Disarms, and returns whether the fault was injected. */
static inline bool disarm(int fd)
{
	char text[16] = "";
	/* A failed read has consumed the rest. */
	bool injected = pread(fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);

	while (pwrite(fd, "0", 1, 0) != 1)
		;
	return injected;
}

static inline int open_fail_nth(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	if (fd == -1)
		_exit(91);
	return fd;
}

static inline bool is_registered(int index, const struct list *list)
{
	__u64 head = 0;

	return get_robust_list2(0, &head, index, 0) == (long)type_of(list->kind) &&
	       head == (uintptr_t)list->head;
}

/* Runs a function in a process per point, for 1, 2, 3, ..., until no fault is injected. */
static inline int at_each_point(void (*fn)(int n))
{
	int n = 1;

	memset(notes, 0, sizeof(*notes));
	for (; n < MAX_POINTS; n++) {
		int status = 0;
		pid_t pid;

		atomic_store(&notes->injected, 0);
		pid = need_child();
		if (!pid) {
			fn(n);
			_exit(0);
		}
		EXPECT(reap(pid, &status));
		if (status) {
			say("point %d: wait status %#x", n, status);
			EXPECT(false);
		}
		if (!atomic_load(&notes->injected))
			break;
	}
	EXPECT(n < MAX_POINTS);
	if (atomic_load(&notes->bad_line))
		say("line %d found something wrong", atomic_load(&notes->bad_line));
	return n - 1;
}

/* The kind of the first registration, which allocates the table */
static enum kind kind_under_test;

/*
 * The kernel kills a thread if it cannot write to the thread's rseq area, and a fork
 * leaves that area to be copied later. So the program runs without rseq.
 */
static inline void disable_rseq(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	execv("/proc/self/exe", argv);
	exit(1);
}

/* Sets up the memory, and returns whether the kernel can inject faults. */
static inline bool begin_faults(char **argv)
{
	disable_rseq(argv);
	tap_begin();
	map_shared(AREA, 0x10000);
	if (have_fault_injection())
		return true;
	skip("injected faults",
	     "no FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_USERCOPY or FAIL_FUTEX");
	return false;
}

#endif
