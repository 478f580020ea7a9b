//! A stop, step by step: lame duck, drain, cut, cleanup.

use std::{
    convert::Infallible,
    future::pending,
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    limits::ABORT_GRACE,
    messages,
    phase::Phase,
    run_hooks::{self, Adopt},
    shared::Shared,
};
use crate::{
    log::Log,
    util::{HumanDuration, beside, within},
    work::{Counts, InFlight, InFlightSnapshot, Name, Oldest},
};

/// The work that a stop cuts off. It outlives the stop, which a second signal may end at any point.
#[derive(Default)]
pub(super) struct CutOff {
    work: Vec<InFlightSnapshot>,
    hooks: Vec<InFlight>,
}

impl CutOff {
    /// All of it, but for what has come to its end by itself since it was named.
    pub(super) fn names(self) -> Vec<InFlight> {
        let work = self.work.into_iter().flat_map(InFlightSnapshot::without_ended);
        work.chain(self.hooks).collect()
    }
}

/// How a stop has ended.
pub(super) struct Stopped {
    /// Whether something that was cut has not let go.
    pub(super) left_behind: bool,
    /// When the limit of the cleanup is reached; the last steps of the process have until then.
    pub(super) until: Option<Instant>,
}

/// The first step: not ready any more; and if there is no lame duck, the drain.
pub(super) fn begin(shared: &Shared, delay: Duration) {
    shared.phase.advance(Phase::Stopping);
    if delay.is_zero() {
        shared.begin_drain();
    }
}

/// The whole way, from the first step on.
pub(super) async fn stop(
    shared: &Arc<Shared>,
    adopt: Adopt,
    delay: Duration,
    cut_off: &mut CutOff,
) -> Stopped {
    if !delay.is_zero() {
        // With nothing left to serve there is no client to be a lame duck for.
        within(Some(delay), shared.work.none()).await;
        shared.begin_drain();
    }
    let drained = drain(shared).await;
    if !drained {
        seal(shared, cut_off);
        shared.phase.advance(Phase::Cut);
        shared.work.cut();
        within(Some(ABORT_GRACE), shared.work.none()).await;
    }
    let started = Instant::now();
    let until = shared.limits.cleanup.map(|limit| started + limit);
    let left = || until.map(|until| until.saturating_duration_since(Instant::now()));
    let mut hooks = run_hooks::start(shared, adopt);
    if hooks.is_some() {
        shared.manager.status("cleaning up");
    }
    let have_run = match &mut hooks {
        Some(hooks) => within(left(), hooks.ended()).await,
        None => Some(true),
    };
    if have_run.is_some() {
        // Tasks spawned by hooks; an untracked task may also have begun tracked work meanwhile.
        let left_over = async {
            shared.cleanup.work.none().await;
            if drained {
                shared.work.none().await;
            }
        };
        within(left(), left_over).await;
    }
    let let_go = Instant::now() + ABORT_GRACE;
    cut_all(shared, cut_off).await;
    let mut left_behind = is_left(shared);
    if have_run != Some(true) {
        cut_off.hooks.extend(run_hooks::give_up(shared, adopt));
    }
    if let (None, Some(mut hooks)) = (have_run, hooks) {
        if hooks.is_program_blocked() {
            messages::program_blocked(&shared.log);
        }
        let left = let_go.saturating_duration_since(Instant::now());
        left_behind |= within(Some(left), hooks.ended()).await.is_none();
    }
    Stopped { left_behind, until }
}

/// A second signal: everything ends, whatever the stop was at.
pub(super) async fn now(shared: &Arc<Shared>, adopt: Adopt, cut_off: &mut CutOff) {
    cut_all(shared, cut_off).await;
    let hooks = run_hooks::give_up(shared, adopt);
    cut_off.hooks.extend(hooks.into_iter().filter(InFlight::has_begun));
}

/// Returns whether all work has come to its end within the limit.
async fn drain(shared: &Shared) -> bool {
    let deadline = shared.limits.timeout.map(|limit| Instant::now() + limit);
    let drain = async {
        shared.work.none().await;
        // From here on no connection is accepted. One that just has been is still answered.
        shared.phase.advance(Phase::Cleanup);
        shared.work.none().await;
    };
    let drained = within(shared.limits.timeout, drain);
    beside(drained, show(shared, deadline)).await.is_some()
}

/// Names the work that is still under way. Before that, nothing begins any more; after it, what has
/// been named is ended: so what is named is what is cut, except for what comes to its end by
/// itself.
fn seal(shared: &Shared, cut_off: &mut CutOff) {
    shared.phase.advance(Phase::Sealed);
    cut_off.work.push(shared.work.seal());
}

/// Ends what is left, the hooks and what they have spawned among it, and gives it a moment to let
/// go.
async fn cut_all(shared: &Shared, cut_off: &mut CutOff) {
    let (work, cleanup) = (&shared.work, &shared.cleanup.work);
    let was_cut = shared.phase.now() >= Phase::Sealed;
    if !was_cut {
        seal(shared, cut_off);
    }
    shared.phase.advance(Phase::Over);
    shared.end_out_of_band();
    cut_off.work.push(cleanup.seal());
    cleanup.cut();
    work.cut();
    within(Some(ABORT_GRACE), async {
        cleanup.none().await;
        if !was_cut {
            // Work that has not let go by now had its grace.
            work.none().await;
        }
    })
    .await;
}

fn is_left(shared: &Shared) -> bool {
    !shared.work.is_none() || !shared.cleanup.work.is_none()
}

// The progress display of a slow drain.

/// A stop that is over sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the live line is drawn anew.
const FRAME: Duration = Duration::from_millis(100);
/// How often a log, or the service manager, is told, at most; a log only when something has
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
