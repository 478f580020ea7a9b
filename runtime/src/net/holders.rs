//! Who else holds a listening socket.

use std::os::fd::RawFd;

/// Who else may hold a listening socket. What is done to the socket is done to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holders {
    /// Nobody: it was bound here, or the program says so.
    Nobody,
    /// It was handed in: another process may hold it, or a copy of it in this one.
    Unknown,
    /// Another process that goes on accepting.
    Others,
}

/// Whether this descriptor came by socket activation (`sd_listen_fds(3)`): then systemd holds it,
/// too.
///
/// Looks at the environment that the process began with: libraries that take such sockets over
/// remove the variables.
pub(super) fn is_passed_by_systemd(fd: RawFd) -> bool {
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
    number("LISTEN_PID") == Some(std::process::id()) && fd >= FIRST && fd - FIRST < count
}
