//! What holds for the sockets of a server.

use std::time::Duration;

use super::holders::Holders;

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
