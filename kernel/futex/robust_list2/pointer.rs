// SPDX-License-Identifier: GPL-2.0

//! The pointers that robust lists are made of: addresses in user memory, 32 or 64 bits wide.

use kernel::{
    futex::{
        Protocol,
        RobustFutexOwner, //
    },
    num::casts,
    prelude::*,
    uaccess::UserWord,
    uapi, //
};

/// A user address as a robust list of one width has it.
///
/// Arithmetic wraps at that width, as it does in a program whose pointers are of that width.
pub(crate) trait Address: Copy + PartialEq {
    /// What a pointer is in user memory.
    type Word: UserWord + Copy;

    /// The alignment of a pointer, and so of an entry and of a head, in bytes.
    const ALIGN: usize;

    /// Where `futex_offset` is in a head, in bytes.
    const FUTEX_OFFSET: usize;

    /// Where `list_op_pending` is in a head, in bytes.
    const LIST_OP_PENDING: usize;

    /// Splits what a list has as a pointer into the address and bit 0 (`FUTEX_ROBUST_MOD_MASK`).
    fn from_word(word: Self::Word) -> (Self, Protocol);

    /// The address `offset` bytes further, where `offset` is a signed number in two's complement.
    fn offset(self, offset: Self::Word) -> Self;

    /// The address as the kernel accesses it.
    fn user_ptr(self) -> UserPtr;

    /// Returns whether this is the null pointer.
    fn is_null(self) -> bool;
}

/// A pointer of a list: the address of an entry, and how the futex of that entry is locked.
#[derive(Clone, Copy)]
pub(crate) struct EntryPtr<A> {
    /// Address of the entry.
    pub(crate) address: A,
    /// Bit 0 of the pointer.
    pub(crate) protocol: Protocol,
}

impl<A: Address> EntryPtr<A> {
    /// Reads the pointer at `from`, once, in a list of `owner`.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] where it cannot be read.
    #[inline(always)]
    pub(crate) fn read(owner: &RobustFutexOwner<'_>, from: UserPtr) -> Result<Self> {
        let (address, protocol) = A::from_word(owner.read_word(from)?);
        Ok(Self { address, protocol })
    }
}

macro_rules! impl_address {
    ($(#[$doc:meta])* $name:ident($word:ty), $head:ty, $into_usize:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(transparent)]
        pub(crate) struct $name($word);

        impl $name {
            /// Creates the address from a number.
            pub(crate) const fn new(address: $word) -> Self {
                Self(address)
            }
        }

        impl Address for $name {
            type Word = $word;

            const ALIGN: usize = align_of::<$word>();
            const FUTEX_OFFSET: usize = core::mem::offset_of!($head, futex_offset);
            const LIST_OP_PENDING: usize = core::mem::offset_of!($head, list_op_pending);

            #[inline(always)]
            fn from_word(word: $word) -> (Self, Protocol) {
                /// `FUTEX_ROBUST_MOD_PI` as a pointer has it.
                const PI: $word = 1;
                static_assert!(uapi::FUTEX_ROBUST_MOD_MASK == 1 && uapi::FUTEX_ROBUST_MOD_PI == 1);

                let protocol = if word & PI == 0 {
                    Protocol::Plain
                } else {
                    Protocol::Pi
                };
                (Self(word & !PI), protocol)
            }

            #[inline(always)]
            fn offset(self, offset: $word) -> Self {
                Self(self.0.wrapping_add(offset))
            }

            #[inline(always)]
            fn user_ptr(self) -> UserPtr {
                UserPtr::from_addr($into_usize(self.0))
            }

            #[inline(always)]
            fn is_null(self) -> bool {
                self.0 == 0
            }
        }
    };
}

impl_address!(
    /// An address in a 32-bit list. The kernel's own address is its zero-extension.
    Address32(u32),
    uapi::robust_list_head32,
    casts::u32_as_usize
);

impl_address!(
    /// An address in a 64-bit list.
    Address64(usize),
    uapi::robust_list_head,
    core::convert::identity
);
