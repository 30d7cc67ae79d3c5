// SPDX-License-Identifier: GPL-2.0
/* Injected faults in the calls and in fork. fault_walks has exit and exec. */

#define _GNU_SOURCE

#include "faults.h"

static struct list lists[MAX_KINDS];

static bool is_free(int index)
{
	__u64 head = ~0ULL;

	return get_robust_list2(0, &head, index, 0) == -1 && errno == ENOENT && head == ~0ULL;
}

static void register_first(int n)
{
	const struct list *list = &lists[kind_under_test];
	int fd = open_fail_nth(), error;
	bool injected;
	long ret;

	/* The first call touches the program's own memory before any fault is armed. */
	EXPECT(set_robust_list2(NULL, 0, type_of(list->kind)) == -1 && errno == ENOENT);
	errno = 0;
	arm(fd, n);
	ret = set_robust_list2(list->head, ROBUST_LIST_NEW, type_of(list->kind));
	error = errno;
	injected = disarm(fd);
	atomic_store(&notes->injected, injected);

	if (ret == -1) {
		EXPECT(injected && error == ENOMEM);
		atomic_fetch_add(&notes->enomem, 1);
		for (int i = 0; i < LISTS_PER_TASK; i++)
			EXPECT(is_free(i));
		EXPECT(set_robust_list2(list->head, 0, type_of(list->kind)) == -1 &&
		       errno == ENOENT);
		EXPECT(set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX) ==
		       LISTS_PER_TASK);
		ret = set_robust_list2(list->head, ROBUST_LIST_NEW, type_of(list->kind));
	}
	EXPECT(ret == 0);
	EXPECT(is_registered(0, list));
	for (int i = 1; i < LISTS_PER_TASK; i++)
		EXPECT(is_free(i));
	/* The registration works like any other. */
	link_list(list);
	set_words(list, gettid32());
}

static void test_first_registration(void)
{
	for (int kind = 1; kind < KINDS; kind++) {
		int points;

		kind_under_test = kind;
		set_words(&lists[kind], 0);
		points = at_each_point(register_first);
		ok(!atomic_load(&notes->bad_line) && atomic_load(&notes->enomem) &&
		   all_died(&lists[kind]), "first registration, %s: %s and nothing has happened",
		   kind_names[kind], strerror(ENOMEM));
		say("%d points, %d times %s", points, atomic_load(&notes->enomem),
		    strerror(ENOMEM));
	}
}

/* The other calls cannot fail by a fault. */
static void call_all(int n)
{
	int fd = open_fail_nth();
	__u64 head = 0;
	long ret[7];

	EXPECT(register_list(&lists[LIST32]));
	for (int round = 0; round < 2; round++) {
		/* The first round touches the program's own memory. */
		if (round)
			arm(fd, n);
		ret[0] = set_robust_list2(NULL, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX);
		ret[1] = set_robust_list2(lists[1].head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT);
		ret[2] = set_robust_list2(NULL, 1, ROBUST_LIST_32BIT);
		ret[3] = get_robust_list2(0, &head, 0, 0);
		ret[4] = get_robust_list2(getppid(), &head, 0, 0);
		ret[5] = set_robust_list2(NULL, 1, ROBUST_LIST_UNREGISTER);
		ret[6] = set_robust_list2(NULL, 1, ROBUST_LIST_UNREGISTER);
	}
	atomic_store(&notes->injected, disarm(fd));
	EXPECT(ret[0] == LISTS_PER_TASK && ret[1] == 1 && ret[2] == 1 &&
	       ret[3] == ROBUST_LIST_32BIT && ret[4] == -1 && ret[5] == 1 && ret[6] == -1);
	EXPECT(head == (uintptr_t)lists[1].head);
	EXPECT(set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER) == 0);
}

static void test_other_calls(void)
{
	int points = at_each_point(call_all);

	ok(!atomic_load(&notes->bad_line) && !points,
	   "all other calls: there is nothing that could fail");
}

/* Addresses without memory or page tables */
#define SPARSE		(4UL << 20)

static void get_to_new_page(int n)
{
	int fd = open_fail_nth(), error;
	bool injected;
	__u64 *page;
	long ret;

	page = mmap(NULL, SPARSE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(page != MAP_FAILED && register_list(&lists[LIST32]));
	page += SPARSE / 2 / sizeof(*page);
	errno = 0;
	arm(fd, n);
	ret = get_robust_list2(0, page, 0, 0);
	error = errno;
	injected = disarm(fd);
	atomic_store(&notes->injected, injected);
	if (ret == -1) {
		EXPECT(injected && error == EFAULT && !*page);
		atomic_fetch_add(&notes->efault, 1);
		ret = get_robust_list2(0, page, 0, 0);
	}
	EXPECT(ret == ROBUST_LIST_32BIT && *page == (uintptr_t)lists[LIST32].head);
	EXPECT(set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER) == 0);
}

static void test_get(void)
{
	int points = at_each_point(get_to_new_page);

	ok(!atomic_load(&notes->bad_line) && atomic_load(&notes->efault),
	   "get_robust_list2() to a new page: %s and nothing has happened", strerror(EFAULT));
	say("%d points, %d times %s", points, atomic_load(&notes->efault), strerror(EFAULT));
}

/* However fork ends, the child loses its copy of the pointer to the parent's lists. */
static void fork_with_lists(int n)
{
	int fd = open_fail_nth(), status = 0;
	bool injected;
	pid_t pid;

	for (int kind = 1; kind < KINDS; kind++)
		EXPECT(register_list(&lists[kind]));
	arm(fd, n);
	pid = fork();
	if (!pid)
		_exit(!(is_free(0) && is_free(1) && is_free(9)));
	injected = disarm(fd);
	atomic_store(&notes->injected, injected);
	if (pid == -1) {
		EXPECT(injected);
		atomic_fetch_add(&notes->enomem, 1);
	} else {
		EXPECT(waitpid(pid, &status, 0) == pid && !status);
	}
	for (int kind = 1; kind < KINDS; kind++)
		EXPECT(is_registered(kind - 1, &lists[kind]));
	for (int kind = 1; kind < KINDS; kind++)
		EXPECT(set_robust_list2(NULL, kind - 1, ROBUST_LIST_UNREGISTER) == kind - 1);
}

static void test_fork(void)
{
	int points = at_each_point(fork_with_lists);

	ok(!atomic_load(&notes->bad_line) && atomic_load(&notes->enomem),
	   "fork: the parent keeps its lists, the child has none");
	say("%d points, fork() failed %d times", points, atomic_load(&notes->enomem));
}

int main(int argc, char **argv)
{
	(void)argc;
	if (!begin_faults(argv))
		return tap_end();
	place_lists(lists, (char *)AREA + 4096);
	test_first_registration();
	test_other_calls();
	test_get();
	test_fork();
	return tap_end();
}
