//! The last thing that the sentinel does: lets the main thread go, and ends the process if that
//! does not come to its end.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    exit::{Exit, Watch, exit_now},
    hooks::Kept,
    messages,
    report::Report,
    sentinel::{Ended, FLUSH_GRACE},
};
use crate::log::Log;

/// How long the main thread may take to let go of the runtime at least. If it is stuck in the
/// program's code, the sentinel ends the process.
const TEARDOWN: Duration = Duration::from_millis(15);

/// What the sentinel tells the main thread.
pub(crate) struct ProcessEnd {
    pub(crate) exit: Exit,
    pub(crate) left_behind: bool,
}

/// Lets the main thread go: sends `report` and `over_to`, then waits for `released` to hang up, and
/// ends the process if that takes too long, after a word about what of `kept` is left behind then.
/// `tearing_down` hangs up when the signals are settled.
pub(crate) fn teardown(
    ended: Ended,
    log: &Log,
    kept: &Kept,
    report: oneshot::Sender<Report>,
    over_to: &mpsc::Sender<ProcessEnd>,
    released: &mpsc::Receiver<()>,
    tearing_down: mpsc::Sender<()>,
) {
    let Ended { report: told, left_behind, until, signals, settled } = ended;
    let now = Instant::now();
    let rest = until.map(|until| until.saturating_duration_since(now));
    let exit = Exit::new(told.code(), rest);
    // Where something was left behind, this thread may be what it is stuck in.
    let patience = match until {
        _ if left_behind => Some(now + TEARDOWN),
        until => until.map(|until| until.max(now + TEARDOWN)),
    };
    // Claimed now, so that no thread has to be made for it at the very end.
    let watch = Watch::claim();
    let settled = settled.filter(|&settled| settled > now);
    let mut tearing_down = Some(tearing_down);
    if settled.is_some() {
        // Not waited for.
        tearing_down = None;
    } else {
        signals.force();
    }
    // `run` is waiting for both.
    let _ = over_to.send(ProcessEnd { exit, left_behind });
    let _ = report.send(told);
    let first = settled.into_iter().chain(patience).min();
    let mut is_released = wait(released, first);
    if !is_released && settled.is_some() && settled == first {
        signals.force();
        is_released = wait(released, patience);
    }
    if !is_released {
        messages::left_behind(log, &kept.left());
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

/// Whether the main thread has let go by `until`.
fn wait(released: &mpsc::Receiver<()>, until: Option<Instant>) -> bool {
    let ended = match until {
        None => released.recv().map_err(RecvTimeoutError::from),
        Some(until) => released.recv_timeout(until.saturating_duration_since(Instant::now())),
    };
    // Nothing is ever sent: its end hangs up.
    ended != Err(RecvTimeoutError::Timeout)
}
