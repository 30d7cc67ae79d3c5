// SPDX-License-Identifier: GPL-2.0
/*
 * fuzz_lists SEED COUNT [FIRST]: kills COUNT tasks that hold random robust lists, and
 * compares the memory and the woken waiters with a model of the walk. FIRST is the
 * number of the first case.
 *
 * A victim is a thread or a process made by clone(CLONE_VM), which shares its memory
 * with this program, so that even private memory can be compared. After a fork() only
 * shared memory is compared.
 *
 * The model knows three things that the contract leaves open: the lists of
 * set_robust_list2() are walked before those of set_robust_list(); an unreadable entry
 * ends its list even at a limit; a list behind the last entry that an exit handles ends
 * before its first entry.
 *
 * The program finds the woken waiters without waiting: it requeues waiters to the futex
 * under test, and back after the death. Only a waiter that was not woken can be moved
 * back.
 */

#define _GNU_SOURCE
#include "fuzz.h"

#include "list_victim.h"

static struct {
	unsigned int cases, ballasts, racy, rewritten, wakes, marked;
} total;

static enum death random_death(struct rng *rng)
{
	unsigned int n = below(rng, 100);

	if (n < 40)
		return THREAD_EXITS;
	if (n < 60)
		return PROCESS_EXITS;
	if (n < 78)
		return PROCESS_KILLS_ITSELF;
	if (n < 81)
		return PROCESS_EXECS;
	if (n < 84)
		return THREAD_EXECS;
	if (n < 90)
		return PROCESS_IS_KILLED;
	if (n < 94)
		return FORK_EXITS;
	return n < 98 ? FORK_KILLS_ITSELF : FORK_EXECS;
}

__printf(1, 2)
static bool mismatch(const char *format, ...)
{
	const struct maker *maker = &world->maker;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_line("# seed %llu case %u, %s%s, ballast %u, TID %u: %s", world->seed,
		   world->number, death_name[world->death], world->racy ? ", racy" : "",
		   world->ballast, maker->tid, text);
	print_line("# to see it again: fuzz_lists %llu 1 %u", world->seed, world->number);
	for (unsigned int i = 0; i < maker->lists; i++) {
		static const char * const kind[] = { "legacy", "compat", "32-bit", "64-bit" };
		static const char * const fate[] = { "", ", replaces another", ", emptied",
						     ", unregistered", ", released" };
		const struct list *list = &maker->list[i];

		print_line("#   %s%s%s: head %#llx offset %#llx pending %#llx, %u from %#llx",
			   list->wild ? "wild " : "", kind[list->kind], fate[list->fate],
			   list->head, list->futex_offset, list->pending, list->count,
			   list->count ? maker->entry[list->first].address : 0);
	}
	return false;
}

static __u32 word_at(const void *memory, size_t offset)
{
	__u32 word;

	memcpy(&word, memory + offset, sizeof(word));
	return word;
}

static bool wrong_word(size_t offset, __u32 got)
{
	return mismatch("the word at %#llx (mapping %u) was %#x, expected %#x, got %#x",
			image_address(offset), memory.mapping[offset / memory.page_size],
			word_at(memory.before, offset), word_at(memory.after, offset), got);
}

static bool check_page_exactly(unsigned int page)
{
	const void *now = page_pointer(page);
	size_t start = (size_t)page * memory.page_size;

	if (same_page(now, memory.after + start))
		return true;
	for (size_t i = 0; i < memory.page_size; i += sizeof(__u32))
		if (word_at(now, i) != word_at(memory.after, start + i))
			return wrong_word(start + i, word_at(now, i));
	return true;
}

