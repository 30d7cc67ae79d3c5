// SPDX-License-Identifier: GPL-2.0

//! Allocations whose memory is freed after a grace period.

use crate::{
    alloc::{
        AllocError,
        Flags,
        KBox, //
    },
    bindings,
    init::InPlaceInit,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    types::Opaque,
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    ops::Deref,
    pin::Pin,
    ptr::NonNull, //
};
use pin_init::{
    init,
    Init, //
};

use super::{
    Guard,
    RcuFreeSafe, //
};

/// A value, and the head with which RCU frees its memory.
///
/// `kvfree_call_rcu()` needs the head in the first page of the allocation, so it comes first.
#[repr(C)]
struct Inner<T> {
    rcu_head: Opaque<bindings::kvfree_rcu_head>,
    value: T,
}

/// A [`KBox`] whose memory is freed after a grace period.
///
/// Dropping the box calls [`RcuFreeSafe::drop_before_gp`] and never `T::drop`.
///
/// # Invariants
///
/// The pointer comes from [`KBox::leak`], and this box owns the allocation.
pub struct RcuFreeBox<T: Send + RcuFreeSafe>(NonNull<Inner<T>>, PhantomData<T>);

// SAFETY: The owner of an `RcuFreeBox<T>` has access to `&T` and drops the `T`. RCU readers may
// use a `&T` even after the box has been moved to another thread, hence `T: Sync`.
unsafe impl<T: Send + Sync + RcuFreeSafe> Send for RcuFreeBox<T> {}

// SAFETY: An `&RcuFreeBox<T>` gives access to `&T` only.
unsafe impl<T: Send + Sync + RcuFreeSafe> Sync for RcuFreeBox<T> {}

impl<T: Send + RcuFreeSafe> RcuFreeBox<T> {
    /// Allocates memory and initialises the value in place.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::sync::rcu::RcuFreeBox;
    ///
    /// let boxed = RcuFreeBox::new(7u32, GFP_KERNEL)?;
    /// assert_eq!(*boxed, 7);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(value: impl Init<T>, flags: Flags) -> Result<Self, AllocError> {
        let boxed = KBox::init(
            init!(Inner {
                rcu_head: Opaque::uninit(),
                value <- value,
            }),
            flags,
        )
        .map_err(|_| AllocError)?;

        // INVARIANT: The pointer comes from `KBox::leak()`, and nothing else owns the allocation.
        Ok(Self(NonNull::from(KBox::leak(boxed)), PhantomData))
    }

    fn into_raw(self) -> NonNull<Inner<T>> {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }
}

impl<T: Send + RcuFreeSafe> Deref for RcuFreeBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants, the pointer is valid, and no mutable reference exists
        // before the box is dropped.
        unsafe { &self.0.as_ref().value }
    }
}

impl<T: Send + RcuFreeSafe> Drop for RcuFreeBox<T> {
    #[inline]
    fn drop(&mut self) {
        let raw = self.0.as_ptr();

        // SAFETY: By the type invariants, `raw` is valid. The value stays where it is until its
        // memory is freed, so it is pinned.
        T::drop_before_gp(unsafe { Pin::new_unchecked(&(*raw).value) });

        // SAFETY: By the type invariants, `raw` comes from a `KBox`, so `kvfree()` can free it.
        // Nothing else uses its `rcu_head`. `RcuFreeSafe` guarantees that the memory can be freed
        // after a grace period.
        unsafe { bindings::kvfree_call_rcu((*raw).rcu_head.get(), raw.cast::<c_void>()) };
    }
}

/// A pointer through which RCU readers reach the value of an [`RcuFreeBox`], or null.
///
/// This is `T __rcu *` in C.
///
/// # Invariants
///
/// The pointer is null or was an [`RcuFreeBox`], which this pointer owns.
#[repr(transparent)]
pub struct RcuPointer<T: Send + RcuFreeSafe>(Atomic<*mut Inner<T>>, PhantomData<RcuFreeBox<T>>);

