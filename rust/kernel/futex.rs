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

/// Does for one futex of a robust list what the kernel does when its owner dies.
///
/// Where the word at `uaddr` holds the TID of `task`, it becomes `FUTEX_OWNER_DIED`, keeps
/// `FUTEX_WAITERS`, and one waiter is woken. Any other word is left alone. `_mm` is the address
/// space of `task`, which a kernel thread does not have.
///
/// # Errors
///
/// [`EFAULT`] where `uaddr` is not a multiple of four or does not refer to memory that can be
/// read and written.
#[doc(alias = "handle_futex_death")]
#[inline]
pub fn handle_death(
    uaddr: UserPtr,
    task: &CurrentTask,
    _mm: &MmWithUser,
    protocol: Protocol,
    origin: Origin,
) -> Result {
    let modifier = match protocol {
        Protocol::Plain => 0,
        Protocol::Pi => bindings::FUTEX_ROBUST_MOD_PI,
    };
    let pending = match origin {
        Origin::Entry => false,
        Origin::Pending => true,
    };

    // SAFETY: The function checks the user address on each access. `task` is the current task, and
    // `_mm` shows that it has the address space that handling a fault needs.
    let ret = unsafe {
        bindings::handle_futex_death(uaddr.as_mut_ptr().cast(), task.as_ptr(), modifier, pending)
    };
    if ret == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
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
