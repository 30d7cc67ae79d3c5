// SPDX-License-Identifier: GPL-2.0

//! The walk over the lists of a thread that exits or execs, or over one that it releases.
//!
//! A list is in user memory, and anything may be there: pointers to nowhere, a circle, pointers
//! that another thread changes meanwhile. So the walk reads every pointer once, and writes to
//! nothing but the futex words that hold the thread's TID.
//!
//! Two counts end every walk, whatever the pointers are:
//!
//! - Entries whose futex the thread holds. Somebody has written the thread's TID into each of these
//!   words, and handling the entry takes the TID out again. So the thread, or whoever writes the
//!   TID on its behalf, pays for each of them. [`HELD_LIMIT`] bounds them over all lists, because
//!   an accomplice may write the TID back for ever.
//! - Entries whose futex the thread does not hold. They cost nobody anything: any number of threads
//!   can register one large list, or a circle. [`ROBUST_LIST_LIMIT`] bounds them for each list.
//!
//! A circle needs no detection: after one lap the thread holds nothing on it.
//!
//! `exit_robust_list()` is the same walk over the list of `set_robust_list()`.
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

/// How many entries whose futex the thread holds are handled at most, over all of its lists.
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
    /// How many more held entries are handled.
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
    /// As in the C walk, `list_op_pending` comes last, and is not handled if a fault ends the list.
    pub(crate) fn list(&mut self, head: Head) -> End {
        let end = match head.typed_address() {
            HeadAddress::Bits32(head) => self.list_at(head),
            HeadAddress::Bits64(head) => self.list_at(head),
        };
        // Nobody is left who could be told the reason.
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

    /// Handles the entries from `entry` to the `head`, but for the one at `pending`.
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

            // Once the futex has been handled, its new owner may free the memory of the entry.
            let next = EntryPtr::<A>::read(&self.owner, entry.address.user_ptr());

            // A lock that is pending may be on the list already, and must not be handled twice.
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
