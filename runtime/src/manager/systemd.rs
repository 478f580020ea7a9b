//! Notifications to systemd.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net},
    },
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

#[cfg(feature = "handover")]
use crate::util::threads;
use crate::util::{one_line, within};

/// How many messages may be queued for a manager that does not read. Further ones are lost;
/// `READY=1` and `STOPPING=1` are sent long before that.
const WAITING: usize = 64;

/// The longest status. systemd ignores a message of more than 4096 bytes (`PIPE_BUF`) altogether.
const LONGEST: usize = 2000;

#[derive(Debug)]
pub(crate) struct Manager {
    /// To the thread that sends: the sentinel, which sends most messages, has limits to keep, and a
    /// manager may be slow to read. `None` if there is no manager.
    outbox: Option<mpsc::SyncSender<Outgoing>>,
    watchdog: Option<Duration>,
    /// Whether another process speaks for the unit by now.
    is_muted: AtomicBool,
    /// Whether descriptors were handed in. Relaxed: the thread that reads it also writes it.
    #[cfg(feature = "handover")]
    has_stored: AtomicBool,
}

#[derive(Debug)]
enum Outgoing {
    Message(String),
    /// A descriptor that the manager is to keep.
    #[cfg(feature = "handover")]
    Store(OwnedFd),
    /// Answered once everything before it is sent.
    Mark(oneshot::Sender<()>),
}

impl Manager {
    /// Returns the manager that the environment names, and removes the variables, so that a child
    /// process does not speak for this one (`sd_notify(3)`). The variables stay if the process
    /// already has other threads, which may be reading them, or if the manager does not read its
    /// messages.
    pub(crate) fn take() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Self::nobody();
        };
        let watchdog = watchdog();
        let Ok(socket) = connect(&path) else {
            // There is no manager to notify.
            return Self::nobody();
        };
        if is_alone() && has_room(&socket) {
            let _ = sd_notify::watchdog_enabled(true, &mut 0);
            // The message does not matter: sending one is how this library removes the variable. It
            // does not support abstract names, but removes the variable on failure, too.
            let _ = sd_notify::notify(true, &[NotifyState::Status("starting")]);
        }
        let (outbox, outgoing) = mpsc::sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("graceful-notify".to_owned());
        // Without a thread, nothing can be sent, but everything else works.
        match thread.spawn(move || deliver(&socket, &outgoing)) {
            Ok(_) => Self { outbox: Some(outbox), watchdog, ..Self::nobody() },
            Err(_) => Self::nobody(),
        }
    }

    pub(crate) fn nobody() -> Self {
        Self {
            outbox: None,
            watchdog: None,
            is_muted: AtomicBool::new(false),
            #[cfg(feature = "handover")]
            has_stored: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.outbox.is_some()
    }

    /// Returns how long this process may be silent (`sd_watchdog_enabled(3)`).
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.is_there())
    }

    /// Reports that the program is ready: every listener is bound, or there is none.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&shown(status))]);
    }

    /// Reports that the stop has begun and takes at most `within`; `None` means that this is not
    /// known. Everything is in one message, so that it takes effect at the same moment.
    pub(crate) fn stopping(&self, status: Option<&str>, within: Option<Duration>) {
        let (status, extend) = (status.map(shown), within.map(extension));
        let mut message = vec![NotifyState::Stopping];
        message.extend(status.as_deref().map(NotifyState::Status));
        message.extend(extend.as_deref().map(NotifyState::Custom));
        self.send(&message);
    }

    /// Another process is the unit's main process from here on: this one has no more to say.
    #[cfg(feature = "handover")]
    pub(crate) fn main_process(&self, process: u32) {
        self.send(&[NotifyState::MainPid(process)]);
        self.is_muted.store(true, Ordering::Relaxed);
    }

    /// Has the manager keep a descriptor for the next start of the service (`FDSTORE=1` in
    /// `sd_notify(3)`), whatever becomes of its other end.
    #[cfg(feature = "handover")]
    pub(crate) fn store(&self, descriptor: OwnedFd) {
        if let Some(outbox) = &self.outbox {
            self.has_stored.store(true, Ordering::Relaxed);
            // As in `send`.
            let _ = outbox.try_send(Outgoing::Store(descriptor));
        }
    }

    /// The stored descriptors have been taken.
    #[cfg(feature = "handover")]
    pub(crate) fn forget_stored(&self) {
        self.send(&[NotifyState::Custom("FDSTOREREMOVE=1"), NotifyState::Custom(STORED)]);
    }

    pub(crate) fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&shown(status))]);
    }

    /// Asks for this much time from now on, whatever the unit file says (`EXTEND_TIMEOUT_USEC`).
    pub(crate) fn extend(&self, within: Duration) {
        self.send(&[NotifyState::Custom(&extension(within))]);
    }

    /// Feeds the watchdog.
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

    /// Resolves once all messages are sent, or after `limit`. If descriptors were handed in, it
    /// waits longer: they would be lost if the thread did not get a CPU in time.
    pub(crate) async fn sent(&self, limit: Duration) {
        let Some(outbox) = &self.outbox else { return };
        #[cfg(feature = "handover")]
        let limit = if self.has_stored.load(Ordering::Relaxed) { threads::STARVED } else { limit };
        let (mark, reached) = oneshot::channel();
        if outbox.try_send(Outgoing::Mark(mark)).is_ok() {
            // The thread lives as long as the outbox.
            within(Some(limit), reached).await;
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(outbox) = &self.outbox else { return };
        if self.is_muted.load(Ordering::Relaxed) {
            return;
        }
        let mut message = String::new();
        for state in states {
            // Writing to a `String` cannot fail.
            let _ = writeln!(message, "{state}");
        }
        // The queue is full only if the manager has not read anything for a long time.
        let _ = outbox.try_send(Outgoing::Message(message));
    }
}

