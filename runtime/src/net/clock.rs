//! A clock for ages. It is read for every request, so it has to be cheap.

use std::{
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

/// The same moment on both clocks.
static ANCHOR: LazyLock<(Instant, u64)> = LazyLock::new(|| (Instant::now(), exact()));

/// Reads a monotonic clock, in nanoseconds. It may lag by one kernel tick (1 to 10 ms): on Linux it
/// is `CLOCK_MONOTONIC_COARSE` (`clock_gettime(2)`), which costs a fraction of `Instant::now`.
///
/// An `extern "C"` function cannot unwind, so its callers need no code to clean up if it did.
pub(crate) extern "C" fn now() -> u64 {
    #[cfg(target_os = "linux")]
    return linux(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    #[cfg(not(target_os = "linux"))]
    return exact();
}

/// What `now` returned this long ago.
pub(crate) fn ago(age: Duration) -> u64 {
    // Never 0, which stands for "not at all" in places.
    now().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)).max(1)
}

/// Converts a reading of `now` to an `Instant`.
pub(crate) fn instant(nanos: u64) -> Instant {
    let (instant, anchor) = *ANCHOR;
    let before = || instant.checked_sub(Duration::from_nanos(anchor - nanos));
    match nanos.checked_sub(anchor) {
        Some(after) => instant + Duration::from_nanos(after),
        // Too early for an `Instant`: the anchor is the best approximation.
        None => before().unwrap_or(instant),
    }
}

/// Reads the clock behind `Instant` as a number.
#[cfg(target_os = "linux")]
fn exact() -> u64 {
    linux(nix::time::ClockId::CLOCK_MONOTONIC)
}

#[cfg(target_os = "linux")]
#[inline]
fn linux(clock: nix::time::ClockId) -> u64 {
    // Cannot fail: every Linux that Rust supports has both clocks.
    let time = clock.now().unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    // Neither is negative, and a `u64` of nanoseconds lasts for 584 years.
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

#[cfg(not(target_os = "linux"))]
fn exact() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

// One timer per connection, armed only when there is something to wait for.

/// A timer for a moving deadline. Postponing the deadline is free: the armed timer fires early once
/// and is armed again.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns whether `deadline` has passed; if not, wakes the task when it does.
    pub(crate) fn has_passed(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let deadline = deadline.into();
        // During the drain, most deadlines of idle connections have already passed and need no
        // timer.
        if tokio::time::Instant::now() >= deadline {
            return true;
        }
        loop {
            let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) => {
                    let passed =
                        sleep.deadline() >= deadline || tokio::time::Instant::now() >= deadline;
                    self.0 = None;
                    if passed {
                        return true;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_agree_within_a_tick() {
        let before = Instant::now();
        let read = instant(now());
        let after = Instant::now();
        assert!(read <= after);
        assert!(before.saturating_duration_since(read) <= Duration::from_millis(11));
        // Before the anchor, too.
        let earlier = instant(now() - 1_000_000_000);
        assert!(after.duration_since(earlier) >= Duration::from_secs(1));
    }
}
