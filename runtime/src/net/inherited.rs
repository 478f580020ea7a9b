//! Listening sockets that the process was started with.

use std::{
    io,
    sync::{Mutex, OnceLock},
};

use listenfd::ListenFd;
use socket2::Socket;

use super::sockets;
use crate::util::sync::lock_std;

/// The first descriptor of socket activation (`sd_listen_fds(3)`).
const FIRST: i32 = 3;

/// What socket activation has passed. Each socket is taken once.
struct Passed {
    fds: Mutex<ListenFd>,
    names: Vec<String>,
}

fn passed() -> &'static Passed {
    static PASSED: OnceLock<Passed> = OnceLock::new();
    PASSED.get_or_init(|| {
        // Before the variables are removed, so that children do not take them for theirs.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let fds = ListenFd::from_env();
        let mut names: Vec<_> = names.split(':').map(str::to_owned).collect();
        // A socket without a name is called this (`sd_listen_fds_with_names(3)`).
        names.resize(fds.len(), "unknown".to_owned());
        Passed { fds: Mutex::new(fds), names }
    })
}

/// The socket with this number.
///
/// # Errors
///
/// If it is not a listening socket, or cannot be taken.
pub(super) fn by_number(number: i32) -> io::Result<Socket> {
    let passed = passed();
    let index = usize::try_from(number - FIRST).unwrap_or(usize::MAX);
    let socket = if index < passed.names.len() {
        let what = "the descriptor has been taken already, by another `fd:` or `systemd:`";
        take(passed, index)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, what))?
    } else {
        sockets::duplicate(number)?
    };
    checked(socket)
}

/// All sockets with this name.
///
/// # Errors
///
/// If there are none, or they are not listening.
pub(super) fn by_name(name: &str) -> io::Result<Vec<Socket>> {
    let passed = passed();
    let mut found = Vec::new();
    for (index, its) in passed.names.iter().enumerate() {
        if its == name
            && let Some(socket) = take(passed, index)?
        {
            found.push(checked(socket)?);
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let what = match &passed.names[..] {
        [] => "systemd has passed no sockets: is there a .socket unit (systemd.socket(5)), and is \
               this process started by it?"
            .to_owned(),
        names => format!(
            "systemd has passed `{}`, and no `{name}` that has not been taken: see \
             FileDescriptorName= in systemd.socket(5)",
            names.join("`, `")
        ),
    };
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

/// Takes a socket over, of whichever family.
fn take(passed: &Passed, index: usize) -> io::Result<Option<Socket>> {
    let mut fds = lock_std(&passed.fds);
    match fds.take_tcp_listener(index) {
        Ok(socket) => Ok(socket.map(Socket::from)),
        // It is put back where it is not TCP.
        Err(_) => Ok(fds.take_unix_listener(index)?.map(Socket::from)),
    }
}

fn checked(socket: Socket) -> io::Result<Socket> {
    if sockets::is_listening(&socket)? {
        return Ok(socket);
    }
    let what = "the descriptor is not a listening stream socket";
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}
