// SPDX-License-Identifier: GPL-2.0
/*
 * The pages of a list when its owner dies: swapped out, beyond the end of their file,
 * or without access rights. paging has pages that another process provides.
 */

#define _GNU_SOURCE

#include "backing.h"

#include <sys/swap.h>

#define SWAP		"/dev/zram0"

static bool truncate_file(char *at, int fd)
{
	(void)at;
	return !ftruncate(fd, 2 * page);
}

static bool unmap(char *at, int fd)
{
	(void)fd;
	return !munmap(at, page);
}

static bool forbid(char *at, int fd)
{
	(void)fd;
	return !mprotect(at, page, PROT_NONE);
}

static bool forbid_writing(char *at, int fd)
{
	(void)fd;
	return !mprotect(at, page, PROT_READ);
}

/* Drops the page table entry of a page that stays in the file. */
static bool forget(char *at, int fd)
{
	(void)fd;
	return !madvise(at, page, MADV_DONTNEED);
}

/* Enables swap on compressed memory. */
static bool have_swap(void)
{
	__u32 header[1024 / 4 + 3] = { };
	char *swap;
	int fd;

	if (!write_file("/sys/block/zram0/disksize", "33554432"))
		return false;
	fd = open(SWAP, O_WRONLY | O_CLOEXEC);
	if (fd == -1)
		return false;
	/* union swap_header: version, last_page, nr_badpages */
	header[256] = 1;
	header[257] = 33554432 / page - 1;
	swap = calloc(1, page);
	memcpy(swap, header, sizeof(header));
	memcpy(swap + page - 10, "SWAPSPACE2", 10);
	need(write(fd, swap, page) == (ssize_t)page, SWAP);
	close(fd);
	free(swap);
	need(!swapon(SWAP, 0), "swapon");
	return true;
}

static bool swap_out(char *at, int fd)
{
	double end = now() + PATIENCE;
	unsigned char here = 1;

	(void)fd;
	while (now() < end) {
		if (madvise(at, page, MADV_PAGEOUT) || mincore(at, page, &here))
			return false;
		if (!(here & 1))
			return true;
		nap();
	}
	atomic_fetch_add(&notes->resident, 1);
	return true;
}

static bool swap_out_all(char *at, int fd)
{
	return swap_out(at - 2 * page, fd) && swap_out(at - page, fd) && swap_out(at, fd);
}

static void test_swap(void)
{
	struct scenario swapped[] = {
		{ "in the swap", ENTRIES, .spoil = swap_out_all, .harmless = true },
		{ "in the swap", WORDS, .spoil = swap_out, .harmless = true },
	};

	if (!have_swap()) {
		skip("in the swap", "no CONFIG_ZRAM or no CONFIG_SWAP");
		return;
	}
	for (int i = 0; i < PARTS; i++) {
		run(&swapped[i]);
		ok(!atomic_load(&notes->resident), "%s in the swap: no page was left in memory",
		   part_names[i]);
	}
	swapoff(SWAP);
	write_file("/sys/block/zram0/reset", "1");
}

/*
 * arm64 ignores the top byte of an address, and the kernel does so for processes that
 * enable it. Memory allocators with tags return such addresses.
 */
#ifdef __aarch64__
static char *tagged(char *at)
{
	return (char *)((uintptr_t)at | 0x2aUL << 56);
}

static int take_tagged(struct victim *victim)
{
	const bool *ask = victim->data;

	if (*ask)
		CHECK(!prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0));
	for (int kind = 0; kind < KINDS; kind++) {
		struct list list = lists[kind];

		if (type_of(kind) == ROBUST_LIST_64BIT) {
			list.head = (void *)tagged((char *)list.head);
			list.entry = tagged(list.entry);
			list.word = tagged(list.word);
		}
		CHECK(map_list(kind, false) && hold(&list));
	}
	return 0;
}

static void test_tags(void)
{
	const struct scenario scenario = { .name = "with tagged addresses" };
	bool ask = false;
	pid_t pid;

	new_lists();
	pid = start(take_tagged, NULL, &ask);
	ok(kill_and_reap(pid), "tagged addresses that nobody has asked for: the owner dies");
	for (int kind = 0; kind < KINDS; kind++)
		ok(count_marked(kind) == (type_of(kind) == ROBUST_LIST_64BIT ? 0 : LOCKS),
		   "tagged addresses that nobody has asked for: %s", kind_names[kind]);

	if (prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0) < 0) {
		skip("tagged addresses", "no CONFIG_ARM64_TAGGED_ADDR_ABI");
		return;
	}
	new_lists();
	ask = true;
	pid = start(take_tagged, NULL, &ask);
	ok(kill_and_reap(pid), "tagged addresses: the owner dies");
	check_marked(&scenario, LOCKS);
}
#else
static void test_tags(void)
{
}
#endif

int main(void)
{
	struct scenario scenarios[] = {
		{ "all there", ENTRIES, .harmless = true },
		{ "not in the page table", ENTRIES, .in_file = true, .spoil = forget,
		  .harmless = true },
		{ "not in the page table", WORDS, .spoil = forget, .harmless = true },
		{ "behind the end of the file", ENTRIES, .in_file = true,
		  .spoil = truncate_file },
		{ "behind the end of the file", WORDS, .spoil = truncate_file },
		{ "not mapped", ENTRIES, .spoil = unmap },
		{ "not mapped", WORDS, .spoil = unmap },
		{ "with PROT_NONE", ENTRIES, .spoil = forbid },
		{ "with PROT_NONE", WORDS, .spoil = forbid },
		{ "with PROT_READ", ENTRIES, .spoil = forbid_writing, .harmless = true },
		{ "with PROT_READ", WORDS, .spoil = forbid_writing },
	};

	tap_begin();
	page = sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
		run(&scenarios[i]);
	test_tags();
	test_swap();
	return tap_end();
}
