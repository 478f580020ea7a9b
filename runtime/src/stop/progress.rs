//! What a person sees while a drain takes its time.

use std::{
    convert::Infallible,
    future::pending,
    io::IsTerminal,
    time::{Duration, Instant},
};

use super::{messages, shared::Shared};
use crate::{
    log::Log,
    util::{HumanDuration, beside},
    work::{Counts, Name, Oldest},
};

/// A stop that is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the live line is drawn anew.
const FRAME: Duration = Duration::from_millis(100);
/// How often a log, or the service manager, is told, at the most; a log only when something has
/// changed.
const LINE: Duration = Duration::from_secs(1);

/// Shows what is left, until it is dropped; then wipes the live line.
pub(super) async fn show(shared: &Shared, deadline: Option<Instant>) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    let person = async {
        if shared.log.is_live() && std::io::stderr().is_terminal() {
            live(shared, deadline).await
        } else {
            lines(shared, deadline).await
        }
    };
    beside(person, status(shared, deadline)).await
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
        shared.log.live(draining(shared, deadline));
        tokio::time::sleep(FRAME).await;
    }
}

async fn lines(shared: &Shared, deadline: Option<Instant>) -> Infallible {
    if !shared.log.is_heard() {
        return pending().await;
    }
    let mut told = None;
    loop {
        let (counts, oldest) = shared.work.overview();
        let now = (counts, oldest.as_ref().map(|oldest| Name(oldest).to_string()));
        // The last moments are the report's.
        let soon = left(deadline).is_some_and(|left| left < PATIENCE);
        if told.as_ref() != Some(&now) && counts != Counts::default() && !soon {
            messages::progress(&shared.log, counts, oldest.as_ref(), left(deadline));
            told = Some(now);
        }
        tokio::time::sleep(LINE).await;
    }
}

/// The same for `systemctl status`.
async fn status(shared: &Shared, deadline: Option<Instant>) -> Infallible {
    if !shared.manager.is_there() {
        return pending().await;
    }
    loop {
        shared.manager.status(&draining(shared, deadline));
        tokio::time::sleep(LINE).await;
    }
}

fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// `draining: 3 requests, 1 task; oldest: GET /export from 10.0.0.7, 12s; 7.5s left`, short enough
/// for 80 columns in all but the busiest servers. Of all the work one piece is made text.
fn draining(shared: &Shared, deadline: Option<Instant>) -> String {
    let (counts, oldest) = shared.work.overview();
    let time = match left(deadline) {
        Some(left) => format!("{} left", HumanDuration(left)),
        None => "no limit".to_owned(),
    };
    format!("draining: {counts}{}; {time}", Oldest(oldest.as_ref()))
}
