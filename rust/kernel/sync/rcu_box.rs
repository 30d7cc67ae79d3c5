// SPDX-License-Identifier: GPL-2.0

//! Allocations that RCU readers use.
//!
//! An [`RcuPointer`] publishes a value to readers that hold an [`rcu::Guard`]. Its owner is an
//! [`RcuBox`], which frees the memory after a grace period, that is, when no reader can have a
//! reference left.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use crate::{
    alloc::{
        AllocError,
        Flags,
        KBox, //
    },
    bindings,
    init::InPlaceInit,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        rcu, //
    },
    types::Opaque,
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    mem::needs_drop,
    ops::Deref,
    ptr::NonNull, //
};
use pin_init::{
    init,
    Init, //
};

/// A value and what RCU needs to free it.
///
/// The head comes first, because `kvfree_call_rcu()` wants it in the first page of the allocation.
#[repr(C)]
struct Inner<T> {
    head: Opaque<bindings::kvfree_rcu_head>,
    value: T,
}

/// A [`KBox`] whose memory is freed after a grace period.
///
/// The value itself is not dropped, so it must not need it.
///
/// # Invariants
///
/// `self.0` comes from a [`KBox`] that this value owns, and has not been given to RCU.
pub struct RcuBox<T>(NonNull<Inner<T>>, PhantomData<T>);

// SAFETY: An `RcuBox<T>` owns a `T`.
unsafe impl<T: Send> Send for RcuBox<T> {}

// SAFETY: An `RcuBox<T>` gives out shared references to a `T` only.
unsafe impl<T: Sync> Sync for RcuBox<T> {}

impl<T> RcuBox<T> {
    /// Allocates memory and initialises the value there.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::sync::rcu_box::RcuBox;
    ///
    /// let boxed = RcuBox::new(7u32, GFP_KERNEL)?;
    /// assert_eq!(*boxed, 7);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(value: impl Init<T>, flags: Flags) -> Result<Self, AllocError> {
        const { assert!(!needs_drop::<T>(), "RCU frees the memory and drops nothing") };

        let boxed = KBox::init(
            init!(Inner {
                head: Opaque::uninit(),
                value <- value,
            }),
            flags,
        )
        .map_err(|_| AllocError)?;

        // INVARIANT: The pointer comes from a `KBox`, and this is its only owner.
        Ok(Self(NonNull::from(KBox::leak(boxed)), PhantomData))
    }

    fn into_raw(self) -> NonNull<Inner<T>> {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }
}

impl<T> Deref for RcuBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants, the pointer is valid, and nobody has a mutable
        // reference.
        unsafe { &self.0.as_ref().value }
    }
}

impl<T> Drop for RcuBox<T> {
    #[inline]
    fn drop(&mut self) {
        let raw = self.0.as_ptr();

        // SAFETY: By the type invariants, `raw` was allocated by `KBox`, so `kvfree()` can free it.
        // The head is at its beginning, and is not in use.
        unsafe { bindings::kvfree_call_rcu((*raw).head.get(), raw.cast::<c_void>()) };
    }
}

/// A pointer through which RCU readers reach a value, or null.
///
/// This is `T __rcu *` in C.
///
/// # Invariants
///
/// `self.0` is null or was an [`RcuBox`], which it owns.
#[repr(transparent)]
pub struct RcuPointer<T>(Atomic<*mut Inner<T>>, PhantomData<RcuBox<T>>);

