// SPDX-License-Identifier: GPL-2.0
/*
 * Linked into the kernel's futex selftests. Where they hope that another thread has got
 * somewhere, the base's sleep for 100 us, and that thread for as little before it dies.
 * On an emulator, and with a sanitizer, that has not been enough.
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
