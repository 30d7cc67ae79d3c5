// SPDX-License-Identifier: GPL-2.0

//! The lists that one task has registered.
//!
//! `task_struct::futex.robust_lists` is null until the task registers its first list, and then
//! points to a [`Lists`] until the task exits or execs. Only the task itself writes to either of
//! them, and it is never inside two system calls at a time, so there is no lock. Other tasks read
//! them, in `get_robust_list2()`:
//!
//! ```text
//!     the task                                 another task
//!
//!     lists = kmalloc()
//!     lists->slots[0] = head
//!     cmpxchg-release(robust_lists, NULL, lists)  (A)
//!                                              rcu_read_lock()
//!                                              lists = load-acquire(robust_lists)  (B)
//!     WRITE_ONCE(lists->slots[n], word)   (C)
//!                                              word = READ_ONCE(lists->slots[n])   (D)
//!     xchg(robust_lists, NULL)            (E)
//!     walk the lists
//!     kfree_rcu(lists)                    (F)
//!                                              rcu_read_unlock()
//! ```
//!
//! - **First registration.** (B) pairs with (A). Who sees the pointer sees the table with its first
//!   list, never memory that was there before.
//! - **Set and unregister.** A slot is one word, so (D) sees it as it was before (C) or as it is
//!   after: a head never appears with the type of another one. No order between slots is promised.
//!   A reader that goes from 0 to 9 may see a list at two indexes or at none while the task moves
//!   it, as with any two system calls.
//! - **Exit.** `exec_update_lock` does not exclude it. The reader may be anywhere between (B) and
//!   (D) at (E) and (F). It goes on reading the table as the task left it, because the grace period
//!   of (F) does not end before `rcu_read_unlock()`. A reader that comes after (E) finds nothing.
//! - **Exec.** Like exit. The old program's lists are gone before the exec takes
//!   `exec_update_lock`, and the new program runs after the exec has released it: a reader that was
//!   allowed to read the old program under the lock sees no list of the new one.
//! - **Fork.** The child begins with a copy of its parent's pointer. `futex_init_task()` clears it
//!   before anybody can see the child, and before anything of the child is freed.

use kernel::{
    num::casts,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu,
        rcu_box::{
            RcuBox,
            RcuPointer, //
        },
    },
    task::{
        CurrentTask,
        Task, //
    },
    uapi, //
};

use crate::head::{
    Head,
    Type, //
};

/// The number of slots.
const SLOTS: u8 = casts::u32_into_u8::<{ uapi::ROBUST_LISTS_PER_TASK }>();

/// The index of a list in the table of its task.
///
/// # Invariants
///
/// It is less than [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index(u8);

impl Index {
    /// Checks an index from user space.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where no list can have it.
    pub(crate) fn new(index: c_int) -> Result<Self> {
        match u8::try_from(index) {
            // INVARIANT: `index` is less than `SLOTS`.
            Ok(index) if index < SLOTS => Ok(Self(index)),
            _ => Err(EINVAL),
        }
    }
}

impl From<Index> for c_long {
    fn from(index: Index) -> Self {
        index.0.into()
    }
}

/// The lists of one task.
pub(crate) struct Lists {
    slots: [Atomic<usize>; casts::u8_as_usize(SLOTS)],
}

/// The pointer to the table of `task`.
fn of(task: &Task) -> &RcuPointer<Lists> {
    // SAFETY: This is the only caller in the kernel, so they all name the same type.
    unsafe { task.futex_robust_lists() }
}

/// The table of any task, for as long as the reader holds `guard`.
pub(crate) fn of_other<'a>(task: &'a Task, guard: &'a rcu::Guard) -> Option<&'a Lists> {
    of(task).load(guard)
}

/// The table of the current task.
pub(crate) fn of_current(task: &CurrentTask) -> Option<&Lists> {
    // SAFETY: Only the task itself takes its table away, with `take_of_current()`, whose caller
    // guarantees that this reference does not exist any more.
    unsafe { of(task).load_protected() }
}

