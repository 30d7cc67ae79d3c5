// SPDX-License-Identifier: GPL-2.0

//! Robust futexes.
//!
//! C headers: [`include/linux/futex_types.h`](srctree/include/linux/futex_types.h),
//! `kernel/futex/futex.h`.
//!
//! Only built-in code can use this module, because the C functions behind it are not exported.

use crate::{
    bindings,
    error::{
        to_result,
        Result, //
    },
    mm::MmWithUser,
    prelude::*,
    task::CurrentTask,
    uaccess::UserWord, //
};

/// How a robust futex is locked, from bit 0 of the list's pointer to it (`FUTEX_ROBUST_MOD_PI`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `FUTEX_WAIT` and `FUTEX_WAKE`: a dying owner wakes one waiter.
    Plain,
    /// `FUTEX_LOCK_PI`: the futex goes to a waiter when the dying owner's PI state is released.
    Pi,
}

/// Where a robust list refers to a futex.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In an entry.
    Entry,
    /// In `list_op_pending`.
    Pending,
}

/// The current task as the owner of robust futexes that it gives up.
///
/// A task gives up its futexes when it exits or execs, but any user task may do so at any time:
/// only futex words and their waiters are affected.
///
/// # Invariants
///
/// `mm` is the address space of `task`.
pub struct RobustFutexOwner<'a> {
    task: &'a CurrentTask,
    mm: &'a MmWithUser,
    /// The TID in the futex words of the task: that of its own PID namespace.
    tid: u32,
}

impl<'a> RobustFutexOwner<'a> {
    /// Returns the current task as an owner, unless it has no address space (a kernel thread).
    #[inline]
    pub fn of_current(task: &'a CurrentTask) -> Option<Self> {
        // INVARIANT: `task` keeps its address space while a reference exists that
        // `CurrentTask::mm()` gave out.
        let mm = task.mm()?;

        Some(Self {
            task,
            mm,
            // CAST: A TID is not negative.
            tid: task.pid_nr_ns(None) as u32,
        })
    }

    /// Reads one word of a robust list, or a futex word.
    ///
    /// This is [`UserPtr::read_word`], except that a fatal signal does not interrupt it. Otherwise
    /// waiters for the locks behind the word would wait for ever.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if the address does not refer to memory that can be read.
    // Its callers are not hot, and each copy has two accesses to user memory.
    #[inline(never)]
    pub fn read_word<T: UserWord>(&self, uaddr: UserPtr) -> Result<T> {
        if let Ok(word) = uaddr.read_word() {
            return Ok(word);
        }
        self.fault_in(uaddr)?;
        uaddr.read_word()
    }

    /// Reads the pointer at `entry` and the futex word at `uaddr`, each as
    /// [`RobustFutexOwner::read_word`].
    #[inline]
    pub fn read_entry<T: UserWord>(
        &self,
        entry: UserPtr,
        uaddr: UserPtr,
    ) -> (Result<T>, Result<u32>) {
        match entry.read_word_and_u32(uaddr) {
            Ok((pointer, word)) => (Ok(pointer), Ok(word)),
            Err(_) => self.read_entry_word_by_word(entry, uaddr),
        }
    }

    /// Slow path: a page is missing, or an address is invalid.
    #[cold]
    fn read_entry_word_by_word<T: UserWord>(
        &self,
        entry: UserPtr,
        uaddr: UserPtr,
    ) -> (Result<T>, Result<u32>) {
        (self.read_word(entry), self.read_word(uaddr))
    }

    /// Faults in a page regardless of signals.
    ///
    /// A page fault of the kernel gives up if it has to wait and a fatal signal is pending.
    #[cfg(CONFIG_MMU)]
    #[doc(alias = "fixup_user_fault")]
    #[cold]
    fn fault_in(&self, uaddr: UserPtr) -> Result {
        let address = uaddr.as_const_ptr().addr();
        let _guard = self.mm.mmap_read_lock();

        // SAFETY: `mm` is valid and its `mmap_lock` is held. Without `FAULT_FLAG_ALLOW_RETRY`, the
        // last argument may be null, and the lock is still held afterwards.
        to_result(unsafe {
            bindings::fixup_user_fault(self.mm.as_raw(), address, 0, core::ptr::null_mut())
        })
    }

    /// Without an MMU there is nothing to fault in.
    #[cfg(not(CONFIG_MMU))]
    fn fault_in(&self, _uaddr: UserPtr) -> Result {
        Err(EFAULT)
    }

