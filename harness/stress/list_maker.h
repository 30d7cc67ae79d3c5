/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random robust lists in the image "before"
 *
 * The entries and futex words of a tidy list lie anywhere, but do not overlap with
 * others. Those of a wild list may overlap.
 */
#ifndef LIST_MAKER_H
#define LIST_MAKER_H

#include "list_memory.h"
#include "walk_model.h"

#define MAX_LISTS	(LISTS_PER_TASK + 2)
#define MAX_ENTRIES	7000

/* The fate of a list of set_robust_list2() before its thread dies */
enum fate { KEPT, REPLACES_ANOTHER, EMPTIED, UNREGISTERED, RELEASED };

struct list {
	enum list_kind	kind;
	enum fate	fate;
	bool		wild;
	__u64	head, futex_offset, pending;
	/* The part of all entries of the case that belongs to this list */
	unsigned int	first, count;
};

struct entry {
	__u64	address;
	enum list_kind	kind;
};

struct maker {
	struct rng	rng;
	__u32	tid, number;
	unsigned int	lists, entries;
	struct list	list[MAX_LISTS];
	struct entry	entry[MAX_ENTRIES];
	/* Per two bytes of the images: the last case with any data there, or a pointer */
	__u32	*used, *pointer;
};

static inline bool is_used(const struct maker *maker, __u64 address, unsigned int size)
{
	size_t offset;

	if (!find_image(address, size, &offset))
		return true;
	for (size_t i = offset / 2; i <= (offset + size - 1) / 2; i++)
		if (maker->used[i] == maker->number)
			return true;
	return false;
}

static inline void stamp(const struct maker *maker, __u32 *map, __u64 address,
			 unsigned int size)
{
	size_t offset;

	if (!find_image(address, size, &offset))
		return;
	for (size_t i = offset / 2; i <= (offset + size - 1) / 2; i++)
		map[i] = maker->number;
}

static inline void put(__u64 address, const void *value, unsigned int size)
{
	size_t offset;

	if (find_image(address, size, &offset))
		memcpy(memory.before + offset, value, size);
}

static inline void put_pointer(struct maker *maker, enum list_kind kind, __u64 at, __u64 to)
{
	/* The PI bit */
	__u64 value = to | once_in(&maker->rng, 4);

	stamp(maker, maker->pointer, at, size_of(kind));
	put(at, &value, size_of(kind));
}

static inline __u32 random_word(struct rng *rng, __u32 tid)
{
	static const __u32 bits[] = {
		0, 0, 0, FUTEX_WAITERS, FUTEX_WAITERS, FUTEX_WAITERS,
		FUTEX_OWNER_DIED, FUTEX_OWNER_DIED | FUTEX_WAITERS,
	};
	__u32 word = bits[below(rng, ARRAY_SIZE(bits))];

	switch (below(rng, 12)) {
	case 0:
		return word;
	case 1:
		return word | (tid + 1);
	case 2:
		return word | 1;
	case 3:
		return word | (rng_next(rng) & FUTEX_TID_MASK);
	default:
		return word | tid;
	}
}

static inline void put_word(struct maker *maker, __u64 at)
{
	__u32 word = random_word(&maker->rng, maker->tid);

	put(at, &word, sizeof(word));
}

/* An unmapped address for a list of this kind */
static inline __u64 bad_address(struct rng *rng, enum list_kind kind)
{
	static const __u64 bad[] = {
		0, 0, 2, 4, 8, 16, 0xfffffff0, 0xfffffff8, 0xfffffffc, 0x4fffe000, 0xbffffff8,
		0xffff800000000000, 0xffffffff81000000, 0xfffffffffffffff0, 0x0000800000000000,
		0x5a00000050000000, 0x2050000000, 0x8000000050000000,
	};

	return cut_address(kind, bad[below(rng, size_of(kind) == 4 ? 11 : ARRAY_SIZE(bad))]);
}

