//! How long each step of a stop may take.

use std::time::Duration;

use crate::util::duration;

/// The limits of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) delay: Duration,
    pub(crate) linger: Duration,
    pub(crate) cleanup: Option<Duration>,
    /// Within `timeout`: over how long the goodbyes to long-lived connections are spread.
    pub(crate) spread: Duration,
    /// How long the process stays at the end, until its last figures have been read.
    pub(crate) scrape: Duration,
}

impl Limits {
    /// Returns how long a stop takes at most; `None` means no limit.
    pub(crate) fn total(&self) -> Option<Duration> {
        Some(self.delay + self.timeout? + self.cleanup? + self.scrape)
    }

    /// No limits and no waits.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self {
        timeout: None,
        delay: Duration::ZERO,
        linger: Duration::ZERO,
        cleanup: None,
        spread: Duration::ZERO,
        scrape: Duration::ZERO,
    };
}

/// How long work that was cut may take to finish, before the hooks run or the process ends. A
/// future is dropped once it is not being polled; work that blocks a thread never finishes.
pub(super) const ABORT_GRACE: Duration = Duration::from_millis(10);

/// Bounds a duration, so that it can be added to a clock: `Duration::MAX` and the like mean
/// "never".
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(Duration::from_millis(duration::LONGEST))
}
