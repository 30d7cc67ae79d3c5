/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the adversity tests share: robust lists of every kind anywhere in memory,
 * processes that hold locks and die, processes that wait for them, TAP.
 *
 * A list is always laid out by the program itself and never by the C library.
 * Each kind of list gets the same treatment, that of set_robust_list() included:
 * what the kernel does for that one is the control.
 */
#ifndef ADVERSITY_H
#define ADVERSITY_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/types.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "walk_limits.h"

/* A waiter that nobody wakes, and a process that does not die, is given up after this long. */
#define PATIENCE	30

/*
 * Where a test has its memory: 32-bit lists have to be below 4 GiB. A static program
 * has its heap anywhere in the first one.
 */
#define AREA		0x60000000UL

static inline long set_robust_list2(const void *head, int index, unsigned int flags)
{
	return syscall(__NR_set_robust_list2, head, index, flags);
}

static inline long get_robust_list2(int pid, void *head, int index, unsigned int flags)
{
	return syscall(__NR_get_robust_list2, pid, head, index, flags);
}

static inline __u32 gettid32(void)
{
	return syscall(SYS_gettid);
}

/*
 * TAP. It is written without a buffer, so that a child never repeats what its
 * parent has said.
 */
static int tap_count, tap_failed;

static inline void say(const char *format, ...)
{
	char line[512] = "# ";
	va_list args;
	int len;

	va_start(args, format);
	len = 2 + vsnprintf(line + 2, sizeof(line) - 3, format, args);
	va_end(args);
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	if (write(1, line, len) != len)
		_exit(1);
}

static inline void ok(bool good, const char *format, ...)
{
	char name[256];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	tap_failed += !good;
	dprintf(1, "%s %d %s\n", good ? "ok" : "not ok", ++tap_count, name);
}

static inline void skip(const char *name, const char *reason)
{
	dprintf(1, "ok %d %s # SKIP %s\n", ++tap_count, name, reason);
}

static inline int tap_end(void)
{
	dprintf(1, "1..%d\n", tap_count);
	return !!tap_failed;
}

/* For what is not a test's subject, and has to work. */
static inline void need(bool good, const char *what)
{
	if (good)
		return;
	dprintf(1, "Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Starts the TAP of a program, and ends it where the kernel lacks the system calls. */
static inline void tap_begin(void)
{
	dprintf(1, "TAP version 13\n");
	if (set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) == -1 &&
	    errno == ENOSYS) {
		dprintf(1, "1..0 # SKIP set_robust_list2() is not implemented\n");
		exit(0);
	}
}

/* An argument, as "short": less of everything, for those who cannot wait. */
static inline bool has_argument(int argc, char **argv, const char *argument)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], argument))
			return true;
	}
	return false;
}

/* Lists */
enum kind {
	LEGACY,
	LIST32,
	LIST64,
};

#define KINDS	(sizeof(long) == 8 ? 3 : 2)
#define MAX_KINDS	3

static const char * const kind_names[] = { "set_robust_list()", "32-bit list", "64-bit list" };

/* Entry n is at entry + n * stride, and its futex word at word + n * stride. */
struct list {
	enum kind	kind;
	char		*head;
	char		*entry;
	char		*word;
	size_t		stride;
	int		len;
};

static inline bool is_64bit(enum kind kind)
{
	return kind == LIST64 || (kind == LEGACY && sizeof(long) == 8);
}

static inline size_t pointer_size(enum kind kind)
{
	return is_64bit(kind) ? 8 : 4;
}

static inline void store(enum kind kind, void *at, intptr_t value)
{
	if (is_64bit(kind))
		*(__s64 *)at = value;
	else
		*(__s32 *)at = value;
}

static inline char *entry_of(const struct list *list, int n)
{
	return list->entry + n * list->stride;
}

static inline atomic_uint *word_of(const struct list *list, int n)
{
	return (atomic_uint *)(list->word + n * list->stride);
}

static inline void set_next(const struct list *list, char *entry, const char *next)
{
	store(list->kind, entry, (intptr_t)next);
}

static inline void set_pending(const struct list *list, const char *entry)
{
	store(list->kind, list->head + 2 * pointer_size(list->kind), (intptr_t)entry);
}

/* Links all entries in their order. */
static inline void link_list(const struct list *list)
{
	char *from = list->head;

	for (int i = 0; i < list->len; i++) {
		set_next(list, from, entry_of(list, i));
		from = entry_of(list, i);
	}
	set_next(list, from, list->head);
	store(list->kind, list->head + pointer_size(list->kind), list->word - list->entry);
	set_pending(list, NULL);
}

static inline void set_words(const struct list *list, __u32 value)
{
	for (int i = 0; i < list->len; i++)
		atomic_store(word_of(list, i), value);
}

/* How many words have this value, FUTEX_WAITERS aside */
static inline int count_words(const struct list *list, __u32 value)
{
	int n = 0;

	for (int i = 0; i < list->len; i++)
		n += (atomic_load(word_of(list, i)) & ~FUTEX_WAITERS) == value;
	return n;
}

