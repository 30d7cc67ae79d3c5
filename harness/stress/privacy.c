// SPDX-License-Identifier: GPL-2.0
/*
 * Permissions to read the lists of other processes: get_robust_list2() permits what
 * get_robust_list() permits.
 */

#define _GNU_SOURCE

#include "adversity.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/stat.h>

#define SOMEBODY	1000
#define SOMEBODY_ELSE	1001

/* A process with lists, and its own change of credentials before others read it */
struct target {
	const char	*name;
	bool		(*prepare)(void);
	bool		yama;
};

struct reader {
	const char	*name;
	bool		(*prepare)(void);
};

static struct list lists[MAX_KINDS];

/* Takes the identity of a user. */
static bool become(unsigned int id)
{
	return !setgroups(0, NULL) && !setresgid(id, id, id) && !setresuid(id, id, id);
}

static bool become_root(void)
{
	return true;
}

/* A change of identity makes a process undumpable until it calls prctl(). */
static bool become_user(void)
{
	return become(SOMEBODY) && !prctl(PR_SET_DUMPABLE, 1);
}

static bool become_other_user(void)
{
	return become(SOMEBODY_ELSE) && !prctl(PR_SET_DUMPABLE, 1);
}

static bool become_undumpable(void)
{
	return become(SOMEBODY) && !prctl(PR_SET_DUMPABLE, 0);
}

static bool become_root_undumpable(void)
{
	return !prctl(PR_SET_DUMPABLE, 0);
}

/* The real and saved users differ from the effective one. */
static bool become_effective_root(void)
{
	return !setresgid(SOMEBODY, SOMEBODY, SOMEBODY) && !setresuid(SOMEBODY, SOMEBODY, 0) &&
	       !prctl(PR_SET_DUMPABLE, 1);
}

static bool become_real_user(void)
{
	return !setgroups(0, NULL) && !setresgid(SOMEBODY, SOMEBODY, SOMEBODY) &&
	       !setresuid(SOMEBODY, SOMEBODY_ELSE, SOMEBODY_ELSE);
}

static bool set_capabilities(__u32 permitted, __u32 effective)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .permitted = permitted, .effective = effective },
	};

	return !syscall(SYS_capset, &header, data);
}

static bool become_capable(unsigned int id, __u32 permitted, __u32 effective)
{
	return !prctl(PR_SET_KEEPCAPS, 1) && become(id) && set_capabilities(permitted, effective) &&
	       !prctl(PR_SET_DUMPABLE, 1);
}

/* The target has a capability that the reader lacks. */
static bool become_user_with_capability(void)
{
	return become_capable(SOMEBODY, 1 << CAP_SYS_NICE, 0);
}

static bool become_debugger(void)
{
	return become_capable(SOMEBODY_ELSE, 1 << CAP_SYS_PTRACE, 1 << CAP_SYS_PTRACE);
}

/* A permitted capability that is not effective does not help. */
static bool become_idle_debugger(void)
{
	return become_capable(SOMEBODY_ELSE, 1 << CAP_SYS_PTRACE, 0);
}

static bool enter_user_namespace(unsigned int id)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1", id);
	return !unshare(CLONE_NEWUSER) && write_file("/proc/self/setgroups", "deny") &&
	       write_file("/proc/self/uid_map", map) && write_file("/proc/self/gid_map", map);
}

/* All capabilities, in its own user namespace */
static bool become_root_of_namespace(void)
{
	return become_user() && enter_user_namespace(SOMEBODY) && !prctl(PR_SET_DUMPABLE, 1);
}

static bool become_in_pid_namespace(void)
{
	pid_t pid;
	int status;

	if (unshare(CLONE_NEWPID))
		return false;
	pid = fork();
	if (!pid)
		return true;
	if (waitpid(pid, &status, 0) != pid)
		_exit(1);
	_exit(WEXITSTATUS(status));
}

static int take_as(struct victim *victim)
{
	const struct target *target = victim->data;

	CHECK(target->prepare() && hold_all(lists));
	return 0;
}

/* The answers to a reader: 0 or an error */
struct answers {
	int	legacy;
	int	lists[MAX_KINDS];
	int	empty;
	bool	right;
	bool	untouched;
};

static int ask(pid_t pid, int kind, __u64 *head, long *ret)
{
	*ret = get_robust_list2(pid, head, kind - 1, 0);
	return *ret == -1 ? errno : 0;
}

static void read_lists(const struct reader *reader, pid_t pid, struct answers *answers)
{
	void *legacy = NULL;
	size_t size = 0;
	__u64 head;
	long ret;

	if (!reader->prepare())
		_exit(1);
	answers->right = true;
	answers->untouched = true;
	answers->legacy = syscall(SYS_get_robust_list, pid, &legacy, &size) ? errno : 0;
	for (int kind = 1; kind < KINDS; kind++) {
		head = ~0ULL;
		answers->lists[kind] = ask(pid, kind, &head, &ret);
		if (answers->lists[kind])
			answers->untouched &= head == ~0ULL;
		else
			answers->right &= head == (uintptr_t)lists[kind].head &&
					  ret == (long)type_of(kind);
	}
	/* Without permission, an empty slot also gives EPERM. */
	head = ~0ULL;
	answers->empty = ask(pid, LISTS_PER_TASK, &head, &ret);
	answers->untouched &= head == ~0ULL;
	_exit(0);
}

static struct answers *answers = (void *)AREA;

