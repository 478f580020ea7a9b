//! The sentinel: an OS thread with a runtime of its own, which owns the signals and every limit, so
//! that neither depends on a worker thread being free.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    failure::Failure,
    handle::Handle,
    hooks,
    in_flight::InFlight,
    phase::Phase,
    progress,
    race::{First, race, within},
    report::{Cause, Report},
    signal::{Signal, Signals},
};

/// Stop signals within this time of the first count as one with it: terminals and supervisors often deliver
/// one twice, and systemd's `SendSIGHUP=yes` sends SIGHUP right behind SIGTERM (systemd.kill(5)).
const BOUNCE: Duration = Duration::from_millis(200);

/// How long what was cut may take to let go, before the hooks run or the process ends: futures are
/// dropped where they are not being polled; what blocks a thread never lets go.
const LET_GO: Duration = Duration::from_millis(10);

/// How long the last messages may take: a full pipe must not hold the exit.
const LAST_WORDS: Duration = Duration::from_millis(15);

/// What the rest of the crate tells the sentinel.
#[derive(Debug)]
pub(crate) enum Event {
    /// Every listener is bound.
    Serving,
    /// The program calls for the drain.
    Stop,
    /// `main` or a server failed.
    Failed(Failure),
    /// `main` panicked.
    Panicked,
    /// `main` and every server have come to an end.
    Finished,
}

/// Starts the thread. The handlers are installed when this returns; `end` is called with the report,
/// on the sentinel's thread, once everything is over.
///
/// # Errors
///
/// If a signal's handler cannot be installed, or a thread or its runtime cannot be made.
pub(crate) fn spawn(
    handle: Handle,
    events: mpsc::UnboundedReceiver<Event>,
    signals: &[Signal],
    end: impl FnOnce(Report) + Send + 'static,
) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().enable_io().build()?;
    let signals = {
        let _context = runtime.enter();
        Signals::install(signals)?
    };
    let thread = std::thread::Builder::new().name("graceful-sentinel".to_owned());
    let sentinel = Sentinel { handle, events, signals };
    thread.spawn(move || end(runtime.block_on(sentinel.run())))?;
    Ok(())
}

struct Sentinel {
    handle: Handle,
    events: mpsc::UnboundedReceiver<Event>,
    signals: Signals,
}

/// What has gone wrong so far.
#[derive(Default)]
struct Trouble {
    failures: Vec<Failure>,
    panicked: bool,
}

impl Sentinel {
    async fn run(mut self) -> Report {
        let mut trouble = Trouble::default();
        let cause = self.serve(&mut trouble).await;
        let started = Instant::now();
        let Self { handle, mut events, mut signals } = self;
        let shared = handle.shared();
        let limits = shared.limits;
        // What was told before the cause came, such as that every listener is bound.
        while let Ok(event) = events.try_recv() {
            trouble.note(&handle, event);
        }
        let ready = shared.phase.now() == Phase::Serving;
        // Those that already know have no lame duck: nobody is served who could be told.
        let delay = match cause {
            Cause::Finished => Duration::ZERO,
            _ if ready => limits.delay,
            _ => Duration::ZERO,
        };
        shared.phase.advance(Phase::Stopping);
        if cause != Cause::Finished {
            shared.log.stopping(&cause, delay, limits.timeout);
        }
        let first = match cause {
            Cause::Signal(_) => Some(started),
            _ => None,
        };
        let mut cut = Vec::new();
        let outcome = race(
            forced(&handle, &mut signals, first),
            race(absorb(&handle, &mut events, &mut trouble), stop(&handle, delay, &mut cut)),
        )
        .await;
        let forced = match outcome {
            First::Left(signal) => {
                cut.extend(shared.hooks.give_up().into_iter().filter(InFlight::has_begun));
                cut.extend(self::cut(&handle).await);
                Some(signal)
            }
            First::Right(First::Left(never)) => match never {},
            First::Right(First::Right(())) => None,
        };
        // What was told in the very last moment.
        while let Ok(event) = events.try_recv() {
            trouble.note(&handle, event);
        }
        shared.phase.advance(Phase::Over);
        let report = Report {
            cause,
            elapsed: started.elapsed(),
            limit: limits.timeout,
            cleanup: limits.cleanup,
            connections: shared.drained.connections.load(Ordering::Relaxed),
            requests: shared.drained.requests.load(Ordering::Relaxed),
            tasks: shared.drained.tasks.load(Ordering::Relaxed),
            cut,
            failures: trouble.failures,
            panicked: trouble.panicked,
            forced,
        };
        if report.cause != Cause::Finished || !report.cut.is_empty() {
            shared.log.ended(&report);
        }
        shared.log.flush(LAST_WORDS);
        report
    }

