// SPDX-License-Identifier: GPL-2.0

use proc_macro2::TokenStream;
use quote::{
    format_ident,
    quote, //
};
use syn::{
    Error,
    FnArg,
    Ident,
    ItemFn,
    Result,
    Type, //
};

/// Registers hold this many arguments (`SYSCALL_DEFINE_MAXARGS`).
const MAX_ARGS: usize = 6;

/// A calling convention whose entry points take the registers: `ARCH_HAS_SYSCALL_WRAPPER`.
struct Wrapper {
    /// When this calling convention exists, as a predicate for `#[cfg]`.
    cfg: TokenStream,
    /// The prefix of `sys_` in the names of the system call table.
    prefix: &'static str,
    /// The method of `kernel::syscall::Registers` that returns an argument's register.
    register: TokenStream,
    /// The method of `kernel::syscall::Argument` that takes the argument out of it.
    decode: TokenStream,
    /// Whether the caller has 64-bit pointers.
    is_64bit: TokenStream,
}

/// All such entry points that one system call has, over all configurations.
///
/// An architecture that has wrappers and is not in the list does not build.
fn wrappers() -> [Wrapper; 4] {
    [
        Wrapper {
            cfg: quote!(all(CONFIG_X86_64, not(CONFIG_UML))),
            prefix: "__x64_",
            register: quote!(native),
            decode: quote!(from_native),
            is_64bit: quote!(regs.is_64bit()),
        },
        Wrapper {
            cfg: quote!(all(CONFIG_IA32_EMULATION, not(CONFIG_UML))),
            prefix: "__ia32_",
            register: quote!(ia32),
            decode: quote!(from_compat),
            is_64bit: quote!(false),
        },
        Wrapper {
            cfg: quote!(CONFIG_ARM64),
            prefix: "__arm64_",
            register: quote!(native),
            decode: quote!(from_native),
            is_64bit: quote!(regs.is_64bit()),
        },
        Wrapper {
            cfg: quote!(all(CONFIG_RISCV, CONFIG_64BIT)),
            prefix: "__riscv_",
            register: quote!(native),
            decode: quote!(from_native),
            is_64bit: quote!(::kernel::syscall::in_64bit_syscall()),
        },
    ]
}

/// Takes `#[caller_is_64bit]` away from the first parameter, and returns whether it was there.
fn take_caller(f: &mut ItemFn) -> bool {
    let Some(FnArg::Typed(first)) = f.sig.inputs.first_mut() else {
        return false;
    };
    let attributes = first.attrs.len();

    first
        .attrs
        .retain(|attribute| !attribute.path().is_ident("caller_is_64bit"));
    first.attrs.len() != attributes
}

/// The types of the arguments, where `f` is a function that can be a system call. `skip` parameters
/// are no arguments.
fn argument_types(f: &ItemFn, skip: usize) -> Result<Vec<&Type>> {
    let sig = &f.sig;

    let odd = if let Some(constness) = &sig.constness {
        Some(Error::new_spanned(
            constness,
            "a system call is not `const`",
        ))
    } else if let Some(asyncness) = &sig.asyncness {
        Some(Error::new_spanned(
            asyncness,
            "a system call is not `async`",
        ))
    } else if let Some(unsafety) = &sig.unsafety {
        Some(Error::new_spanned(
            unsafety,
            "user space makes no promises, so a system call is not `unsafe`",
        ))
    } else if let Some(abi) = &sig.abi {
        Some(Error::new_spanned(
            abi,
            "`#[syscall]` chooses the calling convention",
        ))
    } else if !sig.generics.params.is_empty() {
        Some(Error::new_spanned(
            &sig.generics,
            "a system call has no generic parameters",
        ))
    } else if sig.inputs.len() > MAX_ARGS + skip {
        Some(Error::new_spanned(
            &sig.inputs,
            format!("a system call has at most {MAX_ARGS} arguments"),
        ))
    } else {
        None
    };
    if let Some(error) = odd {
        return Err(error);
    }

    sig.inputs
        .iter()
        .skip(skip)
        .map(|arg| match arg {
            FnArg::Typed(arg) => Ok(&*arg.ty),
            FnArg::Receiver(receiver) => Err(Error::new_spanned(
                receiver,
                "a system call is a function, not a method",
            )),
        })
        .collect()
}

