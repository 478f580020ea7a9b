//! The platform-dependent part of sockets: Unix sockets, descriptors, and how a listener turns new
//! clients away. Another platform has a file with these items in the place of this one.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::log::{Log, say};

pub(super) use std::os::unix::net::UnixListener as StdUnixListener;
pub(super) use tokio::net::{UnixListener, UnixStream, unix::UCred as UnixCredentials};

/// The number by which the kernel lists a socket, where `/proc` tells.
pub(super) fn inode(socket: &impl AsRawFd) -> Option<u64> {
    let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::metadata(link).ok().map(|metadata| metadata.ino())
}

/// Whether a client is in the queue of a listener. `accept` says that there are no descriptors left
/// before it looks.
pub(super) fn has_waiting(listener: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // If the option cannot be read, try to set it.
    poll(&mut fds, PollTimeout::ZERO).is_err() || fds[0].any().unwrap_or(true)
}

/// The path of a Unix socket, and which file it was, so that no other file is unlinked.
#[derive(Debug)]
pub(super) struct SocketPath(PathBuf, FileId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

impl SocketPath {
    /// `None`: it has no path.
    pub(super) fn of(listener: &UnixListener) -> Option<Self> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        let id = file_id(&path)?;
        Some(Self(path, id))
    }

    /// Removes the path, if it still is this socket's: a new version of the program may have bound
    /// its own there by now.
    pub(super) fn unlink(&self) {
        let Self(path, id) = self;
        if file_id(path) == Some(*id) {
            // If the file is gone already, that is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(FileId(metadata.dev(), metadata.ino()))
}

/// Binds a Unix socket at `path`. A file that is there already is replaced if it is a socket on
/// which no process listens.
pub(super) fn bind_path(path: &Path, options: &SocketOptions) -> io::Result<StdUnixListener> {
    let addr = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        result => result?,
    }
    // Before it listens: until then a client is refused.
    if let Some(mode) = options.unix_mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Whether the file is a socket that refuses connections: its process has ended without removing
/// it.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    // Without waiting: one whose queue is full is served by somebody.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && connect().is_err_and(refused)
}

/// Binds a Unix socket in the abstract namespace.
#[cfg(target_os = "linux")]
pub(super) fn bind_abstract(name: &str, options: &SocketOptions) -> io::Result<StdUnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn bind_abstract(_: &str, _: &SocketOptions) -> io::Result<StdUnixListener> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract Unix sockets are Linux's own"))
}

pub(super) fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Whether this machine does not have an address, or not its family.
pub(super) fn is_unavailable(error: &io::Error) -> bool {
    let is_family = error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32);
    is_family || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Refuses new clients of a TCP listener. Returns whether that was possible: not before Linux
/// 5.7, nor where the socket is already bound to a device.
#[cfg(target_os = "linux")]
pub(super) fn refuse_syns(listener: &TcpListener) -> bool {
    /// An index that no network device has: they count up from 1.
    const NO_DEVICE: u32 = i32::MAX as u32;
    let socket = SockRef::from(listener);
    let device = std::num::NonZeroU32::new(NO_DEVICE);
    match listener.local_addr() {
        Ok(std::net::SocketAddr::V4(_)) => socket.bind_device_by_index_v4(device).is_ok(),
        Ok(std::net::SocketAddr::V6(_)) => socket.bind_device_by_index_v6(device).is_ok(),
        Err(_) => false,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_syns(_: &TcpListener) -> bool {
    false
}

/// Refuses new clients of a Unix listener by shutting it for reading, which is what `connect` asks
/// before it joins the queue (`unix_stream_connect()` in the kernel).
#[cfg(target_os = "linux")]
pub(super) fn refuse_connects(listener: &UnixListener) -> bool {
    SockRef::from(listener).shutdown(std::net::Shutdown::Read).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_connects(_: &UnixListener) -> bool {
    false
}

/// Accepts on a Unix listener what the kernel has ready, else `WouldBlock`.
pub(super) fn try_accept_unix(listener: &UnixListener) -> io::Result<UnixStream> {
    // `EINVAL`: the socket has been shut, and the queue is empty.
    let (socket, _) = SockRef::from(listener).accept().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::ErrorKind::WouldBlock.into(),
        _ => error,
    })?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket.into())
}

