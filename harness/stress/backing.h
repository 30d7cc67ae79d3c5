/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Lists of each kind with the second half of their entries, or of their futex words, in
 * a page of special memory. All other pages are ordinary.
 */
#ifndef BACKING_H
#define BACKING_H

#include "adversity.h"

#define REGION		0x100000UL

enum part {
	ENTRIES,
	WORDS,
	PARTS,
};

static const char * const part_names[] = { "entries", "futex words" };

/*
 * An unreadable entry ends its list after its own futex word is handled. An
 * inaccessible word ends its list at once.
 */
static const int marked_until[] = { LOCKS / 2 + 1, LOCKS / 2 };

static size_t page;
static struct list lists[MAX_KINDS];
static int files[MAX_KINDS][PARTS];

/* Messages between the processes of a test */
static struct notes {
	atomic_int	go;
	atomic_int	faults;
	atomic_int	resident;
	/*
	 * A PI futex that the owner holds outside of any list, and one that is requeued
	 * to it
	 */
	atomic_uint	pi, condition;
} *notes = (void *)AREA;

struct scenario {
	const char	*name;
	enum part	part;
	/* Entries are in a file as well. */
	bool		in_file;
	/* Gives a page of the owner the property under test. */
	bool		(*spoil)(char *at, int fd);
	/* All futexes are marked nevertheless. */
	bool		harmless;
	/* Leaves the list of set_robust_list() alone. */
	bool		new_only;
};

/* Page 0 has the head, and pages 1 and 2 have the entries or the words. */
static inline char *region(int kind, enum part part)
{
	return (char *)(AREA + REGION * (1 + kind * PARTS + part));
}

static inline void new_lists(void)
{
	map_shared(AREA, sizeof(*notes));
	for (int kind = 0; kind < KINDS; kind++) {
		for (int part = 0; part < PARTS; part++) {
			if (files[kind][part])
				close(files[kind][part]);
			files[kind][part] = memfd_create("list", MFD_CLOEXEC);
			need(files[kind][part] != -1 && !ftruncate(files[kind][part], 3 * page),
			     "memfd_create");
		}
		lists[kind] = (struct list) {
			.kind = kind,
			.head = (void *)region(kind, ENTRIES),
			.entry = region(kind, ENTRIES) + page,
			.word = region(kind, WORDS) + page,
			.stride = 2 * page / LOCKS,
			.len = LOCKS,
		};
	}
}

static inline bool map_list(int kind, bool in_file)
{
	const int prot = PROT_READ | PROT_WRITE;
	int flags = MAP_FIXED | (in_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int fd = in_file ? files[kind][ENTRIES] : -1;

	return mmap(region(kind, ENTRIES), 3 * page, prot, flags, fd, 0) != MAP_FAILED &&
	       mmap(region(kind, WORDS), 3 * page, prot, MAP_FIXED | MAP_SHARED,
		    files[kind][WORDS], 0) != MAP_FAILED;
}

static inline bool take_lists(const struct scenario *scenario)
{
	for (int kind = 0; kind < KINDS; kind++) {
		bool spoil = scenario->spoil && !(kind == LEGACY && scenario->new_only);

		if (!map_list(kind, scenario->in_file) || !hold(&lists[kind]) ||
		    (spoil && !scenario->spoil(region(kind, scenario->part) + 2 * page,
					       files[kind][scenario->part])))
			return false;
	}
	return true;
}

static inline int take(struct victim *victim)
{
	CHECK(take_lists(victim->data));
	return 0;
}

/* Reads the file, because the mappings are under test. */
static inline int count_marked(int kind)
{
	int marked = 0;

	for (int i = 0; i < LOCKS; i++) {
		__u32 word = 0;

		if (pread(files[kind][WORDS], &word, sizeof(word), page + i * lists[kind].stride) ==
		    sizeof(word))
			marked += word == FUTEX_OWNER_DIED;
	}
	return marked;
}

static inline void check_marked(const struct scenario *scenario, int others)
{
	const char *name = scenario->name;
	enum part part = scenario->part;

	for (int kind = 0; kind < KINDS; kind++) {
		int expected = kind == LEGACY && scenario->new_only ? LOCKS : others;
		int marked = count_marked(kind);

		ok(marked == expected, "%s %s: %s", part_names[part], name, kind_names[kind]);
		if (marked != expected)
			say("%d locks are marked, not %d", marked, expected);
	}
}

static inline void run(const struct scenario *scenario)
{
	pid_t pid;

	new_lists();
	pid = start(take, NULL, scenario);
	if (!kill_and_reap(pid)) {
		ok(false, "%s %s: the owner dies", part_names[scenario->part], scenario->name);
		return;
	}
	check_marked(scenario, scenario->harmless ? LOCKS : marked_until[scenario->part]);
}

#endif
