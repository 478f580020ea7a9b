//! A stop, step by step: lame duck, drain, cut, cleanup.

use std::time::{Duration, Instant};

use crate::{
    cleanup,
    handle::Handle,
    in_flight::InFlight,
    phase::Phase,
    progress,
    race::{First, race, within},
    work::Named,
};

/// How long what was cut may take to let go, before the hooks run or the process ends: futures are
/// dropped where they are not being polled; what blocks a thread never lets go.
pub(crate) const LET_GO: Duration = Duration::from_millis(10);

/// What a stop cuts off. It outlives the stop, which a second signal may end at any point.
#[derive(Default)]
pub(crate) struct CutOff {
    named: Vec<Named>,
    hooks: Vec<InFlight>,
}

impl CutOff {
    /// All of it, but for what has come to its end by itself since it was named.
    pub(crate) fn names(self) -> Vec<InFlight> {
        let work = self.named.into_iter().flat_map(Named::without_ended);
        work.chain(self.hooks).collect()
    }
}

/// How a stop has ended.
pub(crate) struct Stopped {
    /// Whether something that was cut has not let go.
    pub(crate) left_behind: bool,
    /// When the limit of the cleanup is reached; the last steps of the process have until then.
    pub(crate) until: Option<Instant>,
}

/// The first step: not ready any more; and where there is no lame duck, the drain, before anybody reads of it.
pub(crate) fn begin(handle: &Handle, delay: Duration) {
    handle.shared().phase.advance(Phase::Stopping);
    if delay.is_zero() {
        begin_drain(handle);
    }
}

fn begin_drain(handle: &Handle) {
    let shared = handle.shared();
    // The only one who sets it, and once: it comes with the phase.
    let _ = shared.drain_started.set(Instant::now());
    shared.phase.advance(Phase::Draining);
    shared.work.drain();
}

/// The whole way, from the first step on.
pub(crate) async fn stop(handle: &Handle, delay: Duration, cut_off: &mut CutOff) -> Stopped {
    let shared = handle.shared();
    if !delay.is_zero() {
        // With nothing left to serve there is nobody to be a lame duck for.
        within(Some(delay), shared.work.none()).await;
        begin_drain(handle);
    }
    let drained = drain(handle).await;
    if !drained {
        name_work(handle, cut_off);
        shared.phase.advance(Phase::Cut);
        shared.work.cut();
        within(Some(LET_GO), shared.work.none()).await;
    }
    let started = Instant::now();
    let until = shared.limits.cleanup.map(|limit| started + limit);
    let left = || until.map(|until| until.saturating_duration_since(Instant::now()));
    let mut hooks = cleanup::start(handle);
    let have_run = match &mut hooks {
        Some(hooks) => within(left(), hooks.ended()).await,
        None => Some(true),
    };
    if have_run.is_some() {
        // What hooks have spawned; and a task that nobody waited for may have begun work that is.
        let left_over = async {
            shared.cleanup.work.none().await;
            if drained {
                shared.work.none().await;
            }
        };
        within(left(), left_over).await;
    }
    let let_go = Instant::now() + LET_GO;
    cut_all(handle, cut_off).await;
    let mut left_behind = is_left(handle);
    if have_run != Some(true) {
        cut_off.hooks.extend(shared.hooks.give_up(handle));
    }
    if let (None, Some(mut hooks)) = (have_run, hooks) {
        if hooks.is_program_blocked() {
            shared.log.program_blocked();
        }
        let left = let_go.saturating_duration_since(Instant::now());
        left_behind |= within(Some(left), hooks.ended()).await.is_none();
    }
    Stopped { left_behind, until }
}

/// A second signal: everything ends, whatever the stop was at.
pub(crate) async fn now(handle: &Handle, cut_off: &mut CutOff) {
    cut_all(handle, cut_off).await;
    let hooks = handle.shared().hooks.give_up(handle);
    cut_off.hooks.extend(hooks.into_iter().filter(InFlight::has_begun));
}

/// Returns whether all work has come to its end within the limit.
async fn drain(handle: &Handle) -> bool {
    let shared = handle.shared();
    let deadline = shared.limits.timeout.map(|limit| Instant::now() + limit);
    let drain = async {
        shared.work.none().await;
        // From here on nobody is let in any more. Who has just been is still answered.
        shared.phase.advance(Phase::Cleanup);
        shared.work.none().await;
    };
    let drained = within(shared.limits.timeout, drain);
    match race(drained, progress::show(handle, deadline)).await {
        First::Left(drained) => drained.is_some(),
        First::Right(never) => match never {},
    }
}

/// Names the work that is still under way. Before that, nothing begins any more; after it, what has been named is
/// ended: so what is named is what is cut, but for what comes to its end by itself.
fn name_work(handle: &Handle, cut_off: &mut CutOff) {
    let shared = handle.shared();
    shared.phase.advance(Phase::Sealed);
    cut_off.named.push(shared.work.named());
}

/// Ends what is left, the hooks and what they have spawned among it, and gives it a moment to let go.
async fn cut_all(handle: &Handle, cut_off: &mut CutOff) {
    let shared = handle.shared();
    let (work, cleanup) = (&shared.work, &shared.cleanup.work);
    let was_cut = shared.phase.now() >= Phase::Sealed;
    if !was_cut {
        name_work(handle, cut_off);
    }
    shared.phase.advance(Phase::Over);
    cut_off.named.push(cleanup.named());
    cleanup.cut();
    work.cut();
    within(Some(LET_GO), async {
        cleanup.none().await;
        if !was_cut {
            // What has not let go by now had its moment.
            work.none().await;
        }
    })
    .await;
}

fn is_left(handle: &Handle) -> bool {
    let shared = handle.shared();
    !shared.work.is_none() || !shared.cleanup.work.is_none()
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use std::{sync::Arc, time::Instant};

    use loom::thread;

    use super::{CutOff, name_work};
    use crate::{
        context::Place,
        handle::Handle,
        in_flight::InFlight,
        limits::Limits,
        work::{Kind, Piece},
    };

    /// A task, as far as the table is concerned.
    struct Task;

    impl Piece for Task {
        fn describe(&self, _: Instant, out: &mut Vec<InFlight>) {
            out.push(InFlight::Main { age: std::time::Duration::ZERO, asked: true });
        }

        fn kind(&self) -> Kind {
            Kind::Task
        }

        fn has_ended(&self) -> bool {
            false
        }
    }

    /// A task is spawned while the limit is reached: it is named, or it does not begin.
    #[test]
    fn loom_what_begins_at_the_limit_is_named_or_turned_away() {
        loom::model(|| {
            let handle = Handle::for_test(Limits {
                timeout: None,
                delay: std::time::Duration::ZERO,
                linger: std::time::Duration::ZERO,
                cleanup: None,
            });
            let spawning = {
                let handle = handle.clone();
                thread::spawn(move || {
                    let key = handle.shared().work.add(Arc::new(Task));
                    let begins = !handle.shared().is_cut(Place::Program);
                    (key, begins)
                })
            };
            let mut cut_off = CutOff::default();
            name_work(&handle, &mut cut_off);
            let (key, begins) = spawning.join().unwrap();
            assert!(!begins || cut_off.names().len() == 1, "begun, and not named");
            handle.shared().finished(key, Kind::Task);
        });
    }
}
