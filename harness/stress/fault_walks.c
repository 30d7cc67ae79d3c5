// SPDX-License-Identifier: GPL-2.0
/* RAW|Injected faults in an exit, an exec and an unlock||fault_walks [short] */

#define _GNU_SOURCE

#include "faults.h"

/* Far enough apart for a page table per entry, which the kernel has to allocate */
#define FAR		(4UL << 20)
#define FAR_LOCKS	3

static bool brief;

/*
 * Exit and exec. The test lays out the lists, and the owner does not touch their
 * memory, so the walk allocates all page tables. Every word has FUTEX_WAITERS. Behind
 * each lock are a foreign one and a free one.
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
			.head = (void *)memory,
			.entry = memory + FAR,
			.word = memory + FAR + 8,
			.stride = FAR,
			.len = FAR_LOCKS,
		};
		memory += (FAR_LOCKS + 1) * FAR;
		link_list(&far_lists[kind]);
		for (int i = 0; i < FAR_LOCKS; i++) {
			struct list *list = &far_lists[kind];

			/* A foreign entry has no page of its own. */
			set_next(list, entry_of(list, i), (char *)other_word(list, i) - 8);
			set_next(list, (char *)other_word(list, i) - 8,
				 i + 1 < FAR_LOCKS ? entry_of(list, i + 1) : (char *)list->head);
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
 * A fault may end the list of set_robust_list(), and leaves the locks behind it alone.
 * The walk over the other lists tries again. No fault makes the kernel touch a foreign
 * lock.
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

/* Returns the remaining count of fail-nth in an exited process. */
static long fail_nth_of_zombie(pid_t pid)
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
	pid = need_child();
	if (!pid) {
		int fd = open_fail_nth();

		register_far_lists();
		/* Waits until this process owns the locks. */
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
	bool as_kind = true;

	memset(notes, 0, sizeof(*notes));
	for (; n < MAX_POINTS; n++) {
		pid_t pid = start_owner(n, exit_now);
		long left = fail_nth_of_zombie(pid);
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
		as_kind &= !cut_kind[kind] == (kind != LEGACY);
	ok(!atomic_load(&notes->bad_line) && as_kind,
	   "exit: a fault ends the list of set_robust_list(), no other one");
	if (atomic_load(&notes->bad_line))
		say("line %d found something wrong", atomic_load(&notes->bad_line));
	say("%d points, %d lists ended early", n - 1, cut);
}

/* Exit statuses of the process that tries to exec */
enum {
	EXECUTED	= 0,
	NOT_REACHED	= 40,
	EXEC_FAILED	= 41,
	LISTS_LOST	= 42,
	/* The status if the C library cannot start the new program */
	NOT_STARTED	= 127,
};

static void exec_now(int fd)
{
	bool kept = true;

	close(2);
	execl("/proc/self/exe", "fault_walks", "executed", NULL);
	disarm(fd);
	for (int kind = 1; kind < KINDS; kind++)
		kept &= is_registered(kind - 1, &far_lists[kind]);
	for (int kind = 0; kind < KINDS; kind++)
		kept &= count_words(&far_lists[kind], getpid()) == FAR_LOCKS;
	_exit(kept ? EXEC_FAILED : LISTS_LOST);
}

static int executed(void)
{
	if (!has_no_lists(0))
		return LISTS_LOST;
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
			/* The exec failed beyond the point of no return. */
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

/* An unlock operation succeeds, changes nothing, or empties the list. */
static void unlock(int n)
{
	const struct list *list = &far_lists[kind_under_test];
	int op = FUTEX_WAKE | FUTEX_ROBUST_UNLOCK |
		 (list->kind == LIST64 ? 0 : FUTEX_ROBUST_LIST32);
	uint32_t *pending = pending_of(type_of(list->kind), list->head);
	int fd = open_fail_nth(), error;
	__u64 head = ~0ULL;
	bool injected;
	long ret;

	EXPECT(register_list(list));
	errno = 0;
	arm(fd, n);
	ret = syscall(SYS_futex, word_of(list, 0), op, 1, NULL, pending, 0);
	error = errno;
	injected = disarm(fd);
	atomic_store(&notes->injected, injected);
	EXPECT(get_robust_list2(0, &head, 0, 0) == (long)type_of(list->kind));
	if (ret != -1) {
		EXPECT(!ret && head && !*pending &&
		       !atomic_load(word_of(list, 0)));
	} else {
		/* The key of the futex may need memory as well. */
		EXPECT(injected && (error == EFAULT || error == ENOMEM));
		EXPECT(*pending);
		if (atomic_load(word_of(list, 0))) {
			EXPECT(head == (uintptr_t)list->head);
		} else {
			EXPECT(!head);
			atomic_fetch_add(&notes->emptied, 1);
		}
		atomic_fetch_add(&notes->efault, 1);
	}
	/* Restores the pending op for the next point. */
	set_op_pending(list, entry_of(list, 0));
	atomic_store(word_of(list, 0), 1);
	EXPECT(set_robust_list2(NULL, 0, ROBUST_LIST_UNREGISTER) == 0);
}

static void test_unlock(void)
{
	for (int kind = 1; kind < KINDS; kind++) {
		int points;

		kind_under_test = kind;
		set_op_pending(&far_lists[kind], entry_of(&far_lists[kind], 0));
		atomic_store(word_of(&far_lists[kind], 0), 1);
		points = at_each_point(unlock);
		set_op_pending(&far_lists[kind], NULL);
		ok(!atomic_load(&notes->bad_line) && atomic_load(&notes->efault),
		   "FUTEX_ROBUST_UNLOCK, %s: all, or nothing, or the list is empty",
		   kind_names[kind]);
		say("%d points, %d times %s, the list was emptied %d times", points,
		    atomic_load(&notes->efault), strerror(EFAULT), atomic_load(&notes->emptied));
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "executed"))
		return executed();

	brief = has_argument(argc, argv, "short");
	if (!begin_faults(argv))
		return tap_end();
	place_far_lists();
	test_unlock();
	test_exit();
	test_exec();
	return tap_end();
}
