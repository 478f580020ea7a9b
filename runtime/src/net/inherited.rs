//! Listening sockets that the process inherited (`sd_listen_fds(3)`). Datagram sockets and
//! connected sockets are left for others to take.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    os::fd::RawFd,
    path::Path,
    sync::{Mutex, OnceLock},
};

use listenfd::ListenFd;
use socket2::{Socket, Type};

use crate::util::sync::lock_std;

/// The first descriptor of socket activation.
const FIRST: i32 = 3;

static PASSED: OnceLock<Mutex<Vec<Passed>>> = OnceLock::new();

/// A descriptor passed by socket activation.
struct Passed {
    name: String,
    /// `None` if it has been taken or is not a listening socket.
    socket: Option<Socket>,
    listens: bool,
}

/// Returns the passed descriptors, which are taken over when the first address is bound. No
/// earlier, because the program may take them itself, or those that this crate leaves alone.
fn passed() -> &'static Mutex<Vec<Passed>> {
    PASSED.get_or_init(|| {
        // Read before the variables are removed. They are removed so that children do not claim the
        // descriptors.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut fds = ListenFd::from_env();
        let mut names = names.split(':');
        let passed = (0..fds.len()).map(|index| {
            // The name of unnamed sockets (`sd_listen_fds_with_names(3)`).
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
            #[cfg(all(feature = "handover", target_os = "linux"))]
            if name == STORED {
                take_stored(&mut fds, index);
            }
            let socket = listening(&mut fds, index);
            Passed { name: name.to_owned(), listens: socket.is_some(), socket }
        });
        let passed = passed.collect();
        // Removes the names, too; it has nothing left to return.
        let _ = sd_notify::listen_fds_with_names(true);
        Mutex::new(passed)
    })
}

/// The name of the descriptors that this library has had systemd keep.
#[cfg(all(feature = "handover", target_os = "linux"))]
const STORED: &str = "graceful";

#[cfg(all(feature = "handover", target_os = "linux"))]
static FROM_STORE: Mutex<Vec<std::os::fd::OwnedFd>> = Mutex::new(Vec::new());

/// Returns what the process before has had systemd keep (`FileDescriptorStoreMax=` in
/// systemd.service(5)). If there is anything, all passed descriptors are taken over now.
#[cfg(all(feature = "handover", target_os = "linux"))]
pub(crate) fn stored() -> Vec<std::os::fd::OwnedFd> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    if names.split(':').any(|name| name == STORED) {
        passed();
    }
    std::mem::take(&mut lock_std(&FROM_STORE))
}

#[cfg(all(feature = "handover", target_os = "linux"))]
fn take_stored(fds: &mut ListenFd, index: usize) {
    let (family, kind) = (socket2::Domain::UNIX.into(), Type::SEQPACKET.into());
    // Something else of this name is left for others.
    if let Ok(Some(socket)) = fds.take_custom(index, family, kind, "stored socket") {
        lock_std(&FROM_STORE).push(socket);
    }
}

/// Takes the socket if it is a listening one, of any family.
fn listening(fds: &mut ListenFd, index: usize) -> Option<Socket> {
    let socket: Socket = match fds.take_tcp_listener(index) {
        Ok(socket) => socket?.into(),
        // It is put back if it is not TCP.
        Err(_) => fds.take_unix_listener(index).ok()??.into(),
    };
    if !is_listening(&socket) {
        // A connection that someone else may know how to use: keep it open.
        std::mem::forget(socket);
        return None;
    }
    Some(socket)
}

/// Whether this is a stream socket that listens (`SO_ACCEPTCONN`, socket(7)).
fn is_listening(socket: &Socket) -> bool {
    if socket.r#type().is_ok_and(|it| it != Type::STREAM) {
        return false;
    }
    // macOS does not report this.
    #[cfg(target_vendor = "apple")]
    return true;
    #[cfg(not(target_vendor = "apple"))]
    socket.is_listener().is_ok_and(|it| it)
}

