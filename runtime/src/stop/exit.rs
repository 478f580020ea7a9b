//! How the process ends.

use std::{
    process::{ExitCode, Termination},
    time::Duration,
};

use super::watch;
use crate::signal::process_is_ending;

/// The exit code of a process under [`graceful::main`](macro@crate::main), made by
/// [`Config::run`](crate::Config::run) and returned from `main`.
///
/// | code | meaning |
/// |---|---|
/// | 0 | everything was drained |
/// | 1 | `main`, a server or a cleanup hook failed |
/// | 101 | `main` panicked |
/// | 124 | the limit cut something off (as `timeout(1)` says it) |
/// | 128+n | a second signal, number n, forced the end |
///
/// Where more than one applies: the signal's, then 101, then 1, then 124.
///
/// Returned from `main`, it also holds what is left of the bound: where the process then gets stuck
/// in its very last steps (a thread-local that blocks in its `Drop`, an `atexit` handler, a full
/// pipe behind stdout), it is ended by `_exit` with this code, once the rest of the `cleanup` limit
/// is over, or by the next signal.
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
    /// How long the last steps of the process may take; `None`: there is no limit.
    rest: Option<Duration>,
}

/// How long the last steps may take at least: an end takes a few system calls.
const LEAST: Duration = Duration::from_millis(15);

impl Exit {
    /// The code 0: for a `fn main() -> graceful::Exit` that has nothing to run.
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

    /// The code 1: for a `fn main() -> graceful::Exit` that ends before anything runs.
    pub const FAILURE: Self = Self { code: 1, rest: None };

    pub(crate) fn new(code: u8, rest: Option<Duration>) -> Self {
        Self { code, rest: rest.map(|rest| rest.max(LEAST)) }
    }

    /// The code.
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
        watch::over_the_end(self.code, self.rest);
        ExitCode::from(self)
    }
}

/// The code alone: what follows is not watched over.
impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code)
    }
}
