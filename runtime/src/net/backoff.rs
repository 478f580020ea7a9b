//! What the accept loop does while the system has nothing to give.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    log::{Log, millis, say},
    util::HumanDuration,
};

/// The waits between tries while the system is out of descriptors or memory.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The pauses while the system is out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`,
/// `ENOMEM`).
#[derive(Default)]
pub(super) struct Backoff {
    since: Option<Instant>,
    pause: Duration,
}

impl Backoff {
    /// Says so, once, and waits: each time longer, up to `longest`.
    pub(super) async fn wait(
        &mut self,
        log: &Log,
        server: &str,
        error: &io::Error,
        longest: Duration,
    ) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            say!(
                log, warn, { server = server.to_owned(), error = error.to_string() },
                "{server}: cannot accept: {error}; trying again until it works"
            );
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, longest);
        tokio::time::sleep(self.pause).await;
    }

    /// A connection was accepted.
    pub(super) fn end(&mut self, log: &Log, server: &str) {
        if let Some(since) = self.since.take() {
            self.pause = Duration::ZERO;
            let after = since.elapsed();
            say!(
                log, info, { server = server.to_owned(), elapsed_ms = millis(after) },
                "{server}: accepting again after {}", HumanDuration(after)
            );
        }
    }
}
