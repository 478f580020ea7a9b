//! The sentinel: an OS thread with its own runtime, which owns the signals and every limit, so that
//! neither depends on a free worker thread.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    exit::{Exit, Watch, exit_now},
    hooks::Kept,
    limits::Limits,
    messages,
    phase::Phase,
    report::{Cause, Report},
    run_hooks::Adopt,
    sequence::{self, CutOff, Waits},
    shared::{Event, Shared},
};
use crate::{
    log::Log,
    signal::{Signal, Signals},
    util::{
        Failure, First, beside, race,
        threads::{self, Received},
        within,
    },
};

/// Stop signals within this time of the first count as the same signal: terminals and supervisors
/// often deliver a signal twice, and systemd's `SendSIGHUP=yes` sends SIGHUP right after SIGTERM
/// (systemd.kill(5)).
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How long each of the last messages may take if the limits are used up, or a second signal has
/// arrived.
pub(super) const FLUSH_GRACE: Duration = Duration::from_millis(15);

/// How a run has ended, and what is left to do.
pub(crate) struct Ended {
    pub(crate) report: Report,
    /// Whether some of the work that was cut is still running.
    pub(crate) left_behind: bool,
    /// The deadline of the last steps of the process; `None` means no limit.
    pub(crate) until: Option<Instant>,
    /// Signals have their default actions again once these are dropped.
    pub(crate) signals: Signals,
    /// Those that stop nothing.
    pub(crate) asides: Signals,
    /// Until when a stop signal counts as a repeat of the first one.
    pub(crate) settled: Option<Instant>,
    pub(crate) kept: Arc<Kept>,
    log: Log,
}

/// The signals of a run, by what they do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meanings<'a> {
    /// Stop the program.
    pub(crate) stop: &'a [Signal],
    /// Print what is in flight.
    pub(crate) dump: &'a [Signal],
    /// Make the program a lame duck, or end that.
    pub(crate) lame_duck: &'a [Signal],
}

/// Starts the thread. The handlers are installed when this returns. `end` is called on the
/// sentinel's thread once everything is over.
///
/// # Errors
///
/// Returns an error if a signal handler cannot be installed, or a thread or its runtime cannot be
/// created.
pub(crate) fn spawn(
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    meanings: Meanings<'_>,
    adopt: Adopt,
    companion: impl FnOnce(Arc<Shared>) -> io::Result<Option<Companion>>,
    end: impl FnOnce(Ended) + Send + 'static,
) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().enable_io().build()?;
    let lame_duck = meanings.lame_duck.to_vec();
    let (signals, mut asides, companion) = {
        let _context = runtime.enter();
        let companion = companion(shared.clone())?;
        let asides = [meanings.dump, meanings.lame_duck].concat();
        (Signals::install(meanings.stop)?, Signals::install(&asides)?, companion)
    };
    let (companion, before_stop) =
        companion.map(|companion| (companion.run, companion.before_stop)).unzip();
    let sentinel = Sentinel { shared: shared.clone(), events, signals, adopt, before_stop };
    threads::spawn("graceful-sentinel", move || {
        let run = beside(sentinel.run(), feed_watchdog(&shared));
        #[cfg(feature = "metrics")]
        let run = beside(run, super::figures::publish_regularly(&shared));
        let run = beside(run, answer_asides(&shared, &mut asides, &lame_duck));
        #[cfg(feature = "http1")]
        let run = beside(run, shared.work.sweep_idle(|idle| shared.sweep_out_of_band(idle)));
        let mut ended = runtime.block_on(accompanied(run, companion));
        ended.asides = asides;
        drop(shared);
        end(ended);
    })
}

/// What else runs on the sentinel's thread.
pub(crate) struct Companion {
    /// Runs until the phase is `Over`, and a moment longer.
    pub(crate) run: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Called before a stop that nobody has taken over begins: before any phase says so.
    pub(crate) before_stop: BeforeStop,
}

pub(crate) type BeforeStop = Box<dyn FnOnce(&Shared) + Send>;

/// Runs `run` to its end, and `companion` beside it.
async fn accompanied(
    run: impl Future<Output = Ended>,
    mut companion: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
) -> Ended {
    let mut run = pin!(run);
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = run.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if companion.as_mut().is_some_and(|companion| companion.as_mut().poll(cx).is_ready()) {
            companion = None;
        }
        Poll::Pending
    })
    .await;
    if let Some(companion) = companion {
        // Its last words: the others know then that this is the end.
        within(Some(FLUSH_GRACE), companion).await;
    }
    ended
}

