//! The stop signals: their names and numbers.

use std::fmt;

#[cfg(unix)]
use tokio::signal::unix::SignalKind;

/// Defines the signals: one line each, in the order of their indices.
macro_rules! signals {
    ($($(#[$doc:meta])+ $name:ident => $kind:ident, $number:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(clippy::upper_case_acronyms, reason = "names as in POSIX")]
        enum Name {
            $($name,)+
        }

        impl Signal {
            $($(#[$doc])+ pub const $name: Self = Self(Name::$name);)+

            /// All signals; a signal's `index` is its position here.
            #[cfg(any(unix, test))]
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            #[cfg(unix)]
            pub(crate) fn kind(self) -> SignalKind {
                match self.0 {
                    $(Name::$name => SignalKind::$kind(),)+
                }
            }

            /// The number on Linux; only the exit code has it.
            #[cfg(not(unix))]
            fn linux_number(self) -> u8 {
                match self.0 {
                    $(Name::$name => $number,)+
                }
            }
        }
    };
}

/// A signal that starts the drain, named as in POSIX (`signal.h`).
///
/// `SIGKILL` and `SIGSTOP` are missing because no process can catch them (signal(7)).
///
/// On Windows, the events of the console stand in for them: Ctrl-C for `SIGINT`, a closed console
/// for `SIGHUP`, and Ctrl-Break, a log-off and a shutdown for `SIGTERM`. The others never come.
///
/// # Examples
///
/// ```
/// use graceful::Signal;
///
/// assert_eq!(Signal::SIGTERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::SIGTERM.number(), 15);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(Name);

signals! {
    /// A timer of `alarm(2)` has expired.
    SIGALRM => alarm, 14;
    /// The terminal was closed; stops by default.
    SIGHUP => hangup, 1;
    /// Ctrl-C at the terminal; stops by default.
    SIGINT => interrupt, 2;
    /// Ctrl-\ at the terminal; stops by default.
    SIGQUIT => quit, 3;
    /// Sent by `kill`, systemd, Docker and Kubernetes; stops by default.
    SIGTERM => terminate, 15;
    /// User-defined signal 1.
    SIGUSR1 => user_defined1, 10;
    /// User-defined signal 2.
    SIGUSR2 => user_defined2, 12;
    /// The terminal's size has changed; some servers treat it as "stop gracefully".
    SIGWINCH => window_change, 28;
}

impl Signal {
    pub(crate) const DEFAULT: [Self; 4] =
        [Self::SIGHUP, Self::SIGINT, Self::SIGTERM, Self::SIGQUIT];

    /// Returns the number of the signal on this system (that of Linux on Windows). The exit code
    /// after a second signal is 128 plus this number.
    #[must_use]
    pub fn number(self) -> u8 {
        // Signal numbers are below 128 on every Unix; the conversion cannot fail.
        #[cfg(unix)]
        return u8::try_from(self.kind().as_raw_value()).unwrap_or(0);
        #[cfg(not(unix))]
        self.linux_number()
    }

    /// Returns the position in `ALL`.
    #[cfg(any(unix, test))]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
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

/// The signals in a line such as `SigIgn:` of a `/proc/…/status` (`proc_pid_status(5)`).
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask(u64);

#[cfg(target_os = "linux")]
impl Mask {
    /// Reads the line that starts with `name`. Returns `None` if there is no such line.
    pub(crate) fn read(status: &str, name: &str) -> Option<Self> {
        let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(Self)
    }

    /// Returns whether `signal` is in the mask: bit `number - 1` stands for it.
    pub(crate) fn contains(self, signal: Signal) -> bool {
        self.0 >> (signal.number() - 1) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::{super::signal_names::SIGNAL_NAMES, Signal};

    /// The attribute accepts the names of that table and writes `Signal::NAME`.
    #[test]
    fn the_attribute_knows_the_same_signals() {
        let sorted = |names: &mut dyn Iterator<Item = String>| {
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let table = sorted(&mut SIGNAL_NAMES.iter().map(|signal| signal.name.to_owned()));
        assert_eq!(table, sorted(&mut Signal::ALL.iter().map(Signal::to_string)));
        let defaults = SIGNAL_NAMES.iter().filter(|signal| signal.is_default);
        let defaults: Vec<_> = defaults.map(|signal| signal.name.to_owned()).collect();
        assert_eq!(defaults, Signal::DEFAULT.map(|signal| signal.to_string()));
    }

    #[test]
    fn each_signal_has_a_place_and_a_number_of_its_own() {
        for (place, signal) in Signal::ALL.iter().enumerate() {
            assert_eq!(signal.index(), place);
            let same = Signal::ALL.iter().filter(|other| other.number() == signal.number());
            assert_eq!(same.count(), 1, "{signal}");
            assert!((1..128).contains(&signal.number()), "{signal}");
        }
    }
}
