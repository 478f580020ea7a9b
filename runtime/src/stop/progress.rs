//! What a person sees while a drain takes its time.

use std::{
    convert::Infallible,
    future::pending,
    io::IsTerminal,
    time::{Duration, Instant},
};

use super::{messages, shared::Shared};
use crate::{log::Log, util::HumanDuration, work::Counts};

/// A stop that is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the live line is drawn anew.
const FRAME: Duration = Duration::from_millis(100);
/// How often a log is told, at the most, and only when the counts have changed.
const LINE: Duration = Duration::from_secs(1);

/// Shows what is left, until it is dropped; then wipes the live line.
pub(super) async fn show(shared: &Shared, deadline: Option<Instant>) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    if shared.log.is_live() && std::io::stderr().is_terminal() {
        live(shared, deadline).await
    } else {
        lines(shared, deadline).await
    }
}

async fn live(shared: &Shared, deadline: Option<Instant>) -> Infallible {
    struct Wipe<'a>(&'a Log);
    impl Drop for Wipe<'_> {
        fn drop(&mut self) {
            self.0.live(String::new());
        }
    }
    let _wipe = Wipe(&shared.log);
    loop {
        shared.log.live(line(shared.work.counts(), deadline));
        tokio::time::sleep(FRAME).await;
    }
}

async fn lines(shared: &Shared, deadline: Option<Instant>) -> Infallible {
    if !shared.log.is_heard() {
        return pending().await;
    }
    let mut told = None;
    loop {
        let counts = shared.work.counts();
        // The last moments are the report's.
        let soon = left(deadline).is_some_and(|left| left < PATIENCE);
        if told != Some(counts) && counts != Counts::default() && !soon {
            messages::progress(&shared.log, counts, left(deadline));
            told = Some(counts);
        }
        tokio::time::sleep(LINE).await;
    }
}

fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// `draining: 2 requests, 5 connections, 1 task, 2.4s left (signal again to stop at once)`, short
/// enough for 80 columns in all but the busiest servers.
fn line(counts: Counts, deadline: Option<Instant>) -> String {
    let time = match left(deadline) {
        Some(left) => format!("{} left", HumanDuration(left)),
        None => "no limit".to_owned(),
    };
    format!("draining: {counts}, {time} (signal again to stop at once)")
}
