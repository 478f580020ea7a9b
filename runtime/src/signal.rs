//! The stop signals: their names and numbers.

use std::fmt;

use tokio::signal::unix;

/// A signal that starts the drain, named as in POSIX (`signal.h`).
///
/// `SIGKILL` and `SIGSTOP` are missing because no process can catch them (signal(7)).
///
/// ```
/// use graceful::Signal;
///
/// assert_eq!(Signal::SIGTERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::SIGTERM.number(), 15);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(Name);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::upper_case_acronyms, reason = "names as in POSIX")]
enum Name {
    SIGALRM,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
}

impl Signal {
    /// A timer of `alarm(2)` has run out.
    pub const SIGALRM: Self = Self(Name::SIGALRM);
    /// The terminal was closed; stops by default.
    pub const SIGHUP: Self = Self(Name::SIGHUP);
    /// Ctrl-C at the terminal; stops by default.
    pub const SIGINT: Self = Self(Name::SIGINT);
    /// Ctrl-\ at the terminal; stops by default.
    pub const SIGQUIT: Self = Self(Name::SIGQUIT);
    /// What `kill`, systemd, Docker and Kubernetes send; stops by default.
    pub const SIGTERM: Self = Self(Name::SIGTERM);
    /// For the user to give a meaning to.
    pub const SIGUSR1: Self = Self(Name::SIGUSR1);
    /// For the user to give a meaning to.
    pub const SIGUSR2: Self = Self(Name::SIGUSR2);
    /// The terminal's size has changed; some servers take it as "stop gracefully".
    pub const SIGWINCH: Self = Self(Name::SIGWINCH);

    pub(crate) const DEFAULT: [Self; 4] =
        [Self::SIGHUP, Self::SIGINT, Self::SIGTERM, Self::SIGQUIT];

    /// How many there are; `index` is below.
    pub(crate) const COUNT: usize = 8;

    /// Its number on this system. The exit code after a second signal is 128 more.
    #[must_use]
    pub fn number(self) -> u8 {
        // Signal numbers are below 128 on every Unix; the conversion cannot fail.
        u8::try_from(self.kind().as_raw_value()).unwrap_or(0)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn kind(self) -> unix::SignalKind {
        use unix::SignalKind as Kind;
        match self.0 {
            Name::SIGALRM => Kind::alarm(),
            Name::SIGHUP => Kind::hangup(),
            Name::SIGINT => Kind::interrupt(),
            Name::SIGQUIT => Kind::quit(),
            Name::SIGTERM => Kind::terminate(),
            Name::SIGUSR1 => Kind::user_defined1(),
            Name::SIGUSR2 => Kind::user_defined2(),
            Name::SIGWINCH => Kind::window_change(),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
