// SPDX-License-Identifier: GPL-2.0

//! Futexes.
//!
//! C headers: [`include/linux/futex_types.h`](srctree/include/linux/futex_types.h),
//! `kernel/futex/futex.h`.
//!
//! This is for code that is built into the kernel: modules cannot call what is behind it.

use core::marker::PhantomData;

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

// `bindgen` computes the layout of `struct task_struct` a second time, and the accessor below
// depends on the result.
#[cfg(CONFIG_FUTEX_ROBUST_LIST2)]
static_assert!(
    core::mem::offset_of!(bindings::task_struct, futex.robust_lists)
        == bindings::TASK_STRUCT_ROBUST_LISTS_OFFSET
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
///
/// # Invariants
///
/// `task` has an address space of its own for `'a`.
pub struct DyingOwner<'a> {
    task: &'a CurrentTask,
    _mm: PhantomData<&'a MmWithUser>,
    /// What the futex words hold that the task owns: its TID, as its own PID namespace has it.
    tid: u32,
}

impl<'a> DyingOwner<'a> {
    /// Makes `task` an owner, unless it has no address space, like a kernel thread.
    #[inline]
    pub fn new(task: &'a CurrentTask) -> Option<Self> {
        task.mm()?;

        // SAFETY: `task` is a valid task. A null pointer stands for the namespace of the current
        // task, which is this one.
        let tid = unsafe {
            bindings::__task_pid_nr_ns(
                task.as_ptr(),
                bindings::pid_type_PIDTYPE_PID,
                core::ptr::null_mut(),
            )
        };

        // INVARIANT: `task` has an address space. Nothing takes that away while there is the
        // reference to it that `CurrentTask::mm()` has given out for `'a`.
        Some(Self {
            task,
            _mm: PhantomData,
            // CAST: A TID is not negative.
            tid: tid as u32,
        })
    }

    /// Does for one futex of a robust list what the kernel does when its owner dies.
    ///
    /// Where the word at `uaddr` holds the TID of the task, it becomes `FUTEX_OWNER_DIED`, keeps
    /// `FUTEX_WAITERS`, and one waiter is woken. Any other word is left alone, but with
    /// [`Origin::Pending`] a waiter may be woken for it.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] where `uaddr` is not a multiple of four or does not refer to memory that can be
    /// read and written.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(CONFIG_MMU)] {
    /// use kernel::{
    ///     futex::{
    ///         DyingOwner,
    ///         Origin,
    ///         Protocol, //
    ///     },
    ///     kunit::UserMemory,
    ///     uapi, //
    /// };
    ///
    /// let memory = UserMemory::new(0x30_0000, 4096)?;
    /// let (mine, other) = (memory.at(0), memory.at(4));
    /// let task = current!();
    /// let tid = u32::try_from(task.pid())?;
    ///
    /// mine.write_word(tid)?;
    /// other.write_word(tid + 1)?;
    ///
    /// let owner = DyingOwner::new(task).ok_or(EINVAL)?;
    /// for uaddr in [mine, other] {
    ///     owner.release(uaddr, Protocol::Plain, Origin::Entry)?;
    /// }
    ///
    /// assert_eq!(mine.read_word::<u32>()?, uapi::FUTEX_OWNER_DIED);
    /// assert_eq!(other.read_word::<u32>()?, tid + 1);
    /// assert_eq!(owner.release(memory.at(2), Protocol::Plain, Origin::Entry), Err(EFAULT));
    /// memory.unmap()?;
    /// # }
    /// # Ok::<(), Error>(())
    /// ```
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
    #[cold]
    #[inline]
    fn handle_death(&self, uaddr: UserPtr, protocol: Protocol, origin: Origin) -> Result {
        let modifier = match protocol {
            Protocol::Plain => 0,
            Protocol::Pi => bindings::FUTEX_ROBUST_MOD_PI,
        };
        let uaddr = uaddr.as_mut_ptr().cast();
        let pending = origin == Origin::Pending;

        // SAFETY: The function checks the user address on each access. `task` is the current task,
        // and by the type invariants it has the address space that handling a fault needs.
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
    let ret = unsafe {
        bindings::futex_cmpxchg_value_locked(&mut found, uaddr.as_mut_ptr().cast(), old, new)
    };
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
    pub unsafe fn futex_robust_lists<T: Send + Sync + 'static>(&self) -> &RcuPointer<T> {
        // SAFETY: By the type invariants, `self` is a valid task.
        let field = unsafe { &raw mut (*self.as_ptr()).futex.robust_lists };

        // SAFETY:
        // - `field` is a field of `self`, so it is valid for as long as the returned reference.
        // - `futex_init_task()` has made it null, and C code only compares it with null.
        // - All other accesses go through this function, and the caller guarantees that they
        //   name the same `T`.
        unsafe { RcuPointer::from_raw(field.cast()) }
    }
}
