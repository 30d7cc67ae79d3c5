// SPDX-License-Identifier: GPL-2.0

//! The lists that one task has registered.
//!
//! `task_struct::futex.robust_lists` is null until the task registers its first list, and then
//! points to a [`Table`] until the task exits or execs. Only the task itself writes to
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

use core::pin::Pin;

use kernel::{
    num::casts,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu::{
            self,
            RcuFreeBox,
            RcuFreeSafe,
            RcuPointer, //
        }, //
    },
    task::{
        CurrentTask,
        Task, //
    },
    types::NotThreadSafe,
};

use crate::head::Head;

/// The number of lists that a task can register.
pub(crate) const ROBUST_LISTS_PER_TASK: u8 = 10;

/// The index of a list in the table of its task.
///
/// # Invariants
///
/// It is less than [`ROBUST_LISTS_PER_TASK`].
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
            // INVARIANT: `index` is less than `ROBUST_LISTS_PER_TASK`.
            Ok(index) if index < ROBUST_LISTS_PER_TASK => Ok(Self(index)),
            _ => Err(EINVAL),
        }
    }
}

impl From<Index> for c_long {
    fn from(index: Index) -> Self {
        index.0.into()
    }
}

/// The registered lists of one task, a word for each.
pub(crate) struct Table {
    /// Each word is one of [`Head::into_slot`]. Only the task that the table belongs to stores to
    /// them.
    slots: [Atomic<usize>; casts::u8_as_usize(ROBUST_LISTS_PER_TASK)],
}

// SAFETY: A table owns nothing but its memory.
unsafe impl RcuFreeSafe for Table {
    fn drop_before_gp(self: Pin<&Self>) {}
}

/// `task_struct::futex.robust_lists`.
fn published(task: &Task) -> &RcuPointer<Table> {
    // SAFETY: This is the only caller.
    unsafe { task.robust_lists() }
}

impl Table {
    /// Creates a table with a first list.
    pub(crate) fn new(first: Head) -> impl Init<Self> {
        init!(Self {
            slots <- pin_init::init_array_from_fn(move |n| {
                Atomic::new(Head::into_slot((n == 0).then_some(first)))
            }),
        })
    }

    /// Publishes a new table with a first list for the current task, which has no table.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory. The memory is charged to the task's memory cgroup.
    #[cold]
    pub(crate) fn create(task: &CurrentTask, first: Head) -> Result<Index> {
        let table = RcuFreeBox::new(Self::new(first), GFP_KERNEL_ACCOUNT)?;

        // This error cannot happen: only the current task publishes its table, and it has none.
        published(task).publish(table).map_err(|_| EBUSY)?;
        // INVARIANT: 0 is less than `ROBUST_LISTS_PER_TASK`.
        Ok(Index(0))
    }

    /// Returns the table of any task, for as long as the reader holds `guard`.
    pub(crate) fn of_other<'a>(task: &'a Task, guard: &'a rcu::Guard) -> Option<&'a Self> {
        published(task).load(guard)
    }

    /// Takes the table from the current task, so that later readers do not find it.
    ///
    /// # Safety
    ///
    /// No table that [`OwnTable::of_current`] returned is used any more.
    pub(crate) unsafe fn take(task: &CurrentTask) -> Option<RcuFreeBox<Self>> {
        published(task).take()
    }

    fn slot(&self, index: Index) -> Option<&Atomic<usize>> {
        self.slots.get(usize::from(index.0))
    }

    /// Returns the list at `index`.
    pub(crate) fn get(&self, index: Index) -> Option<Head> {
        // ORDERING: Relaxed, see the module's documentation on set and unregister.
        Head::from_slot(self.slot(index)?.load(Relaxed))
    }
}

/// The table of the current task, which alone stores to the slots.
///
/// # Invariants
///
/// Nobody else stores to the slots of the table while this exists.
#[derive(Clone, Copy)]
pub(crate) struct OwnTable<'a>(&'a Table, NotThreadSafe);

impl<'a> OwnTable<'a> {
    /// Uses a table that nobody else stores to.
    ///
    /// # Safety
    ///
    /// It is the table of the current task, or one that no other task can reach.
    pub(crate) unsafe fn new(table: &'a Table) -> Self {
        // INVARIANT: Other tasks only read the table of the current task, which executes nothing
        // but the user of the new value.
        Self(table, NotThreadSafe)
    }

    /// Returns the table of the current task.
    pub(crate) fn of_current(task: &'a CurrentTask) -> Option<Self> {
        // SAFETY: Only the current task publishes and takes its table, and before it calls
        // `Table::take()`, it guarantees that the returned reference is no longer used.
        let table = unsafe { published(task).load_protected() }?;

        // SAFETY: It is the table of the current task.
        Some(unsafe { Self::new(table) })
    }

    /// Reads a slot, without the helper that an atomic load takes.
    fn list_in(self, slot: &Atomic<usize>) -> Option<Head> {
        // SAFETY: The pointer is valid for reads, and by the type invariants nobody writes to the
        // slot at the same time.
        Head::from_slot(unsafe { *slot.as_ptr() })
    }

    /// Returns the list at `index`.
    pub(crate) fn get(self, index: Index) -> Option<Head> {
        self.list_in(self.0.slot(index)?)
    }

    /// Replaces the list at `index` and returns the old one.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if the slot is free.
    pub(crate) fn replace(self, index: Index, new: Option<Head>) -> Result<Head> {
        let old = self.get(index).ok_or(ENOENT)?;

        self.store(index, new);
        Ok(old)
    }

    /// Registers a list in the lowest free slot.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`] if no slot is free.
    #[cold]
    #[inline(never)]
    pub(crate) fn insert(self, head: Head) -> Result<Index> {
        let index = self.find(None).ok_or(ENOSPC)?;

        self.store(index, Some(head));
        Ok(index)
    }

    /// Finds the lowest index of a list, or that is free.
    ///
    /// Its callers rarely run, and the loop is unrolled in each copy: two of them cost 180 bytes
    /// more.
    #[inline(never)]
    fn find(self, list: Option<Head>) -> Option<Index> {
        // INVARIANT: There are `ROBUST_LISTS_PER_TASK` slots.
        let mut slots = (0..).map(Index).zip(&self.0.slots);

        slots.find_map(|(index, slot)| (self.list_in(slot) == list).then_some(index))
    }

    fn store(self, index: Index, list: Option<Head>) {
        if let Some(slot) = self.0.slot(index) {
            // ORDERING: Relaxed, see the module's documentation on set and unregister.
            slot.store(Head::into_slot(list), Relaxed);
        }
    }

    /// Empties the lists whose `list_op_pending` is at `pending`. Their type is in `flags`.
    pub(crate) fn clear_pending(self, pending: UserPtr, flags: c_uint) {
        let Some(head) = Head::with_pending(pending, flags) else {
            return;
        };
        while let Some(index) = self.find(Some(head)) {
            self.store(index, Some(head.emptied()));
        }
    }

    /// All lists, in the order of their indexes.
    pub(crate) fn iter(self) -> impl Iterator<Item = Head> + 'a {
        self.0
            .slots
            .iter()
            .filter_map(move |slot| self.list_in(slot))
    }
}
