//! What holds for the sockets of a server.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct SocketOptions {
    /// What the program says of who holds its sockets.
    pub(crate) holders: Option<Holders>,
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
            holders: None,
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

// Who else holds a listening socket.

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
