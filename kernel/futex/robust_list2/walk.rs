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
    futex::{
        Holder,
        RobustFutexOwner, //
    },
    prelude::*,
    task::CurrentTask,
    uapi, //
};

use crate::{
    head::{
        Head,
        HeadAddress, //
    },
    pointer::{
        Address,
        EntryPtr, //
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
        Some(Self {
            owner: RobustFutexOwner::of_current(task)?,
            held_left: HELD_LIMIT,
        })
    }

    /// Begins a walk that handles `limit` held entries.
    #[cfg(CONFIG_FUTEX_ROBUST_LIST2_KUNIT_TEST)]
    pub(crate) fn with_limit(task: &'a CurrentTask, limit: u32) -> Option<Self> {
        let walk = Self::of_current(task)?;
        Some(Self {
            held_left: limit,
            ..walk
        })
    }

    /// Handles the futexes of one list.
    ///
    /// As in the C walk, `list_op_pending` comes last, and a fault in the list skips it.
    pub(crate) fn list(&mut self, head: Head) -> End {
        let end = match head.typed_address() {
            HeadAddress::Bits32(head) => self.list_at(head),
            HeadAddress::Bits64(head) => self.list_at(head),
        };
        // Nobody reports the error to user space.
        end.unwrap_or(End::Fault)
    }

    fn list_at<A: Address>(&mut self, head: A) -> Result<End> {
        if head.is_null() {
            return Ok(End::Empty);
        }

        let head_ptr = head.user_ptr();
        let field = |offset| head_ptr.wrapping_byte_add(offset);
        let first = EntryPtr::<A>::read(&self.owner, head_ptr)?;
        let futex_offset: A::Word = self.owner.read_word(field(A::FUTEX_OFFSET))?;
        let pending = EntryPtr::<A>::read(&self.owner, field(A::LIST_OP_PENDING))?;

        let end = self.entries(head, first, futex_offset, pending.address)?;

        if !pending.address.is_null() {
            let uaddr = pending.address.offset(futex_offset).user_ptr();
            self.owner.abandon_pending(uaddr, pending.protocol)?;
        }
        Ok(end)
    }

    /// Handles the entries from `entry` to `head`, except the one at `pending`.
    fn entries<A: Address>(
        &mut self,
        head: A,
        mut entry: EntryPtr<A>,
        futex_offset: A::Word,
        pending: A,
    ) -> Result<End> {
        let mut others_left = uapi::ROBUST_LIST_LIMIT;

        while self.held_left != 0 && others_left != 0 {
            if entry.address == head {
                return Ok(End::Head);
            }

            // The next owner of the futex may free the entry, so read the pointer first.
            let next = EntryPtr::<A>::read(&self.owner, entry.address.user_ptr());

            // The pending lock may be on the list, and must not be handled twice.
            let holder = if entry.address == pending {
                Holder::Other
            } else {
                let uaddr = entry.address.offset(futex_offset).user_ptr();
                self.owner.abandon_entry(uaddr, entry.protocol)?
            };

            // OVERFLOW: Both are above zero.
            match holder {
                Holder::Task => self.held_left -= 1,
                Holder::Other => others_left -= 1,
            }
            entry = next?;
        }
        Ok(End::Limit)
    }
}