/* expected: 0, EPERM or ESRCH */
static void check_access(const struct target *target, const struct reader *reader, int expected,
			 const char *more)
{
	pid_t pid = start(take_as, NULL, target), child;
	int status = 0;
	bool same;

	memset(answers, 0xff, sizeof(*answers));
	child = need_child();
	if (!child)
		read_lists(reader, pid, answers);
	need(waitpid(child, &status, 0) == child && !status, "the reader");

	same = answers->legacy == expected && answers->empty == (expected ? expected : ENOENT) &&
	       answers->right && answers->untouched;
	for (int kind = 1; kind < KINDS; kind++)
		same &= answers->lists[kind] == expected;
	ok(same, "%s reads %s%s: %s", reader->name, target->name, more,
	   expected ? strerror(expected) : "allowed");
	if (!same)
		say("get_robust_list(): %s, get_robust_list2(): %s, %s where no list is%s%s",
		    strerror(answers->legacy), strerror(answers->lists[1]),
		    strerror(answers->empty), answers->right ? "" : ", a wrong head",
		    answers->untouched ? "" : ", something stored");
	kill_and_reap(pid);
}

static const struct target
	root = { "root", become_root, false },
	root_undumpable = { "root without PR_SET_DUMPABLE", become_root_undumpable, false },
	somebody = { "somebody", become_user, false },
	undumpable = { "somebody without PR_SET_DUMPABLE", become_undumpable, false },
	somebody_else = { "somebody else", become_other_user, false },
	half_root = { "somebody who is effectively root", become_effective_root, false },
	with_capability = { "somebody with a capability", become_user_with_capability, false },
	namespaced = { "somebody in a user namespace", become_root_of_namespace, false };

static const struct reader
	by_root = { "root", become_root },
	by_somebody = { "somebody", become_user },
	by_somebody_else = { "somebody else", become_other_user },
	by_effective = { "an effective user who is really somebody", become_real_user },
	by_debugger = { "a process with CAP_SYS_PTRACE", become_debugger },
	by_idle_debugger = { "a process with CAP_SYS_PTRACE, not effective", become_idle_debugger },
	by_namespaced = { "the root of a user namespace", become_root_of_namespace },
	by_pid_namespaced = { "root of a PID namespace", become_in_pid_namespace };

static void test_access(void)
{
	check_access(&root, &by_root, 0, "");
	check_access(&somebody, &by_root, 0, "");
	check_access(&undumpable, &by_root, 0, "");
	check_access(&root_undumpable, &by_root, 0, "");
	check_access(&with_capability, &by_root, 0, "");

	check_access(&somebody, &by_somebody, 0, "");
	check_access(&root, &by_somebody, EPERM, "");
	check_access(&somebody_else, &by_somebody, EPERM, "");
	check_access(&undumpable, &by_somebody, EPERM, "");
	check_access(&half_root, &by_somebody, EPERM, "");
	check_access(&with_capability, &by_somebody, EPERM, "");

	/* The real user counts. */
	check_access(&somebody, &by_effective, 0, "");
	check_access(&somebody_else, &by_effective, EPERM, "");

	check_access(&somebody, &by_debugger, 0, "");
	check_access(&undumpable, &by_debugger, 0, "");
	check_access(&root, &by_debugger, 0, "");
	check_access(&with_capability, &by_debugger, 0, "");
	check_access(&somebody, &by_idle_debugger, EPERM, "");

	check_access(&somebody, &by_namespaced, EPERM, "");
	check_access(&root, &by_namespaced, EPERM, "");
	check_access(&namespaced, &by_namespaced, EPERM, " beside it");
	/* The creator of a namespace has all rights in it. */
	check_access(&namespaced, &by_somebody, 0, " of its own");
	check_access(&namespaced, &by_somebody_else, EPERM, "");
	check_access(&namespaced, &by_root, 0, "");

	/* The TID of the target does not exist in the namespace. */
	check_access(&somebody, &by_pid_namespaced, ESRCH, "");
}

/* Yama restricts attaching, not reading. */
static void test_yama(void)
{
	const char *scope = "/proc/sys/kernel/yama/ptrace_scope";
	char level[2] = "0", more[64];

	if (access(scope, F_OK)) {
		skip("levels of Yama", "no CONFIG_SECURITY_YAMA");
		return;
	}
	/* Level 3 is final. */
	for (; level[0] <= '3'; level[0]++) {
		need(write_file(scope, level), scope);
		snprintf(more, sizeof(more), ", Yama at level %s", level);
		check_access(&somebody, &by_root, 0, more);
		check_access(&somebody, &by_somebody, 0, more);
		check_access(&somebody_else, &by_somebody, EPERM, more);
		check_access(&undumpable, &by_somebody, EPERM, more);
		check_access(&undumpable, &by_debugger, 0, more);
	}
}

/* Kernel threads have no lists, and only root may learn that. */
static void test_kernel_thread(void)
{
	__u64 head = ~0ULL;
	int status = 0;
	pid_t pid;

	ok(get_robust_list2(2, &head, 0, 0) == -1 && errno == ENOENT && head == ~0ULL,
	   "root reads a kernel thread: it has no list");
	pid = need_child();
	if (!pid) {
		void *legacy;
		size_t size;

		if (!become_user() || syscall(SYS_get_robust_list, 2, &legacy, &size) != -1 ||
		    errno != EPERM)
			_exit(1);
		_exit(get_robust_list2(2, &head, 0, 0) != -1 || errno != EPERM);
	}
	waitpid(pid, &status, 0);
	ok(!status, "somebody reads a kernel thread: %s", strerror(EPERM));
}

int main(void)
{
	tap_begin();
	map_shared(AREA, 0x10000);
	place_lists(lists, (char *)AREA + 4096);
	test_kernel_thread();
	test_access();
	test_yama();
	return tap_end();
}
