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
    report::{Cause, Reached},
    run_hooks::{self, Adopt},
    shared::Shared,
};
use crate::{
    log::Log,
    util::{HumanDuration, beside, within},
    work::{Counts, InFlight, InFlightSnapshot, Name, Oldest},
};

/// The work that a stop cuts off. It outlives the future of the stop, which a second signal may
/// drop at any point.
#[derive(Default)]
pub(super) struct CutOff {
    /// By the limit of the drain.
    at_the_limit: Option<InFlightSnapshot>,
    /// At the end.
    later: Vec<InFlightSnapshot>,
    hooks: Vec<InFlight>,
    /// Whether the limit of the cleanup has passed.
    is_cleanup_over: bool,
}

impl CutOff {
    /// Returns what the drain's limit cut off, except for work that has ended by itself since.
    fn work(&self) -> Vec<InFlight> {
        self.at_the_limit.clone().into_iter().flat_map(InFlightSnapshot::without_ended).collect()
    }

    /// Returns everything that was cut off, except for work that has ended by itself since, and the
    /// limit that was reached.
    pub(super) fn names(self) -> (Vec<InFlight>, Option<Reached>) {
        let mut names = self.work();
        let reached = match self.is_cleanup_over {
            _ if !names.is_empty() => Some(Reached::Drain),
            true => Some(Reached::Cleanup),
            false => None,
        };
        names.extend(self.later.into_iter().flat_map(InFlightSnapshot::without_ended));
        names.extend(self.hooks);
        let reached = reached.filter(|_| !names.is_empty());
        (names, reached)
    }
}

/// The first step: the program is no longer ready, and without a lame duck, the drain begins.
pub(super) fn begin(shared: &Shared, cause: &Cause, delay: Duration) {
    if matches!(cause, Cause::Upgraded(_)) {
        shared.goodbyes.are_at_once();
    }
    shared.advance(Phase::Stopping);
    if delay.is_zero() {
        shared.begin_drain();
    }
}

/// How long a stop waits where there is nothing to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// Before the drain, for clients to look elsewhere.
    pub(super) delay: Duration,
    /// At the end, for the last figures to be read.
    pub(super) scrape: Duration,
}

/// Hands the figures to the recorder of the crate `metrics`, if there may be one.
fn publish(shared: &Shared) {
    #[cfg(feature = "metrics")]
    shared.publish();
    #[cfg(not(feature = "metrics"))]
    let _ = shared;
}

/// Runs all steps after the first. Returns whether some of the work that was cut is still running,
/// and the deadline of the cleanup, which is also that of the last steps of the process.
pub(super) async fn stop(
    shared: &Arc<Shared>,
    adopt: Adopt,
    Waits { delay, scrape }: Waits,
    cut_off: &mut CutOff,
) -> (bool, Option<Instant>) {
    if !delay.is_zero() {
        // With no work left, there is no client to be a lame duck for.
        within(Some(delay), shared.work.none()).await;
        shared.begin_drain();
    }
    let drained = drain(shared).await;
    if !drained {
        cut_off.at_the_limit = Some(seal(shared));
        shared.advance(Phase::Cut);
        shared.work.cut();
        within(Some(ABORT_GRACE), shared.work.none()).await;
    }
    shared.final_figures.set_cut(&cut_off.work());
    shared.final_figures.set_final(*shared.drain_started.get_or_init(Instant::now));
    publish(shared);
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
        // Tasks that hooks have spawned. An untracked task may also have begun tracked work
        // meanwhile.
        let left_over = async {
            shared.cleanup.work.none().await;
            if drained {
                shared.work.none().await;
            }
        };
        cut_off.is_cleanup_over = within(left(), left_over).await.is_none();
    } else {
        cut_off.is_cleanup_over = true;
    }
    if !scrape.is_zero() {
        messages::awaits_scrape(&shared.log, scrape);
        shared.manager.status("waiting for the last figures to be read");
        within(Some(scrape), async {
            shared.final_figures.scraped().await;
            // The answer with the figures is still on its way.
            shared.drain_out_of_band().await;
        })
        .await;
    }
    let until = until.map(|until| until + scrape);
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
    (left_behind, until)
}

/// Ends everything at once after a second signal, whatever step the stop had reached.
pub(super) async fn now(shared: &Arc<Shared>, adopt: Adopt, cut_off: &mut CutOff) {
    cut_all(shared, cut_off).await;
    let hooks = run_hooks::give_up(shared, adopt);
    cut_off.hooks.extend(hooks.into_iter().filter(InFlight::has_begun));
}

/// Drains all work. Returns whether it ended within the limit.
async fn drain(shared: &Shared) -> bool {
    let deadline = shared.limits.timeout.map(|limit| Instant::now() + limit);
    let drain = async {
        shared.work.none().await;
        // From here on, no connection is accepted. One that was accepted just before is still
        // answered.
        shared.advance(Phase::Cleanup);
        shared.work.none().await;
    };
    let drained = within(shared.limits.timeout, drain);
    beside(drained, show(shared, deadline)).await.is_some()
}

/// Records the work that is still running. No work begins after this, and the caller cuts what is
/// recorded, so the report names exactly the work that is cut, except for what ends by itself.
fn seal(shared: &Shared) -> InFlightSnapshot {
    shared.advance(Phase::Sealed);
    shared.work.seal()
}

/// Ends all remaining work, including the hooks and their tasks, and gives it a moment to finish.
async fn cut_all(shared: &Shared, cut_off: &mut CutOff) {
    let (work, cleanup) = (&shared.work, &shared.cleanup.work);
    let was_cut = shared.phase.now() >= Phase::Sealed;
    if !was_cut {
        cut_off.later.push(seal(shared));
    }
    shared.advance(Phase::Over);
    shared.end_out_of_band();
    cut_off.later.push(cleanup.seal());
    cleanup.cut();
    work.cut();
    within(Some(ABORT_GRACE), async {
        cleanup.none().await;
        if !was_cut {
            // Work that was cut earlier has already had its grace.
            work.none().await;
        }
    })
    .await;
}

fn is_left(shared: &Shared) -> bool {
    !shared.work.is_none() || !shared.cleanup.work.is_none()
}

// The progress display of a slow drain.

/// A drain that ends sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the live line is redrawn.
const FRAME: Duration = Duration::from_millis(100);
/// The shortest interval between lines in a log, or between updates to the service manager. A log
/// gets a line only when something has changed.
const LINE: Duration = Duration::from_secs(1);

/// Shows the remaining work until dropped, which wipes the live line.
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
        // The last moments belong to the report.
        let soon = left(deadline).is_some_and(|left| left < PATIENCE);
        if told.as_ref() != Some(&now) && counts != Counts::default() && !soon {
            messages::progress(&shared.log, counts, oldest.as_ref(), left(deadline));
            told = Some(now);
        }
        tokio::time::sleep(LINE).await;
    }
}

/// Shows the same in `systemctl status`.
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

/// Returns `draining: 3 requests, 1 task; oldest: GET /export from 10.0.0.7, 12s; 7.5s left`, short
/// enough for 80 columns in all but the busiest servers. Only the oldest piece of work is
/// formatted.
fn draining(shared: &Shared, deadline: Option<Instant>) -> String {
    let (counts, oldest) = shared.work.overview();
    let time = match left(deadline) {
        Some(left) => format!("{} left", HumanDuration(left)),
        None => "no limit".to_owned(),
    };
    format!("draining: {counts}{}; {time}", Oldest(oldest.as_ref()))
}
