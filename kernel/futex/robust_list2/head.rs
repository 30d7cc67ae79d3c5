// SPDX-License-Identifier: GPL-2.0

//! The head of a registered list: its address, and the width of the list's pointers.

use core::num::NonZero;

use kernel::{
    num::casts,
    prelude::*,
    uapi, //
};

use crate::pointer::{
    Address,
    Address32,
    Address64, //
};

/// The width of the pointers of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `ROBUST_LIST_32BIT`, a list of `struct robust_list_head32`.
    Bits32,
    /// `ROBUST_LIST_64BIT`, a list of `struct robust_list_head` in the layout of 64-bit programs.
    Bits64,
}

impl Type {
    /// Returns the type in the flags of the system call.
    pub(crate) fn from_flags(flags: c_uint) -> Self {
        if flags & uapi::ROBUST_LIST_TYPE_MASK == uapi::ROBUST_LIST_32BIT {
            Self::Bits32
        } else {
            Self::Bits64
        }
    }
}

impl From<Type> for c_long {
    fn from(list_type: Type) -> Self {
        match list_type {
            Type::Bits32 => casts::u32_into_u8::<{ uapi::ROBUST_LIST_32BIT }>().into(),
            Type::Bits64 => casts::u32_into_u8::<{ uapi::ROBUST_LIST_64BIT }>().into(),
        }
    }
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

/// The address of a head, in the width of its list's pointers.
pub(crate) enum HeadAddress {
    /// Of a 32-bit list.
    Bits32(Address32),
    /// Of a 64-bit list.
    Bits64(Address64),
}

impl Head {
    const USED: NonZero<usize> = NonZero::<usize>::MIN;
    const BITS64: usize = 1 << 1;
    const ADDRESS: usize = !(Self::USED.get() | Self::BITS64);

    /// Checks the address of a head.
    ///
    /// This neither reads the head nor checks that the address is in user memory: the walk finds
    /// that out.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the address is not aligned, or if a 32-bit head does not lie wholly below
    /// 4 GiB.
    #[inline(always)]
    pub(crate) fn new(address: UserPtr, list_type: Type) -> Result<Self> {
        // The last address of a 32-bit head.
        const LAST: u32 =
            u32::MAX - casts::usize_into_u32::<{ size_of::<uapi::robust_list_head32>() - 1 }>();

        let address = address.as_const_ptr().addr();
        let fits = match list_type {
            Type::Bits32 => address % Address32::ALIGN == 0 && address <= casts::u32_as_usize(LAST),
            Type::Bits64 => address % Address64::ALIGN == 0,
        };

        if !fits {
            return Err(EINVAL);
        }
        // INVARIANT: The address was checked above, and `bits()` sets `USED`.
        Ok(Self(Self::bits(list_type) | address))
    }

    /// Returns the list whose `list_op_pending` is at `pending`, if such a list can exist.
    pub(crate) fn with_pending(pending: UserPtr, list_type: Type) -> Option<Self> {
        let offset = match list_type {
            Type::Bits32 => Address32::LIST_OP_PENDING,
            Type::Bits64 => Address64::LIST_OP_PENDING,
        };
        let address = pending.as_const_ptr().addr().checked_sub(offset)?;
        Self::new(UserPtr::from_addr(address), list_type).ok()
    }

    /// The word of an empty list.
    const fn bits(list_type: Type) -> NonZero<usize> {
        match list_type {
            Type::Bits32 => Self::USED,
            Type::Bits64 => Self::USED.saturating_add(Self::BITS64),
        }
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

    /// The width of the list's pointers.
    pub(crate) fn list_type(self) -> Type {
        if self.0.get() & Self::BITS64 == 0 {
            Type::Bits32
        } else {
            Type::Bits64
        }
    }

    fn user_addr(self) -> usize {
        self.0.get() & Self::ADDRESS
    }

    /// The head's address, 0 for an empty list.
    pub(crate) fn address(self) -> u64 {
        casts::usize_as_u64(self.user_addr())
    }

    /// The head's address, in the width of the list's pointers.
    pub(crate) fn typed_address(self) -> HeadAddress {
        match self.list_type() {
            // CAST: By the type invariants, the address is below 4 GiB.
            Type::Bits32 => HeadAddress::Bits32(Address32::new(self.user_addr() as u32)),
            Type::Bits64 => HeadAddress::Bits64(Address64::new(self.user_addr())),
        }
    }

    /// An empty list of the same type.
    pub(crate) fn emptied(self) -> Self {
        // INVARIANT: 0 is a multiple of everything, and below 4 GiB.
        Self(Self::bits(self.list_type()))
    }
}
