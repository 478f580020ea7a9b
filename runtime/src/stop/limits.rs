//! How long each step of a stop may take.

use std::time::Duration;

use crate::util::duration;

/// The limits as they hold for one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) delay: Duration,
    pub(crate) linger: Duration,
    pub(crate) cleanup: Option<Duration>,
}

impl Limits {
    /// How long a stop takes at most; `None`: there is no limit.
    pub(crate) fn total(&self) -> Option<Duration> {
        Some(self.delay + self.timeout? + self.cleanup?)
    }

    /// Without any limit, and without a wait.
    #[cfg(test)]
    pub(crate) const NONE: Self =
        Self { timeout: None, delay: Duration::ZERO, linger: Duration::ZERO, cleanup: None };
}

/// How long what was cut may take to let go, before the hooks run or the process ends: futures are
/// dropped where they are not being polled; what blocks a thread never lets go.
pub(super) const ABORT_GRACE: Duration = Duration::from_millis(10);

/// `Duration::MAX` and its like stand for "never": a time that can still be added to a clock.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(Duration::from_millis(duration::LONGEST))
}
