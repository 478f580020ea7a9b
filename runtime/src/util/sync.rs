//! The few primitives that the concurrent core is built from, so that loom can stand in for them.
//!
//! `LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg graceful_loom" cargo test -p graceful-main --lib --release loom`
//! explores the models, which are the modules named `loom_models`.

#[cfg(graceful_loom)]
pub(crate) use loom::{
    future::AtomicWaker,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

#[cfg(not(graceful_loom))]
pub(crate) use {
    atomic_waker::AtomicWaker,
    std::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    },
};

/// Leaves `waker` in `slot` for the next `wake`.
pub(crate) fn register(slot: &AtomicWaker, waker: &std::task::Waker) {
    #[cfg(graceful_loom)]
    slot.register_by_ref(waker);
    #[cfg(not(graceful_loom))]
    slot.register(waker);
}

/// Locks, whether or not another thread panicked while it held the lock: every critical section in
/// this crate leaves its data whole, and a stop must not fail because something else did.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// The same for std's own locks, which loom need not know of: statics, and what a thread outside of
/// the models waits on.
pub(crate) fn lock_std<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// Unwraps the result of a lock or a condition variable, poisoned or not.
pub(crate) fn unpoisoned<G>(result: Result<G, std::sync::PoisonError<G>>) -> G {
    result.unwrap_or_else(std::sync::PoisonError::into_inner)
}
