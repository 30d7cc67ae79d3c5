// SPDX-License-Identifier: GPL-2.0

//! The head of a registered list: where it is, and how wide its pointers are.

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

/// A registered list. A null address is an empty list.
///
/// # Invariants
///
/// The address is a multiple of the size of the list's pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A 32-bit list, which lies wholly below 4 GiB.
    Bits32(Address32),
    /// A 64-bit list.
    Bits64(Address64),
}

impl Head {
    /// Checks what a program says about a list.
    ///
    /// Nothing is read from the address, which may not even be one of user memory: the walk finds
    /// that out.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where the address is not aligned, or does not leave room for a 32-bit head below
    /// 4 GiB.
    pub(crate) fn new(address: UserPtr, list_type: Type) -> Result<Self> {
        let address = address.as_const_ptr().addr();
        // INVARIANT: An address that is not aligned has been refused.
        match list_type {
            Type::Bits32 => {
                // The last address behind which there is room for a head.
                const LAST: u32 = u32::MAX
                    - casts::usize_into_u32::<{ size_of::<uapi::robust_list_head32>() - 1 }>();

                match u32::try_from(address) {
                    Ok(below) if below <= LAST && address % Address32::ALIGN == 0 => {
                        Ok(Self::Bits32(Address32::new(below)))
                    }
                    _ => Err(EINVAL),
                }
            }
            Type::Bits64 => {
                if address % Address64::ALIGN != 0 {
                    return Err(EINVAL);
                }
                Ok(Self::Bits64(Address64::new(address)))
            }
        }
    }

    /// The width of the list's pointers.
    pub(crate) fn list_type(self) -> Type {
        match self {
            Self::Bits32(_) => Type::Bits32,
            Self::Bits64(_) => Type::Bits64,
        }
    }

    /// The head's address, 0 for an empty list.
    pub(crate) fn address(self) -> u64 {
        casts::usize_as_u64(self.user_addr())
    }

    /// Where `list_op_pending` is, if the list is not empty.
    pub(crate) fn list_op_pending(self) -> Option<UserPtr> {
        let offset = match self {
            Self::Bits32(_) => Address32::LIST_OP_PENDING,
            Self::Bits64(_) => Address64::LIST_OP_PENDING,
        };
        let head = self.user_addr();
        (head != 0).then(|| UserPtr::from_addr(head).wrapping_byte_add(offset))
    }

    /// An empty list of the same type.
    pub(crate) fn emptied(self) -> Self {
        // INVARIANT: 0 is a multiple of everything.
        match self {
            Self::Bits32(_) => Self::Bits32(Address32::new(0)),
            Self::Bits64(_) => Self::Bits64(Address64::new(0)),
        }
    }

    fn user_addr(self) -> usize {
        match self {
            Self::Bits32(address) => casts::u32_as_usize(address.get()),
            Self::Bits64(address) => address.get(),
        }
    }
}

/// A slot of the table in one word: a [`Head`], or nothing.
///
/// One load or store moves it, so who reads a slot sees a head and the type that belongs to it.
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
/// The word is 0, or `USED` is set and the rest comes from a [`Head`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(usize);

impl Slot {
    const USED: usize = 1 << 0;
    const BITS64: usize = 1 << 1;
    const ADDRESS: usize = !(Self::USED | Self::BITS64);

    /// No list is registered.
    pub(crate) const FREE: Self = Self(0);

    /// The word in memory.
    pub(crate) const fn into_raw(self) -> usize {
        self.0
    }

    /// Takes the word from memory where [`Slot::into_raw`] has put it.
    pub(crate) const fn from_raw(raw: usize) -> Self {
        // INVARIANT: All slots in memory are written from a `Slot`.
        Self(raw)
    }

    /// The list that is registered here.
    pub(crate) fn head(self) -> Option<Head> {
        let address = self.0 & Self::ADDRESS;

        if self.0 & Self::USED == 0 {
            return None;
        }
        if self.0 & Self::BITS64 != 0 {
            return Some(Head::Bits64(Address64::new(address)));
        }
        // INVARIANT: The address was that of a `Head::Bits32`, so it is below 4 GiB.
        u32::try_from(address)
            .ok()
            .map(|address| Head::Bits32(Address32::new(address)))
    }
}

impl From<Head> for Slot {
    fn from(head: Head) -> Self {
        let bits = match head {
            Head::Bits32(_) => Self::USED,
            Head::Bits64(_) => Self::USED | Self::BITS64,
        };
        // INVARIANT: The address leaves the bits clear: it is a multiple of 4.
        Self(head.user_addr() | bits)
    }
}
