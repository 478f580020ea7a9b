//! The few primitives that the concurrent core is built from, so that loom can stand in for them.
//!
//! `LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg graceful_loom" cargo test -p graceful-main --lib --release loom`
//! explores the models at the end of `pending.rs`, `stop.rs`, `http/label.rs` and `http/held.rs`.

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
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