/// Takes the socket with this descriptor number.
///
/// # Errors
///
/// If it is not a listening socket, or cannot be taken.
pub(super) fn by_number(number: i32) -> io::Result<Socket> {
    let wrong = |kind, what| Err(io::Error::new(kind, what));
    let index = usize::try_from(number - FIRST).unwrap_or(usize::MAX);
    let socket = match lock_std(passed()).get_mut(index) {
        Some(passed) if passed.listens && passed.socket.is_none() => {
            let taken = "the descriptor has been taken already, by another address";
            return wrong(io::ErrorKind::NotFound, taken);
        }
        Some(passed) => passed.socket.take(),
        None => Some(duplicate(number)?).filter(is_listening),
    };
    match socket {
        Some(socket) => Ok(socket),
        None => {
            wrong(io::ErrorKind::InvalidInput, "the descriptor is not a listening stream socket")
        }
    }
}

/// Takes all sockets with this name.
///
/// # Errors
///
/// If there are none.
pub(super) fn by_name(name: &str) -> io::Result<Vec<Socket>> {
    let mut passed = lock_std(passed());
    let ours = passed.iter_mut().filter(|it| it.name == name);
    let found: Vec<_> = ours.filter_map(|it| it.socket.take()).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<_> = passed.iter().map(|it| it.name.as_str()).collect();
    let what = if names.is_empty() {
        "systemd has passed no sockets: is there a .socket unit (systemd.socket(5)), and is this \
         process started by it?"
            .to_owned()
    } else {
        format!(
            "systemd has passed `{}`, and no `{name}` that listens and has not been taken: see \
             FileDescriptorName= in systemd.socket(5)",
            names.join("`, `")
        )
    };
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

/// Takes the socket that is already bound to this address.
pub(super) fn by_address(addr: SocketAddr) -> Option<Socket> {
    take(|socket| {
        let bound = socket.local_addr().ok().and_then(|its| its.as_socket());
        bound == Some(addr) || bound.is_some_and(|bound| is_both(socket, bound, addr))
    })
}

/// Whether a socket bound to all IPv6 addresses, as systemd does for `ListenStream=8080`, also
/// takes the clients of all IPv4 addresses (ipv6(7), `IPV6_V6ONLY`).
fn is_both(socket: &Socket, bound: SocketAddr, addr: SocketAddr) -> bool {
    bound == SocketAddr::from((Ipv6Addr::UNSPECIFIED, addr.port()))
        && addr.is_ipv4()
        && addr.ip().is_unspecified()
        && socket.only_v6().is_ok_and(|only| !only)
}

/// Returns the names of the listening sockets that no address has claimed, if any address was
/// looked up.
pub(crate) fn unclaimed() -> Vec<String> {
    let Some(passed) = PASSED.get() else { return Vec::new() };
    let passed = lock_std(passed);
    passed.iter().filter(|it| it.socket.is_some()).map(|it| it.name.clone()).collect()
}

/// Takes the Unix socket that is already bound to this path.
pub(super) fn by_path(path: &Path) -> Option<Socket> {
    take(|socket| socket.local_addr().is_ok_and(|its| its.as_pathname() == Some(path)))
}

/// Takes the Unix socket that is already bound to this abstract name.
pub(super) fn by_abstract(name: &str) -> Option<Socket> {
    let name = name.as_bytes();
    take(|socket| socket.local_addr().is_ok_and(|its| its.as_abstract_namespace() == Some(name)))
}

fn take(is_it: impl Fn(&Socket) -> bool) -> Option<Socket> {
    let mut passed = lock_std(passed());
    passed.iter_mut().find(|it| it.socket.as_ref().is_some_and(&is_it))?.socket.take()
}

/// Duplicates an inherited socket. Without unsafe code, `pidfd_getfd(2)` is the only way to get a
/// descriptor that is known only by its number.
#[cfg(target_os = "linux")]
fn duplicate(number: RawFd) -> io::Result<Socket> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let fd = pidfd_getfd(this, number, PidfdGetfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::BADF => {
            io::Error::new(io::ErrorKind::NotFound, "the process was started without it")
        }
        other => other.into(),
    })?;
    Ok(fd.into())
}

#[cfg(not(target_os = "linux"))]
fn duplicate(_: RawFd) -> io::Result<Socket> {
    let what = "descriptors that socket activation has not passed can be taken on Linux alone";
    Err(io::Error::new(io::ErrorKind::Unsupported, what))
}
