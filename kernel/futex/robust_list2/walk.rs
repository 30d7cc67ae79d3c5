// SPDX-License-Identifier: GPL-2.0

//! The walk over the lists of a thread that exits or execs, or over a list that it releases.
//!
//! User memory may hold anything: wild pointers, a cycle, pointers that another thread changes
//! during the walk. So the walk reads each pointer once, and writes only to futex words that hold
//! the thread's TID.
//!
//! Two limits end every walk:
//!
//! - Entries whose futex the thread holds. Somebody wrote the thread's TID into each of these
//!   words, and handling the entry takes the TID out. So the thread or an accomplice pays for each
//!   of them. An accomplice may write the TID back for ever, so [`HELD_LIMIT`] bounds these entries
//!   over all lists.
//! - Entries whose futex the thread does not hold. They cost nobody anything, because any number of
//!   threads can register one large list. [`ROBUST_LIST_LIMIT`] bounds them for each list.
//!
//! A cycle needs no detection: after one lap the thread holds nothing on the cycle.
//!
//! `exit_robust_list()` is the C walk over the list of `set_robust_list()`.
//!
//! [`ROBUST_LIST_LIMIT`]: uapi::ROBUST_LIST_LIMIT

use kernel::{
    futex::RobustFutexOwner,
    prelude::*,
    task::{
        cond_resched,
        CurrentTask, //
    },
    uapi, //
};

use crate::{
    head::{
        Field,
        Head, //
    },
    pointer::{
        Pointer,
        Word, //
    },
};

/// The limit of entries whose futex the thread holds, over all of its lists.
const HELD_LIMIT: u32 = 1 << 20;

/// Why the walk over a list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The list is empty: its head is null.
    Empty,
    /// The last entry points to the head.
    Head,
    /// One of the two limits was reached.
    Limit,
    /// The head, an entry or a futex word cannot be accessed.
    Fault,
}

/// A walk over the lists of the current task.
pub(crate) struct Walk<'a> {
    owner: RobustFutexOwner<'a>,
    /// How many more held entries the walk handles.
    held_left: u32,
}

impl<'a> Walk<'a> {
    /// Begins a walk, unless the task has no address space.
    pub(crate) fn of_current(task: &'a CurrentTask) -> Option<Self> {
        Self::with_limit(task, HELD_LIMIT)
    }

    /// Begins a walk that handles `held_left` held entries.
    pub(crate) fn with_limit(task: &'a CurrentTask, held_left: u32) -> Option<Self> {
        let owner = RobustFutexOwner::of_current(task)?;
        Some(Self { owner, held_left })
    }

    /// Handles the futexes of one list.
    ///
    /// As in the C walk, `list_op_pending` comes last, and a fault in the list skips it.
    pub(crate) fn list(&mut self, head: Head) -> End {
        // Nobody reports the error to user space.
        self.list_at(head).unwrap_or(End::Fault)
    }

    fn list_at(&mut self, head: Head) -> Result<End> {
        let address = head.address();
        if address.as_const_ptr().is_null() {
            return Ok(End::Empty);
        }

        let first = self.read(head, Field::First)?.into();
        let offset = self.read(head, Field::FutexOffset)?;
        let pending = Pointer::from(self.read(head, Field::ListOpPending)?);
        let uaddr;

        let end = if head.is_64bit() {
            uaddr = pending.futex::<u64>(offset);
            self.entries::<u64>(address, first, offset, pending.entry())?
        } else {
            uaddr = pending.futex::<u32>(offset);
            self.entries::<u32>(address, first, offset, pending.entry())?
        };

        if !pending.entry().as_const_ptr().is_null() {
            self.owner.abandon_pending(uaddr, pending.protocol())?;
        }
        Ok(end)
    }

    /// Reads a field of a head.
    #[inline(never)]
    fn read(&self, head: Head, field: Field) -> Result<u64> {
        let from = head.address().wrapping_byte_add(head.offset(field));

        if head.is_64bit() {
            self.owner.read_word::<u64>(from)
        } else {
            self.owner.read_word::<u32>(from).map(u64::from)
        }
    }

    /// Handles the entries from `pointer` to `head`, except the one at `pending`.
    fn entries<W: Word>(
        &mut self,
        head: UserPtr,
        mut pointer: Pointer,
        futex_offset: u64,
        pending: UserPtr,
    ) -> Result<End> {
        let mut others_left = uapi::ROBUST_LIST_LIMIT;
        let mut exhausted = self.held_left == 0;

        while !exhausted {
            let entry = pointer.entry();
            if entry == head {
                return Ok(End::Head);
            }

            // The next owner of the futex may free the entry, so read the pointer first.
            let uaddr = pointer.futex::<W>(futex_offset);
            let (next, word) = self.owner.read_entry::<W>(entry, uaddr);

            // The pending lock may be on the list, and must not be handled twice.
            let held =
                entry != pending && self.owner.abandon_entry(uaddr, word?, pointer.protocol())?;

            // OVERFLOW: Both are above zero, or the walk would have ended.
            exhausted = if held {
                self.held_left -= 1;
                self.held_left == 0
            } else {
                others_left -= 1;
                others_left == 0
            };
            pointer = Pointer::from(next?);
            cond_resched();
        }
        Ok(End::Limit)
    }
}
