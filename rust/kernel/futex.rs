// SPDX-License-Identifier: GPL-2.0

//! Futexes.
//!
//! C headers: [`include/linux/futex_types.h`](srctree/include/linux/futex_types.h),
//! `kernel/futex/futex.h`.

use crate::{
    bindings,
    error::Result,
    mm::MmWithUser,
    prelude::*,
    task::CurrentTask, //
};
#[cfg(CONFIG_FUTEX_ROBUST_LIST2)]
use crate::{
    sync::rcu_box::RcuPointer,
    task::Task, //
};

// `bindgen` computes the layout of `struct task_struct` a second time. The accessor below does not
// depend on the result, but a mistake in front of `futex` is one in the fields behind it as well.
#[cfg(CONFIG_FUTEX_ROBUST_LIST2)]
static_assert!(
    core::mem::offset_of!(bindings::task_struct, futex) == bindings::TASK_STRUCT_FUTEX_OFFSET
);

/// How a robust futex is locked, from bit 0 of the list's pointer to it (`FUTEX_ROBUST_MOD_PI`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `FUTEX_WAIT` and `FUTEX_WAKE`: a dying owner wakes one waiter.
    Plain,
    /// `FUTEX_LOCK_PI`: the futex goes to a waiter when the dying owner's PI state is released.
    Pi,
}

/// Where a dying task's robust list mentions a futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In an entry of the list: the task has the lock, or had it and died while it let go.
    Entry,
    /// In `list_op_pending`: the task may have died between the futex operation and the list's.
    /// A waiter may have to be woken although the task is not the owner.
    Pending,
}

/// A task that exits or execs, as the owner of robust futexes.
pub struct DyingOwner<'a> {
    task: &'a CurrentTask,
    /// What the futex words hold that the task owns: its TID, as its own PID namespace has it.
    tid: u32,
}

impl<'a> DyingOwner<'a> {
    /// Makes `task` an owner. `_mm` is its address space, which a kernel thread does not have.
    pub fn new(task: &'a CurrentTask, _mm: &MmWithUser) -> Self {
        // SAFETY: `task` is a valid task. A null pointer stands for its own namespace.
        let tid = unsafe {
            bindings::__task_pid_nr_ns(
                task.as_ptr(),
                bindings::pid_type_PIDTYPE_PID,
                core::ptr::null_mut(),
            )
        };

        Self {
            task,
            // CAST: A TID is not negative.
            tid: tid as u32,
        }
    }

    /// Does for one futex of a robust list what the kernel does when its owner dies.
    ///
    /// Where the word at `uaddr` holds the TID of the task, it becomes `FUTEX_OWNER_DIED`, keeps
    /// `FUTEX_WAITERS`, and one waiter is woken. Any other word is left alone.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] where `uaddr` is not a multiple of four or does not refer to memory that can be
    /// read and written.
    #[inline(always)]
    pub fn release(&self, uaddr: UserPtr, protocol: Protocol, origin: Origin) -> Result {
        if origin == Origin::Entry && uaddr.as_const_ptr().addr() % align_of::<u32>() == 0 {
            let word: u32 = uaddr.read_word()?;

            // Most locks in a list are the task's own and nobody waits for them, or they are
            // somebody else's. Both are over here, without what `handle_futex_death()` has to
            // find out for each of them.
            if word & bindings::FUTEX_TID_MASK != self.tid {
                return Ok(());
            }
            if word & bindings::FUTEX_WAITERS == 0
                && cmpxchg(uaddr, word, bindings::FUTEX_OWNER_DIED)
            {
                return Ok(());
            }
        }
        self.handle_death(uaddr, protocol, origin)
    }

    /// All that can be: waiters, faults, words that change, and the races around
    /// `list_op_pending`.
    #[doc(alias = "handle_futex_death")]
    fn handle_death(&self, uaddr: UserPtr, protocol: Protocol, origin: Origin) -> Result {
        let modifier = match protocol {
            Protocol::Plain => 0,
            Protocol::Pi => bindings::FUTEX_ROBUST_MOD_PI,
        };
        let uaddr = uaddr.as_mut_ptr().cast();
        let pending = origin == Origin::Pending;

        // SAFETY: The function checks the user address on each access. `task` is the current task,
        // and `new()` was shown the address space that handling a fault needs.
        let ret =
            unsafe { bindings::handle_futex_death(uaddr, self.task.as_ptr(), modifier, pending) };
        if ret == 0 {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }
}

/// Changes a futex word from `old` to `new`, if that needs no page fault and it still is `old`.
/// Returns whether it has.
#[doc(alias = "futex_cmpxchg_value_locked")]
#[inline(always)]
fn cmpxchg(uaddr: UserPtr, old: u32, new: u32) -> bool {
    let mut found = 0;

    // SAFETY: `found` is valid for writes, and the function checks the user address.
    let ret = unsafe { bindings::futex_cmpxchg(&mut found, uaddr.as_mut_ptr().cast(), old, new) };
    ret == 0 && found == old
}

#[cfg(CONFIG_FUTEX_ROBUST_LIST2)]
impl Task {
    /// Returns the pointer to the table of lists that `set_robust_list2()` registered.
    ///
    /// # Safety
    ///
    /// Every caller names the same `T`.
    #[inline]
    pub unsafe fn futex_robust_lists<T: Send + Sync>(&self) -> &RcuPointer<T> {
        // SAFETY: By the type invariants, `self` is a valid task.
        let field = unsafe { bindings::task_futex_robust_lists(self.as_ptr()) };

        // SAFETY:
        // - `field` is a field of `self`, so it is valid for as long as the returned reference.
        // - It is null from `futex_init_task()` on, and C code only compares it with null.
        // - All other accesses go through this function, and the caller guarantees that they
        //   name the same `T`.
        unsafe { RcuPointer::from_raw(field) }
    }
}