    /// Until something starts the drain.
    async fn serve(&mut self, trouble: &mut Trouble) -> Cause {
        loop {
            let event = match race(self.signals.next(), self.events.recv()).await {
                First::Left(signal) => return Cause::Signal(signal),
                // The handle of this sentinel holds a sender: the channel is never closed.
                First::Right(event) => event.unwrap_or(Event::Stop),
            };
            match event {
                Event::Serving => trouble.note(&self.handle, event),
                Event::Stop => return Cause::Stop,
                Event::Finished => return Cause::Finished,
                Event::Failed(_) => {
                    trouble.note(&self.handle, event);
                    return Cause::Failed;
                }
                Event::Panicked => {
                    trouble.note(&self.handle, event);
                    return Cause::Panicked;
                }
            }
        }
    }
}

impl Trouble {
    fn note(&mut self, handle: &Handle, event: Event) {
        match event {
            Event::Failed(failure) => {
                handle.shared().log.failed(&failure);
                self.failures.push(failure);
            }
            Event::Panicked => self.panicked = true,
            // Too late for that once the stop has begun: no phase is passed backwards.
            Event::Serving => handle.shared().phase.advance(Phase::Serving),
            Event::Stop | Event::Finished => {}
        }
    }
}

/// Lame duck, drain, cut, cleanup. What is cut is added to `all_cut`, which outlives this future.
async fn stop(handle: &Handle, delay: Duration, all_cut: &mut Vec<InFlight>) {
    let shared = handle.shared();
    if !delay.is_zero() {
        // With nothing left to serve there is nobody to be a lame duck for.
        within(Some(delay), shared.work.none()).await;
    }
    // The only one who sets it.
    let _ = shared.drain_started.set(Instant::now());
    shared.phase.advance(Phase::Draining);
    shared.work.drain();
    let deadline = shared.limits.timeout.map(|limit| Instant::now() + limit);
    let drain = async {
        shared.work.none().await;
        // From here on nobody is let in any more. Who has just been is still answered.
        shared.phase.advance(Phase::Cleanup);
        shared.work.none().await;
    };
    let drained = within(shared.limits.timeout, drain);
    let drained = match race(drained, progress::show(handle, deadline)).await {
        First::Left(drained) => drained.is_some(),
        First::Right(never) => match never {},
    };
    if !drained {
        all_cut.extend(cut(handle).await);
    }
    let started = Instant::now();
    let limit = shared.limits.cleanup;
    all_cut.extend(hooks::run(handle, limit).await);
    if drained && !shared.work.is_none() {
        // A hook has left work of its own behind.
        let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        if within(left, shared.work.none()).await.is_none() {
            all_cut.extend(cut(handle).await);
        }
    }
}

/// Names what still runs, ends it, and gives it a moment to let go.
async fn cut(handle: &Handle) -> Vec<InFlight> {
    let shared = handle.shared();
    let mut in_flight = shared.work.in_flight();
    // Quiet connections are closed without anybody missing anything.
    in_flight.retain(|work| !work.is_idle());
    shared.phase.advance(Phase::Cut);
    shared.work.cut();
    within(Some(LET_GO), shared.work.none()).await;
    in_flight
}

/// Resolves with the signal that means "now": the second one, unless it belongs to the first.
async fn forced(handle: &Handle, signals: &mut Signals, mut first: Option<Instant>) -> Signal {
    loop {
        let signal = signals.next().await;
        match first {
            // The program was stopping by itself: this is the first signal.
            None => {
                handle.shared().log.already_stopping(signal);
                first = Some(Instant::now());
            }
            Some(at) if at.elapsed() < BOUNCE => {}
            Some(_) => return signal,
        }
    }
}

/// Notes what is told while the stop is under way.
async fn absorb(
    handle: &Handle,
    events: &mut mpsc::UnboundedReceiver<Event>,
    trouble: &mut Trouble,
) -> std::convert::Infallible {
    loop {
        match events.recv().await {
            Some(event) => trouble.note(handle, event),
            None => std::future::pending().await,
        }
    }
}
