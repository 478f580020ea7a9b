//! The service manager as the way from one process to the next: at a stop it keeps a socket whose
//! queue holds the messages, and passes it to the process that it starts next.
//!
//! A queue is not read before that, so it has to hold everything: sockets that keep the boundaries
//! of what is written take a batch of messages or refuse it, and where one is full, another is
//! stored.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

use super::{
    channel::{Batch, Blocking},
    message::{Message, offering},
    take::Arriving,
};
use crate::{
    net::{SocketSharing, moving},
    stop::Shared,
    util::Failure,
};

/// How much a queue is asked to hold; the kernel grants as much as `net.core.wmem_max` says.
const ROOM: usize = 8 * 1024 * 1024;

/// Whether the manager keeps descriptors of this service.
pub(super) fn is_there() -> bool {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    // From systemd 254 on; before that the unit has to say so.
    number("FDSTORE").or_else(|| number("GRACEFUL_FDSTORE")).is_some_and(|most| most > 0)
}

/// Writes into queues that the manager keeps.
pub(super) struct Store {
    queue: OwnedFd,
    shared: std::sync::Weak<Shared>,
}

impl Store {
    /// Has the manager keep a queue, with the listeners in it. Returns it with their names.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    pub(super) fn begin(shared: &std::sync::Arc<Shared>) -> io::Result<(Self, Vec<String>)> {
        let offers = moving::offers()?;
        let wanted = offers.iter().map(|offer| offer.listener.clone()).collect();
        let mut this = Self { queue: queue(shared)?, shared: std::sync::Arc::downgrade(shared) };
        // The manager itself passes what it holds anyway.
        let own = offers.into_iter().filter(|offer| offer.sharing != SocketSharing::Shared);
        for (at, batch) in Batch::all(&offering(own)).enumerate() {
            // Only the first batch of a queue can be read without taking it.
            if at > 0 {
                this.queue = queue(shared)?;
            }
            batch.send_at_once(this.queue.as_fd())?;
        }
        Ok((this, wanted))
    }

    /// Sends a batch, whole or not at all.
    ///
    /// # Errors
    ///
    /// If it does not fit into a queue that is empty either.
    pub(super) fn send(&mut self, batch: &Batch<'_>) -> io::Result<()> {
        match batch.send_at_once(self.queue.as_fd()) {
            // The queue is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let shared = self.shared.upgrade().ok_or(io::ErrorKind::BrokenPipe)?;
                self.queue = queue(&shared)?;
                batch.send_at_once(self.queue.as_fd())
            }
            result => result,
        }
    }
}

/// Makes a queue, and has the manager keep its end.
fn queue(shared: &Shared) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, kept) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // If it gets less, it is full sooner.
    let _ = sockopt::set_socket_send_buffer_size(&ours, ROOM);
    shared.manager.store(kept);
    Ok(ours)
}

/// Takes the listeners that the process before has left with the manager. Everything stays there,
/// too, until this process serves: if it fails before, the next one finds it.
///
/// # Errors
///
/// If what is there makes no sense.
pub(super) fn taken() -> Result<Option<Arriving>, Failure> {
    let failed =
        |error: io::Error| Failure::from_error(error).context("cannot take what systemd has kept");
    let mut channels = Vec::new();
    for stored in crate::net::stored() {
        // All that will come is there.
        let channel = Blocking::new(UnixStream::from(stored), Duration::from_secs(1));
        channels.push(channel.map_err(failed)?);
    }
    if channels.is_empty() {
        return Ok(None);
    }
    let mut from = 0;
    'offered: for channel in &channels {
        for message in channel.peek().map_err(failed)? {
            match message {
                Message::Hello { process, .. } => from = process,
                Message::Listener { listener, written, sharing, socket } => {
                    moving::inherit(moving::Offer { listener, written, sharing, socket });
                }
                Message::Offered => break 'offered,
                _ => {}
            }
        }
    }
    // The listeners are the next one's if this one stops before it serves.
    moving::hold_back();
    Ok(Some(Arriving::Stored { channels, from }))
}
