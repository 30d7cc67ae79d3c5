// SPDX-License-Identifier: GPL-2.0

//! The pointers of robust lists: user addresses of 32 or 64 bits.

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

/// A user address in a robust list of one pointer width.
///
/// Arithmetic wraps at that width, as in a program with such pointers.
pub(crate) trait Address: Copy + PartialEq {
    /// A pointer in user memory.
    type Word: UserWord + Copy;

    /// The alignment of a pointer, and so of an entry and of a head, in bytes.
    const ALIGN: usize;

    /// The offset of `futex_offset` in a head, in bytes.
    const FUTEX_OFFSET: usize;

    /// The offset of `list_op_pending` in a head, in bytes.
    const LIST_OP_PENDING: usize;

    /// Splits a pointer of a list into the address and bit 0 (`FUTEX_ROBUST_MOD_MASK`).
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
    /// [`EFAULT`] if `from` cannot be read.
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
                /// `FUTEX_ROBUST_MOD_PI` in a pointer.
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
    /// An address in a 32-bit list. The kernel zero-extends it.
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
