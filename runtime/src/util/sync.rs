//! The primitives that the concurrent core is built on, so that loom can replace them.
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

/// Registers `waker` in `slot` for the next `wake`.
pub(crate) fn register(slot: &AtomicWaker, waker: &std::task::Waker) {
    #[cfg(graceful_loom)]
    slot.register_by_ref(waker);
    #[cfg(not(graceful_loom))]
    slot.register(waker);
}

/// Locks a mutex, poisoned or not: every critical section in this crate leaves its data consistent,
/// and a stop must not fail because something else did.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// Like `lock`, for std's own mutexes, which loom need not know about: statics, and those that
/// threads outside of the models wait on.
pub(crate) fn lock_std<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// Unwraps the result of a lock or a condition variable, poisoned or not.
pub(crate) fn unpoisoned<G>(result: Result<G, std::sync::PoisonError<G>>) -> G {
    result.unwrap_or_else(std::sync::PoisonError::into_inner)
}
