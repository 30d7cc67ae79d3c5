// SPDX-License-Identifier: GPL-2.0
/*
 * Writes of the kernel: get_robust_list2() stores the head only, and the walk changes
 * futex words only.
 */

#define _GNU_SOURCE

#include "adversity.h"

static struct list lists[MAX_KINDS];

/*
 * The kernel stores all bytes of the head, for every head address, at every place, and
 * changes no byte beside them.
 */
#define PLACES	(64 + 8)

static bool stores_exactly(unsigned char *buffer, int place, unsigned char fill, __u64 head,
			   int index, long type)
{
	__u64 got;

	memset(buffer, fill, PLACES);
	if (get_robust_list2(0, buffer + place, index, 0) != type)
		return false;
	memcpy(&got, buffer + place, sizeof(got));
	if (got != head)
		return false;
	memset(buffer + place, fill, sizeof(got));
	for (int i = 0; i < PLACES; i++) {
		if (buffer[i] != fill)
			return false;
	}
	return true;
}

static bool fails_untouched(unsigned char *buffer, int index, unsigned int flags, int error)
{
	memset(buffer, 0x5a, PLACES);
	if (get_robust_list2(0, buffer + 8, index, flags) != -1 || errno != error)
		return false;
	for (int i = 0; i < PLACES; i++) {
		if (buffer[i] != 0x5a)
			return false;
	}
	return true;
}

/* Heads with a distinct pattern in each bit, kernel addresses included */
static uintptr_t head_address(enum kind kind, int n)
{
	static const uintptr_t special[] = {
		0, 8, 0xfffffff0, 0x7ffffff0,
#if __SIZEOF_LONG__ == 8
		0xffffffff80000000, 0xffff800000000000, 0xfffffffffffffff8, 0x5555555555555550,
#endif
	};
	const int specials = sizeof(special) / sizeof(*special);
	uintptr_t address;

	if (n < specials)
		address = special[n];
	else
		address = 8ULL << (n - specials);
	return kind == LIST32 ? (__u32)address & 0xfffffff0 : address;
}

static void test_stored_bytes(void)
{
	const int heads = 8 + 8 * sizeof(long) - 3;
	unsigned char *buffer = malloc(PLACES);
	bool good = true, alone = true;
	int count = 0;

	/* Without a table, and with a table of one list */
	for (int i = 0; i < LISTS_PER_TASK; i++)
		alone &= fails_untouched(buffer, i, 0, ENOENT);
	need(register_list(&lists[LIST32]), "set_robust_list2");
	for (int i = 1; i < LISTS_PER_TASK; i++)
		alone &= fails_untouched(buffer, i, 0, ENOENT);
	alone &= fails_untouched(buffer, 0, 1, EINVAL) && fails_untouched(buffer, -1, 0, EINVAL) &&
		 fails_untouched(buffer, LISTS_PER_TASK, 0, EINVAL);
	ok(alone, "a call that fails stores nothing");

	for (int i = 1; i < LISTS_PER_TASK; i++)
		need(register_list(&lists[LIST32]), "set_robust_list2");
	for (int n = 0; n < heads; n++) {
		for (int kind = 1; kind < KINDS; kind++) {
			uintptr_t head = head_address(kind, n);
			int index = n % LISTS_PER_TASK;

			need(set_robust_list2((void *)head, index, type_of(kind)) == index,
			     "set_robust_list2");
			for (int place = 0; place <= PLACES - 8; place++) {
				long type = type_of(kind);

				good &= stores_exactly(buffer, place, 0x5a, head, index, type) &&
					stores_exactly(buffer, place, 0xa5, head, index, type);
				count += 2;
			}
		}
	}
	ok(good, "all bytes of a head are stored, and no others");
	say("%d heads were stored", count);
	for (int i = 0; i < LISTS_PER_TASK; i++)
		set_robust_list2(NULL, i, ROBUST_LIST_UNREGISTER);
	free(buffer);
}

/* The kernel stores nothing at addresses outside of user memory, and no part of a head. */
static void test_bad_places(void)
{
	static const uintptr_t bad[] = {
		0, 8,
#if __SIZEOF_LONG__ == 8
		0xffff888000000000, 0xffffffff81000000, 0xffff800080000000, 0x8000000000000000,
		0x7ffffffffffff000, 0xfffffffffffffff8, 0xffffffffffffffff,
#else
		0xfffffff8, 0xffffffff,
#endif
	};
	const size_t page = sysconf(_SC_PAGESIZE);
	unsigned char *pages, expected[8], *end;
	__u64 head = (uintptr_t)lists[LIST32].head;
	bool good = true;

	need(set_robust_list2(lists[LIST32].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0,
	     "set_robust_list2");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		good &= get_robust_list2(0, (void *)bad[i], 0, 0) == -1 && errno == EFAULT;
		good &= get_robust_list2(getppid(), (void *)bad[i], 0, 0) == -1;
	}
	ok(good, "addresses that are not user memory: %s", strerror(EFAULT));

	pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(pages != MAP_FAILED && !munmap(pages + page, page), "mmap");
	end = pages + page;
	memcpy(expected, &head, sizeof(head));
	good = true;
	for (int fits = 1; fits < 8; fits++) {
		memset(end - 16, 0x5a, 16);
		good &= get_robust_list2(0, end - fits, 0, 0) == -1 && errno == EFAULT;
		for (int i = 16; i > fits; i--)
			good &= end[-i] == 0x5a;
		for (int i = 0; i < fits; i++)
			good &= end[i - fits] == 0x5a || end[i - fits] == expected[i];
	}
	ok(good, "a head that does not fit in front of a hole: %s", strerror(EFAULT));

	memset(pages, 0x5a, page);
	need(!mprotect(pages, page, PROT_READ), "mprotect");
	good = get_robust_list2(0, pages, 0, 0) == -1 && errno == EFAULT && pages[0] == 0x5a;
	ok(good, "a page that may only be read: %s", strerror(EFAULT));
	munmap(pages, page);
	set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER);
}

/* The walk changes the words of locks that the owner holds, and no other byte. */
static int take_lists(struct victim *victim)
{
	(void)victim;
	CHECK(hold_all(lists));
	return 0;
}

static void test_walk_writes(void)
{
	const size_t size = 65536;
	char *memory = (char *)AREA, *before = malloc(size);
	bool good = true;
	pid_t pid;

	memset(memory, 0x5a, size);
	pid = start(take_lists, NULL, NULL);
	/* Foreign locks and free locks */
	for (int i = 0; i < KINDS; i++) {
		atomic_store(word_of(&lists[i], 3), getpid());
		atomic_store(word_of(&lists[i], 4), 0);
	}
	memcpy(before, memory, size);
	need(kill_and_reap(pid), "kill");
	for (int kind = 0; kind < KINDS; kind++) {
		for (int i = 0; i < LOCKS; i++) {
			char *word = (char *)word_of(&lists[kind], i);
			__u32 expected = i == 3 ? (__u32)getpid() :
					    i == 4 ? 0 : FUTEX_OWNER_DIED;

			good &= !memcmp(word, &expected, sizeof(expected));
			memcpy(before + (word - memory), word, sizeof(expected));
		}
	}
	good &= !memcmp(before, memory, size);
	ok(good, "the walk writes to the owner's futex words only");
	free(before);
}

int main(void)
{
	tap_begin();
	map_shared(AREA, 65536);
	place_lists(lists, (char *)AREA + 4096);
	test_stored_bytes();
	test_bad_places();
	test_walk_writes();
	return tap_end();
}
