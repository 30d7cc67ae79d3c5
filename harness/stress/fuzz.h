/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the fuzzers and the storm: random numbers that a seed repeats, raw system
 * calls, and fatal errors
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "robust_list2_victim.h"

#include <linux/types.h>
#include <sched.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

/*
 * More seconds than any step takes, on a kernel with every check and on a busy machine.
 * Only a bug waits for the end.
 */
#define PATIENCE	180

#define __printf(text, args)	__attribute((format(printf, text, args)))
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* splitmix64: any seed is good, and each number is a hash of a counter. */
struct rng {
	__u64 state;
};

static inline __u64 rng_hash(__u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static inline __u64 rng_next(struct rng *rng)
{
	rng->state += 0x9e3779b97f4a7c15ULL;
	return rng_hash(rng->state);
}

/* Random numbers for one part of a run, independent of all other parts */
static inline struct rng rng_of(__u64 seed, __u64 part, __u64 subpart)
{
	__u64 state = rng_hash(seed + 0x632be59bd9b4e019ULL);

	state = rng_hash(state ^ (part + 1) * 0x9e3779b97f4a7c15ULL);
	return (struct rng){ rng_hash(state ^ (subpart + 1) * 0xd1b54a32d192ed03ULL) };
}

/* Returns a number below n. The high half is random enough, and a remainder is slow. */
static inline unsigned int below(struct rng *rng, unsigned int n)
{
	return (rng_next(rng) >> 32) * n >> 32;
}

/* Returns true once in n times. */
static inline bool once_in(struct rng *rng, unsigned int n)
{
	return below(rng, n) == 0;
}

/* Returns the result of a system call as the kernel does. */
static inline long raw_result(long ret)
{
	return ret == -1 ? -errno : ret;
}

#define raw_syscall(...)	raw_result(syscall(__VA_ARGS__))

static inline long wait_seconds(atomic_uint *word, __u32 value, unsigned int seconds)
{
	const struct timespec timeout = { .tv_sec = seconds };

	return raw_result(wait_while(word, value, &timeout));
}

/* Moves waiters from one futex to another if the word has that value. Returns their number. */
static inline long futex_move(void *from, __u32 value, void *to, int count)
{
	return raw_syscall(SYS_futex, from, FUTEX_CMP_REQUEUE, 0, (long)count, to, value);
}

static inline __u64 now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

/* Writes a line with one system call, so that lines of processes and threads do not mix. */
__printf(1, 2)
static inline void print_line(const char *format, ...)
{
	char line[1024];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	if (len < 0)
		return;
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len] = '\n';
	if (write(STDOUT_FILENO, line, len + 1) != len + 1)
		_exit(2);
}

/* A condition that the test depends on but does not test */
#define must(condition)								\
	do {									\
		if (!(condition)) {						\
			print_line("Bail out! %s:%d: %s: %s", __FILE__, __LINE__, \
				   #condition, strerror(errno));		\
			_exit(2);						\
		}								\
	} while (0)

static inline void *map_at(__u64 address, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *want = (void *)(uintptr_t)address;
	void *got = mmap(want, size, prot, flags | (want ? MAP_FIXED_NOREPLACE : 0), fd, offset);

	must(got != MAP_FAILED && (!want || got == want));
	return got;
}

static inline void *map_shared(size_t size)
{
	return map_at(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static inline __u64 parse_number(const char *text)
{
	char *end;
	__u64 number = strtoull(text, &end, 0);

	if (!*text || *end) {
		print_line("Bail out! %s is not a number", text);
		_exit(2);
	}
	return number;
}

/* Ends the program if the kernel lacks the calls. */
static inline void skip_without_robust_list2(const char *name)
{
	if (have_syscall())
		return;
	print_line("TAP version 13\nok 1 %s # SKIP set_robust_list2() is not implemented\n1..1",
		   name);
	_exit(0);
}

#endif