struct Sentinel {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    signals: Signals,
    adopt: Adopt,
    before_stop: Option<BeforeStop>,
}

#[derive(Default)]
struct Problems {
    failures: Vec<Failure>,
    panicked: bool,
}

impl Sentinel {
    async fn run(mut self) -> Ended {
        let mut problems = Problems::default();
        let cause = self.serve(&mut problems).await;
        let started = Instant::now();
        let Self { shared, mut events, mut signals, adopt, before_stop } = self;
        let limits = shared.limits;
        let ready = shared.phase.is_serving();
        let waits = cause.waits(ready, &limits);
        let delay = waits.delay;
        // A failure before there was anything to drain has been logged; there is nothing to add.
        let in_silence = match cause {
            Cause::Finished => true,
            Cause::Failed | Cause::Panicked => !ready && shared.work.counts().is_nothing(),
            _ => false,
        };
        // In this order, so that the drain has begun when the message says so.
        if let (Cause::Signal(_) | Cause::Stop, true, Some(before_stop)) =
            (&cause, ready, before_stop)
        {
            before_stop(&shared);
        }
        sequence::begin(&shared, &cause, delay);
        if !in_silence {
            messages::stopping(&shared.log, &cause, delay, limits.timeout);
        }
        // A failure has been reported already.
        let told = in_silence || cause == Cause::Failed;
        let status = (!told).then(|| cause.to_string());
        shared.manager.stopping(status.as_deref(), stop_time(&limits, delay));
        let mut first = match cause {
            Cause::Signal(_) => Some(started),
            _ => None,
        };
        let mut cut_off = CutOff::default();
        let stop = sequence::stop(&shared, adopt, waits, &mut cut_off);
        let stop = beside(stop, absorb(&shared, &mut events, &mut problems));
        let stop = beside(stop, ask_for_time(&shared));
        let outcome = race(forced(&shared, &mut signals, &mut first), stop).await;
        let (forced_by, stopped) = match outcome {
            First::Left(signal) => {
                sequence::now(&shared, adopt, &mut cut_off).await;
                (Some(signal), (true, Some(Instant::now())))
            }
            First::Right(stopped) => (None, stopped),
        };
        let (left_behind, until) = stopped;
        // Events that were sent at the very last moment.
        while let Ok(event) = events.try_recv() {
            problems.note(&shared, event);
        }
        let (mut cut, reached) = cut_off.names();
        cut.extend(shared.turns.take_cut());
        let mut report = Report {
            cause,
            elapsed: started.elapsed(),
            limit: limits.timeout,
            cleanup: limits.cleanup,
            drained: shared.work.drained(),
            handed_over: shared.work.moved(),
            last: shared.work.last(),
            cut,
            reached,
            failures: problems.failures,
            panicked: problems.panicked,
            forced: forced_by,
        };
        if !in_silence || !report.cut.is_empty() || report.forced.is_some() {
            messages::ended(&shared.log, &report);
        }
        match report.failures.first() {
            // The line a person looks for.
            Some(failure) => shared.manager.status(&failure.to_string()),
            None if in_silence => {}
            None => shared.manager.status(&report.line()),
        }
        let said = async {
            // Do not wait for a manager that does not read.
            shared.manager.sent(FLUSH_GRACE).await;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            within(left.map(|left| left.max(FLUSH_GRACE)), shared.log.close()).await;
        };
        if report.forced.is_some() {
            said.await;
        } else if let First::Left(signal) =
            race(forced(&shared, &mut signals, &mut first), said).await
        {
            report.forced = Some(signal);
        }
        // The report has to get out even if the log thread is still waiting for a CPU.
        shared.log.flush(FLUSH_GRACE);
        let settled = first.map(|first| first + DEBOUNCE);
        let (kept, log) = (shared.kept.clone(), shared.log.clone());
        Ended {
            report,
            left_behind,
            until,
            signals,
            asides: Signals::default(),
            settled,
            kept,
            log,
        }
    }

