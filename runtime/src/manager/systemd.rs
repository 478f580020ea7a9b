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
    sync::mpsc,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

use crate::util::one_line;

/// How many messages may wait for a manager that does not read. Those that come then are lost;
/// `READY=1` and `STOPPING=1` come long before.
const WAITING: usize = 64;

/// systemd ignores a message of more than 4096 bytes (`PIPE_BUF`), and with it all that it says.
const LONGEST: usize = 2000;

#[derive(Debug)]
pub(crate) struct Manager {
    /// To the thread that sends: the sentinel, which says most of it, has limits to keep, and a
    /// manager may be slow to read. `None`: there is nobody to tell.
    outbox: Option<mpsc::SyncSender<Outgoing>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
enum Outgoing {
    Message(String),
    /// Answered when all before it is sent.
    Mark(oneshot::Sender<()>),
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
        if is_alone() && has_room(&socket) {
            let _ = sd_notify::watchdog_enabled(true, &mut 0);
            // What is sent does not matter: it is how this library removes the variable. It knows
            // no abstract names, and a failure removes it as well.
            let _ = sd_notify::notify(true, &[NotifyState::Status("starting")]);
        }
        let (outbox, outgoing) = mpsc::sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("graceful-notify".to_owned());
        // Without a thread nothing can be said, and everything works all the same.
        match thread.spawn(move || deliver(&socket, &outgoing)) {
            Ok(_) => Self { outbox: Some(outbox), watchdog },
            Err(_) => Self::nobody(),
        }
    }

    pub(crate) fn nobody() -> Self {
        Self { outbox: None, watchdog: None }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.outbox.is_some()
    }

    /// How long this process may be silent (`sd_watchdog_enabled(3)`).
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.is_there())
    }

    /// Every listener is bound, or there is none.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&shown(status))]);
    }

    /// The stop has begun. It takes `within` at most; `None`: that is not known. In one
    /// message, so that all of it holds from the same moment on.
    pub(crate) fn stopping(&self, status: Option<&str>, within: Option<Duration>) {
        let (status, extend) = (status.map(shown), within.map(extension));
        let mut message = vec![NotifyState::Stopping];
        message.extend(status.as_deref().map(NotifyState::Status));
        message.extend(extend.as_deref().map(NotifyState::Custom));
        self.send(&message);
    }

    pub(crate) fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&shown(status))]);
    }

    /// Asks for this much time from now on, whatever the unit says
    /// (`EXTEND_TIMEOUT_USEC`).
    pub(crate) fn extend(&self, within: Duration) {
        self.send(&[NotifyState::Custom(&extension(within))]);
    }

    /// For the watchdog.
    pub(crate) fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// Announces a reload (`RELOADING=1` in `sd_notify(3)`).
    #[cfg(feature = "tls")]
    pub(crate) fn reloads(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
            self.send(&[NotifyState::Ready]);
        }
    }

    /// Resolves once all is sent.
    pub(crate) async fn sent(&self) {
        let Some(outbox) = &self.outbox else { return };
        let (mark, reached) = oneshot::channel();
        if outbox.try_send(Outgoing::Mark(mark)).is_ok() {
            // The thread is there as long as the outbox is.
            let _ = reached.await;
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(outbox) = &self.outbox else { return };
        let mut message = String::new();
        for state in states {
            // A `String` takes everything.
            let _ = writeln!(message, "{state}");
        }
        // A manager that reads nothing for so long cannot be told.
        let _ = outbox.try_send(Outgoing::Message(message));
    }
}

/// Sends, one after the other, until nobody has anything to say any more.
fn deliver(socket: &net::UnixDatagram, outgoing: &mpsc::Receiver<Outgoing>) {
    for message in outgoing {
        match message {
            // A manager that has gone may come back, as systemd does when it executes itself anew.
            Outgoing::Message(message) => drop(socket.send(message.as_bytes())),
            // Whoever waited may have given up.
            Outgoing::Mark(mark) => drop(mark.send(())),
        }
    }
}

/// Whether a message would not have to wait.
fn has_room(socket: &net::UnixDatagram) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// `EXTEND_TIMEOUT_USEC`, by hand: the library has 32 bits for it, a little more than an hour.
fn extension(within: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", within.as_micros())
}

/// In one line, and not too long.
fn shown(status: &str) -> String {
    let mut status = one_line(status);
    if status.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| status.is_char_boundary(*end));
        status.truncate(end.unwrap_or_default());
        status.push('…');
    }
    status
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
    Ok(socket)
}

/// Whether this is the one thread of the process. Where `/proc` does not tell, it is not.
fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}
