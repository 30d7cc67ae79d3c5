// SPDX-License-Identifier: GPL-2.0
/*
 * Faults that the kernel injects into itself: each allocation and each futex key
 * on the way of a call, a fork, an exec and an exit fails once, the first one, the
 * second one, and so on until there is none left (/proc/thread-self/fail-nth).
 *
 * faults [short]
 */

#define _GNU_SOURCE

#include "adversity.h"

/* Each entry of a list is in a page table of its own, which has to be allocated. */
#define FAR		(4UL << 20)
#define FAR_LOCKS	3
/* There is no end of them if one of them is passed again and again. */
#define MAX_POINTS	600

#define DEBUGFS		"/sys/kernel/debug/"

static struct list lists[MAX_KINDS];
static bool brief;

/* Where processes leave what they have seen */
static struct notes {
	atomic_int	enomem;
	atomic_int	efault;
	atomic_int	emptied;
	atomic_int	bad_line;
	atomic_int	injected;
} *notes = (void *)AREA;

/* A process leaves the number of the first line that finds something wrong. */
#define EXPECT(condition)					\
	do {							\
		int expected = 0;				\
								\
		if (!(condition))				\
			atomic_compare_exchange_strong(&notes->bad_line, &expected, __LINE__); \
	} while (0)

static bool have_fault_injection(void)
{
	static const char * const knobs[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
		{ "fail_futex/ignore-private", "N" },
		{ "fail_futex/verbose", "0" },
	};
	char name[128];

	for (size_t i = 0; i < sizeof(knobs) / sizeof(*knobs); i++) {
		snprintf(name, sizeof(name), DEBUGFS "%s", knobs[i][0]);
		if (!write_file(name, knobs[i][1]))
			return false;
	}
	return !access("/proc/thread-self/fail-nth", W_OK);
}

/* From here on, the nth point where the calling thread can fail does. */
static void arm(int fd, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	if (pwrite(fd, text, len, 0) != len)
		_exit(90);
}

/* Says whether it did, and ends it. */
static bool disarm(int fd)
{
	char text[16] = "";
	/* A read that fails has used up what was left. */
	bool injected = pread(fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);

	while (pwrite(fd, "0", 1, 0) != 1)
		;
	return injected;
}

static int open_fail_nth(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	if (fd == -1)
		_exit(91);
	return fd;
}

static bool is_registered(int index, const struct list *list)
{
	__u64 head = 0;

	return get_robust_list2(0, &head, index, 0) == (long)type_of(list->kind) &&
	       head == (uintptr_t)list->head;
}

static bool is_free(int index)
{
	__u64 head = ~0ULL;

	return get_robust_list2(0, &head, index, 0) == -1 && errno == ENOENT && head == ~0ULL;
}

/* Runs a function in a process of its own, for 1, 2, 3, ..., until nothing has failed in it. */
static int at_each_point(void (*fn)(int n))
{
	int n = 1;

	memset(notes, 0, sizeof(*notes));
	for (; n < MAX_POINTS; n++) {
		int status = 0;
		pid_t pid;

		atomic_store(&notes->injected, 0);
		pid = fork_child();
		if (!pid) {
			fn(n);
			_exit(0);
		}
		EXPECT(reap(pid, &status));
		if (status) {
			say("point %d: wait status %#x", n, status);
			EXPECT(false);
		}
		if (!atomic_load(&notes->injected))
			break;
	}
	EXPECT(n < MAX_POINTS);
	if (atomic_load(&notes->bad_line))
		say("line %d found something wrong", atomic_load(&notes->bad_line));
	return n - 1;
}

/* The first registration, which is the one that needs memory */
static enum kind kind_under_test;

