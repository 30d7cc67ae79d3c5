/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Victims that exec. The new program is the test binary: it checks that it has no
 * lists, and registers lists of its own.
 */

#ifndef _ROBUST_LIST2_EXEC_H
#define _ROBUST_LIST2_EXEC_H

#include "robust_list2_test.h"

/* Environment variable of the new program: the file descriptor for its report, or -1 */
#define EXEC_VARIABLE	"ROBUST_LIST2_EXEC_FD"

/* Unmapped heads for the new program, so that its exit walks nothing */
#define NEW_HEAD	4096

static inline int use_new_lists(void)
{
	const int lists = lists_per_thread();

	CHECK(has_no_lists(0));
	for (int i = 0; i < lists; i++)
		CHECK(set_robust_list2((void *)NEW_HEAD, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == i);
	return 0;
}

/* Reports, then lives until the test has checked the locks. */
static __attribute__((constructor)) void run_as_new_program(void)
{
	const char *fd = getenv(EXEC_VARIABLE);
	int line;

	if (!fd)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	line = use_new_lists();
	if (atoi(fd) == -1)
		_exit(!!line);
	if (write(atoi(fd), &line, sizeof(line)) != sizeof(line))
		_exit(1);
	for (;;)
		pause();
}

static inline void exec_new_program(int fd)
{
	char variable[64], *argv[] = { "robust_list2", NULL }, *envp[] = { variable, NULL };

	snprintf(variable, sizeof(variable), EXEC_VARIABLE "=%d", fd);
	execve("/proc/self/exe", argv, envp);
	_exit(2);
}

/*
 * Parameters of the process that execs. A thread, the leader or another one, takes the
 * locks, and execs on request of the test.
 */
static struct exec {
	victim_fn	*prepare;
	int		fd;
	bool		from_thread;
	atomic_int	line;
} exec = { .fd = -1 };

#define NOT_YET	(-1)

static inline void exec_when_told(struct victim *victim)
{
	while (!atomic_load(&victim->area->go))
		sched_yield();
	exec_new_program(exec.fd);
}

static inline void *prepare_and_exec(void *arg)
{
	atomic_store(&exec.line, exec.prepare(arg));
	exec_when_told(arg);
	return NULL;
}

static inline int prepare_exec(struct victim *victim)
{
	pthread_t thread;
	int line;

	if (!exec.from_thread) {
		victim->then = exec_when_told;
		return exec.prepare(victim);
	}
	atomic_store(&exec.line, NOT_YET);
	CHECK(!pthread_create(&thread, NULL, prepare_and_exec, victim));
	while ((line = atomic_load(&exec.line)) == NOT_YET)
		sched_yield();
	return line;
}

#endif
