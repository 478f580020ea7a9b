//! The watch over the very end of the process: after `main` has returned, when only `_exit` can
//! still end a process that is stuck.

use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::{
    signal::Signals,
    util::sync::{lock_std, unpoisoned},
};

static STATE: Mutex<State> = Mutex::new(State { stands: false, end: None });
static CHANGED: Condvar = Condvar::new();

struct State {
    /// Whether there is a thread that watches.
    stands: bool,
    end: Option<End>,
}

/// The process is ending.
#[derive(Clone, Copy)]
struct End {
    code: u8,
    /// `None`: there is no limit.
    at: Option<Instant>,
}

/// The right to be the one thread that watches: a process has one at the most, however many runs it
/// has seen.
pub(super) struct Watch {
    state: &'static Mutex<State>,
}

impl Watch {
    /// `None`: there is one already.
    pub(super) fn claim() -> Option<Self> {
        let first = !std::mem::replace(&mut lock_std(&STATE).stands, true);
        first.then_some(Self { state: &STATE })
    }

    /// Watches for the rest of the life of the process. Lets go of `signals` at the time beside
    /// them.
    pub(super) fn stand(self, mut signals: Option<(Instant, Signals)>) {
        let mut state = lock_std(self.state);
        loop {
            let now = Instant::now();
            if let Some(End { code, at: Some(at) }) = state.end
                && at <= now
            {
                exit(code);
            }
            if signals.as_ref().is_some_and(|(at, _)| *at <= now) {
                signals = None;
            }
            let end = state.end.and_then(|end| end.at);
            let next = end.into_iter().chain(signals.as_ref().map(|(at, _)| *at)).min();
            state = match next {
                None => unpoisoned(CHANGED.wait(state)),
                Some(next) => unpoisoned(CHANGED.wait_timeout(state, next - now)).0,
            };
        }
    }
}

/// `main` has returned. Where the process is still there when `rest` is over, it ends with `code`.
pub(super) fn over_the_end(code: u8, rest: Option<Duration>) {
    lock_std(&STATE).end = Some(End { code, at: rest.map(|rest| Instant::now() + rest) });
    CHANGED.notify_all();
    // There is no such thread yet if no run has come to its end. Without a limit there is nothing to
    // watch for.
    if rest.is_some()
        && let Some(watch) = Watch::claim()
    {
        let thread = std::thread::Builder::new().name("graceful-watch".to_owned());
        // If no thread can be had, there is no watch, and the process ends as every other.
        let _ = thread.spawn(|| watch.stand(None));
    }
}

/// Ends the process without running any more code: neither `atexit` handlers nor a flush of stdout.
pub(super) fn exit(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}
