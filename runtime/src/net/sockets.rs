//! The platform-dependent part of sockets: Unix sockets, descriptors, and how a listener turns new
//! clients away. A port to another platform replaces this file with one that has the same items.

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

/// The inode of a socket, if `/proc` provides it.
pub(super) fn inode(socket: &impl AsRawFd) -> Option<u64> {
    let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::metadata(link).ok().map(|metadata| metadata.ino())
}

/// Whether a client is in the queue of a listener. `accept` cannot tell when out of descriptors: it
/// fails before it looks.
pub(super) fn has_waiting(listener: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // If `poll` fails, assume that there is one.
    poll(&mut fds, PollTimeout::ZERO).is_err() || fds[0].any().unwrap_or(true)
}

/// The path of a Unix socket and the identity of its file, so that no other file is unlinked.
#[derive(Debug)]
pub(super) struct SocketPath(PathBuf, FileId);

/// Which file it is: the numbers of its device and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl SocketPath {
    /// Returns `None` if the socket has no path.
    pub(super) fn of(listener: &UnixListener) -> Option<Self> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        let id = file_id(&path)?;
        Some(Self(path, id))
    }

    /// Removes the file if it is still this socket's: a new version of the program may have bound
    /// its own there by now.
    pub(super) fn unlink(&self) {
        let Self(path, id) = self;
        if file_id(path) == Some(*id) {
            // The file may be gone already, which is just as well.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Returns which file is at `path`, if there is one.
pub(crate) fn file_id(path: &Path) -> Option<FileId> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some(FileId(metadata.dev(), metadata.ino()))
}

/// Binds a Unix socket at `path`. An existing file is replaced if it is a socket that no process
/// listens on.
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
    // Before `listen`: until then, clients are refused.
    if let Some(mode) = options.unix_mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Whether the file is a socket that refuses connections, because its process ended without
/// removing it.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    // Non-blocking: a socket whose queue is full is served by someone.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && connect().is_err_and(refused)
}

/// Returns the name of a Unix socket in the abstract namespace, as text.
#[cfg(target_os = "linux")]
pub(super) fn abstract_name(listener: &UnixListener) -> Option<String> {
    use std::os::linux::net::SocketAddrExt as _;
    let addr: std::os::unix::net::SocketAddr = listener.local_addr().ok()?.into();
    Some(String::from_utf8_lossy(addr.as_abstract_name()?).into_owned())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn abstract_name(_: &UnixListener) -> Option<String> {
    None
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

/// Whether this machine lacks the address, or its whole family.
pub(super) fn is_unavailable(error: &io::Error) -> bool {
    let is_family = error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32);
    is_family || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Refuses new clients of a TCP listener. Returns whether that was possible: it fails before Linux
/// 5.7, and if the socket is already bound to a device.
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

/// Refuses new clients of a Unix listener by shutting it down for reading, which `connect` checks
/// before it joins the queue (`unix_stream_connect()` in the kernel).
#[cfg(target_os = "linux")]
pub(super) fn refuse_connects(listener: &UnixListener) -> bool {
    SockRef::from(listener).shutdown(std::net::Shutdown::Read).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn refuse_connects(_: &UnixListener) -> bool {
    false
}

/// Accepts a connection that the kernel has ready on a Unix listener, or returns `WouldBlock`.
pub(super) fn try_accept_unix(listener: &UnixListener) -> io::Result<UnixStream> {
    // `EINVAL`: the socket has been shut down, and the queue is empty.
    let (socket, _) = SockRef::from(listener).accept().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::ErrorKind::WouldBlock.into(),
        _ => error,
    })?;
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket.into())
}

/// Whether this listener was passed by socket activation (`sd_listen_fds(3)`), so that systemd
/// holds it, too.
///
/// Reads the environment that the process started with, because libraries that take such sockets
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
    /// Who else holds the sockets, if the program has declared it.
    pub(crate) sharing: Option<SocketSharing>,
    pub(crate) backlog: i32,
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
    /// The permissions of a Unix socket's file.
    pub(crate) unix_mode: Option<u32>,
    pub(crate) max_connections: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            sharing: None,
            // The kernel caps this at `net.core.somaxconn` (listen(2)). With the 128 that std and
            // tokio ask for, a burst of clients waits for a second until their SYN is sent again.
            backlog: i32::MAX,
            nodelay: true,
            // Like Go: a peer that has vanished must not hold a descriptor forever.
            keepalive: Some(Duration::from_secs(15)),
            only_v6: false,
            reuse_port: false,
            unix_mode: None,
            max_connections: None,
        }
    }
}

/// Who else holds a listening socket that was handed in, for
/// [`Server::socket_sharing`](crate::Server::socket_sharing).
///
/// For programs that get their sockets from their own supervisor. To lose no client, the drain
/// changes the socket itself, permanently, and not just this descriptor of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketSharing {
    /// Nobody: no other process, and no `try_clone` in this one. The drain turns new clients away
    /// without losing those on the way, as with a socket bound from an address.
    Exclusive,
    /// Another process may hold it, or this one may hold a copy. The drain empties the queue and
    /// closes the socket; a client whose handshake is in progress at that moment is reset, as with
    /// any other server.
    Unknown,
    /// Another process holds it and keeps accepting: the one that handed it in, or a successor. The
    /// drain only stops accepting and leaves the queue to that process.
    Shared,
}

// The connection limit.

/// A permit for one connection, released when the connection is over.
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
    /// `None` means no limit but the number of descriptors.
    pub(crate) fn new(max: Option<usize>) -> Self {
        let limited = |max: usize| {
            let free = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
            Arc::new(Limited { max, free, said: AtomicBool::new(false) })
        };
        Self(max.map(limited))
    }

    /// Takes one if there is one: for a connection that is there in any case.
    pub(super) fn take_free(&self) -> Option<Slot> {
        self.0.as_ref()?.free.clone().try_acquire_owned().ok()
    }

    /// Waits for a free slot, and logs once that the limit is reached. Returns `None` if there is
    /// no limit.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an unused slot is released.
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
        // The semaphore is never closed.
        limited.free.clone().acquire_owned().await.ok()
    }
}