impl<T: Send + Sync> RcuPointer<T> {
    /// Creates a null pointer.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::sync::{
    ///     rcu,
    ///     rcu_box::{
    ///         RcuBox,
    ///         RcuPointer, //
    ///     }, //
    /// };
    ///
    /// let pointer = RcuPointer::null();
    /// assert!(pointer.load(&rcu::read_lock()).is_none());
    ///
    /// assert!(pointer.publish(RcuBox::new(7u32, GFP_KERNEL)?).is_ok());
    /// assert_eq!(pointer.load(&rcu::read_lock()), Some(&7));
    ///
    /// // Somebody was first: the value comes back.
    /// assert_eq!(pointer.publish(RcuBox::new(8u32, GFP_KERNEL)?).map_err(|b| *b), Err(8));
    ///
    /// assert_eq!(pointer.take().map(|b| *b), Some(7));
    /// assert!(pointer.take().is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn null() -> Self {
        // INVARIANT: The pointer is null.
        Self(Atomic::new(core::ptr::null_mut()), PhantomData)
    }

    /// Uses a field of a C structure as an RCU pointer.
    ///
    /// # Safety
    ///
    /// - `field` is valid for `'a`.
    /// - `*field` is null, or what an `RcuPointer<T>` has written there last, and for `'a` nothing
    ///   else writes to it.
    #[inline]
    pub unsafe fn from_raw<'a>(field: *mut *mut c_void) -> &'a Self {
        // INVARIANT: By the safety requirements, `*field` is null or an `RcuPointer<T>` wrote it.
        // CAST: `Self` is a `repr(transparent)` wrapper around an atomic pointer.
        // SAFETY: By the safety requirements, `field` is valid for `'a` and accessed as `Self`.
        unsafe { &*field.cast() }
    }

    /// Returns the value, for as long as the reader holds `guard`.
    #[doc(alias = "rcu_dereference")]
    #[inline]
    pub fn load<'a>(&'a self, _guard: &'a rcu::Guard) -> Option<&'a T> {
        // ORDERING: Acquire pairs with the release in `publish()`: who sees the pointer sees the
        // value that was initialised before.
        let raw = self.0.load(Acquire);

        // SAFETY: By the type invariants, the pointer is null or comes from an `RcuBox`. Where
        // `take()` gets hold of that box while the reference exists, dropping it frees the memory
        // after a grace period, which does not end while `_guard` exists.
        unsafe { raw.as_ref() }.map(|inner| &inner.value)
    }

    /// Returns the value to whoever else would take it away.
    ///
    /// # Safety
    ///
    /// Nobody calls [`RcuPointer::take`] while the returned reference exists.
    #[doc(alias = "rcu_dereference_protected")]
    #[inline]
    pub unsafe fn load_protected(&self) -> Option<&T> {
        // ORDERING: Acquire pairs with the release in `publish()`, like the one in `load()`.
        let raw = self.0.load(Acquire);

        // SAFETY: By the type invariants, the pointer is null or comes from an `RcuBox`, and by the
        // safety requirements that box stays here.
        unsafe { raw.as_ref() }.map(|inner| &inner.value)
    }

    /// Makes `value` visible to readers where the pointer is null, and otherwise gives it back.
    #[doc(alias = "rcu_assign_pointer")]
    pub fn publish(&self, value: RcuBox<T>) -> Result<(), RcuBox<T>> {
        let raw = value.into_raw();

        // INVARIANT: The box has been given up for its pointer, which is stored, or returned.
        // ORDERING: Release pairs with the acquire in `load()`.
        match self.0.cmpxchg(core::ptr::null_mut(), raw.as_ptr(), Release) {
            Ok(_) => Ok(()),
            // INVARIANT: `raw` was a box until the first line, and has not been stored.
            Err(_) => Err(RcuBox(raw, PhantomData)),
        }
    }

    /// Takes the value away from those readers that come from now on.
    #[inline]
    pub fn take(&self) -> Option<RcuBox<T>> {
        // ORDERING: Acquire pairs with the release in `publish()`, like the one in `load()`. Those
        // who still read the value are the grace period's business.
        let raw = self.0.xchg(core::ptr::null_mut(), Acquire);

        // INVARIANT: The pointer was a box, and is no longer in `self`.
        Some(RcuBox(NonNull::new(raw)?, PhantomData))
    }
}

impl<T> Drop for RcuPointer<T> {
    fn drop(&mut self) {
        if let Some(raw) = NonNull::new(*self.0.get_mut()) {
            // INVARIANT: The pointer was a box, and `self` is gone.
            drop(RcuBox(raw, PhantomData));
        }
    }
}
