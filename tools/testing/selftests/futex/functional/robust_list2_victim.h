/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that hold locks and die */

#ifndef _ROBUST_LIST2_VICTIM_H
#define _ROBUST_LIST2_VICTIM_H

#include "robust_list2.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/*
 * Checks a condition in a process that is going to die. On failure the test gets the
 * line number through a pipe.
 */
#define CHECK(condition)			\
	do {					\
		if (!(condition))		\
			return __LINE__;	\
	} while (0)

struct victim {
	/* Memory and parameters for the function of the victim */
	struct area	*area;
	unsigned int	type;
	int		arg;
	const void	*data;
	/* The last action of the process, instead of waiting for its death */
	void		(*then)(struct victim *victim);
	pid_t		pid;
};

typedef int (victim_fn)(struct victim *victim);

/*
 * The child dies with the test. A change of credentials clears this setting, and new
 * threads do not inherit it.
 */
static inline void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static inline pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid)
		die_with(parent);
	return pid;
}

/*
 * Starts a process that shares the memory of this one. All such processes have the same
 * stack, so only one may run at a time.
 */
static inline pid_t clone_vm(int (*fn)(void *arg), void *arg)
{
	static uint64_t stack[8192];

	return clone(fn, stack + sizeof(stack) / sizeof(*stack), CLONE_VM | SIGCHLD, arg);
}

/*
 * Starts a process that runs fn and then waits for its death. Returns 0 after fn has
 * succeeded, the line of its failed check, or -1.
 */
static inline int fork_victim(struct victim *victim, victim_fn *fn)
{
	int fd[2], line = -1;

	if (pipe2(fd, O_CLOEXEC))
		return -1;
	victim->pid = fork_child();
	if (!victim->pid) {
		line = fn(victim);
		if (write(fd[1], &line, sizeof(line)) != sizeof(line) || line)
			_exit(1);
		if (victim->then)
			victim->then(victim);
		for (;;)
			pause();
	}
	close(fd[1]);
	if (victim->pid == -1 || read(fd[0], &line, sizeof(line)) != sizeof(line))
		line = -1;
	close(fd[0]);
	return line;
}

/* Reads /proc/PID/stat, or that of a thread, from behind the name in parentheses. */
static inline void read_stat(pid_t pid, pid_t tid, char *line, size_t size)
{
	char name[64], stat[512] = "", *end;
	int fd;

	line[0] = 0;
	snprintf(name, sizeof(name), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return;
	if (read(fd, stat, sizeof(stat) - 1) == -1)
		stat[0] = 0;
	close(fd);
	end = strrchr(stat, ')');
	if (end && end[1])
		snprintf(line, size, "%s", end + 2);
}

/* Returns the state letter of a process. */
static inline char process_state(pid_t pid)
{
	char stat[512];

	read_stat(pid, pid, stat, sizeof(stat));
	return stat[0];
}

/* Returns the state letter of a thread of this process. */
static inline char thread_state(pid_t tid)
{
	char stat[512];

	read_stat(getpid(), tid, stat, sizeof(stat));
	return stat[0];
}

#endif
