// SPDX-License-Identifier: GPL-2.0

//! The head of a registered list: its address, and the width of the list's pointers.

use core::{
    mem::offset_of,
    num::NonZero, //
};

use kernel::{
    num::casts,
    prelude::*,
    uapi, //
};

/// Returns whether the flags of the system call say `ROBUST_LIST_64BIT`.
fn is_64bit(flags: c_uint) -> bool {
    flags & uapi::ROBUST_LIST_TYPE_MASK == uapi::ROBUST_LIST_64BIT
}

/// A field of a head, and how many words of the list precede it.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(crate) enum Field {
    /// The pointer to the first entry.
    First,
    /// `futex_offset`.
    FutexOffset,
    /// `list_op_pending`.
    ListOpPending,
}

/// A registered list: the address of its head, and the width of its pointers. A null address is an
/// empty list.
///
/// A slot of the table is one word that holds an `Option<Head>`. One load or store moves that word,
/// so a reader of a slot observes an address with its own type.
///
/// ```text
///     63                                          2      1      0
///     +------------------------------------------+------+------+
///     | address of the head                      | type | used |
///     +------------------------------------------+------+------+
/// ```
///
/// The type is that of the system call (0: 32-bit, 1: 64-bit). Heads are aligned to at least 4
/// bytes, so the address leaves both bits clear. A free slot is 0.
///
/// # Invariants
///
/// `USED` is set. The address is a multiple of the size of the list's pointers, and a 32-bit list's
/// head lies wholly below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(NonZero<usize>);

impl Head {
    const USED: NonZero<usize> = NonZero::<usize>::MIN;
    const BITS64: usize = 1 << 1;
    const ADDRESS: usize = !(Self::USED.get() | Self::BITS64);

    /// Checks the address of a head. The type of the list is in the `flags` of the system call.
    ///
    /// This neither reads the head nor checks that the address is in user memory: the walk finds
    /// that out.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the address is not aligned, or if a 32-bit head does not lie wholly below
    /// 4 GiB.
    pub(crate) fn new(address: UserPtr, flags: c_uint) -> Result<Self> {
        // The last address of a 32-bit head.
        const LAST: u32 =
            u32::MAX - casts::usize_into_u32::<{ size_of::<uapi::robust_list_head32>() - 1 }>();

        let address = address.as_const_ptr().addr();
        let fits = if is_64bit(flags) {
            address % size_of::<u64>() == 0
        } else {
            address % size_of::<u32>() == 0 && address <= casts::u32_as_usize(LAST)
        };

        if !fits {
            return Err(EINVAL);
        }
        // INVARIANT: The address was checked above, and an empty list has `USED` set.
        Ok(Self(Self::empty(is_64bit(flags)).0 | address))
    }

    /// Returns the list whose `list_op_pending` is at `pending`, if such a list can exist. An empty
    /// list has none.
    pub(crate) fn with_pending(pending: UserPtr, flags: c_uint) -> Option<Self> {
        let offset = Self::empty(is_64bit(flags)).offset(Field::ListOpPending);

        match pending.as_const_ptr().addr().checked_sub(offset)? {
            0 => None,
            address => Self::new(UserPtr::from_addr(address), flags).ok(),
        }
    }

    fn empty(is_64bit: bool) -> Self {
        // INVARIANT: 0 is a multiple of everything, and below 4 GiB.
        Self(if is_64bit {
            Self::USED | Self::BITS64
        } else {
            Self::USED
        })
    }

    /// An empty list of the same type.
    pub(crate) fn emptied(self) -> Self {
        Self::empty(self.is_64bit())
    }

    /// Returns the slot word of a list, or of a free slot.
    pub(crate) fn into_slot(head: Option<Self>) -> usize {
        head.map_or(0, |head| head.0.get())
    }

    /// Returns the list in a slot word that [`Head::into_slot`] made.
    pub(crate) fn from_slot(word: usize) -> Option<Self> {
        // INVARIANT: All words are made by `into_slot()`.
        NonZero::new(word).map(Self)
    }

    /// Returns whether the list has 64-bit pointers.
    pub(crate) fn is_64bit(self) -> bool {
        self.0.get() & Self::BITS64 != 0
    }

    /// The head's address, null for an empty list.
    pub(crate) fn address(self) -> UserPtr {
        UserPtr::from_addr(self.0.get() & Self::ADDRESS)
    }

    /// The offset of a field in the head, in bytes.
    pub(crate) fn offset(self, field: Field) -> usize {
        let size = if self.is_64bit() {
            size_of::<u64>()
        } else {
            size_of::<u32>()
        };
        // CAST: The discriminants are `usize`.
        field as usize * size
    }
}

static_assert!(offset_of!(uapi::robust_list_head, futex_offset) == size_of::<u64>());
static_assert!(offset_of!(uapi::robust_list_head, list_op_pending) == 2 * size_of::<u64>());
static_assert!(offset_of!(uapi::robust_list_head32, futex_offset) == size_of::<u32>());
static_assert!(offset_of!(uapi::robust_list_head32, list_op_pending) == 2 * size_of::<u32>());