/// Whether this listener came by socket activation (`sd_listen_fds(3)`): then systemd holds it,
/// too.
///
/// Looks at the environment that the process began with: libraries that take such sockets over
/// remove the variables.
pub(super) fn is_passed_by_systemd(listener: &impl AsRawFd) -> bool {
    const FIRST: RawFd = 3;
    let Ok(environ) = std::fs::read("/proc/self/environ") else {
        return false;
    };
    let environ = String::from_utf8_lossy(&environ);
    let number = |name: &str| {
        let value =
            environ.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u32>().ok())
    };
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
    let fd = listener.as_raw_fd();
    number("LISTEN_PID") == Some(std::process::id()) && fd >= FIRST && fd - FIRST < count
}

// The socket options of a server.

#[derive(Clone, Debug)]
pub(crate) struct SocketOptions {
    /// Who else holds the sockets, if the program has said so.
    pub(crate) sharing: Option<SocketSharing>,
    pub(crate) backlog: i32,
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
    /// The permissions of the file of a Unix socket.
    pub(crate) unix_mode: Option<u32>,
    pub(crate) max_connections: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            sharing: None,
            // The kernel cuts this down to `net.core.somaxconn` (listen(2)). With the 128 that std
            // and tokio ask for, a burst of clients waits for a second until their SYN is sent
            // again.
            backlog: i32::MAX,
            nodelay: true,
            // As Go: a peer that has vanished must not hold a descriptor forever.
            keepalive: Some(Duration::from_secs(15)),
            only_v6: false,
            reuse_port: false,
            unix_mode: None,
            max_connections: None,
        }
    }
}

/// Who else holds a listening socket that was handed in: what
/// [`Server::socket_sharing`](crate::Server::socket_sharing) says.
///
/// For programs that get their sockets from a supervisor of their own. What the drain does so that
/// no client is lost, it does to the socket, not to this descriptor of it, and for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketSharing {
    /// Nobody: no other process does, and no `try_clone` of it in this one. The drain turns new
    /// clients away without losing those on the way, as it does with a socket that was bound from
    /// an address.
    Exclusive,
    /// Another process may hold it, or a copy of it in this one. The drain empties its queue and
    /// lets go of it; a client whose handshake is under way in that moment is reset, as with any
    /// other server.
    Unknown,
    /// Another process does, and goes on accepting: the one that has handed it in, or a successor.
    /// The drain only stops accepting; what is in the queue is left to that process.
    Shared,
}

// How many connections there may be at once.

/// The right to one connection. It is given back when the connection is over.
pub(crate) type Slot = OwnedSemaphorePermit;

/// The slots of one server, shared by its listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    max: usize,
    free: Arc<Semaphore>,
    said: AtomicBool,
}

impl Slots {
    /// `None`: as many as there are descriptors.
    pub(crate) fn new(max: Option<usize>) -> Self {
        let limited = |max: usize| {
            let free = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
            Arc::new(Limited { max, free, said: AtomicBool::new(false) })
        };
        Self(max.map(limited))
    }

    /// Waits for a free one, and says once that it has to. `None`: there is no limit.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a slot that is not used is given back.
    pub(super) async fn take(&self, log: &Log, server: &str) -> Option<Slot> {
        let limited = self.0.as_ref()?;
        if let Ok(slot) = limited.free.clone().try_acquire_owned() {
            return Some(slot);
        }
        if !limited.said.swap(true, Ordering::Relaxed) {
            let max = limited.max;
            say!(
                log, warn, { server = server.to_owned(), max_connections = max },
                "{server}: connection limit reached (max_connections = {max}); new clients wait in the \
                 accept queue"
            );
        }
        // Never closed.
        limited.free.clone().acquire_owned().await.ok()
    }
}
