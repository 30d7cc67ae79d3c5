// SPDX-License-Identifier: GPL-2.0
/*
 * tdb FILE: a process is killed with a lock of Debian's libtdb, and a second one gets
 * the lock. Prints lines like those of locks.c, for two things: the library finds that
 * robust mutexes work, and the second process gets the lock.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <tdb.h>
#include <unistd.h>

static TDB_DATA data(const char *text)
{
	return (TDB_DATA){ .dptr = (unsigned char *)text, .dsize = strlen(text) };
}

static struct tdb_context *open_database(const char *file)
{
	return tdb_open(file, 0, TDB_MUTEX_LOCKING | TDB_CLEAR_IF_FIRST | TDB_INCOMPATIBLE_HASH,
			O_CREAT | O_RDWR, 0600);
}

/* Holds the lock until it is killed. */
static int first(const char *file, int ready)
{
	struct tdb_context *tdb = open_database(file);

	if (!tdb || tdb_chainlock(tdb, data("key")) || write(ready, "", 1) != 1)
		return 1;
	for (;;)
		pause();
}

/* Gets the lock and uses the database. */
static bool second(struct tdb_context *tdb, const char **note)
{
	TDB_DATA value;

	*note = "the second process does not get the lock";
	if (tdb_chainlock_nonblock(tdb, data("key")))
		return false;
	*note = "the second process cannot use the database";
	if (tdb_store(tdb, data("key"), data("value"), TDB_REPLACE))
		return false;
	value = tdb_fetch(tdb, data("key"));
	if (value.dsize != 5 || memcmp(value.dptr, "value", 5) ||
	    tdb_chainunlock(tdb, data("key")))
		return false;
	*note = "";
	return true;
}

static bool killed_owner(const char *file, const char **note)
{
	struct tdb_context *tdb;
	int ready[2];
	pid_t pid;
	char c;

	*note = "the first process does not get the lock";
	if (pipe(ready))
		return false;
	/* Forks before this process opens the database, which no process may do twice. */
	pid = fork();
	if (!pid) {
		close(ready[0]);
		_exit(first(file, ready[1]));
	}
	close(ready[1]);
	if (pid == -1 || read(ready[0], &c, 1) != 1)
		return false;
	*note = "the second process cannot open the database";
	tdb = open_database(file);
	if (!tdb) {
		kill(pid, SIGKILL);
		return false;
	}
	/* The lock must not be free before. */
	*note = "the first process does not have the lock";
	if (!tdb_chainlock_nonblock(tdb, data("key"))) {
		kill(pid, SIGKILL);
		return false;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return second(tdb, note);
}

int main(int argc, char *argv[])
{
	const char *note = "";
	int good = 0;

	if (argc != 2)
		return 2;
	alarm(120);
	good += tdb_runtime_check_for_robust_mutexes();
	if (good)
		good += killed_owner(argv[1], &note);
	else
		note = "tdb_runtime_check_for_robust_mutexes() says no";
	printf("libtdb\t2\t%d\t%s\n", good, note);
	return good != 2;
}