static void register_first(int n)
{
	const struct list *list = &lists[kind_under_test];
	int fd = open_fail_nth(), error;
	bool injected;
	long ret;

	/* Without faults of the program's own memory in between */
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
	/* It is worth as much as any other. */
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

/* The other calls have nothing that could fail. */
static void call_all(int n)
{
	int fd = open_fail_nth();
	__u64 head = 0;
	long ret[7];

	EXPECT(register_list(&lists[LIST32]));
	for (int round = 0; round < 2; round++) {
		/* The first round is for the program's own memory. */
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

/* A place that has no memory yet */
static void get_to_new_page(int n)
{
	int fd = open_fail_nth(), error;
	bool injected;
	__u64 *page;
	long ret;

	page = mmap(NULL, FAR, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(page != MAP_FAILED && register_list(&lists[LIST32]));
	page += FAR / 2 / sizeof(*page);
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

/* A fork copies the pointer to the parent's lists and forgets it, how ever it ends. */
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

/*
 * Exit and exec. The lists are made by the test itself, the owner never touches
 * their memory: all of its page tables are made in the walk. Every word has
 * waiters as far as the kernel knows. There are a lock of somebody else's and one
 * of nobody's behind each lock.
 */
#define OTHERS	0x123456

static struct list far_lists[MAX_KINDS];

static atomic_uint *other_word(const struct list *list, int n)
{
	return word_of(list, n) + 16;
}

static void place_far_lists(void)
{
	char *memory = (char *)AREA + FAR;

	map_shared((uintptr_t)memory, KINDS * (FAR_LOCKS + 1) * FAR);
	for (int kind = 0; kind < KINDS; kind++) {
		far_lists[kind] = (struct list) {
			.kind = kind,
			.head = memory,
			.entry = memory + FAR,
			.word = memory + FAR + 8,
			.stride = FAR,
			.len = FAR_LOCKS,
		};
		memory += (FAR_LOCKS + 1) * FAR;
		link_list(&far_lists[kind]);
		for (int i = 0; i < FAR_LOCKS; i++) {
			struct list *list = &far_lists[kind];

			/* The entry that is not the owner's has no page of its own. */
			set_next(list, entry_of(list, i), (char *)other_word(list, i) - 8);
			set_next(list, (char *)other_word(list, i) - 8,
				 i + 1 < FAR_LOCKS ? entry_of(list, i + 1) : list->head);
			atomic_store(other_word(list, i), OTHERS | FUTEX_WAITERS);
		}
	}
}

static void give_locks(pid_t pid)
{
	for (int kind = 0; kind < KINDS; kind++)
		set_words(&far_lists[kind], pid | FUTEX_WAITERS);
}

/*
 * A fault may end one list, and the locks behind it are left as they are. Nobody
 * else's lock is touched.
 */
static int count_cut_lists(pid_t pid)
{
	int cut = 0;

	for (int kind = 0; kind < KINDS; kind++) {
		const struct list *list = &far_lists[kind];
		int marked = 0;

		for (int i = 0; i < FAR_LOCKS; i++) {
			__u32 word = atomic_load(word_of(list, i));

			if (word == (FUTEX_OWNER_DIED | FUTEX_WAITERS))
				EXPECT(marked++ == i);
			else
				EXPECT(word == ((__u32)pid | FUTEX_WAITERS));
			EXPECT(atomic_load(other_word(list, i)) == (OTHERS | FUTEX_WAITERS));
		}
		cut += marked < FAR_LOCKS;
	}
	EXPECT(cut <= 1);
	return cut;
}

static void register_far_lists(void)
{
	for (int kind = 0; kind < KINDS; kind++) {
		if (!register_list(&far_lists[kind]))
			_exit(92);
	}
}

/* What is left of fail-nth in a process that has exited */
static long left_in_zombie(pid_t pid)
{
	char name[64];
	siginfo_t info;

	need(!waitid(P_PID, pid, &info, WEXITED | WNOWAIT), "waitid");
	snprintf(name, sizeof(name), "/proc/%d/fail-nth", pid);
	return read_number(name, "");
}

static pid_t start_owner(int n, void (*end)(int fd))
{
	int go[2];
	pid_t pid;
	char c;

	need(!pipe(go), "pipe");
	pid = fork_child();
	if (!pid) {
		int fd = open_fail_nth();

		register_far_lists();
		/* Until the locks are this process's */
		close(go[1]);
		if (read(go[0], &c, 1))
			_exit(93);
		arm(fd, n);
		end(fd);
	}
	give_locks(pid);
	close(go[0]);
	close(go[1]);
	return pid;
}

static void exit_now(int fd)
{
	(void)fd;
	syscall(SYS_exit_group, 0);
}

static void test_exit(void)
{
	int n = 1, cut = 0, cut_kind[MAX_KINDS] = {};
	bool every_kind = true;

	memset(notes, 0, sizeof(*notes));
	for (; n < MAX_POINTS; n++) {
		pid_t pid = start_owner(n, exit_now);
		long left = left_in_zombie(pid);
		int status = 0;

		EXPECT(waitpid(pid, &status, 0) == pid && !status);
		cut += count_cut_lists(pid);
		for (int kind = 0; kind < KINDS; kind++)
			cut_kind[kind] += !all_died(&far_lists[kind]);
		if (left)
			break;
	}
	EXPECT(n < MAX_POINTS);
	for (int kind = 0; kind < KINDS; kind++)
		every_kind &= cut_kind[kind] > 0;
	ok(!atomic_load(&notes->bad_line) && every_kind,
	   "exit: a fault ends one list, the others are walked");
	if (atomic_load(&notes->bad_line))
		say("line %d found something wrong", atomic_load(&notes->bad_line));
	say("%d points, %d lists ended early", n - 1, cut);
}

/* The statuses of the process that tries to exec */
enum {
	EXECUTED	= 0,
	NOT_REACHED	= 40,
	EXEC_FAILED	= 41,
	LISTS_LOST	= 42,
	/* The C library's, when it cannot start the new program */
	NOT_STARTED	= 127,
};

static void exec_now(int fd)
{
	bool kept = true;

	close(2);
	execl("/proc/self/exe", "faults", "executed", NULL);
	disarm(fd);
	for (int kind = 1; kind < KINDS; kind++)
		kept &= is_registered(kind - 1, &far_lists[kind]);
	for (int kind = 0; kind < KINDS; kind++)
		kept &= count_words(&far_lists[kind], getpid()) == FAR_LOCKS;
	_exit(kept ? EXEC_FAILED : LISTS_LOST);
}

/* The new program */
static int executed(void)
{
	for (int i = 0; i < LISTS_PER_TASK; i++) {
		if (!is_free(i))
			return LISTS_LOST;
	}
	return read_number("/proc/thread-self/fail-nth", "") ? NOT_REACHED : EXECUTED;
}

static void test_exec(void)
{
	int n = 1, cut = 0, failed = 0, killed = 0, not_reached = 0;

	memset(notes, 0, sizeof(*notes));
	for (; n < MAX_POINTS && not_reached < 3; n += brief ? 3 : 1) {
		pid_t pid = start_owner(n, exec_now);
		int status = 0, lost;

		EXPECT(reap(pid, &status));
		lost = count_cut_lists(pid);
		cut += lost;
		if (WIFSIGNALED(status)) {
			/* There was no way back to the old program. */
			killed++;
		} else if (WEXITSTATUS(status) == EXEC_FAILED) {
			failed++;
			EXPECT(!lost);
		} else if (WEXITSTATUS(status) == NOT_REACHED) {
			not_reached++;
			EXPECT(!lost);
		} else {
			EXPECT(WEXITSTATUS(status) == EXECUTED ||
			       WEXITSTATUS(status) == NOT_STARTED);
		}
	}
	EXPECT(n < MAX_POINTS);
	ok(!atomic_load(&notes->bad_line) && failed,
	   "exec: one that fails leaves the lists alone, one that succeeds walks them");
	if (atomic_load(&notes->bad_line))
		say("line %d found something wrong", atomic_load(&notes->bad_line));
	say("%d points, exec failed %d times, killed %d times, %d lists ended early", n - 1,
	    failed, killed, cut);
}

/* An unlock operation does all or nothing, or it empties the list. */
static void unlock(int n)
{
	const struct list *list = &far_lists[kind_under_test];
	int width = is_64bit(list->kind) ? 0 : FUTEX_ROBUST_LIST32;
	int op = FUTEX_WAKE | FUTEX_ROBUST_UNLOCK | width;
	size_t pending = 2 * pointer_size(list->kind);
	int fd = open_fail_nth(), error;
	__u64 head = ~0ULL;
	bool injected;
	long ret;

	EXPECT(register_list(list));
	errno = 0;
	arm(fd, n);
	ret = syscall(SYS_futex, word_of(list, 0), op, 1, NULL, list->head + pending, 0);
	error = errno;
	injected = disarm(fd);
	atomic_store(&notes->injected, injected);
	EXPECT(get_robust_list2(0, &head, 0, 0) == (long)type_of(list->kind));
	if (ret != -1) {
		EXPECT(!ret && head && !*(__u32 *)(list->head + pending) &&
		       !atomic_load(word_of(list, 0)));
	} else {
		/* The futex's key may need memory, too. */
		EXPECT(injected && (error == EFAULT || error == ENOMEM));
		EXPECT(*(__u32 *)(list->head + pending));
		if (atomic_load(word_of(list, 0))) {
			EXPECT(head == (uintptr_t)list->head);
		} else {
			EXPECT(!head);
			atomic_fetch_add(&notes->emptied, 1);
		}
		atomic_fetch_add(&notes->efault, 1);
	}
	/* As it was, for the next one */
	set_pending(list, entry_of(list, 0));
	atomic_store(word_of(list, 0), 1);
	EXPECT(set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER) == 0);
}

static void test_unlock(void)
{
	for (int kind = 1; kind < KINDS; kind++) {
		int points;

		kind_under_test = kind;
		set_pending(&far_lists[kind], entry_of(&far_lists[kind], 0));
		atomic_store(word_of(&far_lists[kind], 0), 1);
		points = at_each_point(unlock);
		set_pending(&far_lists[kind], NULL);
		ok(!atomic_load(&notes->bad_line) && atomic_load(&notes->efault),
		   "FUTEX_ROBUST_UNLOCK, %s: all, or nothing, or the list is empty",
		   kind_names[kind]);
		say("%d points, %d times %s, the list was emptied %d times", points,
		    atomic_load(&notes->efault), strerror(EFAULT), atomic_load(&notes->emptied));
	}
}

/*
 * The kernel kills a thread whose restartable sequence it cannot write to: that
 * area is in memory which a fork makes the kernel copy later.
 */
static void do_without_rseq(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
	execv("/proc/self/exe", argv);
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "executed"))
		return executed();

	do_without_rseq(argv);
	brief = has_argument(argc, argv, "short");
	tap_begin();
	if (!have_fault_injection()) {
		skip("injected faults",
		     "no FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_USERCOPY or FAIL_FUTEX");
		return tap_end();
	}
	map_shared(AREA, 0x10000);
	place_lists(lists, (char *)AREA + 4096);
	place_far_lists();
	test_first_registration();
	test_other_calls();
	test_get();
	test_fork();
	test_unlock();
	test_exit();
	test_exec();
	return tap_end();
}
