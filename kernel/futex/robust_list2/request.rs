// SPDX-License-Identifier: GPL-2.0

//! The arguments of `set_robust_list2()`.

use kernel::{
    prelude::*,
    uapi, //
};

use crate::{
    head::Head,
    table::Index, //
};

/// The valid combinations of the arguments of `set_robust_list2()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Register a list in the lowest free slot. Its head is not null.
    New(Head),
    /// Change the list at an index.
    Set(Index, Head),
    /// Free a slot.
    Unregister(Index),
    /// Walk the list in a slot as exit does, and free the slot.
    Release(Index),
    /// Return how many lists a task can have.
    QueryMax,
}

impl Request {
    /// Checks the arguments. `is_64bit` says whether the calling program has 64-bit pointers.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for
    ///
    /// - an unknown flag, or more than one of `ROBUST_LIST_UNREGISTER`, `ROBUST_LIST_QUERY_MAX` and
    ///   `ROBUST_LIST_RELEASE`,
    /// - an `index` that no list can have and that is not `ROBUST_LIST_NEW`,
    /// - a `head` that is not aligned, that is null for a new list, or that does not lie wholly
    ///   below 4 GiB for a 32-bit list,
    /// - `ROBUST_LIST_64BIT` from a program with 32-bit pointers,
    /// - a `head` or an `index` that the operation in `flags` does not take.
    pub(crate) fn new(head: UserPtr, index: c_int, flags: c_uint, is_64bit: bool) -> Result<Self> {
        if flags & !uapi::ROBUST_LIST_TYPE_MASK != 0 {
            return Self::without_list(head, index, flags);
        }
        let list = Head::new(head, flags)?;

        if flags == uapi::ROBUST_LIST_64BIT && !is_64bit {
            return Err(EINVAL);
        }

        match Index::new(index) {
            Ok(index) => Ok(Self::Set(index, list)),
            Err(_) if index == uapi::ROBUST_LIST_NEW && !head.as_const_ptr().is_null() => {
                Ok(Self::New(list))
            }
            Err(error) => Err(error),
        }
    }

    /// Checks the arguments of the operations that register no list.
    ///
    /// Separate from [`Request::new`], so that setting a list takes one test of `flags` and not one
    /// for each operation.
    fn without_list(head: UserPtr, index: c_int, flags: c_uint) -> Result<Self> {
        if !head.as_const_ptr().is_null() {
            return Err(EINVAL);
        }
        match flags & !uapi::ROBUST_LIST_TYPE_MASK {
            uapi::ROBUST_LIST_UNREGISTER => Ok(Self::Unregister(Index::new(index)?)),
            uapi::ROBUST_LIST_RELEASE => Ok(Self::Release(Index::new(index)?)),
            uapi::ROBUST_LIST_QUERY_MAX
                if index == uapi::ROBUST_LIST_NEW && flags == uapi::ROBUST_LIST_QUERY_MAX =>
            {
                Ok(Self::QueryMax)
            }
            // An unknown flag, two operations, or an argument that the operation does not take.
            _ => Err(EINVAL),
        }
    }
}
