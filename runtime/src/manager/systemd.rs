//! systemd, and what it is told.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net},
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;

use crate::util::one_line;

/// How long a message may take if the manager is slow to read. One that takes longer is lost: the
/// sentinel, which has the limits of a stop to keep, says most of them.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Manager {
    /// `None`: there is nobody to tell.
    socket: Option<net::UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The manager that the environment names. The variables are removed, so that a child does not
    /// speak in the name of this process (`sd_notify(3)`), unless the process has other threads by
    /// now, which may be reading them, or the manager does not read what it is told.
    pub(crate) fn take() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Self::nobody();
        };
        let watchdog = watchdog();
        let Ok(socket) = connect(&path) else {
            // There is nobody who could be told.
            return Self::nobody();
        };
        let manager = Self { socket: Some(socket), watchdog };
        if is_alone() && manager.has_room() {
            let _ = sd_notify::watchdog_enabled(true, &mut 0);
            // What is sent does not matter: it is how this library removes the variable. It knows no
            // abstract names, and a failure removes it as well.
            let _ = sd_notify::notify(true, &[NotifyState::Status("starting")]);
        }
        manager
    }

    /// Whether a message would not have to wait.
    fn has_room(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    pub(crate) fn nobody() -> Self {
        Self { socket: None, watchdog: None }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How long this process may be silent (`sd_watchdog_enabled(3)`).
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.is_there())
    }

    /// Every listener is bound, or there is none.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The stop has begun. It takes `within` at the most; `None`: that is not known.
    pub(crate) fn stopping(&self, status: Option<&str>, within: Option<Duration>) {
        match status {
            Some(status) => {
                self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
            }
            None => self.send(&[NotifyState::Stopping]),
        }
        if let Some(within) = within {
            self.extend(within);
        }
    }

    pub(crate) fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// What is under way may take so long from now on, whatever the unit says
    /// (`EXTEND_TIMEOUT_USEC`).
    pub(crate) fn extend(&self, within: Duration) {
        // The library has 32 bits for it: a little more than an hour.
        let extend = format!("EXTEND_TIMEOUT_USEC={}", within.as_micros());
        self.send(&[NotifyState::Custom(&extend)]);
    }

    /// For the watchdog.
    pub(crate) fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// What was to be read again is in force (`RELOADING=1` in `sd_notify(3)`).
    #[cfg(feature = "tls")]
    pub(crate) fn reloaded(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
            self.send(&[NotifyState::Ready]);
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            // A `String` takes everything.
            let _ = writeln!(message, "{state}");
        }
        // A manager that has gone, or does not read, cannot be told so.
        let _ = socket.send(message.as_bytes());
    }
}

/// How long this process may be silent. With the number of another process the variable is for that
/// one; with none, for whoever is told (`sd_watchdog_enabled(3)`).
fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let is_for_this = env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| is_for_this && *micros > 0).map(Duration::from_micros)
}

/// A path, or a name in the abstract namespace (`@`).
fn connect(path: &OsStr) -> io::Result<net::UnixDatagram> {
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(path)?,
    };
    let socket = net::UnixDatagram::unbound()?;
    socket.connect_addr(&addr)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Whether this is the one thread of the process. Where `/proc` does not tell, it is not.
fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}
