// SPDX-License-Identifier: GPL-2.0

//! Several robust lists per thread: `set_robust_list2()` and `get_robust_list2()`.
//!
//! A robust list holds the futexes that a thread has locked. When the thread exits or execs, the
//! kernel walks the list, marks those futexes with `FUTEX_OWNER_DIED` and wakes a waiter each.
//! `set_robust_list()` knows one such list per thread, of the kernel's own pointer width; these
//! calls add up to [`ROBUST_LISTS_PER_TASK`] more, each of 32-bit or 64-bit pointers.
//!
//! From the system call to the walk:
//!
//! - [`request`] checks the arguments,
//! - [`head`] holds the address and the type of a list in one word,
//! - [`table`] holds the heads of one task,
//! - [`walk`] walks a list in user memory, and [`pointer`] reads its pointers.
//!
//! C callers: `begin_new_exec()` in `fs/exec.c`, and `futex_cleanup()` and the unlock operations of
//! `futex()` in `kernel/futex/core.c`.

mod head;
mod pointer;
mod request;
mod table;
#[cfg(CONFIG_FUTEX_ROBUST_LIST2_KUNIT_TEST)]
mod tests;
mod walk;

use kernel::{
    num::casts,
    prelude::*,
    ptrace::Mode,
    sync::rcu,
    syscall::syscall,
    task::{
        CurrentTask,
        Pid,
        Task, //
    },
    uapi, //
};

use head::Head;
use request::Request;
use table::{
    Index,
    OwnTable,
    Table,
    ROBUST_LISTS_PER_TASK, //
};
use walk::Walk;

/// Prefix of the crate's log messages, which only its tests print.
#[cfg(CONFIG_FUTEX_ROBUST_LIST2_KUNIT_TEST)]
const __LOG_PREFIX: &[u8] = b"robust_list2\0";

/// Registers a list of robust futexes for the calling thread, or changes one.
///
/// - `head`: address of a `struct robust_list_head` or `struct robust_list_head32`.
/// - `index`: `ROBUST_LIST_NEW`, or the index of a registered list.
/// - `flags`: the type of the list, `ROBUST_LIST_UNREGISTER`, `ROBUST_LIST_QUERY_MAX`,
///   `ROBUST_LIST_RELEASE`.
///
/// Returns the list's index, or for `ROBUST_LIST_QUERY_MAX` how many lists a thread can have.
///
/// # Errors
///
/// - [`EINVAL`]: the arguments are not valid, see [`Request::new`].
/// - [`ENOENT`]: no list is registered at `index`.
/// - [`ENOSPC`]: no slot is free for a new list.
/// - [`ENOMEM`]: no memory for the thread's table, at its first registration.
#[syscall]
fn set_robust_list2(
    #[caller_is_64bit] is_64bit: bool,
    head: UserPtr,
    index: c_int,
    flags: c_uint,
) -> Result<c_long> {
    let request = Request::new(head, index, flags, is_64bit)?;
    let task = current!();
    let table = OwnTable::of_current(task);

    let index = match request {
        Request::New(head) => match table {
            Some(table) => table.insert(head)?,
            None => Table::create(task, head)?,
        },
        Request::Set(index, head) => {
            table.ok_or(ENOENT)?.replace(index, Some(head))?;
            index
        }
        Request::Unregister(index) => {
            table.ok_or(ENOENT)?.replace(index, None)?;
            index
        }
        Request::Release(index) => {
            release(task, table.ok_or(ENOENT)?, index)?;
            index
        }
        Request::QueryMax => return Ok(ROBUST_LISTS_PER_TASK.into()),
    };
    Ok(index.into())
}

/// Unregisters a list, and walks it as exit does.
#[cold]
fn release(task: &CurrentTask, table: OwnTable<'_>, index: Index) -> Result {
    let head = table.replace(index, None)?;

    if let Some(mut walk) = Walk::of_current(task) {
        walk.list(head);
    }
    Ok(())
}

