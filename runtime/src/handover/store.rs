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

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair, sockopt};

use super::{
    channel::{Batch, Blocking, peek},
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
        let (mut queue, end) = queue()?;
        let mut ends = vec![end];
        // The manager itself passes what it holds anyway.
        let own = offers.into_iter().filter(|offer| offer.sharing != SocketSharing::Shared);
        for (at, batch) in Batch::all(&offering(own)).enumerate() {
            // Only the first batch of a queue can be read without taking it.
            if at > 0 {
                let (next, end) = self::queue()?;
                queue = next;
                ends.push(end);
            }
            batch.send_at_once(queue.as_fd())?;
        }
        // All or none: the next process would take a part of the listeners for all of them.
        for end in ends {
            shared.manager.store(end);
        }
        Ok((Self { queue, shared: std::sync::Arc::downgrade(shared) }, wanted))
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
                let (queue, end) = queue()?;
                batch.send_at_once(queue.as_fd())?;
                shared.manager.store(end);
                self.queue = queue;
                Ok(())
            }
            result => result,
        }
    }
}

/// Makes a queue. Returns where it is written, and the end for the manager to keep.
fn queue() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // If it gets less, it is full sooner.
    let _ = sockopt::set_socket_send_buffer_size(&ours, ROOM);
    Ok((ours, end))
}

/// Takes the oldest batch off a queue, and closes what is in it. Returns whether there was one.
fn drop_batch(queue: &OwnedFd) -> bool {
    recv(queue, &mut [0], RecvFlags::DONTWAIT).is_ok_and(|(_, length)| length > 0)
}

/// Takes the listeners that the process before has left with the manager. Everything stays there,
/// too, until this process serves: if it fails before, the next one finds it.
///
/// # Errors
///
/// If the messages cannot be decoded. They are dropped then, because every later start would fail
/// in the same way.
pub(super) fn taken() -> Result<Option<Arriving>, Failure> {
    let failed =
        |error: io::Error| Failure::from_error(error).context("cannot take what systemd has kept");
    let queues = crate::net::stored();
    if queues.is_empty() {
        return Ok(None);
    }
    let listing = list(&queues).inspect_err(|error| {
        if error.kind() == io::ErrorKind::InvalidData {
            for queue in &queues {
                while drop_batch(queue) {}
            }
        }
    });
    let Listing { from, offers, mut offering } = listing.map_err(failed)?;
    offers.into_iter().for_each(moving::inherit);
    // The listeners are the next one's if this one stops before it serves.
    moving::hold_back();
    moving::on_make_way(move || {
        for queue in offering.drain(..) {
            drop_batch(&queue);
        }
    });
    let channels = queues.into_iter().map(|queue| {
        // All that will come is there.
        Blocking::new(UnixStream::from(queue), Duration::from_secs(1))
    });
    let channels = channels.collect::<io::Result<_>>().map_err(failed)?;
    Ok(Some(Arriving::Stored { channels, from }))
}

/// The listeners at the front of the queues.
struct Listing {
    /// The process that stored them.
    from: u32,
    offers: Vec<moving::Offer>,
    /// The queues that begin with listeners.
    offering: Vec<OwnedFd>,
}

/// Reads the listeners and leaves them in the queues.
fn list(queues: &[OwnedFd]) -> io::Result<Listing> {
    let (mut from, mut offers, mut offering) = (0, Vec::new(), Vec::new());
    // In any order: systemd passes the newest first.
    for queue in queues {
        let known = offers.len();
        for message in peek(queue.as_fd())? {
            match message {
                Message::Hello { process, .. } => from = process,
                Message::Listener { listener, written, sharing, socket } => {
                    offers.push(moving::Offer { listener, written, sharing, socket });
                }
                _ => {}
            }
        }
        if offers.len() > known {
            offering.push(queue.try_clone()?);
        }
    }
    Ok(Listing { from, offers, offering })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(count: usize) -> impl Iterator<Item = moving::Offer> {
        (0..count).map(|number| moving::Offer {
            listener: number.to_string(),
            written: String::new(),
            sharing: SocketSharing::Exclusive,
            socket: std::fs::File::open("/dev/null").unwrap().into(),
        })
    }

    /// More than fit into one batch, and systemd's order.
    #[test]
    fn all_listeners_are_found_and_stay_until_they_are_dropped() {
        let messages = offering(offers(300));
        let mut ends = Vec::new();
        for batch in Batch::all(&messages) {
            let (ours, end) = queue().unwrap();
            batch.send_at_once(ours.as_fd()).unwrap();
            ends.insert(0, end);
        }
        assert!(ends.len() > 1);
        for _ in 0..2 {
            let Listing { from, offers, offering } = list(&ends).unwrap();
            assert_eq!((from, offers.len()), (std::process::id(), 300));
            assert_eq!(offering.len(), ends.len());
        }
        assert!(ends.iter().all(|end| drop_batch(end) && !drop_batch(end)));
        assert!(list(&ends).unwrap().offers.is_empty());
    }

    /// A queue with connections alone is not one to be dropped.
    #[test]
    fn connections_are_no_listeners() {
        let (ours, end) = queue().unwrap();
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        let details = moving::Details::default();
        let message = [Message::Connection { details, socket }];
        Batch::of(&message).send_at_once(ours.as_fd()).unwrap();
        let listing = list(&[end]).unwrap();
        assert!(listing.offers.is_empty() && listing.offering.is_empty());
    }
}
