/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the adversity tests: robust lists of every kind anywhere in memory,
 * processes that hold locks and die, waiters, and TAP.
 *
 * The program lays out each list itself, without the C library. Lists of
 * set_robust_list() get the same treatment as the control.
 */
#ifndef ADVERSITY_H
#define ADVERSITY_H

#include "robust_list2_victim.h"

#include <linux/types.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

/*
 * Seconds until a waiter that nobody wakes, or a process that does not die, counts as
 * hanging
 */
#define PATIENCE	30

/*
 * Test memory is below 4 GiB for 32-bit lists, and above the first GiB, where a static
 * program has its heap.
 */
#define AREA		0x60000000UL

/* TAP output is unbuffered, so that a child does not repeat the lines of its parent. */
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

/* A condition that the test depends on but does not test */
static inline void need(bool good, const char *what)
{
	if (good)
		return;
	dprintf(1, "Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Starts the TAP of a program, and ends it if the kernel lacks the system calls. */
static inline void tap_begin(void)
{
	dprintf(1, "TAP version 13\n");
	if (!have_syscall()) {
		dprintf(1, "1..0 # SKIP set_robust_list2() is not implemented\n");
		exit(0);
	}
}

/* Returns whether the program has an argument, such as "short" for a shorter run. */
static inline bool has_argument(int argc, char **argv, const char *argument)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], argument))
			return true;
	}
	return false;
}

enum kind {
	LEGACY,
	LIST32,
	LIST64,
};

#define KINDS	(sizeof(long) == 8 ? 3 : 2)
#define MAX_KINDS	3

static const char * const kind_names[] = { "set_robust_list()", "32-bit list", "64-bit list" };

/* Returns the pointer width as a list type. */
static inline unsigned int type_of(enum kind kind)
{
	if (kind == LEGACY)
		return native_type();
	return kind == LIST64 ? ROBUST_LIST_64BIT : ROBUST_LIST_32BIT;
}

/* Entry n is at entry + n * stride, and its futex word at word + n * stride. */
struct list {
	enum kind	kind;
	union head	*head;
	char		*entry;
	char		*word;
	size_t		stride;
	int		len;
};

static inline char *entry_of(const struct list *list, int n)
{
	return list->entry + n * list->stride;
}

static inline atomic_uint *word_of(const struct list *list, int n)
{
	return (atomic_uint *)(list->word + n * list->stride);
}

static inline void set_next(const struct list *list, void *entry, const void *next)
{
	store_pointer(type_of(list->kind), entry, next, 0);
}

static inline void set_op_pending(const struct list *list, const char *entry)
{
	set_pending(type_of(list->kind), list->head, entry);
}

/* Links all entries in order. */
static inline void link_list(const struct list *list)
{
	void *from = list->head;

	for (int i = 0; i < list->len; i++) {
		set_next(list, from, entry_of(list, i));
		from = entry_of(list, i);
	}
	set_next(list, from, list->head);
	set_offset(type_of(list->kind), list->head, list->word - list->entry);
	set_op_pending(list, NULL);
}

static inline void set_words(const struct list *list, __u32 value)
{
	for (int i = 0; i < list->len; i++)
		atomic_store(word_of(list, i), value);
}

/* Returns how many words have this value, apart from FUTEX_WAITERS. */
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

static inline bool register_list(const struct list *list)
{
	if (list->kind == LEGACY)
		return !set_legacy_list(list->head);
	return set_robust_list2(list->head, ROBUST_LIST_NEW, type_of(list->kind)) >= 0;
}

/* The calling thread takes all locks of a list and registers it. */
static inline bool hold(const struct list *list)
{
	link_list(list);
	set_words(list, gettid32());
	return register_list(list);
}

/* Maps memory that all processes of a test share. */
static inline void *map_shared(unsigned long where, size_t size)
{
	void *memory = mmap((void *)where, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	need(memory == (void *)where, "mmap");
	return memory;
}

/* One list of each kind, in one piece of memory */
#define LOCKS	8
#define ENTRY	16

static inline void place_lists(struct list *list, char *memory)
{
	for (int i = 0; i < KINDS; i++, memory += (LOCKS + 2) * ENTRY) {
		list[i] = (struct list) {
			.kind = i,
			.head = (void *)memory,
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

/* Waits until a process is dead, for PATIENCE seconds at most. */
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

static inline pid_t need_child(void)
{
	pid_t pid = fork_child();

	need(pid != -1, "fork");
	return pid;
}

/*
 * Starts a process that takes locks, and returns when it has them. The process then
 * dies by itself or waits for its death.
 */
static inline pid_t start(victim_fn *take, void (*then)(struct victim *victim), const void *data)
{
	struct victim victim = { .data = data, .then = then };
	int line = fork_victim(&victim, take);

	if (line)
		say("the process that should hold locks failed in line %d", line);
	need(!line, "a process with locks");
	return victim.pid;
}

static inline bool kill_and_reap(pid_t pid)
{
	int status;

	return !kill(pid, SIGKILL) && reap(pid, &status) && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
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

/* Starts a process that waits for a lock, and returns when it sleeps. */
static inline pid_t start_waiter(atomic_uint *word)
{
	pid_t pid = need_child();

	if (!pid) {
		__u32 value = atomic_fetch_or(word, FUTEX_WAITERS) | FUTEX_WAITERS;

		alarm(PATIENCE);
		_exit(wait_while(word, value, NULL) != 0);
	}
	need(wait_for_state(pid, 'S'), "a process that waits");
	return pid;
}

/* Returns whether the waiter was woken before its alarm. */
static inline bool woken(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

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

/* KASAN makes objects larger, delays their reuse, and slows the kernel down. */
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

/* Returns the number behind a word in a file, or -1. */
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
