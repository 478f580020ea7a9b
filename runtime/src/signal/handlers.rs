//! How stop signals arrive, and what they do once no run is waiting for them.
//!
//! An installed handler stays for the life of the process (neither tokio nor `signal-hook` can
//! remove one), so what is registered here decides what a signal does after `Config::run`.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use tokio::signal::unix;

use super::Signal;
use crate::util::sync::lock_std;

/// The default action of each signal, suppressed while a run waits for it.
static ACTIONS: [Action; Signal::ALL.len()] = [const { Action::new() }; Signal::ALL.len()];

/// How many runs wait for each signal; the lock also orders changes to the flags.
static WAITING: Mutex<[usize; Signal::ALL.len()]> = Mutex::new([0; Signal::ALL.len()]);

/// Whether the process is ending, by the `Termination` of an `Exit`.
static ENDING: AtomicBool = AtomicBool::new(false);

struct Action {
    registered: AtomicBool,
    /// Whether the signal ends the process at once, with an exit code of 128 plus the signal's
    /// number.
    forces: AtomicBool,
    /// Whether the signal takes its default action.
    default: AtomicBool,
}

impl Action {
    const fn new() -> Self {
        Self {
            registered: AtomicBool::new(false),
            forces: AtomicBool::new(false),
            default: AtomicBool::new(false),
        }
    }

    fn set(&self, forces: bool, default: bool) {
        // In this order, the two are never set at the same time.
        self.forces.store(false, Ordering::SeqCst);
        self.default.store(default, Ordering::SeqCst);
        self.forces.store(forces, Ordering::SeqCst);
    }

    /// To be called with `WAITING` locked.
    fn register(&'static self, signal: Signal) -> io::Result<()> {
        if self.registered.load(Ordering::Relaxed) {
            return Ok(());
        }
        let number = i32::from(signal.number());
        // As without a handler, until `install` is done. The kernel shields process 1 of a
        // container from default actions (`pid_namespaces(7)`), and emulating one would abort it,
        // so it exits.
        let is_init = std::process::id() == 1;
        self.set(is_init, !is_init);
        // The default action first: the signal has a handler from the first registration on, and
        // would be swallowed by one that only looks at `forces`.
        signal_hook::flag::register_conditional_default(number, &self.default)?;
        signal_hook::flag::register_conditional_shutdown(number, 128 + number, &self.forces)?;
        self.registered.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Registers handlers that perform the default action of `signals` until `install`.
///
/// Call this while the process has no other thread. `signal-hook` installs the handler before it
/// records the action, so a signal that arrives in between would be swallowed. The signals are
/// blocked on this thread while that happens. If there are other threads, such as those of a
/// runtime that was built before, that moment remains.
pub(crate) fn prepare(signals: &[Signal]) -> io::Result<()> {
    let ignores = ignores();
    let mut mask = SigSet::empty();
    for &signal in signals {
        mask.add(nix_signal(signal)?);
    }
    let before = mask.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let waiting = lock_std(&WAITING);
    let mut handled = signals.iter().copied().filter(|&signal| !ignores(signal));
    let registered = handled.try_for_each(|signal| ACTIONS[signal.index()].register(signal));
    drop(waiting);
    before.thread_set_mask()?;
    registered
}

fn nix_signal(signal: Signal) -> io::Result<NixSignal> {
    Ok(NixSignal::try_from(i32::from(signal.number()))?)
}

/// The signals of one run. From `install` until this is dropped, none of them has its default
/// action.
#[derive(Debug, Default)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Installs a handler for each signal. Needs the context of the runtime that will wait for
    /// them.
    ///
    /// Signals that were ignored when the process started (`nohup`, `trap ''`, the background jobs
    /// of a shell without job control) stay ignored. Signals that were blocked are unblocked, on
    /// this thread and on the threads that it spawns.
    pub(crate) fn install(signals: &[Signal]) -> io::Result<Self> {
        if signals.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let ignores = ignores();
        let mut all = Self(Vec::with_capacity(signals.len()));
        let mut mask = SigSet::empty();
        for &signal in signals {
            if ignores(signal) {
                continue;
            }
            let action = &ACTIONS[signal.index()];
            let mut waiting = lock_std(&WAITING);
            // The actions of a signal run in the order of their registration. Were the flags read
            // behind tokio's action, a thread that is preempted between the two could read those
            // of the end of the run, and take the first signal for a second one.
            action.register(signal)?;
            let stream = unix::signal(signal.kind())?;
            // The stream exists: only now does the signal lose its default action.
            action.set(false, false);
            waiting[signal.index()] += 1;
            drop(waiting);
            all.0.push((signal, stream));
            mask.add(nix_signal(signal)?);
        }
        // Last, so that a signal that is already pending is delivered to the handlers.
        mask.thread_unblock()?;
        Ok(all)
    }

    /// Waits for the next signal. Never resolves if there are no handlers.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no signal is lost.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.0 {
            if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }

    /// Makes each of these signals end the process at once from here on: no run waits for them any
    /// more, but the process has not been handed back to its `main` yet.
    pub(crate) fn force(&self) {
        let waiting = lock_std(&WAITING);
        for (signal, _) in self.0.iter().filter(|(signal, _)| waiting[signal.index()] == 1) {
            ACTIONS[signal.index()].set(true, false);
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut waiting = lock_std(&WAITING);
        for (signal, _) in &self.0 {
            waiting[signal.index()] -= 1;
            if waiting[signal.index()] == 0 {
                let ending = ENDING.load(Ordering::SeqCst);
                ACTIONS[signal.index()].set(ending, !ending);
            }
        }
    }
}

/// Notes that the process is ending with the code of an `Exit`: a signal that would take its
/// default action now ends the process by `_exit`. The two differ for PID 1 of a container, which
/// the kernel shields from default actions (`pid_namespaces(7)`).
pub(crate) fn process_is_ending() {
    let waiting = lock_std(&WAITING);
    ENDING.store(true, Ordering::SeqCst);
    for action in &ACTIONS {
        if action.default.load(Ordering::SeqCst) {
            action.set(true, false);
        }
    }
    drop(waiting);
}

/// Returns a predicate for signals that the process ignores. This crate never ignores any, so
/// ignored signals were inherited.
#[cfg(target_os = "linux")]
fn ignores() -> impl Fn(Signal) -> bool {
    // Without /proc, this cannot be found out without unsafe code.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = super::Mask::read(&status, "SigIgn:");
    move |signal| ignored.is_some_and(|ignored| ignored.contains(signal))
}

/// Elsewhere, this cannot be found out without unsafe code.
#[cfg(not(target_os = "linux"))]
fn ignores() -> impl Fn(Signal) -> bool {
    |_| false
}