/* Each word has its old value, or is the marked word of the dead task. */
static bool check_page_loosely(unsigned int page)
{
	const void *now = page_pointer(page);
	size_t start = (size_t)page * memory.page_size;

	for (size_t i = 0; i < memory.page_size; i += sizeof(__u32)) {
		__u32 was = word_at(memory.before, start + i), is = word_at(now, i);
		const __u32 *pointer = &world->maker.pointer[(start + i) / 2];

		if (was == is)
			continue;
		if (world->racy &&
		    (pointer[0] == world->maker.number || pointer[1] == world->maker.number))
			continue;
		if ((was & FUTEX_TID_MASK) != world->maker.tid ||
		    is != ((was & FUTEX_WAITERS) | FUTEX_OWNER_DIED))
			return wrong_word(start + i, is);
	}
	return true;
}

static bool check_memory(void)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		if (!page_readable(i) || (is_fork(world->death) && !page_shared(i)))
			continue;
		if (world->racy ? !check_page_loosely(i) : !check_page_exactly(i))
			return false;
	}
	return true;
}

/*
 * Returns an upper limit of the wakeups of a futex, for walks that the model cannot
 * predict.
 */
static unsigned int most_wakes(const struct target *target)
{
	const struct maker *maker = &world->maker;
	__u32 was = word_at(memory.before, target->offset);
	unsigned int wakes = 0;

	if ((was & FUTEX_TID_MASK) == maker->tid && (was & FUTEX_WAITERS))
		wakes++;
	for (unsigned int i = 0; i < maker->lists; i++) {
		const struct list *list = &maker->list[i];

		wakes += list->pending && target->address ==
			 cut_address(list->kind, list->pending + list->futex_offset);
	}
	return wakes;
}

static bool check_waiters(void)
{
	bool good = true;

	for (unsigned int i = 0; i < world->targets; i++) {
		struct target *target = &world->target[i];
		void *futex = (void *)(uintptr_t)target->address;
		long left = raw_syscall(SYS_futex, futex, FUTEX_REQUEUE, 0, (long)INT_MAX,
					&world->park, 0);
		unsigned int woken = target->waiting - left;

		total.wakes += woken;
		if (left < 0 || left > (long)target->waiting)
			good = mismatch("moving waiters returns %ld", left);
		else if (world->racy && woken > most_wakes(target))
			good = mismatch("at most %u waiters at %#llx had to be woken, and %u were",
					most_wakes(target), target->address, woken);
		else if (!world->racy && woken != target->expected)
			good = mismatch("%u of %u waiters at %#llx had to be woken, and %u were",
					target->expected, target->waiting, target->address, woken);
	}
	return good;
}

static bool check_status(pid_t pid)
{
	bool killed = false;
	int status;

	switch (world->death) {
	case THREAD_EXITS:
		return true;
	case PROCESS_KILLS_ITSELF:
	case PROCESS_IS_KILLED:
	case FORK_KILLS_ITSELF:
		killed = true;
		break;
	default:
		break;
	}
	must(waitpid(pid, &status, __WALL) == pid);
	if (killed ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : status)
		return mismatch("the status is %#x", status);
	return true;
}

static pid_t start_death(void)
{
	int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
	int (*task)(void *arg) = die;
	void *top = stack + sizeof(stack);
	__u64 end;
	pid_t pid;

	if (is_fork(world->death)) {
		pid = fork();
		must(pid >= 0);
		if (!pid)
			_exit(die(NULL));
		return pid;
	}
	if (world->death == THREAD_EXITS)
		flags = THREAD_FLAGS | CLONE_VFORK;
	if (world->death == PROCESS_IS_KILLED)
		flags = CLONE_VM | SIGCHLD;
	if (world->death == THREAD_EXECS) {
		flags = CLONE_VM | SIGCHLD;
		task = run_leader;
		top = leader_stack + sizeof(leader_stack);
	}
	/* When this returns, the task has left user space, unless the test has to kill it. */
	pid = clone(task, top, flags, NULL);
	must(pid > 0);
	if (world->death == PROCESS_IS_KILLED) {
		end = now_ms() + PATIENCE * 1000;
		while (!atomic_load(&world->ready) && now_ms() < end)
			sched_yield();
		must(!kill(pid, SIGKILL));
	}
	return pid;
}

