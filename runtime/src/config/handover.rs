//! The settings of a hand-over to the next version of the program.

#[cfg(feature = "handover")]
pub(super) use enabled::ConfiguredHandover;

#[cfg(feature = "handover")]
mod enabled {
    use std::{
        path::{Path, PathBuf},
        time::Duration,
    };

    use super::super::{
        builder::Config,
        limits::{IntoLimit, Source},
    };
    use crate::{handover::Settings, signal::Signal, stop::bounded, util::Failure};

    /// The path at which a next process asks, where the program names none.
    const VARIABLE: &str = "GRACEFUL_HANDOVER";

    /// The settings, before the environment is read.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct ConfiguredHandover {
        pub(in crate::config) signals: Vec<Signal>,
        timeout: Source,
        program: Option<PathBuf>,
        path: Option<PathBuf>,
    }

    impl Default for ConfiguredHandover {
        fn default() -> Self {
            Self {
                signals: Vec::new(),
                timeout: Source::Fixed(Some(Duration::from_secs(30))),
                program: None,
                path: None,
            }
        }
    }

    impl ConfiguredHandover {
        /// # Errors
        ///
        /// If the limit cannot be read from the environment.
        pub(in crate::config) fn resolve(&self) -> Result<Settings, Failure> {
            let variable = || std::env::var_os(VARIABLE).map(PathBuf::from);
            let path = self.path.clone().or_else(variable);
            Ok(Settings {
                signals: self.signals.clone(),
                timeout: self.timeout.resolve(true)?.map(bounded),
                program: self.program.clone(),
                path: path.filter(|path| !path.as_os_str().is_empty()),
            })
        }
    }

    /// With the feature `handover`: a restart that no client can see.
    impl Config {
        /// The signals that start the next version of the program and hand over to it. Default:
        /// none.
        ///
        /// The file at the path that this process was started by is run with the same arguments,
        /// environment and folder. It gets the listening sockets, runs `main` up to the point where
        /// it serves, and says so; only then does this process drain, and gives it the connections
        /// that are between messages. Whatever goes wrong before costs nothing: the new process is
        /// ended, that is logged, and this one goes on.
        ///
        /// For deployments that replace the file and restart in place, on a machine or under
        /// systemd.
        ///
        /// # Examples
        ///
        /// ```
        /// let config = graceful::Config::new().upgrade([graceful::Signal::SIGUSR2]);
        /// ```
        pub fn upgrade(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
            self.handover.signals = signals.into_iter().collect();
            self
        }

        /// How long the next version may take to be ready, before it is ended; `None` is no limit.
        /// Default: 30 s.
        pub fn upgrade_timeout(mut self, limit: impl IntoLimit) -> Self {
            self.handover.timeout = limit.into_source();
            self
        }

        /// The file of the next version. Default: the path that this process was started by, at
        /// which another file may lie by then.
        pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
            self.handover.program = Some(path.into());
            self
        }

        /// The path of a socket at which a next process asks for the listening sockets and the
        /// connections, whoever has started it: a supervisor, a container beside this one, a
        /// person. If nobody holds the path, this process does. Default: the environment variable
        /// `GRACEFUL_HANDOVER`, or none. An empty path is none.
        ///
        /// Its folder may be entered by this user alone (mode 700): whoever can connect gets the
        /// connections. A process whose parent holds the path does not ask.
        ///
        /// # Examples
        ///
        /// ```
        /// let config = graceful::Config::new().handover("/run/app/handover.sock");
        /// ```
        pub fn handover(mut self, path: impl AsRef<Path>) -> Self {
            self.handover.path = Some(path.as_ref().to_owned());
            self
        }
    }
}

/// Without the feature: methods that say what is missing.
#[cfg(not(feature = "handover"))]
mod disabled {
    use crate::config::Config;

    /// Implemented for nothing.
    #[diagnostic::on_unimplemented(
        message = "`upgrade` and `handover` need a feature of graceful-main",
        label = "not without the feature `handover`",
        note = "enable it: `cargo add graceful-main --features handover`"
    )]
    pub trait NeedsHandover {}

    #[doc(hidden)]
    impl Config {
        pub fn upgrade(self, _: impl NeedsHandover) -> Self {
            self
        }

        pub fn upgrade_timeout(self, _: impl NeedsHandover) -> Self {
            self
        }

        pub fn program(self, _: impl NeedsHandover) -> Self {
            self
        }

        pub fn handover(self, _: impl NeedsHandover) -> Self {
            self
        }
    }
}
