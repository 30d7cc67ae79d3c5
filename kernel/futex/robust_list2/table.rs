// SPDX-License-Identifier: GPL-2.0

//! The lists that one task has registered.
//!
//! `task_struct::futex.robust_lists` is null until the task registers its first list, and then
//! points to a [`RobustListTable`] until the task exits or execs. Only the task itself writes to
//! the pointer and to the table, and it runs one system call at a time, so no lock is needed. Other
//! tasks read both, in `get_robust_list2()`:
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
//! - **First registration.** (B) pairs with (A). A reader that observes the pointer observes an
//!   initialised table.
//! - **Set and unregister.** A slot is one word, so (D) reads the old word or the new word of (C),
//!   and never a head with the type of another head. Slots are not ordered against each other: a
//!   reader that goes from 0 to 9 while the task moves a list may find the list at two indexes or
//!   at none, as with any two system calls.
//! - **Exit.** `exec_update_lock` does not exclude exit. A reader that has passed (B) before (E)
//!   reads the table as the task left it, because the grace period of (F) does not end before
//!   `rcu_read_unlock()`. A reader that reaches (B) after (E) finds no table.
//! - **Exec.** As exit. The old program's lists are gone before the exec takes `exec_update_lock`,
//!   and the new program, which may be setuid, runs after the exec has released the lock. So a
//!   reader whose check under the lock allowed the old program reads no list of the new one.
//! - **Fork.** `dup_task_struct()` copies the parent's pointer. `futex_init_task()` clears the copy
//!   before anybody can find the child, and no error path before that frees the table.

use kernel::{
    futex::{
        RobustListTable,
        ROBUST_LISTS_PER_TASK, //
    },
    num::casts,
    prelude::*,
    sync::{
        atomic::Relaxed,
        rcu::{
            self,
            RcuFreeBox, //
        }, //
    },
    task::{
        CurrentTask,
        Task, //
    },
};

use crate::{
    head::{
        Head,
        Type, //
    },
    walk::Walk, //
};

/// The number of slots.
const SLOTS: u8 = casts::usize_into_u8::<ROBUST_LISTS_PER_TASK>();

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
    /// [`EINVAL`] if no list can have this index.
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
#[derive(Clone, Copy)]
pub(crate) struct Lists<'a>(&'a RobustListTable);

/// Creates a table with a first list.
pub(crate) fn new_table(first: Head) -> impl Init<RobustListTable> {
    RobustListTable::new(Head::into_slot(Some(first)))
}

/// Publishes a new table with a first list for the current task, which has no table.
///
/// # Errors
///
/// [`ENOMEM`] if there is no memory. The memory is charged to the task's memory cgroup.
#[cold]
pub(crate) fn create(task: &CurrentTask, first: Head) -> Result<Index> {
    let table = RcuFreeBox::new(new_table(first), GFP_KERNEL_ACCOUNT)?;

    // This error cannot happen: only the current task publishes its table, and it has none.
    task.publish_robust_list_table(table).map_err(|_| EBUSY)?;
    // INVARIANT: 0 is less than `SLOTS`.
    Ok(Index(0))
}

impl<'a> Lists<'a> {
    /// The number of lists that a task can have.
    pub(crate) const MAX: u8 = SLOTS;

    /// The lists in a table.
    pub(crate) fn of_table(table: &'a RobustListTable) -> Self {
        Self(table)
    }

    /// The lists of the current task.
    pub(crate) fn of_current(task: &'a CurrentTask) -> Option<Self> {
        task.own_robust_list_table().map(Self)
    }

    /// The lists of any task, for as long as the reader holds `guard`.
    pub(crate) fn of_other(task: &'a Task, guard: &'a rcu::Guard) -> Option<Self> {
        task.robust_list_table(guard).map(Self)
    }

    /// Returns the list at `index`.
    #[inline]
    pub(crate) fn get(self, index: Index) -> Option<Head> {
        let slot = self.0.slots().get(usize::from(index.0))?;
        // ORDERING: Relaxed, see the module's documentation on set and unregister.
        Head::from_slot(slot.load(Relaxed))
    }

    #[inline]
    fn store(self, index: Index, new: Option<Head>) {
        if let Some(slot) = self.0.slots().get(usize::from(index.0)) {
            // ORDERING: Relaxed, see the module's documentation on set and unregister.
            slot.store(Head::into_slot(new), Relaxed);
        }
    }

    /// Replaces the list at `index` and returns the old one. Fails with [`ENOENT`] if the slot is
    /// free.
    #[inline]
    fn replace(self, index: Index, new: Option<Head>) -> Result<Head> {
        let old = self.get(index).ok_or(ENOENT)?;
        self.store(index, new);
        Ok(old)
    }

    /// Registers a list in the lowest free slot.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`] if no slot is free.
    #[inline(never)]
    pub(crate) fn insert(self, head: Head) -> Result<Index> {
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
    /// [`ENOENT`] if the slot is free.
    pub(crate) fn set(self, index: Index, head: Head) -> Result {
        self.replace(index, Some(head))?;
        Ok(())
    }

    /// Frees the slot at `index`, and returns its list.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if the slot is free.
    pub(crate) fn remove(self, index: Index) -> Result<Head> {
        self.replace(index, None)
    }

    /// Walks the list at `index` as exit does, and frees the slot.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if the slot is free.
    #[cold]
    pub(crate) fn release(self, index: Index, task: &CurrentTask) -> Result {
        let list = self.remove(index)?;

        if let Some(mut walk) = Walk::of_current(task) {
            walk.list(list);
        }
        Ok(())
    }

    /// Empties the lists of type `list_type` whose `list_op_pending` is at `pending`.
    #[cold]
    pub(crate) fn clear_pending(self, pending: UserPtr, list_type: Type) {
        let Some(head) = Head::with_pending(pending, list_type) else {
            return;
        };
        for slot in self.0.slots() {
            // ORDERING: Relaxed, see the module's documentation on set and unregister.
            if Head::from_slot(slot.load(Relaxed)) == Some(head) {
                slot.store(Head::into_slot(Some(head.emptied())), Relaxed);
            }
        }
    }

    /// All lists, in the order of their indexes.
    pub(crate) fn iter(self) -> impl Iterator<Item = Head> + 'a {
        self.0
            .slots()
            .iter()
            // ORDERING: Relaxed, only the task itself writes to the slots.
            .filter_map(|slot| Head::from_slot(slot.load(Relaxed)))
    }
}
