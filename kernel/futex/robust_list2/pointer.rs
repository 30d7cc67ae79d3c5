// SPDX-License-Identifier: GPL-2.0

//! The pointers of a list in user memory: words of 32 or 64 bits.

use kernel::{
    futex::Protocol,
    num::casts,
    prelude::*,
    uaccess::UserWord,
    uapi, //
};

/// A word of a list: `u32` in a 32-bit list, `u64` in a 64-bit list.
pub(crate) trait Word: UserWord + Into<u64> + Copy {
    /// The largest word.
    const MAX: u64;
}

impl Word for u32 {
    const MAX: u64 = casts::usize_as_u64(casts::u32_as_usize(u32::MAX));
}

impl Word for u64 {
    const MAX: u64 = u64::MAX;
}

/// A zero-extended pointer of a list: the address of an entry, and how the futex of that entry is
/// locked in bit 0 (`FUTEX_ROBUST_MOD_PI`).
#[derive(Clone, Copy)]
pub(crate) struct Pointer(u64);

impl<W: Word> From<W> for Pointer {
    fn from(word: W) -> Self {
        Self(word.into())
    }
}

impl Pointer {
    fn address(self) -> u64 {
        self.0 & !u64::from(uapi::FUTEX_ROBUST_MOD_MASK)
    }

    /// The entry.
    pub(crate) fn entry(self) -> UserPtr {
        UserPtr::from_addr(casts::arch::u64_as_usize(self.address()))
    }

    /// The futex of the entry, `offset` bytes further. The sum wraps at the width of the list's
    /// words, as in a program with such pointers.
    pub(crate) fn futex<W: Word>(self, offset: u64) -> UserPtr {
        let address = self.address().wrapping_add(offset) & W::MAX;
        UserPtr::from_addr(casts::arch::u64_as_usize(address))
    }

    /// How the futex of the entry is locked.
    pub(crate) fn protocol(self) -> Protocol {
        if self.0 & u64::from(uapi::FUTEX_ROBUST_MOD_PI) == 0 {
            Protocol::Plain
        } else {
            Protocol::Pi
        }
    }
}
