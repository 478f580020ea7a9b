//! The watch over the very end of the process: after `main` has returned, when only `_exit` can still end what is stuck.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::handlers::Signals;

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

/// The right to be the one thread that watches: a process has one at the most, however many runs it has seen.
pub(crate) struct Watch {
    state: &'static Mutex<State>,
}

impl Watch {
    /// `None`: there is one already.
    pub(crate) fn claim() -> Option<Self> {
        let first = !std::mem::replace(&mut lock(&STATE).stands, true);
        first.then_some(Self { state: &STATE })
    }

    /// Watches for the rest of the life of the process. Lets go of `signals` at the time beside them.
    pub(crate) fn stand(self, mut signals: Option<(Instant, Signals)>) {
        let mut state = lock(self.state);
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
                None => CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let waited = CHANGED.wait_timeout(state, next - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// `main` has returned. Where the process is still there when `rest` is over, it ends with `code`.
pub(crate) fn over_the_end(code: u8, rest: Option<Duration>) {
    lock(&STATE).end = Some(End { code, at: rest.map(|rest| Instant::now() + rest) });
    CHANGED.notify_all();
    // No run has left its thread: none has come that far.
    if let Some(watch) = Watch::claim() {
        let thread = std::thread::Builder::new().name("graceful-watch".to_owned());
        // Without a thread to be had nobody watches; what remains is what every program does at its end.
        let _ = thread.spawn(|| watch.stand(None));
    }
}

/// Ends the process, without any code of anybody running: neither `atexit` handlers nor a flush of stdout.
pub(crate) fn exit(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
