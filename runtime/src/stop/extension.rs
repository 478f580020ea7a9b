//! The time that a stop takes, as the service manager has to know it.

use std::{convert::Infallible, future::pending, time::Duration};

use super::{limits::Limits, shared::Shared};

/// What a stop takes after its limits, on a machine with other things to do.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Where there is no limit that could be told: how long the manager waits for the next word, and how
/// often it gets one.
const WORD: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(2);

/// How long a stop takes at the most; `None`: there is no limit.
pub(super) fn whole(limits: &Limits, delay: Duration) -> Option<Duration> {
    Some(Limits { delay, ..*limits }.whole()? + LAST_STEPS)
}

/// Asks for more time, again and again, as long as a stop without a limit goes on.
pub(super) async fn ask(shared: &Shared) -> Infallible {
    if !shared.manager.is_there() || whole(&shared.limits, Duration::ZERO).is_some() {
        return pending().await;
    }
    loop {
        shared.manager.extend(WORD);
        tokio::time::sleep(EVERY).await;
    }
}
