// SPDX-License-Identifier: GPL-2.0
/*
 * Linked into the kernel's futex selftests. The base's tests sleep for 100 us to let
 * another thread make progress. That is not enough on an emulator or with a sanitizer.
 */
#include <unistd.h>

#define SHORT	1000
#define LONG	50000

int __real_usleep(useconds_t us);
int __wrap_usleep(useconds_t us);

int __wrap_usleep(useconds_t us)
{
	return __real_usleep(us >= 100 && us < SHORT ? LONG : us);
}
