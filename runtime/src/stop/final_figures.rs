//! What is known of a stop once its drain is over, and whether it has been read.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Instant,
};

use tokio::sync::Notify;

use crate::work::InFlight;

/// What is known of a stop once its drain is over.
#[derive(Debug, Default)]
pub(crate) struct FinalFigures {
    /// By `InFlight::KINDS`.
    pub(super) cut: [AtomicUsize; InFlight::KINDS.len()],
    /// How long the drain took, in microseconds.
    pub(super) drained_in: AtomicUsize,
    /// Whether the above are the last values.
    are_final: AtomicBool,
    /// The last values have been read.
    scraped: Notify,
}

impl FinalFigures {
    /// Notes what the limit has cut off.
    pub(super) fn set_cut<'a>(&self, cut: impl IntoIterator<Item = &'a InFlight>) {
        let mut counts = [0; InFlight::KINDS.len()];
        for work in cut {
            counts[work.kind_index()] += 1;
        }
        for (to, count) in self.cut.iter().zip(counts) {
            // Release: whoever sees this sees the phase that has cut it.
            to.store(count, Ordering::Release);
        }
    }

    /// The drain that began at `started` is over.
    pub(super) fn set_final(&self, started: Instant) {
        let micros = usize::try_from(started.elapsed().as_micros()).unwrap_or(usize::MAX);
        self.drained_in.store(micros, Ordering::Relaxed);
        // Release: whoever sees this sees the values.
        self.are_final.store(true, Ordering::Release);
    }

    /// Returns whether the values that are read from now on are the last ones.
    pub(crate) fn is_final(&self) -> bool {
        self.are_final.load(Ordering::Acquire)
    }

    /// Notes that the last values have been read, and are about to be sent.
    pub(crate) fn note_scraped(&self) {
        if self.is_final() {
            self.scraped.notify_one();
        }
    }

    /// Waits until the last values have been read.
    pub(super) async fn scraped(&self) {
        self.scraped.notified().await;
    }
}
