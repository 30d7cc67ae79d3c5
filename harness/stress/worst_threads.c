// SPDX-License-Identifier: GPL-2.0
/*
 * The longest exit of a process whose threads share one circle of entries, which each
 * of them has registered ten times. Each entry exists once. Each thread's head has
 * another futex_offset, so an entry has one futex word per thread. The time may grow
 * with the number of words that hold the TID of their thread, and with nothing else.
 *
 * worst_threads [short] [icount]
 *
 * "icount" means that the guest runs with ICOUNT=1: a nanosecond is an instruction.
 */

#define _GNU_SOURCE

#include "adversity.h"

#include <pthread.h>

#define MOST_THREADS	64
#define STACK		32768

/* The circle of 32-bit pointers, the densest one, and the words behind it */
#define ENTRIES		(AREA + (1UL << 24))
#define HEADS		(AREA + (1UL << 23))

/* Registrations per thread */
static int nr_lists = LISTS_PER_TASK;
static int nr_threads, nr_entries;
static bool icount;

static struct notes {
	atomic_int	ready;
	/* A run without lists, for comparison */
	bool		no_lists;
	bool		legacy;
	__u32		extra;
	/* Words per thread that hold its TID */
	int		held;
} *notes = (void *)AREA;

struct own {
	/* The head for set_robust_list() */
	union head	legacy;
	union head	head;
};

static __u32 *words_of(int thread)
{
	return (__u32 *)ENTRIES + (size_t)(thread + 1) * nr_entries;
}

static void make_head(unsigned int type, union head *head, long offset)
{
	make_list(type, head, NULL, 0);
	store_pointer(type, head, (void *)ENTRIES, 0);
	set_offset(type, head, offset);
}

/*
 * A list of set_robust_list() in a 64-bit program follows the same circle in steps of
 * two entries, see make_circle().
 */
static void *run_thread(void *arg)
{
	int thread = (intptr_t)arg;
	struct own *own = (struct own *)HEADS + thread;
	__u32 *words = words_of(thread);
	long offset = (char *)words - (char *)ENTRIES;
	__u32 tid = gettid32() | notes->extra;

	for (int i = 0; i < notes->held; i++)
		words[i] = tid;
	make_head(ROBUST_LIST_32BIT, &own->head, offset);
	make_head(native_type(), &own->legacy, offset);
	if (notes->legacy)
		need(!set_legacy_list(&own->legacy),
		     "set_robust_list");
	for (int i = 0; i < nr_lists && !notes->legacy && !notes->no_lists; i++)
		need(set_robust_list2(&own->head, ROBUST_LIST_NEW, ROBUST_LIST_32BIT) == i,
		     "set_robust_list2");
	atomic_fetch_add(&notes->ready, 1);
	for (;;)
		pause();
	return NULL;
}

static void run_process(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	for (int i = 0; i < nr_threads; i++)
		need(!pthread_create(&thread, &attr, run_thread, (void *)(intptr_t)i),
		     "pthread_create");
	for (;;)
		pause();
}

/* The distance of entries is the width of a pointer. */
static void make_circle(int stride)
{
	for (int i = 0; i < nr_entries; i += stride / 4) {
		__u32 *entry = (__u32 *)ENTRIES + i;
		int next = (i + stride / 4) % nr_entries;

		entry[0] = ENTRIES + next * sizeof(__u32);
		if (stride == 8)
			entry[1] = 0;
	}
}

static int marked(int thread)
{
	const __u32 *words = words_of(thread);
	int count = 0;

	for (int i = 0; i < nr_entries; i++)
		count += words[i] == (FUTEX_OWNER_DIED | notes->extra);
	return count;
}

