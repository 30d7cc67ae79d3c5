// SPDX-License-Identifier: GPL-2.0

//! The table of the robust lists that a task registered with `set_robust_list2()`.
//!
//! `task_struct::futex.robust_lists` is null or points to a [`RobustListTable`]. Only this module
//! knows the type behind that pointer. `kernel/futex/robust_list2/` defines the words of a table.

use core::{
    mem::offset_of,
    pin::Pin, //
};

use crate::{
    bindings,
    prelude::*,
    sync::{
        atomic::Atomic,
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
};

// The accessor below depends on the layout that `bindgen` computes for `struct task_struct`, so
// compare it with the layout of the C compiler.
static_assert!(
    offset_of!(bindings::task_struct, futex.robust_lists)
        == bindings::TASK_STRUCT_ROBUST_LISTS_OFFSET
);

/// The number of lists that a task can register.
pub const ROBUST_LISTS_PER_TASK: usize = 10;

/// The registered lists of one task, a word for each. A free slot is 0.
pub struct RobustListTable {
    slots: [Atomic<usize>; ROBUST_LISTS_PER_TASK],
}

// SAFETY: A table owns nothing but its memory.
unsafe impl RcuFreeSafe for RobustListTable {
    #[inline]
    fn drop_before_gp(self: Pin<&Self>) {}
}

impl RobustListTable {
    /// Creates a table whose slot 0 holds `first`. The other slots are free.
    pub fn new(first: usize) -> impl Init<Self> {
        init!(Self {
            slots <- pin_init::init_array_from_fn(move |n| {
                Atomic::new(if n == 0 { first } else { 0 })
            }),
        })
    }

    /// Returns all slots. Only the task that the table belongs to stores to them.
    #[inline]
    pub fn slots(&self) -> &[Atomic<usize>; ROBUST_LISTS_PER_TASK] {
        &self.slots
    }
}

impl Task {
    #[inline]
    fn robust_lists(&self) -> &RcuPointer<RobustListTable> {
        // SAFETY: By the type invariants, `self` is a valid task.
        let field = unsafe { &raw mut (*self.as_ptr()).futex.robust_lists };

        // SAFETY:
        // - `field` is a field of `self`, so it is valid for as long as the returned reference.
        // - `futex_init_task()` has made it null, C code only compares it with null, and all other
        //   accesses go through this function.
        unsafe { RcuPointer::from_raw(field.cast()) }
    }

    /// Returns the task's table, for as long as the reader holds `guard`.
    #[inline]
    pub fn robust_list_table<'a>(&'a self, guard: &'a rcu::Guard) -> Option<&'a RobustListTable> {
        self.robust_lists().load(guard)
    }
}

impl CurrentTask {
    /// Returns the table of the current task, without a guard.
    #[inline]
    pub fn own_robust_list_table(&self) -> Option<&RobustListTable> {
        // SAFETY: Only `take_robust_list_table()` takes the table of this task. Only the current
        // task can call it, and guarantees that the returned reference is no longer used then.
        unsafe { self.robust_lists().load_protected() }
    }

    /// Publishes the table of the current task, or returns `table` if the task has one already.
    #[inline]
    pub fn publish_robust_list_table(
        &self,
        table: RcuFreeBox<RobustListTable>,
    ) -> Result<(), RcuFreeBox<RobustListTable>> {
        self.robust_lists().publish(table)
    }

    /// Detaches the table from the current task, so that later readers do not find it.
    ///
    /// # Safety
    ///
    /// No reference that [`CurrentTask::own_robust_list_table`] returned is used any more.
    #[inline]
    pub unsafe fn take_robust_list_table(&self) -> Option<RcuFreeBox<RobustListTable>> {
        self.robust_lists().take()
    }
}