static inline __u64 random_address(struct rng *rng, enum list_kind kind)
{
	unsigned int arenas = size_of(kind) == 4 ? ARENAS_BELOW_4GIB : ARENAS;
	unsigned int page = below(rng, arenas * ARENA_PAGES), in_page;

	/* Some futex words are at the end of a page, and may cross it. */
	in_page = once_in(rng, 12) ? memory.page_size - 2 * (1 + below(rng, 6)) :
				     2 * below(rng, memory.page_size / 2);
	return page_address(page) + in_page;
}

/* Layout of the entries of a list: alignment, and the offset for the kernel */
struct layout {
	unsigned int	alignment, rest;
	/* Only in writable pages */
	bool		careful;
	__u64	futex_offset;
};

static inline struct layout random_layout(struct rng *rng, enum list_kind kind)
{
	unsigned int arenas = size_of(kind) == 4 ? ARENAS_BELOW_4GIB : ARENAS;
	struct layout layout = { .careful = !once_in(rng, 4) };
	int near = 4 * ((int)below(rng, 33) - 16);

	switch (below(rng, 8)) {
	case 0:
		layout.alignment = 4;
		layout.rest = 2;
		break;
	case 1 ... 3:
		layout.alignment = 4;
		break;
	default:
		layout.alignment = size_of(kind);
	}
	layout.futex_offset = near - (int)layout.rest;
	if (once_in(rng, 3))
		layout.futex_offset += arena_start[below(rng, arenas)] -
				       arena_start[below(rng, arenas)];
	/* Every futex of this list is unaligned. */
	if (once_in(rng, 40))
		layout.futex_offset += 2;
	layout.futex_offset = cut_address(kind, layout.futex_offset);
	return layout;
}

static inline bool is_writable(__u64 address, unsigned int size)
{
	size_t offset;

	return find_image(address, size, &offset) &&
	       page_writable(offset / memory.page_size) &&
	       page_writable((offset + size - 1) / memory.page_size);
}

/* Finds room for an entry of a tidy list and for its futex word. */
static inline bool make_entry(struct maker *maker, enum list_kind kind,
			      const struct layout *layout, __u64 *address)
{
	unsigned int size = size_of(kind);

	for (int i = 0; i < 12; i++) {
		__u64 at = random_address(&maker->rng, kind), word;

		at = at / layout->alignment * layout->alignment + layout->rest;
		word = cut_address(kind, at + layout->futex_offset);
		if (is_used(maker, at, size) || is_used(maker, word, sizeof(__u32)))
			continue;
		if (at - word < sizeof(__u32) || word - at < size)
			continue;
		if (layout->careful &&
		    (!is_writable(at, size) || !is_writable(word, sizeof(__u32))))
			continue;
		stamp(maker, maker->used, at, size);
		stamp(maker, maker->used, word, sizeof(__u32));
		put_word(maker, word);
		*address = at;
		return true;
	}
	return false;
}

static inline bool make_head(struct maker *maker, enum list_kind kind, bool careful,
			     __u64 *address)
{
	unsigned int size = 3 * size_of(kind);

	for (int i = 0; i < 50; i++) {
		__u64 at = random_address(&maker->rng, kind);

		at -= at % size_of(kind);
		if (is_used(maker, at, size) || (careful && !is_writable(at, size)))
			continue;
		stamp(maker, maker->used, at, size);
		*address = at;
		return true;
	}
	return false;
}

static inline void add_entry(struct maker *maker, struct list *list, __u64 address)
{
	maker->entry[maker->entries++] = (struct entry){ address, list->kind };
	list->count++;
}

/*
 * Words of a long list: a number of foreign ones, mixed with others, and then no
 * foreign ones. The limit ends the list at the last foreign word, or not at all.
 */
struct mixture {
	unsigned int	foreign;
	/* Before the last foreign entry, one in this many is foreign. */
	unsigned int	share;
};

static inline void put_mixed_word(struct maker *maker, __u64 at, struct mixture *mixture)
{
	struct rng *rng = &maker->rng;
	__u32 word = once_in(rng, 2) ? FUTEX_WAITERS | maker->tid : maker->tid;

	if (mixture->foreign && once_in(rng, mixture->share)) {
		mixture->foreign--;
		word = once_in(rng, 2) ? 0 : maker->tid + 1;
	}
	put(at, &word, sizeof(word));
}

