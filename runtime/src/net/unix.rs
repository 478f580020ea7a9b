//! What differs between systems: Unix sockets, descriptors, and how a listener turns new clients
//! away. A port to another system is a file beside this one with the same items.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::sockets::SocketOptions;
use crate::util::Escaped;

pub(crate) use std::os::fd::OwnedFd as OwnedSocket;
pub(super) use std::os::unix::net::UnixListener as StdUnixListener;
pub(super) use tokio::net::{UnixListener, UnixStream, unix::UCred as UnixCredentials};

/// The inode of a socket, if `/proc` provides it.
pub(super) fn inode(socket: &impl AsRawFd) -> Option<u64> {
    let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
    fs::metadata(link).ok().map(|metadata| metadata.ino())
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
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns which file is at `path`, if there is one.
pub(crate) fn file_id(path: &Path) -> Option<FileId> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(FileId(metadata.dev(), metadata.ino()))
}

/// Binds a Unix socket at `path`. An existing file is replaced if it is a socket that no process
/// listens on.
pub(super) fn bind_path(path: &Path, options: &SocketOptions) -> io::Result<StdUnixListener> {
    let addr = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        result => result?,
    }
    // Before `listen`: until then, clients are refused.
    if let Some(mode) = options.unix_mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Whether the file is a socket that refuses connections, because its process ended without
/// removing it.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
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

/// Like std and tokio, so that a restart need not wait for old connections in `TIME_WAIT`.
pub(super) fn set_reuse_address(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
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

/// Makes a listener of a socket that is none of TCP.
pub(super) fn adopt_unix(socket: Socket) -> io::Result<UnixListener> {
    listen(socket.into())
}

/// Makes a stream of a socket that is none of TCP.
pub(super) fn unix_stream(socket: Socket) -> io::Result<UnixStream> {
    UnixStream::from_std(socket.into())
}

pub(super) fn listen(socket: StdUnixListener) -> io::Result<UnixListener> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

pub(super) fn take_socket(stream: UnixStream) -> io::Result<OwnedSocket> {
    stream.into_std().map(Into::into)
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
    let Ok(environ) = fs::read("/proc/self/environ") else {
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

/// Finds the process that listens on `port`, using `/proc`, which shows other users' processes only
/// to root (proc(5)).
pub(super) fn listens_at(port: u16) -> Option<String> {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(|line| listener(line, port)).collect::<Vec<_>>())
        .collect();
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|process| holder(&process.path(), &inodes))
}

/// Returns the inode if this line of the kernel's table is a socket listening on `port`.
fn listener(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let is_it = u16::from_str_radix(local.rsplit_once(':')?.1, 16) == Ok(port);
    (is_it && state == LISTEN).then(|| inode.parse().ok())?
}

/// Returns `name (process 123)` if `process` has one of these sockets open.
fn holder(process: &Path, inodes: &[u64]) -> Option<String> {
    let id: u32 = process.file_name()?.to_str()?.parse().ok()?;
    let mut open = fs::read_dir(process.join("fd")).ok()?.flatten();
    let holds = open.any(|fd| {
        let is_socket = |metadata: &fs::Metadata| inodes.contains(&metadata.ino());
        fs::metadata(fd.path()).as_ref().is_ok_and(is_socket)
    });
    if !holds {
        return None;
    }
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let this = if id == std::process::id() { ", this one" } else { "" };
    Some(format!("{} (process {id}{this})", Escaped(name.trim())))
}

/// Returns a second descriptor of the socket.
pub(super) fn duplicate(socket: &impl AsFd) -> io::Result<OwnedSocket> {
    socket.as_fd().try_clone_to_owned()
}

/// What changes with the contents of a file.
#[cfg(feature = "tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    file: FileId,
    size: u64,
    modified: (i64, i64),
    /// Of the inode: changes with `cp -p`, too.
    changed: (i64, i64),
}

#[cfg(feature = "tls")]
impl FileStamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            file: FileId(metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