/// Takes the table away from the current task and from those that read it from now on.
///
/// # Safety
///
/// No reference from [`of_current`] exists.
pub(crate) unsafe fn take_of_current(task: &CurrentTask) -> Option<RcuBox<Lists>> {
    of(task).take()
}

/// Gives the current task, which has none, a table with a first list.
///
/// # Errors
///
/// [`ENOMEM`] where there is no memory. The memory is charged to the task's memory cgroup.
#[cold]
pub(crate) fn create(task: &CurrentTask, first: Head) -> Result<Index> {
    let table = RcuBox::new(Lists::new(first), GFP_KERNEL_ACCOUNT)?;

    // Only the current task publishes a table, and it had none: this error cannot happen.
    of(task).publish(table).map_err(|_| EBUSY)?;
    // INVARIANT: 0 is less than `SLOTS`.
    Ok(Index(0))
}

impl Lists {
    /// How many lists a task can have.
    pub(crate) const MAX: u8 = SLOTS;

    /// Creates a table in which slot 0 has a list and the others are free.
    pub(crate) fn new(first: Head) -> impl Init<Self> {
        init!(Self {
            slots <- pin_init::init_array_from_fn(move |n| {
                Atomic::new(Head::into_slot((n == 0).then_some(first)))
            }),
        })
    }

    /// Returns the list at `index`.
    #[inline]
    pub(crate) fn get(&self, index: Index) -> Option<Head> {
        let slot = self.slots.get(usize::from(index.0))?;
        // ORDERING: Relaxed, see the module's documentation on set and unregister.
        Head::from_slot(slot.load(Relaxed))
    }

    #[inline]
    fn store(&self, index: Index, new: Option<Head>) {
        if let Some(slot) = self.slots.get(usize::from(index.0)) {
            // ORDERING: Relaxed, see the module's documentation on set and unregister.
            slot.store(Head::into_slot(new), Relaxed);
        }
    }

    /// Stores `new` where a list is registered, and fails with [`ENOENT`] where none is.
    #[inline]
    fn replace(&self, index: Index, new: Option<Head>) -> Result {
        self.get(index).ok_or(ENOENT)?;
        self.store(index, new);
        Ok(())
    }

    /// Registers a list in the lowest free slot.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`] where no slot is free.
    #[inline(never)]
    pub(crate) fn insert(&self, head: Head) -> Result<Index> {
        let index = (0..SLOTS)
            // INVARIANT: The range ends at `SLOTS`.
            .map(Index)
            .find(|&index| self.get(index).is_none())
            .ok_or(ENOSPC)?;

        self.store(index, Some(head));
        Ok(index)
    }

    /// Changes the list at `index`.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] where there is none.
    pub(crate) fn set(&self, index: Index, head: Head) -> Result {
        self.replace(index, Some(head))
    }

    /// Frees the slot at `index`.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] where it is free.
    pub(crate) fn remove(&self, index: Index) -> Result {
        self.replace(index, None)
    }

    /// Empties the lists of type `list_type` that have their `list_op_pending` at this address.
    #[cold]
    pub(crate) fn clear_pending(&self, pending: UserPtr, list_type: Type) {
        let Some(head) = Head::with_pending(pending, list_type) else {
            return;
        };
        for slot in &self.slots {
            // ORDERING: Relaxed, see the module's documentation on set and unregister.
            if Head::from_slot(slot.load(Relaxed)) == Some(head) {
                slot.store(Head::into_slot(Some(head.emptied())), Relaxed);
            }
        }
    }

    /// All lists, in the order of their indexes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Head> + '_ {
        self.slots
            .iter()
            // ORDERING: Relaxed, only the task itself has written to the slots.
            .filter_map(|slot| Head::from_slot(slot.load(Relaxed)))
    }
}