/* Places as many entries as fit, close together, or about as many as a limit allows. */
static inline void make_dense(struct maker *maker, struct list *list)
{
	unsigned int size = size_of(list->kind), wanted = MAX_ENTRIES;
	unsigned int around_limit = ROBUST_LIST_LIMIT - 2 + below(&maker->rng, 5);
	struct mixture mixture = { around_limit, 1 + below(&maker->rng, 3) };
	bool mixed = !is_legacy(list->kind) && below(&maker->rng, 4);

	if (!mixed && once_in(&maker->rng, 2))
		wanted = around_limit;
	list->futex_offset = size;
	for (unsigned int page = 0; page < PAGES && list->count < wanted; page++) {
		if (!page_writable(page) ||
		    (size == 4 && page >= ARENAS_BELOW_4GIB * ARENA_PAGES))
			continue;
		for (unsigned int i = 0; i < memory.page_size / (2 * size); i++) {
			__u64 at = page_address(page) + i * 2 * size;

			if (list->count == wanted || maker->entries == MAX_ENTRIES)
				break;
			if (is_used(maker, at, 2 * size))
				continue;
			stamp(maker, maker->used, at, 2 * size);
			if (mixed)
				put_mixed_word(maker, at + size, &mixture);
			else
				put_word(maker, at + size);
			add_entry(maker, list, at);
		}
	}
}

static inline unsigned int random_length(struct rng *rng)
{
	switch (below(rng, 12)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return 60 + below(rng, 300);
	case 3 ... 4:
		return 10 + below(rng, 50);
	default:
		return 2 + below(rng, 8);
	}
}

static inline void make_tidy(struct maker *maker, struct list *list)
{
	struct layout layout = random_layout(&maker->rng, list->kind);
	unsigned int length = random_length(&maker->rng);
	__u64 address;

	list->futex_offset = layout.futex_offset;
	while (length-- && maker->entries < MAX_ENTRIES) {
		struct layout other = layout;

		/* An entry with an unaligned futex */
		if (once_in(&maker->rng, 200))
			other.rest ^= 2;
		if (!make_entry(maker, list->kind, &other, &address))
			break;
		add_entry(maker, list, address);
	}
}

static inline void make_wild(struct maker *maker, struct list *list)
{
	struct layout layout = random_layout(&maker->rng, list->kind);
	unsigned int length = below(&maker->rng, 14);

	list->futex_offset = layout.futex_offset;
	while (length-- && maker->entries < MAX_ENTRIES) {
		__u64 address = random_address(&maker->rng, list->kind);

		if (once_in(&maker->rng, 20))
			address = bad_address(&maker->rng, list->kind);
		add_entry(maker, list, address);
		put_word(maker, cut_address(list->kind, address + list->futex_offset));
	}
}

/* An address in some list, this one or another */
static inline __u64 any_address(struct maker *maker, enum list_kind kind)
{
	unsigned int list = below(&maker->rng, maker->lists + 1);

	if (maker->entries && once_in(&maker->rng, 2))
		return cut_address(kind, maker->entry[below(&maker->rng, maker->entries)].address);
	return list < maker->lists ? cut_address(kind, maker->list[list].head) :
				     bad_address(&maker->rng, kind);
}

/* The pointer of the last entry */
static inline __u64 random_end(struct maker *maker, const struct list *list)
{
	switch (below(&maker->rng, 10)) {
	case 0:
		return bad_address(&maker->rng, list->kind);
	case 1:
		return any_address(maker, list->kind);
	case 2 ... 4:
		if (list->count) {
			unsigned int which = below(&maker->rng, list->count);

			return maker->entry[list->first + which].address;
		}
		return list->head;
	default:
		return list->head;
	}
}