    /// Waits until something starts the drain. Notes that, and what else has been sent by then.
    async fn serve(&mut self, problems: &mut Problems) -> Cause {
        #[cfg_attr(not(feature = "handover"), allow(unused_mut, reason = "only by an upgrade"))]
        let mut cause = match race(self.events.recv(), self.signals.next()).await {
            First::Left(event) => {
                // `Shared` holds a sender, so the channel is never closed.
                let event = event.unwrap_or(Event::Stop);
                let cause = Cause::of(&event);
                problems.note(&self.shared, event);
                cause
            }
            First::Right(signal) => Cause::Signal(signal),
        };
        while let Ok(event) = self.events.try_recv() {
            // Whatever else it was: the next process has the listeners.
            #[cfg(feature = "handover")]
            if let Event::Upgraded(_) = event {
                cause = Cause::of(&event);
            }
            problems.note(&self.shared, event);
        }
        cause
    }
}

impl Cause {
    fn of(event: &Event) -> Self {
        match *event {
            Event::Stop => Self::Stop,
            Event::Finished => Self::Finished,
            #[cfg(feature = "handover")]
            Event::Upgraded(process) => Self::Upgraded(process),
            Event::Failed(_) => Self::Failed,
            Event::Panicked => Self::Panicked,
        }
    }

    /// Returns how long the stop waits for others. There is no delay if there are no clients to
    /// notify, and no wait for a scrape if there was no service, or if the next process has the
    /// port.
    fn waits(&self, ready: bool, limits: &Limits) -> Waits {
        let Limits { delay, scrape, .. } = *limits;
        match self {
            Self::Upgraded(_) => Waits { delay: Duration::ZERO, scrape: Duration::ZERO },
            _ if !ready => Waits { delay: Duration::ZERO, scrape: Duration::ZERO },
            Self::Finished => Waits { delay: Duration::ZERO, scrape },
            _ => Waits { delay, scrape },
        }
    }
}

impl Problems {
    fn note(&mut self, shared: &Shared, event: Event) {
        match event {
            Event::Failed(failure) => {
                shared.log.failed(&failure);
                shared.manager.status(&failure.to_string());
                self.failures.push(failure);
            }
            Event::Panicked => self.panicked = true,
            Event::Stop | Event::Finished => {}
            #[cfg(feature = "handover")]
            Event::Upgraded(_) => {}
        }
    }
}

/// Resolves with the signal that forces the end: the second one, unless it is a repeat of the
/// first.
async fn forced(shared: &Shared, signals: &mut Signals, first: &mut Option<Instant>) -> Signal {
    loop {
        let signal = signals.next().await;
        match first {
            // The program was stopping by itself: this is the first signal.
            None => {
                messages::already_stopping(&shared.log, signal);
                *first = Some(Instant::now());
            }
            Some(at) if at.elapsed() < DEBOUNCE => {}
            Some(_) => return signal,
        }
    }
}

/// Notes the events that arrive during the stop.
async fn absorb(
    shared: &Shared,
    events: &mut mpsc::UnboundedReceiver<Event>,
    problems: &mut Problems,
) -> std::convert::Infallible {
    loop {
        match events.recv().await {
            Some(event) => problems.note(shared, event),
            None => std::future::pending().await,
        }
    }
}

// The time that a stop takes, as reported to the service manager.

/// Slack for the steps after the limits, on a busy machine.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// In a stop without a limit: how long the manager waits for the next message, and how often it
/// gets one.
const WORD: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(2);

/// Returns how long a stop takes at most; `None` means no limit.
pub(super) fn stop_time(limits: &Limits, delay: Duration) -> Option<Duration> {
    Some(Limits { delay, ..*limits }.total()? + LAST_STEPS)
}

/// Asks for more time, again and again, during a stop without a limit.
pub(super) async fn ask_for_time(shared: &Shared) -> Infallible {
    if !shared.manager.is_there() || stop_time(&shared.limits, Duration::ZERO).is_some() {
        return pending().await;
    }
    loop {
        shared.manager.extend(WORD);
        tokio::time::sleep(EVERY).await;
    }
}

// The watchdog of the service manager.

/// Feeds the watchdog, twice per period (`sd_watchdog_enabled(3)`). Before the stop, it does so
/// only after a task has run on the program's runtime: a busy runtime runs it late, one whose
/// threads are all blocked never does. During a stop, the limits cover that case.
pub(super) async fn feed_watchdog(shared: &Shared) -> Infallible {
    let Some(period) = shared.manager.watchdog() else {
        return pending().await;
    };
    loop {
        tokio::time::sleep(period / 2).await;
        let stopping = shared.phase.reached(Phase::Stopping);
        let turn = shared.runtime().spawn(ready(()));
        let _ = race(stopping, turn).await;
        shared.manager.alive();
    }
}

