// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of the walk over lists of set_robust_list2() that are broken, in unusual
 * memory, or at the limits of the address space.
 */

#define _GNU_SOURCE

#include "robust_list2_fixture.h"

/* Registers lists 0 to 5, each broken in another way, and an intact list 6. */
static int hold_broken_lists(struct victim *victim)
{
	struct list *list = victim->area->list;

	/* Unmapped head, unmapped entry, unmapped or unaligned futex */
	CHECK(set_robust_list2((void *)4096, ROBUST_LIST_NEW, victim->type) == 0);
	for (int i = 1; i < 7; i++) {
		CHECK(hold_list(victim->type, &list[i].head, list[i].lock, 4) == i);
		take_locks(&list[i].lock[4], 1);
	}
	store_pointer(victim->type, &list[1].lock[1], (void *)4096, 0);
	set_offset(victim->type, &list[2].head, 0x40000000);
	set_offset(victim->type, &list[3].head, offsetof(struct lock, futex) + 1);
	/* Unmapped pending lock, null entry */
	set_pending(victim->type, &list[4].head, (void *)4096);
	store_pointer(victim->type, &list[5].lock[0], NULL, 0);
	set_pending(victim->type, &list[5].head, &list[5].lock[4]);
	return 0;
}

TEST_F(list, broken_lists)
{
	static const int expected[] = { 0, 2, 0, 0, 4, 1, 4 };

	run_victim(_metadata, &self->victim, hold_broken_lists);
	for (int i = 0; i < 7; i++) {
		EXPECT_EQ(expected[i], count_died(self->area->list[i].lock, LOCKS_PER_LIST)) {
			TH_LOG("list %d", i);
		}
	}
}

/* A read-only futex ends its list. */
static int hold_read_only(struct victim *victim)
{
	struct lock *lock;

	CHECK(!hold_locks(victim));
	lock = map_private(PAGE_ADDRESS, 4096);
	CHECK(lock);
	/* Entries 0, 1, the read-only one, 2, ... */
	take_locks(lock, 1);
	store_pointer(victim->type, &victim->area->list->lock[1], lock, 0);
	store_pointer(victim->type, lock, &victim->area->list->lock[2], 0);
	CHECK(!mprotect(lock, 4096, PROT_READ));
	return 0;
}

TEST_F(list, read_only_futex)
{
	run_victim(_metadata, &self->victim, hold_read_only);
	EXPECT_EQ(2, count_died(self->area->list->lock, LOCKS_PER_LIST));
}

/*
 * A cycle of read-only entries, with futexes in other memory: the walk does not write
 * to entries.
 */
static int hold_read_only_entries(struct victim *victim)
{
	struct list *list = victim->area->list;
	const long page = sysconf(_SC_PAGESIZE);
	struct lock *entry;

	entry = map_private(PAGE_ADDRESS, page);
	CHECK(entry);
	make_list(victim->type, &list->head, entry, LOCKS_PER_LIST);
	set_offset(victim->type, &list->head, (long)&list->lock[0].futex - (long)entry);
	store_pointer(victim->type, &entry[LOCKS_PER_LIST - 1], &entry[victim->arg], 0);
	CHECK(!mprotect(entry, page, PROT_READ));
	take_locks(list->lock, LOCKS_PER_LIST);
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, victim->type) == 0);
	return 0;
}

TEST_F(list, read_only_entries)
{
	for (int i = 0; i < LOCKS_PER_LIST; i += 5) {
		self->victim.arg = i;
		run_victim(_metadata, &self->victim, hold_read_only_entries);
		EXPECT_EQ(LOCKS_PER_LIST, count_died(self->area->list->lock, LOCKS_PER_LIST));
	}
}

/* The futex precedes its entry. */
static int hold_negative_offset(struct victim *victim)
{
	struct list *list = victim->area->list;

	CHECK(!hold_locks(victim));
	set_offset(victim->type, &list->head,
		   (long)offsetof(struct lock, futex) - (long)sizeof(struct lock));
	/* Entry 0 is unusable: its futex would be in the head. */
	store_pointer(victim->type, &list->head, &list->lock[1], 0);
	return 0;
}

TEST_F(list, negative_offset)
{
	run_victim(_metadata, &self->victim, hold_negative_offset);
	EXPECT_EQ(LOCKS_PER_LIST - 1, count_died(self->area->list->lock, LOCKS_PER_LIST - 1));
	EXPECT_EQ(self->victim.pid, atomic_load(&self->area->list->lock[LOCKS_PER_LIST - 1].futex));
}

#ifdef BUILD_64
/* The last 12 bytes below 4 GiB are a valid head. */
#define LAST_PAGE	0xfffff000UL
#define LAST_HEAD	0xfffffff4UL

static int hold_list_at_4gib(struct victim *victim)
{
	struct robust_list_head32 *head = (void *)LAST_HEAD;
	struct lock *lock = victim->area->list->lock;

	CHECK(map_private(LAST_PAGE, 4096));
	take_locks(lock, 3);
	head->list.next = (uintptr_t)&lock[0];
	head->futex_offset = offsetof(struct lock, futex);
	head->list_op_pending = (uintptr_t)&lock[2];
	store_pointer(ROBUST_LIST_32BIT, &lock[0], &lock[1], 0);
	store_pointer(ROBUST_LIST_32BIT, &lock[1], head, 0);
	CHECK(set_robust_list2(head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	return 0;
}

TEST(list_at_4gib)
{
	struct victim victim = { 0 };

	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	if (sysconf(_SC_PAGESIZE) != 4096)
		SKIP(return, "needs pages of 4 KiB");
	victim.area = map_area(_metadata);
	run_victim(_metadata, &victim, hold_list_at_4gib);
	EXPECT_EQ(3, count_died(victim.area->list->lock, LOCKS_PER_LIST));
}

/* Entry and offset are below 4 GiB, but their sum wraps, as in a 32-bit program. */
#define HIGH_ENTRIES	0xf0000000UL

static int hold_wrapped_futexes(struct victim *victim)
{
	struct list *list = victim->area->list;
	uint32_t *entry = map_private(HIGH_ENTRIES, 65536);

	CHECK(entry);
	/* Memory for the futexes at the addresses without the wrap */
	CHECK(map_private(AREA_ADDRESS + (1UL << 32), sizeof(struct area)));

	take_locks(list->lock, 2);
	list->head.h32.list.next = HIGH_ENTRIES;
	list->head.h32.futex_offset = (uint32_t)((uintptr_t)&list->lock[0].futex - HIGH_ENTRIES);
	list->head.h32.list_op_pending = 0;
	entry[0] = HIGH_ENTRIES + sizeof(struct lock);
	entry[sizeof(struct lock) / sizeof(*entry)] = (uintptr_t)&list->head;
	CHECK(set_robust_list2(&list->head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == 0);
	return 0;
}

TEST(offset_wraps_at_4gib)
{
	struct victim victim = { 0 };

	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	victim.area = map_area(_metadata);
	run_victim(_metadata, &victim, hold_wrapped_futexes);
	EXPECT_EQ(2, count_died(victim.area->list->lock, LOCKS_PER_LIST));
}
#endif

TEST_HARNESS_MAIN
