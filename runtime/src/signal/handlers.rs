//! How stop signals arrive, and what they do once no run waits for them any more.
//!
//! A handler that has been installed stays for the life of the process (neither tokio nor
//! `signal-hook` can remove one), so what a signal does after `Config::run` is decided by what is
//! registered here.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use tokio::signal::unix;

use super::Signal;
use crate::util::sync::lock_std;

/// The default action of each signal, suppressed while a run waits for it.
static ACTIONS: [Action; Signal::ALL.len()] = [const { Action::new() }; Signal::ALL.len()];

/// How many runs wait for each signal; the lock also orders changes of the flags.
static WAITING: Mutex<[usize; Signal::ALL.len()]> = Mutex::new([0; Signal::ALL.len()]);

/// Whether the process is on its way out, by the `Termination` of an `Exit`.
static ENDING: AtomicBool = AtomicBool::new(false);

struct Action {
    registered: AtomicBool,
    /// Ends the process at once, with 128 more than the signal's number.
    forces: AtomicBool,
    /// Does what the signal does in a program that knows nothing of it.
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
        // In this order there is no moment in which both are set.
        self.forces.store(false, Ordering::SeqCst);
        self.default.store(default, Ordering::SeqCst);
        self.forces.store(forces, Ordering::SeqCst);
    }

    fn register(&'static self, signal: Signal) -> io::Result<()> {
        if self.registered.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let number = i32::from(signal.number());
        // First this one: the default action of most signals ends the process.
        signal_hook::flag::register_conditional_shutdown(number, 128 + number, &self.forces)?;
        signal_hook::flag::register_conditional_default(number, &self.default)?;
        Ok(())
    }
}

/// The signals of one run. From `install` on none of them has its default action, until this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Installs a handler for each signal, now. Needs the context of the runtime that will wait.
    ///
    /// Signals that were ignored when the process began (`nohup`, `trap ''`, the background jobs of
    /// a shell without job control) stay ignored. Signals that were blocked are unblocked, on this
    /// thread and on the threads that it starts.
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
            // In this order: the stream is there before the signal loses its action.
            let stream = unix::signal(signal.kind())?;
            action.register(signal)?;
            action.set(false, false);
            waiting[signal.index()] += 1;
            drop(waiting);
            all.0.push((signal, stream));
            mask.add(NixSignal::try_from(i32::from(signal.number()))?);
        }
        // Last: a signal that has been pending all the while is delivered to the handlers.
        mask.thread_unblock()?;
        Ok(all)
    }

    /// The next signal; never, where there are no handlers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no signal is lost.
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

    /// From here on each of them ends the process at once: no run waits for them any more, and the
    /// process has not been handed back to its `main` yet.
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

/// The process is on its way out with the code of an `Exit`: a signal that would take its default
/// action now ends the process by `_exit`. The two differ for the first process of a container,
/// which the kernel shields from default actions (`pid_namespaces(7)`).
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

/// Whether the process ignores a signal. This crate never has it ignore any, so that was inherited.
#[cfg(target_os = "linux")]
fn ignores() -> impl Fn(Signal) -> bool {
    // Where there is no /proc, there is no telling without unsafe code.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = super::Mask::read(&status, "SigIgn:");
    move |signal| ignored.is_some_and(|ignored| ignored.contains(signal))
}

/// Elsewhere there is no telling without unsafe code.
#[cfg(not(target_os = "linux"))]
fn ignores() -> impl Fn(Signal) -> bool {
    |_| false
}
