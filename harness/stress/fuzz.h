/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzzers and the storm share: random numbers that a seed repeats, raw
 * system calls, and how they give up.
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
 * Nothing takes this long. It is far more than a kernel with every check needs
 * on a busy machine, because only a bug has to wait for it.
 */
#define PATIENCE	180

#define __printf(text, args)	__attribute((format(printf, text, args)))
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* splitmix64: every seed is a good one, and the next number is a hash of a counter. */
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

/* The numbers of one part of a run, whatever the other parts have drawn. */
static inline struct rng rng_of(__u64 seed, __u64 part, __u64 subpart)
{
	__u64 state = rng_hash(seed + 0x632be59bd9b4e019ULL);

	state = rng_hash(state ^ (part + 1) * 0x9e3779b97f4a7c15ULL);
	return (struct rng){ rng_hash(state ^ (subpart + 1) * 0xd1b54a32d192ed03ULL) };
}

/* A number below n. The high half is good enough, and a remainder is dear. */
static inline unsigned int below(struct rng *rng, unsigned int n)
{
	return (rng_next(rng) >> 32) * n >> 32;
}

/* True once in n times */
static inline bool once_in(struct rng *rng, unsigned int n)
{
	return below(rng, n) == 0;
}

/* The result as the kernel returns it */
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

/* Moves waiters that hold off at a word with that value, and returns how many. */
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

/* A line of output in one piece, from whatever process and thread. */
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

/* Something other than the calls under test went wrong. */
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

/* A kernel without the calls: nothing to test. */
static inline void skip_without_robust_list2(const char *name)
{
	if (have_syscall())
		return;
	print_line("TAP version 13\nok 1 %s # SKIP set_robust_list2() is not implemented\n1..1",
		   name);
	_exit(0);
}

#endif