static inline bool all_died(const struct list *list)
{
	return count_words(list, FUTEX_OWNER_DIED) == list->len;
}

static inline unsigned int type_of(enum kind kind)
{
	return kind == LIST64 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

static inline bool register_list(const struct list *list)
{
	if (list->kind == LEGACY)
		return !syscall(SYS_set_robust_list, list->head, 3 * sizeof(long));
	return set_robust_list2(list->head, ROBUST_LIST_NEW, type_of(list->kind)) >= 0;
}

/* The calling thread takes all locks of a list and registers it. */
static inline bool hold(const struct list *list)
{
	link_list(list);
	set_words(list, gettid32());
	return register_list(list);
}

/* Memory that all processes of a test share */
static inline void *map_shared(unsigned long where, size_t size)
{
	void *memory = mmap((void *)where, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	need(memory == (void *)where, "mmap");
	return memory;
}

/* One list of each kind, all in one piece of memory */
#define LOCKS	8
#define ENTRY	16

static inline void place_lists(struct list *list, char *memory)
{
	for (int i = 0; i < KINDS; i++, memory += (LOCKS + 2) * ENTRY) {
		list[i] = (struct list) {
			.kind = i,
			.head = memory,
			.entry = memory + 2 * ENTRY,
			.word = memory + 2 * ENTRY + 8,
			.stride = ENTRY,
			.len = LOCKS,
		};
	}
}

static inline bool hold_all(const struct list *list)
{
	for (int i = 0; i < KINDS; i++) {
		if (!hold(&list[i]))
			return false;
	}
	return true;
}

/* Time and processes */
static inline double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static inline void nap(void)
{
	nanosleep(&(struct timespec) { .tv_nsec = 1000000 }, NULL);
}

/* Waits until a process is gone, but not forever. */
static inline bool reap(pid_t pid, int *status)
{
	double end = now() + PATIENCE;
	int ignored;

	while (now() < end) {
		if (waitpid(pid, status ? status : &ignored, WNOHANG | __WALL) == pid)
			return true;
		nap();
	}
	return false;
}

static inline pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	need(pid != -1, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/*
 * Starts a process that takes locks. When this returns, it has them, and dies by
 * itself or waits for its death.
 */
static inline pid_t start(bool (*take)(void *arg), void (*die)(void *arg), void *arg)
{
	int fd[2];
	pid_t pid;
	char c;

	need(!pipe(fd), "pipe");
	pid = fork_child();
	if (!pid) {
		if (!take(arg) || write(fd[1], "", 1) != 1) {
			say("the process that should hold locks failed: %s", strerror(errno));
			_exit(1);
		}
		if (die)
			die(arg);
		for (;;)
			pause();
	}
	close(fd[1]);
	need(read(fd[0], &c, 1) == 1, "a process with locks");
	close(fd[0]);
	return pid;
}

static inline bool kill_and_reap(pid_t pid)
{
	int status;

	return !kill(pid, SIGKILL) && reap(pid, &status) && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
}

/* The state of a process, as /proc has it behind the name in parentheses. */
static inline char process_state(pid_t pid)
{
	char name[64], stat[512] = "", *end;
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	fd = open(name, O_RDONLY);
	if (fd == -1)
		return 0;
	if (read(fd, stat, sizeof(stat) - 1) == -1)
		stat[0] = 0;
	close(fd);
	end = strrchr(stat, ')');
	return end ? end[2] : 0;
}

static inline bool wait_for_state(pid_t pid, char state)
{
	double end = now() + PATIENCE;

	while (process_state(pid) != state) {
		if (now() > end)
			return false;
		nap();
	}
	return true;
}

/* A process that waits for a lock, and sleeps when this returns. */
static inline pid_t start_waiter(atomic_uint *word)
{
	pid_t pid = fork_child();

	if (!pid) {
		__u32 value = atomic_fetch_or(word, FUTEX_WAITERS) | FUTEX_WAITERS;

		alarm(PATIENCE);
		_exit(syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0) != 0);
	}
	need(wait_for_state(pid, 'S'), "a process that waits");
	return pid;
}

/* Whether the waiter has been woken, which takes its alarm at most. */
static inline bool woken(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

/* Small files, of /proc and the like */
static inline bool write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY);
	bool good;

	if (fd == -1)
		return false;
	good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

/* KASAN makes all memory of the kernel's larger, keeps freed memory back, and is slow. */
static inline bool have_kasan(void)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	bool found = false;
	char line[512];

	while (file && !found && fgets(line, sizeof(line), file))
		found = strstr(line, " __kasan_slab_alloc\n");
	if (file)
		fclose(file);
	return found;
}

/* The number behind a word in a file, or -1 */
static inline long read_number(const char *name, const char *word)
{
	char line[256];
	long value = -1;
	FILE *file = fopen(name, "r");

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, word, strlen(word))) {
			value = strtol(line + strlen(word), NULL, 10);
			break;
		}
	}
	fclose(file);
	return value;
}

#endif
