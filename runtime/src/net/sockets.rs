//! What a server asks of its sockets: their options, who else holds them, and how many connections
//! there may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::log::{Log, say};

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
