//! How the process ends.

use std::{
    process::{ExitCode, Termination},
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::{
    signal::{Signals, process_is_ending},
    util::{
        sync::{lock_std, unpoisoned},
        threads,
    },
};

/// The exit code of a process under [`graceful::main`](macro@crate::main), returned by
/// [`Config::run`](crate::Config::run) and from `main`.
///
/// | code | meaning |
/// |---|---|
/// | 0 | everything was drained |
/// | 1 | `main`, a server or a cleanup hook failed |
/// | 101 | `main` panicked |
/// | 124 | the limit cut something off (as in `timeout(1)`) |
/// | 128+n | a second signal, number n, forced the end |
///
/// If more than one applies, the signal's code comes first, then 101, then 1, then 124.
///
/// Returned from `main`, it also enforces the rest of the bound: if the process gets stuck in its
/// very last steps (a thread-local that blocks in its `Drop`, an `atexit` handler, a full pipe
/// behind stdout), `_exit` ends it with this code once the rest of the `cleanup` limit is over, or
/// on the next signal.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// fn main() -> graceful::Exit {
///     graceful::Config::new()
///         .timeout(Duration::from_secs(3))
///         .run(async || println!("nothing to serve today"))
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "return it from `main`, so that the process ends with its code"]
pub struct Exit {
    code: u8,
    /// How long the last steps of the process may take; `None` means no limit.
    rest: Option<Duration>,
}

/// The least time granted to the last steps, which take a few system calls.
const LEAST: Duration = Duration::from_millis(15);

impl Exit {
    /// The exit code 0, for a `fn main() -> graceful::Exit` that has nothing to run.
    ///
    /// # Examples
    ///
    /// ```
    /// fn main() -> graceful::Exit {
    ///     if std::env::args().any(|arg| arg == "--version") {
    ///         println!("{}", env!("CARGO_PKG_VERSION"));
    ///         return graceful::Exit::SUCCESS;
    ///     }
    ///     graceful::Config::new().run(async || {})
    /// }
    /// ```
    pub const SUCCESS: Self = Self { code: 0, rest: None };

    /// The exit code 1, for a `fn main() -> graceful::Exit` that ends before anything runs.
    pub const FAILURE: Self = Self { code: 1, rest: None };

    pub(crate) fn new(code: u8, rest: Option<Duration>) -> Self {
        Self { code, rest: rest.map(|rest| rest.max(LEAST)) }
    }

    /// Returns the exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        self.code
    }
}

impl PartialEq for Exit {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
    }
}

impl Eq for Exit {}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        process_is_ending();
        watch_the_end(self.code, self.rest);
        ExitCode::from(self)
    }
}

/// Keeps only the code: the end of the process is no longer bounded.
impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code)
    }
}

// The watch over the very end of the process, after `main` has returned, when only `_exit` can
// still end a process that is stuck.

static STATE: Mutex<Watched> = Mutex::new(Watched { stands: false, end: None });
static CHANGED: Condvar = Condvar::new();

struct Watched {
    /// Whether there is a watching thread.
    stands: bool,
    end: Option<End>,
}

/// The end of the process, once it is near.
#[derive(Clone, Copy)]
struct End {
    code: u8,
    /// `None` means no limit.
    at: Option<Instant>,
}

/// The right to be the watching thread. A process has at most one, however many runs it has seen.
pub(super) struct Watch {
    state: &'static Mutex<Watched>,
}

impl Watch {
    /// Returns `None` if there already is one.
    pub(super) fn claim() -> Option<Self> {
        let first = !std::mem::replace(&mut lock_std(&STATE).stands, true);
        first.then_some(Self { state: &STATE })
    }

    /// Watches for the rest of the life of the process. Drops `signals` at the time given with
    /// them.
    pub(super) fn stand(self, mut signals: Option<(Instant, Signals)>) {
        let mut state = lock_std(self.state);
        loop {
            let now = Instant::now();
            if let Some(End { code, at: Some(at) }) = state.end
                && at <= now
            {
                exit_now(code);
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

/// Ends the process with `code` if it is still there when `rest` is over. Called when `main`
/// returns.
fn watch_the_end(code: u8, rest: Option<Duration>) {
    lock_std(&STATE).end = Some(End { code, at: rest.map(|rest| Instant::now() + rest) });
    CHANGED.notify_all();
    // There is no watching thread yet if no run has ended. Without a limit, there is nothing to
    // watch for.
    if rest.is_some()
        && let Some(watch) = Watch::claim()
    {
        // If the thread cannot be spawned, there is no watch, and the process ends like any other.
        let _ = threads::spawn("graceful-watch", || watch.stand(None));
    }
}

/// Ends the process without running any more code: no `atexit` handlers, no flush of stdout.
pub(super) fn exit_now(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}
