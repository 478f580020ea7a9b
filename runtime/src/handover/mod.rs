//! What one process gives the next: listening sockets, and connections.
//!
//! The old process (`give`) offers its listeners, waits until the new one (`take`) serves, and then
//! drains; each connection that is between messages goes to the new one instead of being closed.
//! They talk by `message`s over a `channel`. The new process comes through one of two doors: the
//! old one starts it (`program`), or it asks at a path (`door`).
//!
//! May use: `util`, `signal`, `log`, `work`, `stop`, `context`, `net`. Must not know: HTTP.

mod channel;
mod door;
mod give;
mod listeners;
pub(crate) mod message;
mod program;
#[cfg(all(feature = "systemd", target_os = "linux"))]
mod store;
mod take;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

pub use give::UpgradeError;
pub use listeners::{inherited, pass_on};

use crate::{
    signal::Signal,
    stop::{Companion, Shared},
    util::Failure,
};

/// What a program wants of its hand-over.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Signals that start the next version.
    pub(crate) signals: Vec<Signal>,
    /// How long the next version may take to be ready.
    pub(crate) timeout: Option<Duration>,
    /// The file of the next version, if it is not the one that this process was started by.
    pub(crate) program: Option<PathBuf>,
    /// Where a next process asks.
    pub(crate) path: Option<PathBuf>,
}

/// This process as the old one, as the new one, or as both, one after the other.
pub(crate) struct Handover {
    settings: Settings,
    program: program::Program,
    door: Option<door::Door>,
    arriving: Option<take::Arriving>,
    /// Whether the service manager keeps descriptors.
    #[cfg_attr(
        not(all(feature = "systemd", target_os = "linux")),
        allow(dead_code, reason = "for the store")
    )]
    stores: bool,
}

impl Handover {
    /// Asks the process before for its sockets, if there is one. To be called before the first line
    /// of `main`, while there is no other thread.
    ///
    /// # Errors
    ///
    /// If the path is no place for such a socket, or the process before refuses.
    pub(crate) fn begin(settings: Settings) -> Result<Self, Failure> {
        let program = program::Program::of_this_process(settings.program.as_deref());
        let mut arriving = take::of_parent()?;
        #[cfg(all(feature = "systemd", target_os = "linux"))]
        if arriving.is_none() {
            arriving = store::taken()?;
        }
        #[cfg(all(feature = "systemd", target_os = "linux"))]
        let stores = store::is_there();
        #[cfg(not(all(feature = "systemd", target_os = "linux")))]
        let stores = false;
        let mut door = None;
        if let Some(path) = &settings.path {
            door = Some(door::Door::at(path)?);
        }
        if arriving.is_none()
            && let Some(door) = &mut door
        {
            arriving = door.open()?;
        }
        Ok(Self { settings, program, door, arriving, stores })
    }

    /// Runs for as long as the process does, on the sentinel's runtime. Ends once the program is
    /// over.
    ///
    /// # Errors
    ///
    /// If the handlers of the signals cannot be installed.
    pub(crate) fn run(self, shared: Arc<Shared>) -> io::Result<Companion> {
        let signals = crate::signal::Signals::install(&self.settings.signals)?;
        let stored = give::Stored::default();
        #[cfg(all(feature = "systemd", target_os = "linux"))]
        let before_stop = stored.before_stop(self.stores, &shared);
        #[cfg(not(all(feature = "systemd", target_os = "linux")))]
        let before_stop = Box::new(|_: &Shared| {});
        // Before the first line of `main`, which may ask.
        let requested = give::requests();
        let run = Box::pin(give::run(self, shared, signals, requested, stored));
        Ok(Companion { run, before_stop })
    }
}
