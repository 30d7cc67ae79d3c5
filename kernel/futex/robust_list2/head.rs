// SPDX-License-Identifier: GPL-2.0

//! The head of a registered list: where it is, and how wide its pointers are.

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

/// How wide the pointers of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `ROBUST_LIST_32BIT`, a list of `struct robust_list_head32`.
    Bits32,
    /// `ROBUST_LIST_64BIT`, a list of `struct robust_list_head` as 64-bit programs know it.
    Bits64,
}

impl Type {
    /// Takes the type out of the flags of the system call.
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

/// A registered list: where its head is, and how wide its pointers are. A null address is an empty
/// list.
///
/// This is one word, and so is the slot of the table for an `Option<Head>`: one load or store moves
/// it, and who reads a slot sees an address and the type that belongs to it.
///
/// ```text
///     63                                          2      1      0
///     +------------------------------------------+------+------+
///     | address of the head                      | type | used |
///     +------------------------------------------+------+------+
/// ```
///
/// The type is a flag of the system call (0: 32-bit, 1: 64-bit). The address leaves both bits
/// clear, because heads are aligned to 4 bytes at least. A free slot is 0.
///
/// # Invariants
///
/// `USED` is set. The address is a multiple of the size of the list's pointers, and a 32-bit list's
/// head lies wholly below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(NonZero<usize>);

/// The address of a head, as the pointers of its list are.
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

    /// Checks what a program says about a list.
    ///
    /// Nothing is read from the address, which may not even be one of user memory: the walk finds
    /// that out.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where the address is not aligned, or does not leave room for a 32-bit head below
    /// 4 GiB.
    #[inline(always)]
    pub(crate) fn new(address: UserPtr, list_type: Type) -> Result<Self> {
        // The last address behind which there is room for the head of a 32-bit list.
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
        // INVARIANT: This is what has been checked.
        Ok(Self(Self::bits(list_type) | address))
    }

    /// The list that has its `list_op_pending` at this address, if there can be one.
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

    /// The word in memory that stands for a list, or for none.
    pub(crate) fn into_slot(head: Option<Self>) -> usize {
        head.map_or(0, |head| head.0.get())
    }

    /// Takes a list out of the word in memory where [`Head::into_slot`] has put it.
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

    /// The head's address as the walk needs it.
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
