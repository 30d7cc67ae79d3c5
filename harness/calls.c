// SPDX-License-Identifier: GPL-2.0
/* The two system calls, for tests that look at them from outside. */

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
	static struct robust_list_head head = { { &head.list }, 0, NULL };
	const char *what = argc == 2 ? argv[1] : "";
	uint64_t got = 0;
	long set, get;

	set = syscall(__NR_set_robust_list2, &head, ROBUST_LIST_NEW, ROBUST_LIST_64BIT);
	if (!strcmp(what, "set-enomem"))
		return !(set == -1 && errno == ENOMEM);
	get = syscall(__NR_get_robust_list2, 0, &got, 0, 0);
	if (!strcmp(what, "get-enomem"))
		return !(get == -1 && errno == ENOMEM);
	return !(set == 0 && get == ROBUST_LIST_64BIT && got == (uintptr_t)&head);
}
