// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the frequency of the host's time stamp counter in kHz. An x86 guest has the
 * same counter, and no other clock to measure it with.
 */

#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

int main(void)
{
	double ms = now_ms(), end;
	unsigned long long tsc = __rdtsc();

	do
		end = now_ms();
	while (end < ms + 50);
	printf("%.0f\n", (__rdtsc() - tsc) / (end - ms));
	return 0;
}