/// What `ALLOW_ERROR_INJECTION(entry_point, ERRNO)` is in C. `signature` is the type of the entry
/// point, without the return value.
fn allow_error_injection(entry_point: &Ident, signature: TokenStream) -> TokenStream {
    quote! {
        #[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
        #[used(compiler)]
        #[link_section = "_error_injection_whitelist"]
        static ALLOW_ERROR_INJECTION: ::kernel::syscall::AllowErrorInjection<
            #signature -> ::kernel::ffi::c_long
        > = ::kernel::syscall::AllowErrorInjection::errno(#entry_point);
    }
}

/// Please see [`crate::syscall`] for documentation.
pub(crate) fn syscall(mut f: ItemFn) -> Result<TokenStream> {
    let caller = take_caller(&mut f).then(|| format_ident!("is_64bit"));
    let caller = caller.as_slice();
    let types = argument_types(&f, caller.len())?;
    let name = &f.sig.ident;
    let numbers: Vec<usize> = (0..types.len()).collect();
    let arguments: Vec<_> = numbers.iter().map(|n| format_ident!("arg{n}")).collect();

    // What the entry points share, as `__do_sys_*()` in C: they only decode the arguments.
    let shared = format_ident!("__do_sys_{name}");

    let wrappers = wrappers();
    let known = wrappers.iter().map(|wrapper| &wrapper.cfg);
    let wrapper_entry_points = wrappers.iter().map(|wrapper| {
        let Wrapper {
            cfg,
            prefix,
            register,
            decode,
            is_64bit,
        } = wrapper;
        let caller = caller.iter().map(|_| is_64bit);
        let entry_point = format_ident!("{prefix}sys_{name}");
        let allow_error_injection = allow_error_injection(
            &entry_point,
            quote!(unsafe extern "C" fn(*const ::kernel::bindings::pt_regs)),
        );

        quote! {
            #[cfg(#cfg)]
            const _: () = {
                #[no_mangle]
                unsafe extern "C" fn #entry_point(
                    regs: *const ::kernel::bindings::pt_regs,
                ) -> ::kernel::ffi::c_long {
                    // SAFETY: Only the architecture's entry code calls this function, through the
                    // system call table. It passes the registers of the current task, and nothing
                    // changes them before the arguments are decoded.
                    let regs = unsafe { ::kernel::syscall::Registers::from_raw(regs) };

                    #shared(
                        #(#caller,)*
                        #(
                            <#types as ::kernel::syscall::Argument>::#decode(
                                regs.#register::<#numbers>()
                            )
                        ),*
                    )
                }

                #allow_error_injection
            };
        }
    });

    // Without wrappers the entry code passes a `long` for each argument.
    let entry_point = format_ident!("sys_{name}");
    let longs: Vec<_> = types.iter().map(|_| quote!(usize)).collect();
    let in_64bit_syscall = caller
        .iter()
        .map(|_| quote!(::kernel::syscall::in_64bit_syscall()));
    let allow_error_injection =
        allow_error_injection(&entry_point, quote!(extern "C" fn(#(#longs),*)));

    Ok(quote! {
        #[inline(always)]
        #f

        fn #shared(#(#caller: bool,)* #(#arguments: #types),*) -> ::kernel::ffi::c_long {
            ::kernel::syscall::into_return_value(#name(#(#caller,)* #(#arguments),*))
        }

        #(#wrapper_entry_points)*

        #[cfg(not(CONFIG_ARCH_HAS_SYSCALL_WRAPPER))]
        const _: () = {
            #[no_mangle]
            extern "C" fn #entry_point(#(#arguments: usize),*) -> ::kernel::ffi::c_long {
                #shared(
                    #(#in_64bit_syscall,)*
                    #(<#types as ::kernel::syscall::Argument>::from_native(#arguments)),*
                )
            }

            #allow_error_injection
        };

        #[cfg(all(CONFIG_ARCH_HAS_SYSCALL_WRAPPER, not(any(#(#known),*))))]
        ::core::compile_error!("`#[syscall]` does not know this architecture's entry points");
    })
}
