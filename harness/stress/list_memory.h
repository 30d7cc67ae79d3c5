/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory for random lists: a few small arenas of pages with different mappings, and an
 * image of all arenas for the model
 */
#ifndef LIST_MEMORY_H
#define LIST_MEMORY_H

#include <fcntl.h>

#include "fuzz.h"

/*
 * Two arenas for all lists, and one for 64-bit lists. A 32-bit sum without the wrap
 * misses the first two, and a truncated 64-bit pointer hits a wrong arena.
 */
#if __SIZEOF_LONG__ == 8
# define ARENAS		3
#else
# define ARENAS		2
#endif
#define ARENAS_BELOW_4GIB	2
#define ARENA_PAGES		8
#define PAGES			(ARENAS * ARENA_PAGES)

static const __u64 arena_start[] = { 0x50000000, 0xc0000000, 0x1050000000 };

enum mapping {
	ANON_PRIVATE,
	ANON_SHARED,
	FILE_PRIVATE,
	FILE_SHARED,
	READ_ONLY_ANON,
	READ_ONLY_FILE_PRIVATE,
	READ_ONLY_FILE_SHARED,
	NO_ACCESS,
	PAST_END_OF_FILE,
	UNMAPPED,
	MAPPINGS
};

struct memory {
	unsigned int	page_size;
	enum mapping	mapping[PAGES];
	/* A page has the same offset in the file and in the image. */
	int		file;
	/* The memory as the program leaves it, and as the kernel should leave it */
	unsigned char	*before, *after;
};

static struct memory memory;

static inline bool page_readable(unsigned int page)
{
	return memory.mapping[page] < NO_ACCESS;
}

static inline bool page_writable(unsigned int page)
{
	return memory.mapping[page] < READ_ONLY_ANON;
}

/* Returns whether a process with a copied address space shares this page. */
static inline bool page_shared(unsigned int page)
{
	switch (memory.mapping[page]) {
	case ANON_SHARED:
	case FILE_SHARED:
	case READ_ONLY_FILE_SHARED:
		return true;
	default:
		return false;
	}
}

static inline size_t image_size(void)
{
	return (size_t)PAGES * memory.page_size;
}

static inline __u64 page_address(unsigned int page)
{
	return arena_start[page / ARENA_PAGES] +
	       (__u64)(page % ARENA_PAGES) * memory.page_size;
}

static inline void *page_pointer(unsigned int page)
{
	return (void *)(uintptr_t)page_address(page);
}

static inline __u64 image_address(size_t offset)
{
	return page_address(offset / memory.page_size) + offset % memory.page_size;
}

/* Finds these bytes in the images, or returns false if they are in no arena. */
static inline bool find_image(__u64 address, unsigned int size, size_t *offset)
{
	__u64 arena_size = (__u64)ARENA_PAGES * memory.page_size;

	for (int i = 0; i < ARENAS; i++) {
		__u64 in_arena = address - arena_start[i];

		if (in_arena < arena_size && in_arena + size <= arena_size) {
			*offset = i * arena_size + in_arena;
			return true;
		}
	}
	return false;
}

static inline bool is_readable(__u64 address, unsigned int size, size_t *offset)
{
	return find_image(address, size, offset) &&
	       page_readable(*offset / memory.page_size) &&
	       page_readable((*offset + size - 1) / memory.page_size);
}

static inline enum mapping random_mapping(struct rng *rng)
{
	/* Most pages are writable. */
	return once_in(rng, 4) ? (enum mapping)below(rng, MAPPINGS) :
				 (enum mapping)below(rng, READ_ONLY_ANON);
}

static inline void map_page(unsigned int page)
{
	static const int flags[MAPPINGS] = {
		[ANON_PRIVATE] = MAP_PRIVATE | MAP_ANONYMOUS,
		[ANON_SHARED] = MAP_SHARED | MAP_ANONYMOUS,
		[FILE_PRIVATE] = MAP_PRIVATE,
		[FILE_SHARED] = MAP_SHARED,
		[READ_ONLY_ANON] = MAP_PRIVATE | MAP_ANONYMOUS,
		[READ_ONLY_FILE_PRIVATE] = MAP_PRIVATE,
		[READ_ONLY_FILE_SHARED] = MAP_SHARED,
		[NO_ACCESS] = MAP_PRIVATE | MAP_ANONYMOUS,
		[PAST_END_OF_FILE] = MAP_SHARED,
	};
	enum mapping mapping = memory.mapping[page];
	bool anonymous = flags[mapping] & MAP_ANONYMOUS;
	unsigned int size = memory.page_size;

	if (mapping == UNMAPPED)
		return;
	map_at(page_address(page), size, mapping == NO_ACCESS ? PROT_NONE : PROT_READ | PROT_WRITE,
	       flags[mapping], anonymous ? -1 : memory.file,
	       anonymous ? 0 : (PAGES * (mapping == PAST_END_OF_FILE) + page) * (off_t)size);
}

static inline void map_arenas(struct rng *rng)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		munmap(page_pointer(i), memory.page_size);
		memory.mapping[i] = random_mapping(rng);
		map_page(i);
	}
}

static inline void init_memory(void)
{
	char name[] = "/tmp/fuzz_lists.XXXXXX";

	memory.page_size = sysconf(_SC_PAGESIZE);
	memory.file = mkostemp(name, O_CLOEXEC);
	must(memory.file >= 0 && !unlink(name) && !ftruncate(memory.file, image_size()));
	memory.before = map_shared(image_size());
	memory.after = map_shared(image_size());
}

/* Copies words, because the string instructions of memcpy() are slow in an emulator. */
static inline void copy_page(void *to, const void *from)
{
	const __u64 *f = from;
	__u64 *t = to;

	for (unsigned int i = 0; i < memory.page_size / sizeof(*t); i++)
		__atomic_store_n(&t[i], f[i], __ATOMIC_RELAXED);
}

static inline bool same_page(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;
	__u64 difference = 0;

	for (unsigned int i = 0; i < memory.page_size / sizeof(*x); i++)
		difference |= x[i] ^ y[i];
	return !difference;
}

/*
 * Copies the image "before" into the arenas, and drops some of the pages, so that the
 * kernel has to read them from the file.
 */
static inline void publish_image(struct rng *rng)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		void *page = page_pointer(i), *image = memory.before + i * memory.page_size;
		unsigned int size = memory.page_size;

		if (!page_readable(i))
			continue;
		if (!page_writable(i))
			must(!mprotect(page, size, PROT_READ | PROT_WRITE));
		copy_page(page, image);
		if (!page_writable(i))
			must(!mprotect(page, size, PROT_READ));
		if (page_shared(i) && once_in(rng, 3))
			must(!madvise(page, size, MADV_DONTNEED));
		copy_page(memory.after + i * memory.page_size, image);
	}
}

#endif