/* Returns the seconds from SIGKILL until waitpid() returns. */
static double time_death(bool *good)
{
	const size_t size = (size_t)(nr_threads + 1) * nr_entries * sizeof(__u32);
	const bool lists = !notes->no_lists && !notes->legacy;
	double start, end;
	pid_t pid;

	map_shared(ENTRIES, size);
	make_circle(notes->legacy ? sizeof(long) : sizeof(__u32));
	atomic_store(&notes->ready, 0);
	pid = need_child();
	if (!pid)
		run_process();
	while (atomic_load(&notes->ready) < nr_threads) {
		need(waitpid(pid, NULL, WNOHANG) == 0, "a process with threads");
		nap();
	}
	start = now();
	need(!kill(pid, SIGKILL) && waitpid(pid, NULL, 0) == pid, "death of a process");
	end = now();
	for (int i = 0; i < nr_threads; i++)
		*good &= marked(i) == (lists ? notes->held : 0);
	munmap((void *)ENTRIES, size);
	return end - start;
}

enum mode {
	NOT_OWNED,
	OWNED,
	AWAITED,
};

static const char * const mode_names[] = { "nobody's", "its own", "its own with FUTEX_WAITERS" };

/* Returns the seconds that the lists cost. */
static double cost(enum mode mode, int threads, bool legacy, bool *good)
{
	double with, without;

	nr_threads = threads;
	*notes = (struct notes) {
		.held = mode == NOT_OWNED ? 0 : nr_entries,
		.extra = mode == AWAITED ? FUTEX_WAITERS : 0,
		.legacy = legacy,
	};
	with = time_death(good);
	notes->legacy = false;
	notes->no_lists = true;
	without = time_death(good);
	say("%d threads, a circle of %d entries%s, words %s: %.6f s, without lists %.6f s",
	    threads, nr_entries, legacy ? " with set_robust_list()" : ", ten times each",
	    mode_names[mode], with, without);
	return with - without;
}

static double per_word(double seconds, int threads)
{
	return seconds * 1e9 / ((double)threads * nr_entries);
}

/* Threads that hold no entry pay ten times as much as for one list of set_robust_list(). */
static void test_not_owned(int threads)
{
	bool good = true;
	double legacy = cost(NOT_OWNED, threads, true, &good);
	double time = cost(NOT_OWNED, threads, false, &good);

	say("row: %d threads, %d KiB of circle, no words: %.6f s, set_robust_list() %.6f s",
	    threads, nr_entries * 4 / 1024, time, legacy);
	ok(good, "%d threads, words %s: none is marked", threads, mode_names[NOT_OWNED]);
	if (icount)
		ok(time <= 1.25 * LISTS_PER_TASK * legacy,
		   "%d threads, words %s: ten lists cost ten times what set_robust_list() does",
		   threads, mode_names[NOT_OWNED]);
	else
		skip("ten lists cost ten times what set_robust_list() does",
		     "needs ICOUNT=1 for a fair clock");
}

/* A word costs the same in one thread and in many. */
static void test_owned(enum mode mode, int most)
{
	bool good = true;
	double first = 0, word = 0;

	for (int threads = 1; threads <= most; threads *= 8) {
		double time = cost(mode, threads, false, &good);

		word = per_word(time, threads);
		if (threads == 1)
			first = word;
		say("row: %d threads, %d KiB of words, %s: %.6f s, %.6f s a thread, %.0f ns a word",
		    threads, threads * nr_entries * 4 / 1024, mode_names[mode], time,
		    time / threads, word);
	}
	ok(good, "words %s: all are marked", mode_names[mode]);
	if (icount)
		ok(word <= 1.25 * first, "words %s: many threads pay per word what one pays",
		   mode_names[mode]);
	else
		skip("many threads pay per word what one pays", "needs ICOUNT=1 for a fair clock");
}

int main(int argc, char **argv)
{
	const bool brief = has_argument(argc, argv, "short") || have_kasan();
	const int most = brief ? MOST_THREADS / 8 : MOST_THREADS;

	tap_begin();
	icount = has_argument(argc, argv, "icount");
	map_shared(AREA, sizeof(*notes));
	map_shared(HEADS, MOST_THREADS * sizeof(struct own));
	nr_entries = brief ? HELD_LIMIT / 16 : HELD_LIMIT;
	test_not_owned(most);
	test_owned(OWNED, most);
	/* A word with FUTEX_WAITERS costs ten times as much. */
	test_owned(AWAITED, MOST_THREADS / 8);
	return tap_end();
}
