// SPDX-License-Identifier: GPL-2.0

//! System calls.
//!
//! [`#[syscall]`](macro@crate::macros::syscall) turns a function into the entry points that the
//! system call tables refer to. This module has what the generated code needs: how an argument
//! comes out of a register, how the result becomes a return value, and the entry of the error
//! injection list.
//!
//! An architecture that selects `ARCH_HAS_SYSCALL_WRAPPER` passes the registers to its entry
//! points, and needs a method of `Registers` and an entry of the macro's list. All others pass
//! the arguments, and need nothing. Either kind selects `HAVE_RUST_SYSCALL`.
//!
//! C headers: [`include/linux/syscalls.h`](srctree/include/linux/syscalls.h),
//! [`include/linux/compat.h`](srctree/include/linux/compat.h),
//! `arch/*/include/asm/syscall_wrapper.h`

use crate::{
    bindings,
    error::Result,
    num::casts,
    prelude::*, //
};

pub use crate::macros::syscall;

/// Returns whether the current system call comes from a 32-bit program on a 64-bit kernel: from
/// an i386 or x32 one on x86-64, from an AArch32 one on arm64, from a riscv32 one on riscv64.
#[inline]
pub fn in_compat_syscall() -> bool {
    // SAFETY: An FFI call with no additional requirements.
    cfg!(CONFIG_COMPAT) && unsafe { bindings::in_compat_syscall() }
}

/// Returns whether the program that made the current system call has 64-bit pointers.
#[inline]
pub fn in_64bit_syscall() -> bool {
    cfg!(CONFIG_64BIT) && !in_compat_syscall()
}

/// The registers of a task at its entry into the kernel.
///
/// # Invariants
///
/// They are those of the current task, in a system call that has not returned.
#[cfg(CONFIG_ARCH_HAS_SYSCALL_WRAPPER)]
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Registers<'a>(&'a bindings::pt_regs);

/// Registers hold six arguments. The `syscall_wrapper.h` of each architecture names them.
#[cfg(CONFIG_ARCH_HAS_SYSCALL_WRAPPER)]
impl<'a> Registers<'a> {
    /// Wraps the registers that the architecture's entry code passes to a system call.
    ///
    /// # Safety
    ///
    /// `regs` are the registers of the current task, and are not written to for `'a`.
    #[inline]
    pub unsafe fn from_raw(regs: *const bindings::pt_regs) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: By the safety requirements, `regs` is valid for `'a`.
        Self(unsafe { &*regs })
    }

    /// Argument `N`, counted from 0, of a system call in the kernel's own calling convention.
    ///
    /// On x86-64 this is `SC_X86_64_REGS_TO_ARGS`.
    #[cfg(CONFIG_X86_64)]
    #[inline]
    pub fn native<const N: usize>(self) -> usize {
        const { assert!(N < 6) };
        match N {
            0 => self.0.di,
            1 => self.0.si,
            2 => self.0.dx,
            3 => self.0.r10,
            4 => self.0.r8,
            _ => self.0.r9,
        }
    }

    /// Returns whether a system call in the kernel's own calling convention comes from a program
    /// with 64-bit pointers, and not from an x32 one (`in_x32_syscall()`).
    #[cfg(CONFIG_X86_64)]
    #[inline]
    pub fn is_64bit(self) -> bool {
        !cfg!(CONFIG_X86_X32_ABI)
            || self.0.orig_ax & casts::u32_as_usize(bindings::__X32_SYSCALL_BIT) == 0
    }

    /// Argument `N`, counted from 0, of a system call of an i386 program, `SC_IA32_REGS_TO_ARGS`.
    #[cfg(CONFIG_X86_64)]
    #[inline]
    pub fn ia32<const N: usize>(self) -> usize {
        const { assert!(N < 6) };
        match N {
            0 => self.0.bx,
            1 => self.0.cx,
            2 => self.0.dx,
            3 => self.0.si,
            4 => self.0.di,
            _ => self.0.bp,
        }
    }

    /// Argument `N`, counted from 0, of a system call in the kernel's own calling convention.
    ///
    /// On arm64 this is `SC_ARM64_REGS_TO_ARGS`, which is for AArch32 programs too.
    #[cfg(CONFIG_ARM64)]
    #[inline]
    pub fn native<const N: usize>(self) -> usize {
        const { assert!(N < 6) };

        // SAFETY: `user_pt_regs` and the structure in its place are two views of the same
        // registers, both of them integers.
        let regs = unsafe { self.0.__bindgen_anon_1.user_regs.regs };
        let register = match N {
            // `x0` is where the return value goes, tracers see and change it there.
            0 => self.0.orig_x0,
            n => regs[n],
        };
        casts::arch::u64_as_usize(register)
    }

    /// Returns whether the program has 64-bit pointers, and is not an AArch32 one
    /// (`compat_user_mode()`).
    #[cfg(CONFIG_ARM64)]
    #[inline]
    pub fn is_64bit(self) -> bool {
        // SAFETY: As in `native()`.
        let pstate = unsafe { self.0.__bindgen_anon_1.user_regs.pstate };
        pstate & u64::from(bindings::PSR_MODE32_BIT) == 0
    }

    /// Argument `N`, counted from 0, of a system call in the kernel's own calling convention.
    ///
    /// On riscv64 this is `SC_RISCV_REGS_TO_ARGS`, which is for riscv32 programs too.
    #[cfg(all(CONFIG_RISCV, CONFIG_64BIT))]
    #[inline]
    pub fn native<const N: usize>(self) -> usize {
        const { assert!(N < 6) };

        // SAFETY: `a_regs` and the structure without a name in its place are two views of the
        // same registers, both of them integers.
        let regs = unsafe { &self.0.__bindgen_anon_1.a_regs };
        match N {
            // `a0` is where the return value goes, tracers see and change it there.
            0 => self.0.orig_a0,
            1 => regs.a1,
            2 => regs.a2,
            3 => regs.a3,
            4 => regs.a4,
            _ => regs.a5,
        }
    }
}

