// SPDX-License-Identifier: GPL-2.0

//! The walk over a list of a thread that exits or execs.
//!
//! The list is in user memory, and anything may be there: pointers to nowhere, pointers in a
//! circle, pointers that another thread changes while they are read. So every pointer is read
//! once, nothing is remembered of what was read but the few words in [`Lap`], and nothing is
//! written but the futex words of the thread's own locks.
//!
//! `exit_robust_list()` is the same walk over the list of `set_robust_list()`.

use kernel::{
    futex::{
        DyingOwner,
        Origin, //
    },
    prelude::*,
    task::cond_resched,
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

/// Why the walk over a list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The list is empty, there is no head.
    Empty,
    /// The last entry points to the head.
    Head,
    /// The entries form a circle without the head.
    Circle,
    /// There are more than `ROBUST_LIST2_LIMIT` entries.
    Limit,
    /// The head, an entry or a futex word cannot be accessed.
    Fault,
}

/// Handles all futexes of a list of `owner`.
///
/// As in the C walk, `list_op_pending` comes last, and is not handled where the list ends with a
/// fault.
pub(crate) fn walk(head: Head, owner: &DyingOwner<'_>) -> End {
    let end = match head.typed_address() {
        HeadAddress::Bits32(head) => walk_list(head, owner),
        HeadAddress::Bits64(head) => walk_list(head, owner),
    };
    // Whatever it was, there is nobody left to tell.
    end.unwrap_or(End::Fault)
}

fn walk_list<A: Address>(head: A, owner: &DyingOwner<'_>) -> Result<End> {
    if head.is_null() {
        return Ok(End::Empty);
    }

    let head_ptr = head.user_ptr();
    let mut entry = EntryPtr::<A>::read(head_ptr)?;
    let futex_offset: A::Word = head_ptr.wrapping_byte_add(A::FUTEX_OFFSET).read_word()?;
    let pending = EntryPtr::<A>::read(head_ptr.wrapping_byte_add(A::LIST_OP_PENDING))?;

    let handle = |entry: EntryPtr<A>, origin| {
        let uaddr = entry.address.offset(futex_offset).user_ptr();
        owner.release(uaddr, entry.protocol, origin)
    };

    let mut lap = Lap::new(head);
    let end = loop {
        if entry.address == head {
            break End::Head;
        }
        if let Some(end) = lap.visit(entry.address) {
            break end;
        }

        // Once the futex has been handled, its new owner may free the memory of the entry.
        let next = EntryPtr::<A>::read(entry.address.user_ptr());

        // The pending lock may be in the list already, and is not handled twice.
        if entry.address != pending.address {
            handle(entry, Origin::Entry)?;
        }
        entry = next?;
    };

    if !pending.address.is_null() {
        handle(pending, Origin::Pending)?;
    }
    Ok(end)
}

/// Finds out whether the walk goes in a circle, and whether it goes on for too long.
///
/// This is Brent's algorithm. A mark stays at an entry while the walk takes a power of two of
/// steps, and then moves to where the walk is. In a circle of `n` entries the walk comes back to
/// the mark after `n` steps, once the power is not less than `n` and the mark is on the circle. The
/// walk reads nothing more for that, and has seen all entries by then: it takes at most three times
/// as many steps as there are entries.
struct Lap<A> {
    /// The entry with the mark, or the head, which is not an entry, at the beginning.
    mark: A,
    /// How many entries the walk has visited.
    visited: u32,
    /// With which of them the mark moves.
    next_mark: u32,
}

impl<A: Address> Lap<A> {
    /// How often other tasks get a chance, in entries, where the kernel is not preemptible. This is
    /// a power of two.
    const RESCHED: u32 = 32;

    fn new(head: A) -> Self {
        Self {
            mark: head,
            visited: 0,
            next_mark: 1,
        }
    }

    /// Takes note that the walk is at `entry`, and says whether it has to end before that one.
    #[inline(always)]
    fn visit(&mut self, entry: A) -> Option<End> {
        if entry == self.mark {
            return Some(End::Circle);
        }
        if self.visited == uapi::ROBUST_LIST2_LIMIT {
            return Some(End::Limit);
        }
        // OVERFLOW: The limit is far below 2^31.
        self.visited += 1;
        if self.visited == self.next_mark {
            self.mark = entry;
            self.next_mark *= 2;
        }
        if self.visited % Self::RESCHED == 0 {
            cond_resched();
        }
        None
    }
}