static inline __u64 random_pending(struct maker *maker, struct list *list)
{
	const struct layout layout = {
		.alignment = 4,
		/* Aligns the futex */
		.rest = -list->futex_offset % 4,
		.careful = true,
		.futex_offset = list->futex_offset,
	};
	__u64 address;

	switch (below(&maker->rng, 12)) {
	case 0 ... 3:
		return 0;
	case 4 ... 7:
		if (make_entry(maker, list->kind, &layout, &address))
			return address;
		return 0;
	case 8 ... 9:
		if (list->count)
			return maker->entry[list->first + below(&maker->rng, list->count)].address;
		return 0;
	case 10:
		return any_address(maker, list->kind);
	default:
		return once_in(&maker->rng, 2) ? list->head :
						 bad_address(&maker->rng, list->kind);
	}
}

static inline void link_list(struct maker *maker, struct list *list)
{
	unsigned int size = size_of(list->kind);
	__u64 from = list->head;

	for (unsigned int i = 0; i < list->count; i++) {
		__u64 to = maker->entry[list->first + i].address;

		put_pointer(maker, list->kind, from, to);
		from = to;
	}
	put_pointer(maker, list->kind, from, random_end(maker, list));

	put(list->head + size, &list->futex_offset, size);
	stamp(maker, maker->pointer, list->head + size, size);
	put_pointer(maker, list->kind, list->head + 2 * size, list->pending);
}

/* An unmapped head that can be registered */
static inline __u64 bad_head(struct rng *rng, enum list_kind kind)
{
	__u64 head = bad_address(rng, kind) & -(__u64)size_of(kind);

	return kind == BITS32 && head > 0xfffffff4 ? 0xfffffff4 : head;
}

static inline void make_random_list(struct maker *maker, enum list_kind kind, bool tidy, bool dense)
{
	struct list *list = &maker->list[maker->lists];
	unsigned int fate = below(&maker->rng, 12);

	memset(list, 0, sizeof(*list));
	list->kind = kind;
	list->fate = fate <= RELEASED ? (enum fate)fate : KEPT;
	list->wild = !tidy && once_in(&maker->rng, 6);
	list->first = maker->entries;
	if (list->wild)
		list->head = random_address(&maker->rng, kind) & -(__u64)size_of(kind);
	else if (!make_head(maker, kind, !once_in(&maker->rng, 12), &list->head))
		return;
	maker->lists++;

	if (list->wild)
		make_wild(maker, list);
	else if (dense)
		make_dense(maker, list);
	else
		make_tidy(maker, list);
	list->pending = random_pending(maker, list);
	link_list(maker, list);
	if (!tidy && once_in(&maker->rng, 60))
		list->head = bad_head(&maker->rng, kind);
}

/*
 * Fills the memory between the lists with words that look like locks of the task but
 * are on no list.
 */
static inline void make_background(struct maker *maker)
{
	__u64 low = random_word(&maker->rng, maker->tid);
	__u64 high = random_word(&maker->rng, maker->tid);
	__u64 *word = (__u64 *)memory.before;

	for (size_t i = 0; i < image_size() / sizeof(*word); i++)
		__atomic_store_n(&word[i], high << 32 | low, __ATOMIC_RELAXED);
}

/*
 * Makes all lists of a thread, at most this many of set_robust_list2(), and no wild
 * ones if tidy.
 */
static inline void make_lists(struct maker *maker, bool tidy, bool have_compat,
			      unsigned int most)
{
	unsigned int count = below(&maker->rng, 4) ? 1 + below(&maker->rng, 4) :
						     below(&maker->rng, most + 1);
	bool dense = once_in(&maker->rng, 24);

	maker->lists = 0;
	maker->entries = 0;
	make_background(maker);
	if (below(&maker->rng, 3)) {
		make_random_list(maker, LEGACY, tidy, dense && once_in(&maker->rng, 2));
		dense = dense && maker->entries < ROBUST_LIST_LIMIT / 2;
	}
	if (once_in(&maker->rng, 4) && have_compat)
		make_random_list(maker, LEGACY_COMPAT, tidy, dense && once_in(&maker->rng, 2));
	for (unsigned int i = 0; i < count; i++) {
		enum list_kind kind = BITS32;

		if (once_in(&maker->rng, 2) && sizeof(long) == 8)
			kind = BITS64;
		make_random_list(maker, kind, tidy, dense && i == 0);
	}
}

#endif