/// Sends the messages in order, until all senders are gone.
fn deliver(socket: &net::UnixDatagram, outgoing: &mpsc::Receiver<Outgoing>) {
    for message in outgoing {
        match message {
            // A manager that is gone may come back, as systemd does when it re-executes itself.
            Outgoing::Message(message) => drop(socket.send(message.as_bytes())),
            #[cfg(feature = "handover")]
            Outgoing::Store(descriptor) => store(socket, &descriptor),
            // The waiter may have given up.
            Outgoing::Mark(mark) => drop(mark.send(())),
        }
    }
}

/// The name of the descriptors that are stored.
#[cfg(feature = "handover")]
const STORED: &str = "FDNAME=graceful";

#[cfg(feature = "handover")]
fn store(socket: &net::UnixDatagram, descriptor: &OwnedFd) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let message = format!("FDSTORE=1\nFDPOLL=0\n{STORED}\n");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    if control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        // As of every message: if the manager is gone, so is the store.
        let bytes = [io::IoSlice::new(message.as_bytes())];
        let _ = sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL);
    }
}

/// Returns whether a message can be sent without blocking.
fn has_room(socket: &net::UnixDatagram) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Formats `EXTEND_TIMEOUT_USEC` by hand: the library uses 32 bits for it, a little more than an
/// hour.
fn extension(within: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", within.as_micros())
}

/// Returns the status on one line, truncated if it is too long.
fn shown(status: &str) -> String {
    let mut status = one_line(status);
    if status.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| status.is_char_boundary(*end));
        status.truncate(end.unwrap_or_default());
        status.push('…');
    }
    status
}

/// Reads how long this process may be silent. If `WATCHDOG_PID` is the number of another process,
/// the variable is for that one; if it is missing, for any process that reads it
/// (`sd_watchdog_enabled(3)`).
fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let is_for_this = env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| is_for_this && *micros > 0).map(Duration::from_micros)
}

/// Connects to a path, or to a name in the abstract namespace (`@`).
fn connect(path: &OsStr) -> io::Result<net::UnixDatagram> {
    let addr = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(path)?,
    };
    let socket = net::UnixDatagram::unbound()?;
    socket.connect_addr(&addr)?;
    Ok(socket)
}

/// Returns whether this is the only thread of the process; `false` if `/proc` is not available.
fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}