/// Reads the head and the type of a list that a thread has registered.
///
/// - `pid`: TID of the thread in the PID namespace of the caller, or 0 for the caller.
/// - `head`: user address that receives the address of the list's head, as 64 bits.
/// - `index`: index of the list.
/// - `flags`: 0.
///
/// Returns the type of the list, `ROBUST_LIST_32BIT` or `ROBUST_LIST_64BIT`.
///
/// # Errors
///
/// - [`EINVAL`]: `flags` is not 0, or no list can have this `index`.
/// - [`ESRCH`]: there is no such thread.
/// - [`EPERM`]: the caller may not read the thread, by the rules of `get_robust_list()`.
/// - [`ENOENT`]: no list is registered at `index`.
/// - [`EFAULT`]: `head` cannot be written.
#[syscall]
fn get_robust_list2(pid: c_int, head: UserPtr, index: c_int, flags: c_uint) -> Result<c_long> {
    if flags != 0 {
        return Err(EINVAL);
    }
    let index = Index::new(index)?;

    let list = if pid == 0 {
        OwnTable::of_current(current!()).and_then(|table| table.get(index))
    } else {
        registered_of_other(pid, index)?
    }
    .ok_or(ENOENT)?;

    head.write_word(casts::usize_as_u64(list.address().as_const_ptr().addr()))?;
    Ok(list.is_64bit().into())
}

/// Returns the list that the thread `pid` has registered at `index`.
///
/// The checks are those of `futex_get_robust_list_common()`.
fn registered_of_other(pid: Pid, index: Index) -> Result<Option<Head>> {
    let task = Task::find_by_vpid(pid).ok_or(ESRCH)?;
    let guard = task.lock_exec_update()?;

    if !guard.may_access(Mode::Read | Mode::RealCreds) {
        return Err(EPERM);
    }
    // An exec would replace the program that the check was about, so read under the lock. The lock
    // does not exclude exit, so RCU protects the table.
    let rcu = rcu::read_lock();
    Ok(Table::of_other(&task, &rcu).and_then(|table| table.get(index)))
}

/// Handles the lists of the current task in the order of their indexes, and unregisters them.
///
/// `futex_exit_robust_lists()` in `include/linux/futex.h` calls this if the task has a table: in
/// `begin_new_exec()`, while the task still has the TID that its futex words hold, and in
/// `futex_cleanup()`, whose comment explains why waiters for PI futexes need no lock. May sleep.
///
/// # Safety
///
/// The task is not inside `set_robust_list2()`, `get_robust_list2()` or an operation of `futex()`.
#[export]
pub unsafe extern "C" fn __futex_exit_robust_lists() {
    let task = current!();

    // SAFETY: An `OwnTable` does not outlive a system call or an operation of `futex()`,
    // and by the safety requirements the task is in none of them.
    let table = unsafe { Table::take(task) };

    // New readers find no table. Dropping `table` starts the grace period for readers that found it
    // before.
    if let (Some(table), Some(mut walk)) = (table, Walk::of_current(task)) {
        // SAFETY: It is the table of the current task.
        for head in unsafe { OwnTable::new(&table) }.iter() {
            walk.list(head);
        }
    }
}

/// Empties the list of the current task whose `list_op_pending` is at `pop`.
///
/// Exit would take a stale word for an operation under way, and act on memory that may have been
/// reused. So an unlock operation of `futex()` calls this if it cannot clear the word.
/// `list_type` is the width of the pointer, `ROBUST_LIST_32BIT` or `ROBUST_LIST_64BIT`.
///
/// # Safety
///
/// The task is not inside [`__futex_exit_robust_lists`]. `pop` is a user address, valid or not.
#[export]
pub unsafe extern "C" fn futex_robust_lists_drop_pending(pop: *mut c_void, list_type: c_uint) {
    if let Some(table) = OwnTable::of_current(current!()) {
        table.clear_pending(UserPtr::from_ptr(pop), list_type);
    }
}

// The code relies on these properties of the user-space contract, and on a 64-bit kernel.
static_assert!(uapi::ROBUST_LIST_32BIT == 0 && uapi::ROBUST_LIST_64BIT == 1);
static_assert!(uapi::ROBUST_LIST_TYPE_MASK == 1);
static_assert!(size_of::<uapi::robust_list_head32>() == 12);
static_assert!(cfg!(CONFIG_64BIT));
