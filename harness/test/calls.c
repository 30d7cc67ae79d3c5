// SPDX-License-Identifier: GPL-2.0
/* Makes the two system calls, for tests that trace them. */

#define _GNU_SOURCE
#include "robust_list2.h"

int main(int argc, char *argv[])
{
	static struct robust_list_head head = { { &head.list }, 0, NULL };
	const char *what = argc == 2 ? argv[1] : "";
	uint64_t got = 0;
	long set, get;

	set = set_robust_list2(&head, ROBUST_LIST_NEW, ROBUST_LIST_64BIT);
	if (!strcmp(what, "set-enomem"))
		return !(set == -1 && errno == ENOMEM);
	get = get_robust_list2(0, &got, 0, 0);
	if (!strcmp(what, "get-enomem"))
		return !(get == -1 && errno == ENOMEM);
	return !(set == 0 && get == ROBUST_LIST_64BIT && got == (uintptr_t)&head);
}