    /// Gives up the futex of an entry of a robust list.
    ///
    /// `word` is the value read from `uaddr`. If it holds the task's TID, the futex word becomes
    /// `FUTEX_OWNER_DIED`, keeps `FUTEX_WAITERS`, and one waiter is woken. Otherwise the futex word
    /// does not change. The result is whether `word` holds the TID.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] if `uaddr` is not a multiple of four, or if the own futex cannot be written.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(CONFIG_MMU)] {
    /// use kernel::{
    ///     futex::{
    ///         Protocol,
    ///         RobustFutexOwner, //
    ///     },
    ///     kunit::UserMemory,
    ///     uapi, //
    /// };
    ///
    /// let memory = UserMemory::new(0x30_0000, 4096)?;
    /// let (mine, other) = (memory.at(0), memory.at(4));
    /// let task = current!();
    /// let tid = u32::try_from(task.pid_nr_ns(None))?;
    ///
    /// mine.write_word(tid)?;
    /// other.write_word(tid + 1)?;
    ///
    /// let owner = RobustFutexOwner::of_current(task).ok_or(EINVAL)?;
    /// assert_eq!(owner.abandon_entry(mine, tid, Protocol::Plain), Ok(true));
    /// assert_eq!(owner.abandon_entry(other, tid + 1, Protocol::Plain), Ok(false));
    ///
    /// assert_eq!(mine.read_word::<u32>()?, uapi::FUTEX_OWNER_DIED);
    /// assert_eq!(other.read_word::<u32>()?, tid + 1);
    /// assert_eq!(owner.abandon_entry(memory.at(2), tid, Protocol::Plain), Err(EFAULT));
    /// # }
    /// # Ok::<(), Error>(())
    /// ```
    #[inline(always)]
    pub fn abandon_entry(&self, uaddr: UserPtr, word: u32, protocol: Protocol) -> Result<bool> {
        if uaddr.as_const_ptr().addr() % align_of::<u32>() != 0 {
            return Err(EFAULT);
        }
        // Fast path: most locks have no waiters.
        if word == self.tid && try_cmpxchg(uaddr, word, bindings::FUTEX_OWNER_DIED) {
            return Ok(true);
        }
        if word & bindings::FUTEX_TID_MASK != self.tid {
            return Ok(false);
        }
        self.abandon_contended(uaddr, word, protocol)?;
        Ok(true)
    }

    /// Gives up a futex of the task that has waiters, or whose word has changed.
    #[cold]
    fn abandon_contended(&self, uaddr: UserPtr, word: u32, protocol: Protocol) -> Result {
        let waiters = word & bindings::FUTEX_WAITERS;

        if !try_cmpxchg(uaddr, word, waiters | bindings::FUTEX_OWNER_DIED) {
            return self.handle_death(uaddr, protocol, Origin::Entry);
        }
        if waiters != 0 && protocol == Protocol::Plain {
            wake_one(uaddr);
        }
        Ok(())
    }

    /// Gives up the futex of `list_op_pending`, which the task was about to lock or unlock.
    ///
    /// The task may have died after it changed the futex word and before it changed the list. So
    /// unlike [`RobustFutexOwner::abandon_entry`], this may wake a waiter even if the word does not
    /// hold the task's TID.
    ///
    /// # Errors
    ///
    /// [`EFAULT`], as [`RobustFutexOwner::abandon_entry`].
    pub fn abandon_pending(&self, uaddr: UserPtr, protocol: Protocol) -> Result {
        // `handle_futex_death()` must not have to fault the page in, see `fault_in()`.
        let _: u32 = self.read_word(uaddr)?;

        self.handle_death(uaddr, protocol, Origin::Pending)
    }

    /// Slow path: faults, concurrent changes and `list_op_pending`.
    #[doc(alias = "handle_futex_death")]
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

/// Wakes one waiter of a futex, if there is one.
#[doc(alias = "futex_wake")]
fn wake_one(uaddr: UserPtr) {
    // SAFETY: The function checks the user address. It takes no robust unlock without `pop`.
    unsafe {
        bindings::futex_wake(
            uaddr.as_mut_ptr().cast(),
            bindings::FLAGS_SIZE_32 | bindings::FLAGS_SHARED,
            core::ptr::null_mut(),
            1,
            bindings::FUTEX_BITSET_MATCH_ANY,
        )
    };
}

/// Changes a futex word from `old` to `new`. Returns whether the word was `old` and the access did
/// not fault.
#[doc(alias = "futex_cmpxchg_value_locked")]
#[inline]
fn try_cmpxchg(uaddr: UserPtr, old: u32, new: u32) -> bool {
    // SAFETY: The function checks the user address.
    unsafe { bindings::futex_try_cmpxchg(uaddr.as_mut_ptr().cast(), old, new) }
}
