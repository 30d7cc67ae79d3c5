// SPDX-License-Identifier: GPL-2.0

//! Access of one task to another.
//!
//! C headers: [`include/linux/ptrace.h`](srctree/include/linux/ptrace.h),
//! [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h),
//! [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::{
    bindings,
    prelude::*,
    task::Task,
    types::NotThreadSafe, //
};
use core::mem::offset_of;

crate::impl_flags!(
    /// An access to a task, and whose credentials allow it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Modes(u32);

    /// A part of [`Modes`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mode {
        /// Reads the state of the task.
        Read = bindings::PTRACE_MODE_READ,
        /// Changes the state of the task, or the task itself.
        Attach = bindings::PTRACE_MODE_ATTACH,
        /// A denial leaves no trace in the audit log.
        NoAudit = bindings::PTRACE_MODE_NOAUDIT,
        /// The filesystem credentials of the caller count.
        FsCreds = bindings::PTRACE_MODE_FSCREDS,
        /// The real credentials of the caller count.
        RealCreds = bindings::PTRACE_MODE_REALCREDS,
    }
);

/// Evidence that no thread of a process can finish an `execve()`.
///
/// While it exists, no exec changes the credentials or the address space of the process, so a
/// permission check stays valid. The process itself may still change its credentials, and its
/// threads may exit.
///
/// # Invariants
///
/// The current task holds `exec_update_lock` of `task` for reading.
pub struct ExecUpdateGuard<'a> {
    task: &'a Task,
    _not_send: NotThreadSafe,
}

// `exec_update_lock()` depends on the layout that `bindgen` computes, so compare it with the layout
// of the C compiler.
static_assert!(
    offset_of!(bindings::task_struct, signal) == bindings::TASK_STRUCT_SIGNAL_OFFSET
        && offset_of!(bindings::signal_struct, exec_update_lock)
            == bindings::SIGNAL_STRUCT_EXEC_UPDATE_LOCK_OFFSET
);

impl Task {
    fn exec_update_lock(&self) -> *mut bindings::rw_semaphore {
        // SAFETY: By the type invariants, `self` is a valid task with a reference count above zero,
        // and a task keeps its `signal` until that count is zero.
        unsafe { &raw mut (*(*self.as_ptr()).signal).exec_update_lock }
    }

    /// Keeps the task's process from finishing an `execve()`, after waiting for one under way.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if the current task is killed while it waits.
    #[doc(alias = "exec_update_lock")]
    #[inline]
    pub fn lock_exec_update(&self) -> Result<ExecUpdateGuard<'_>> {
        // SAFETY: The semaphore is valid for as long as `self`. This function may sleep.
        let ret = unsafe { bindings::down_read_killable(self.exec_update_lock()) };
        if ret != 0 {
            return Err(Error::from_errno(ret));
        }

        // INVARIANT: The lock was taken above.
        Ok(ExecUpdateGuard {
            task: self,
            _not_send: NotThreadSafe,
        })
    }
}

impl ExecUpdateGuard<'_> {
    /// Returns whether the current task has the access `modes` to the task.
    ///
    /// `modes` has either [`Mode::FsCreds`] or [`Mode::RealCreds`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     ptrace::Mode,
    ///     task::Task, //
    /// };
    ///
    /// let task = Task::find_by_vpid(current!().pid_nr_ns(None)).ok_or(ESRCH)?;
    /// let guard = task.lock_exec_update()?;
    ///
    /// // A task may access itself.
    /// assert!(guard.may_access(Mode::Read | Mode::RealCreds));
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "ptrace_may_access")]
    #[inline]
    pub fn may_access(&self, modes: Modes) -> bool {
        // SAFETY: `task` is a valid task.
        unsafe { bindings::ptrace_may_access(self.task.as_ptr(), modes.into()) }
    }
}

impl Drop for ExecUpdateGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the current task holds the lock for reading.
        unsafe { bindings::up_read(self.task.exec_update_lock()) };
    }
}