/* The entries of the ballast are handled in order, up to the limit. */
static bool check_ballast(void)
{
	unsigned int first = BALLAST_ENTRIES - world->ballast;

	if (!world->ballast)
		return true;
	for (unsigned int i = 0; i < BALLAST_ENTRIES; i++) {
		bool handled = i >= first && i < first + HELD_LIMIT;

		if (ballast->entry[i].word != (handled ? FUTEX_OWNER_DIED : world->maker.tid))
			return mismatch("entry %u of the ballast has %#x", i - first,
					ballast->entry[i].word);
	}
	return true;
}

static bool run_case(unsigned int number)
{
	struct rng rng = rng_of(world->seed, number, 0);
	bool good;
	pid_t pid;

	world->number = number;
	world->death = random_death(&rng);
	world->racy = once_in(&rng, 16) && !is_fork(world->death);
	/* The task sets the number of entries. */
	world->ballast = number % CASES_PER_BALLAST == CASES_PER_BALLAST / 2;
	world->failed_line = 0;
	atomic_store(&world->rewritten, 0);
	atomic_store(&world->ready, 0);
	pid = start_death();
	good = check_status(pid);
	stop_race();
	if (world->failed_line)
		good = mismatch("line %u failed", world->failed_line);
	good = check_waiters() && good;
	good = good && check_memory() && check_ballast();
	total.marked += world->model.marked;

	total.cases++;
	total.ballasts += !!world->ballast;
	/* Count a race only if a pointer was rewritten. */
	total.racy += atomic_load(&world->rewritten) > 0;
	total.rewritten += atomic_load(&world->rewritten);
	return good;
}

static void start_threads(void)
{
	pthread_t thread;

	use_cpu(0);
	for (int i = 0; i < WAITERS; i++)
		must(!pthread_create(&thread, NULL, wait_parked, NULL));
	must(!pthread_create(&thread, NULL, race, NULL));
}

static void init_world(__u64 seed)
{
	size_t map_size;

	init_memory();
	world = map_shared(sizeof(*world));
	world->seed = seed;
	map_size = image_size() / 2 * sizeof(__u32);
	world->maker.used = map_shared(map_size);
	world->maker.pointer = map_shared(map_size);
	init_ballast();
#ifdef __x86_64__
	have_compat = int80(I386_SET_ROBUST_LIST2, 0, ROBUST_LIST_NEW, ROBUST_LIST_QUERY_MAX,
			    0) == LISTS_PER_TASK;
	if (!have_compat)
		print_line("# this kernel has no int80 calls");
#endif
}

static int fuzz(__u64 seed, unsigned int count, unsigned int first)
{
	__u64 start = now_ms();
	bool good = true;

	print_line("TAP version 13\n# fuzz_lists %llu %u %u", seed, count, first);
	init_world(seed);
	start_threads();
	for (unsigned int i = first; i < first + count && good; i++) {
		if (i == first || i % CASES_PER_MAP == 0) {
			struct rng rng = rng_of(seed, i / CASES_PER_MAP, 3);

			map_arenas(&rng);
		}
		good = run_case(i);
	}
	print_line("# tasks %u, racy %u, rewritten %u, ballast %u, marked %u, woken %u, ms %llu",
		   total.cases, total.racy, total.rewritten, total.ballasts, total.marked,
		   total.wakes, now_ms() - start);
	print_line("%sok 1 fuzz_lists %llu %u\n1..1", good ? "" : "not ", seed, count);
	return !good;
}

int main(int argc, char *argv[])
{
	if (argc == 2 && !strcmp(argv[1], "--empty"))
		return !has_no_lists(0);
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: fuzz_lists SEED COUNT [FIRST]\n");
		return 2;
	}
	skip_without_robust_list2("fuzz_lists");
	return fuzz(parse_number(argv[1]), parse_number(argv[2]),
		    argc == 4 ? parse_number(argv[3]) : 0);
}