/// A type that a system call can have as an argument.
///
/// A register is as wide as the kernel's `long`. The argument's type decides which bits belong to
/// the argument. The program may leave anything in the others.
pub trait Argument: Sized {
    /// Takes the argument out of a register of a program of the kernel's own width.
    ///
    /// This is `__SC_CAST`: a conversion of a `long` to the type.
    fn from_native(register: usize) -> Self;

    /// Takes the argument out of a register of a 32-bit program on a 64-bit kernel, where the
    /// calling convention does not say what the upper half of the register holds.
    ///
    /// This is `__SC_COMPAT_CAST`: the lower half is sign-extended for a `long` and zero-extended
    /// for everything else.
    fn from_compat(register: usize) -> Self;
}

/// The lower 32 bits of a register.
#[inline]
fn lower_half(register: usize) -> u32 {
    // CAST: The upper half is not part of the argument.
    register as u32
}

impl Argument for c_uint {
    #[inline]
    fn from_native(register: usize) -> Self {
        lower_half(register)
    }

    #[inline]
    fn from_compat(register: usize) -> Self {
        lower_half(register)
    }
}

impl Argument for c_int {
    #[inline]
    fn from_native(register: usize) -> Self {
        // CAST: The same 32 bits, with a sign.
        lower_half(register) as c_int
    }

    #[inline]
    fn from_compat(register: usize) -> Self {
        Self::from_native(register)
    }
}

impl Argument for UserPtr {
    #[inline]
    fn from_native(register: usize) -> Self {
        UserPtr::from_addr(register)
    }

    #[inline]
    fn from_compat(register: usize) -> Self {
        UserPtr::from_addr(casts::u32_as_usize(lower_half(register)))
    }
}

/// Turns the result of a system call into its return value: the value, or a negative errno.
#[doc(hidden)]
#[inline]
pub fn into_return_value(result: Result<c_long>) -> c_long {
    match result {
        Ok(value) => value,
        // CAST: Sign-extends.
        Err(error) => error.to_errno() as c_long,
    }
}

/// An entry of the list of functions for which errors can be injected.
///
/// This is what `ALLOW_ERROR_INJECTION(entry_point, ERRNO)` is in C. `F` is the type of a pointer
/// to the entry point.
///
/// # Invariants
///
/// It has the layout of `struct error_injection_entry`.
#[doc(hidden)]
#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
#[repr(C)]
pub struct AllowErrorInjection<F> {
    // C has an integer here, but a Rust constant cannot convert a pointer to an integer.
    addr: F,
    etype: c_int,
}

#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
impl<F: Copy> AllowErrorInjection<F> {
    /// Creates the entry for a system call.
    pub const fn errno(entry_point: F) -> Self {
        use core::mem::offset_of;

        const {
            assert!(
                size_of::<Self>() == size_of::<bindings::error_injection_entry>()
                    && offset_of!(Self, etype)
                        == offset_of!(bindings::error_injection_entry, etype)
            );
        }

        // INVARIANT: By the assertion.
        Self {
            addr: entry_point,
            // CAST: The enumerator is a small number.
            etype: bindings::EI_ETYPE_ERRNO as c_int,
        }
    }
}
