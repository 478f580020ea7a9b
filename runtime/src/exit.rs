//! How the process ends.

use std::process::{ExitCode, Termination};

/// The exit code of a process under [`graceful::main`](macro@crate::main), made by
/// [`Config::run`](crate::Config::run) and returned from `main`.
///
/// | code | meaning |
/// |---|---|
/// | 0 | everything was drained |
/// | 1 | `main` or a server failed |
/// | 101 | `main` panicked |
/// | 124 | the limit cut something off (as `timeout(1)` says it) |
/// | 128+n | a second signal, number n, forced the end |
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "return it from `main`, so that the process ends with its code"]
pub struct Exit(u8);

impl Exit {
    pub(crate) const FAILED: Self = Self(1);

    pub(crate) fn new(code: u8) -> Self {
        Self(code)
    }

    /// The code.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.0)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.report()
    }
}