impl<T: Send + Sync + RcuFreeSafe> RcuPointer<T> {
    /// Creates a null pointer.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::sync::rcu::{
    ///     self,
    ///     RcuFreeBox,
    ///     RcuPointer, //
    /// };
    ///
    /// let pointer = RcuPointer::null();
    /// assert!(pointer.load(&rcu::read_lock()).is_none());
    ///
    /// assert!(pointer.publish(RcuFreeBox::new(7u32, GFP_KERNEL)?).is_ok());
    /// assert_eq!(pointer.load(&rcu::read_lock()), Some(&7));
    ///
    /// // The pointer is not null, so `publish()` returns the value.
    /// assert_eq!(pointer.publish(RcuFreeBox::new(8u32, GFP_KERNEL)?).map_err(|b| *b), Err(8));
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
    /// - `*field` is null or the last value that an `RcuPointer<T>` stored there, and nothing else
    ///   writes to it during `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(field: *mut *mut c_void) -> &'a Self {
        // INVARIANT: By the safety requirements, `*field` is null or an `RcuPointer<T>` stored it.
        // CAST: `Self` is a `repr(transparent)` wrapper around an atomic pointer.
        // SAFETY: By the safety requirements, `field` is valid for `'a` and accessed as `Self`.
        unsafe { &*field.cast() }
    }

    /// Returns the value, for as long as the reader holds `guard`.
    #[doc(alias = "rcu_dereference")]
    #[inline]
    pub fn load<'a>(&'a self, _guard: &'a Guard) -> Option<&'a T> {
        // ORDERING: Acquire pairs with the release in `publish()`: a reader that observes the
        // pointer observes an initialised value.
        let raw = self.0.load(Acquire);

        // SAFETY: By the type invariants, the pointer is null or comes from an `RcuFreeBox`. If
        // `take()` hands out that box while the reference exists, dropping the box frees the
        // memory after a grace period, which does not end before `_guard` is dropped.
        unsafe { raw.as_ref() }.map(|inner| &inner.value)
    }

    /// Returns the value without a guard.
    ///
    /// # Safety
    ///
    /// Nothing else publishes or takes a value at the same time, and every call of
    /// [`RcuPointer::take`] comes before this one or after the last use of the returned reference.
    #[doc(alias = "rcu_dereference_protected")]
    #[inline]
    pub unsafe fn load_protected(&self) -> Option<&T> {
        // SAFETY: The pointer is valid for reads, and by the safety requirements nothing writes to
        // it at the same time.
        let raw = unsafe { *self.0.as_ptr() };

        // SAFETY: By the type invariants, the pointer is null or comes from an `RcuFreeBox`, and by
        // the safety requirements nobody takes that box.
        unsafe { raw.as_ref() }.map(|inner| &inner.value)
    }

    /// Makes `value` visible to readers if the pointer is null, and returns it otherwise.
    #[doc(alias = "rcu_assign_pointer")]
    pub fn publish(&self, value: RcuFreeBox<T>) -> Result<(), RcuFreeBox<T>> {
        let raw = value.into_raw();

        // INVARIANT: The box was given up for its pointer, which is stored here or returned below.
        // ORDERING: Release pairs with the acquire in `load()`.
        match self.0.cmpxchg(core::ptr::null_mut(), raw.as_ptr(), Release) {
            Ok(_) => Ok(()),
            // INVARIANT: `raw` was a box until the first line, and was not stored.
            Err(_) => Err(RcuFreeBox(raw, PhantomData)),
        }
    }

    /// Takes the value, so that later readers do not find it.
    #[inline]
    pub fn take(&self) -> Option<RcuFreeBox<T>> {
        // ORDERING: Acquire pairs with the release in `publish()`, as in `load()`. The grace period
        // protects earlier readers.
        let raw = self.0.xchg(core::ptr::null_mut(), Acquire);

        // INVARIANT: The pointer was a box, and is no longer in `self`.
        Some(RcuFreeBox(NonNull::new(raw)?, PhantomData))
    }
}

impl<T: Send + RcuFreeSafe> Drop for RcuPointer<T> {
    fn drop(&mut self) {
        if let Some(raw) = NonNull::new(*self.0.get_mut()) {
            // INVARIANT: The pointer was a box, and `self` is gone.
            drop(RcuFreeBox(raw, PhantomData));
        }
    }
}
