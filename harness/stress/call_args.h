/* SPDX-License-Identifier: GPL-2.0 */
/* Random arguments of the two calls, entry points of the kernel, and memory for results */
#ifndef CALL_ARGS_H
#define CALL_ARGS_H

#include "fuzz.h"
#include "table_model.h"

/* Entry points for a call */
enum entry {
	ENTRY_OWN,
	/* For x86-64 programs: the entry of i386, and the system call number of x32 */
	ENTRY_INT80,
	ENTRY_X32,
	ENTRIES
};

static const char * const entry_name[ENTRIES] = { "", "int80 ", "x32 " };
static bool have_entry[ENTRIES] = { true };

#define I386_SET_ROBUST_LIST2	473
#define I386_GET_ROBUST_LIST2	474

static inline long do_set(enum entry entry, __u64 head, __u64 index, __u64 flags)
{
	if (entry == ENTRY_INT80)
		return int80(I386_SET_ROBUST_LIST2, head, index, flags, 0);
	return raw_syscall(__NR_set_robust_list2 | (entry == ENTRY_X32 ? __X32_SYSCALL_BIT : 0),
			   (long)head, (long)index, (long)flags);
}

static inline long do_get(enum entry entry, __u64 pid, __u64 result, __u64 index,
			  __u64 flags)
{
	if (entry == ENTRY_INT80)
		return int80(I386_GET_ROBUST_LIST2, pid, result, index, flags);
	return raw_syscall(__NR_get_robust_list2 | (entry == ENTRY_X32 ? __X32_SYSCALL_BIT : 0),
			   (long)pid, (long)result, (long)index, (long)flags);
}

static inline void probe_entries(void)
{
#ifdef __x86_64__
	have_entry[ENTRY_INT80] = int80(I386_SET_ROBUST_LIST2, 0, ROBUST_LIST_NEW,
					ROBUST_LIST_QUERY_MAX, 0) == SLOTS;
	have_entry[ENTRY_X32] = do_set(ENTRY_X32, 0, ROBUST_LIST_NEW,
				       ROBUST_LIST_QUERY_MAX) == SLOTS;
#endif
}

static inline enum entry random_entry(struct rng *rng)
{
	enum entry entry = below(rng, 8);

	/* The draw does not depend on the entries that this kernel has. */
	return entry < ENTRIES && have_entry[entry] ? entry : ENTRY_OWN;
}

static inline bool entry_is_64bit(enum entry entry)
{
	return entry == ENTRY_OWN && sizeof(long) == 8;
}

/* A pointer as this entry passes it */
static inline __u64 pointer_argument(enum entry entry, __u64 pointer)
{
	return entry == ENTRY_INT80 || sizeof(long) == 4 ? (__u32)pointer : pointer;
}

/* A 32-bit argument in a register, with random upper bits */
static inline __u64 in_register(struct rng *rng, __u32 value)
{
	__u64 other = rng_next(rng);

	switch (other & 3) {
	case 0:
		return value;
	case 1:
		return (__s64)(__s32)value;
	default:
		return other << 32 | value;
	}
}

/*
 * Unmapped addresses for heads, so that the walk ends at once. Each thread has heads of
 * its own, so that a wrong owner shows.
 */
#define NOWHERE			0x50000000ULL
#define NOWHERE_PER_THREAD	0x100000ULL

static const __u64 odd_addresses[] = {
	0, 1, 2, 4, 6, 8, 12,
	0x7ffffff8, 0x80000000, 0xffffefe8,
	0xfffffff0, 0xfffffff1, 0xfffffff2, 0xfffffff4, 0xfffffff5, 0xfffffff8, 0xfffffffc,
	0xffffffff, 0x100000000, 0x100000004, 0x100000008, 0x1fffffff4,
	0x00007ffffffff000, 0x00007ffffffffff8, 0x0000800000000000, 0x0000ffffffffffe8,
	0x0001000000000000, 0x5a00000050000000, 0x7ffffffffffffff8, 0x8000000000000000,
	0xff00000000000000, 0xffff000000000000, 0xffff800000000000, 0xffff888000000000,
	0xffffffff80000000, 0xfffffffffffff000, 0xffffffffffffffe8, 0xfffffffffffffff8,
	0xfffffffffffffffc, 0xffffffffffffffff,
};

static const __u32 odd_ints[] = {
	-1, -2, 0, 1, 8, 9, 10, 11, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4095, -4095, -4096,
	0x7fffffff, 0x80000000, 0x80000009, 0x10000, 0x10009, 0xffff, 0x40000000,
};

static inline __u32 odd_int(struct rng *rng)
{
	return once_in(rng, 4) ? rng_next(rng) : odd_ints[below(rng, ARRAY_SIZE(odd_ints))];
}

static inline __u32 odd_flags(struct rng *rng)
{
	switch (below(rng, 4)) {
	case 0:
		return below(rng, 16);
	case 1:
		return below(rng, 16) | 1U << below(rng, 32);
	case 2:
		return 1U << below(rng, 32);
	default:
		return rng_next(rng);
	}
}

static inline __u64 odd_address(struct rng *rng)
{
	if (once_in(rng, 4))
		return rng_next(rng) >> below(rng, 64);
	return odd_addresses[below(rng, ARRAY_SIZE(odd_addresses))];
}