// The signals that stop nothing.

/// Logs what is in flight at each of `signals`, for as long as the sentinel runs; those of
/// `lame_duck` make the program one, or end that.
async fn answer_asides(
    shared: &Arc<Shared>,
    signals: &mut Signals,
    lame_duck: &[Signal],
) -> Infallible {
    loop {
        let signal = signals.next().await;
        if lame_duck.contains(&signal) {
            shared.set_lame_duck(None);
        } else {
            messages::in_flight(shared, signal);
        }
    }
}

// The last step of the sentinel: it releases the main thread, and ends the process if that thread
// does not finish.

/// The least time granted to the main thread to drop the runtime. If it is stuck in the program's
/// code, the sentinel ends the process.
const TEARDOWN: Duration = Duration::from_millis(15);

/// Releases the main thread: sends to `report`, and to `over_to` the exit and whether something was
/// left behind. Then waits for `released` to hang up. If that takes too long, logs the kept values
/// that are left behind, and ends the process. `tearing_down` hangs up when the signals are
/// settled.
pub(crate) fn teardown(
    ended: Ended,
    report: oneshot::Sender<Report>,
    over_to: threads::Sender<(Exit, bool)>,
    mut released: threads::Receiver<()>,
    tearing_down: threads::Sender<()>,
) {
    let Ended { report: told, left_behind, until, signals, asides, settled, kept, log } = ended;
    // The default action of these signals would kill a process that is ending well.
    std::mem::forget(asides);
    let now = Instant::now();
    let rest = until.map(|until| until.saturating_duration_since(now));
    let exit = Exit::new(told.code(), rest);
    // If something was left behind, the main thread may be stuck in it.
    let patience = match until {
        _ if left_behind => Some(now + TEARDOWN),
        until => until.map(|until| until.max(now + TEARDOWN)),
    };
    // Claimed now, so that no thread has to be created for it at the very end.
    let watch = Watch::claim();
    let settled = settled.filter(|&settled| settled > now);
    let mut tearing_down = Some(tearing_down);
    if settled.is_some() {
        // The main thread does not wait for the signals to settle.
        tearing_down = None;
    } else {
        signals.force();
    }
    // `run` is waiting for both.
    over_to.send((exit, left_behind));
    let _ = report.send(told);
    let first = settled.into_iter().chain(patience).min();
    let mut is_released = wait(&mut released, first);
    if !is_released && settled.is_some() && settled == first {
        signals.force();
        is_released = wait(&mut released, patience);
    }
    if !is_released {
        messages::left_behind(&log, &kept.left());
        log.flush(FLUSH_GRACE);
        exit_now(exit.code());
    }
    let signals = settled.map(|settled| (settled, signals));
    drop(tearing_down);
    if let Some(watch) = watch {
        watch.stand(signals);
    } else if let Some((settled, signals)) = signals {
        std::thread::sleep(settled.saturating_duration_since(Instant::now()));
        drop(signals);
    }
}

/// Waits for the main thread until `until`. Returns whether it has finished.
fn wait(released: &mut threads::Receiver<()>, until: Option<Instant>) -> bool {
    // Nothing is ever sent: the main thread hangs up at its end.
    released.until(until) != Received::Nothing
}

#[cfg(all(test, unix, feature = "handover", not(graceful_loom)))]
mod tests {
    use super::*;
    use crate::{context::Handle, stop::Limits};

    /// A signal that comes in the moment of an upgrade does not undo it.
    #[tokio::test]
    async fn the_next_process_serves_whatever_signal_comes_with_it() {
        let signals = Signals::install(&[Signal::SIGWINCH]).unwrap();
        let (tell, events) = mpsc::unbounded_channel();
        let shared = Handle::for_test(Limits::NONE).shared().clone();
        let mut sentinel =
            Sentinel { shared, events, signals, adopt: |_, _| {}, before_stop: None };
        let mut signalled = Signals::install(&[Signal::SIGWINCH]).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::WINCH)
            .unwrap();
        // It is there for the sentinel as well.
        signalled.next().await;
        tell.send(Event::Upgraded(7)).unwrap_or_else(|_| unreachable!("the sentinel has it"));
        let cause = sentinel.serve(&mut Problems::default()).await;
        assert_eq!(cause, Cause::Upgraded(7));
    }
}