/* A valid head address for a list of this type */
static inline __u64 good_head(struct rng *rng, unsigned int who, __u32 type)
{
	__u64 head = NOWHERE + who * NOWHERE_PER_THREAD;

	if (type == ROBUST_LIST_32BIT)
		return head + below(rng, NOWHERE_PER_THREAD / 4) * 4;
	/* Half of the heads equal 32-bit heads in their lower half. */
	head += below(rng, NOWHERE_PER_THREAD / 8) * 8;
	return once_in(rng, 2) ? head : head | (__u64)(1 + below(rng, 0x7000)) << 32;
}

/* Mostly valid calls, with a chance of one invalid argument each */
static inline void random_set(struct rng *rng, unsigned int who, struct set_call *call)
{
	__u32 type = below(rng, sizeof(long) == 8 ? 2 : 8) == 1;

	call->head = good_head(rng, who, type);
	call->flags = type;
	switch (below(rng, 10)) {
	case 0 ... 3:
		call->index = ROBUST_LIST_NEW;
		break;
	case 4 ... 5:
		call->index = below(rng, SLOTS);
		break;
	case 6:
		call->index = below(rng, SLOTS);
		call->head = 0;
		break;
	case 7 ... 8:
		call->index = below(rng, SLOTS);
		call->head = 0;
		call->flags |= once_in(rng, 2) ? ROBUST_LIST_UNREGISTER : ROBUST_LIST_RELEASE;
		break;
	default:
		call->index = ROBUST_LIST_NEW;
		call->head = 0;
		call->flags = ROBUST_LIST_QUERY_MAX;
	}
	switch (below(rng, 12)) {
	case 0:
		call->head = odd_address(rng);
		break;
	case 1:
		call->index = odd_int(rng);
		break;
	case 2:
		call->flags = odd_flags(rng);
		break;
	case 3:
		call->head = odd_address(rng);
		call->index = odd_int(rng);
		call->flags = odd_flags(rng);
		break;
	default:
		break;
	}
}

/*
 * Memory for results: below 4 GiB, so that every entry can pass the address, and
 * between a read-only page and an unmapped one.
 */
#define RESULTS			0x54000000UL
#define RESULTS_PATTERN		0xa5

struct results {
	size_t		page;
	/* The writable page */
	unsigned char	*good;
};

static inline struct results map_results(unsigned int thread)
{
	size_t page = sysconf(_SC_PAGESIZE);
	__u64 start = RESULTS + thread * 4 * page;
	struct results results = { .page = page };

	map_at(start, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	results.good = map_at(start + page, page, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map_at(start + 2 * page, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(results.good, RESULTS_PATTERN, page);
	return results;
}

static inline void unmap_results(const struct results *results)
{
	munmap(results->good - results->page, 3 * results->page);
}

static inline __u64 random_result_pointer(struct rng *rng, const struct results *results)
{
	__u64 good = (uintptr_t)results->good;
	unsigned int page = results->page;

	switch (below(rng, 16)) {
	case 0:
		/* No random address: it may belong to the program. */
		return odd_addresses[below(rng, ARRAY_SIZE(odd_addresses))];
	case 1:
		/*
		 * An address in the read-only page, or across the border of the
		 * writable page
		 */
		return good - below(rng, 16);
	case 2:
		return good + page - below(rng, 8);
	case 3:
		return good + page + below(rng, 16) * 8;
	case 4:
		return good - page + below(rng, page / 8) * 8;
	case 5:
		return good | 0x5a00000000000000ULL;
	case 6 ... 7:
		return good + below(rng, page - 8);
	default:
		return good + below(rng, page / 8) * 8;
	}
}

static inline bool can_store(const struct results *results, __u64 pointer)
{
	__u64 good = (uintptr_t)results->good;

	return pointer >= good && pointer - good <= results->page - sizeof(__u64);
}

/*
 * Returns whether a failed call may have written a part of its result: put_user() of
 * riscv writes an unaligned word byte by byte, until a byte faults.
 */
static inline bool may_write_part(const struct results *results, __u64 pointer, long result)
{
#ifdef __riscv
	return result == -EFAULT && pointer % sizeof(__u64) && pointer >= (uintptr_t)results->good;
#else
	(void)results, (void)pointer, (void)result;
	return false;
#endif
}

/* Returns whether only these bytes have changed, and restores the pattern. */
static inline bool clean_results(const struct results *results, __u64 pointer, bool written)
{
	unsigned char *good = results->good;
	size_t page = results->page, from, to, at;
	__u64 start = (uintptr_t)good;

	/* Checks only the surroundings, because the whole page takes too long. */
	if (pointer + 64 < start || pointer > start + page + 64)
		return true;
	at = pointer - start;
	from = pointer < start + 64 ? 0 : at - 64;
	to = pointer + 72 > start + page ? page : at + 72;
	for (size_t i = from; i < to; i++) {
		if (written && i - at < sizeof(__u64))
			good[i] = RESULTS_PATTERN;
		else if (good[i] != RESULTS_PATTERN)
			return false;
	}
	return true;
}

#endif
