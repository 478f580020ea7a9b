//! Connections and listeners on their way from one process to the next. This file knows what moves
//! and where it comes from and goes to; `handover/` knows how.
//!
//! There is one hand-over at a time in a process, so its two ends are statics, as the sockets of
//! socket activation are.

use std::{
    io,
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};

use super::{sockets::SocketSharing, stream::Stream, system::OwnedSocket};
use crate::{
    util::{LocalAddr, Peer, ProxiedAddrs, sync::lock_std},
    work::TaskGuard,
};

/// A connection between messages, as the next process needs it.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) socket: OwnedSocket,
    pub(crate) details: Details,
}

/// Everything about it but the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    /// The listener that it came from, as `key` writes it.
    pub(crate) listener: String,
    /// Bytes of the next message that have been read already.
    pub(crate) read: Vec<u8>,
    /// How long ago it was accepted.
    pub(crate) age: Duration,
    /// How long it has been idle.
    pub(crate) idle: Duration,
    /// Whether it has spoken HTTP/1 before.
    pub(crate) speaks_http1: bool,
    /// The addresses from the PROXY header, if there was one.
    pub(crate) proxied: Option<ProxiedAddrs>,
    /// The state that the handler leaves to the next one.
    pub(crate) state: Option<Vec<u8>>,
    /// Which handler goes on with a connection that has left HTTP.
    pub(crate) handler: Option<String>,
}

/// The longest state of a handler that goes along.
#[cfg_attr(not(feature = "handover"), allow(dead_code, reason = "nothing moves without it"))]
pub(crate) const LONGEST_STATE: usize = 1024 * 1024;

/// The name of a listener that both processes know: its address.
pub(super) fn key(addr: &LocalAddr) -> String {
    addr.named("tcp")
}

/// Something that can be waited for.
struct Gate {
    /// Release and acquire: a reader that finds it open sees everything written before.
    is_open: AtomicBool,
    opens: Notify,
}

impl Gate {
    const fn new(is_open: bool) -> Self {
        Self { is_open: AtomicBool::new(is_open), opens: Notify::const_new() }
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.opens.notify_waiters();
    }

    async fn opened(&self) {
        let mut opens = pin!(self.opens.notified());
        // Before the look, so that no opening slips in between.
        opens.as_mut().enable();
        if !self.is_open() {
            opens.await;
        }
    }
}

// In the process that gives.

/// A connection that waits to be sent. Answered with `None` once it is sent, else with the socket,
/// which stays.
pub(crate) struct Parcel {
    pub(crate) moved: Moved,
    pub(crate) answer: oneshot::Sender<Option<OwnedSocket>>,
}

/// Whether there is a process that takes connections. Relaxed everywhere: it is set before the
/// phase that makes the connections look.
static IS_GIVING: AtomicBool = AtomicBool::new(false);

static OUTBOX: Mutex<Option<mpsc::UnboundedSender<Parcel>>> = Mutex::new(None);

/// The listeners that the next process has taken: its, from then on for good.
static WANTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Opens when a process that serves has taken over.
static SUCCEEDED: Gate = Gate::new(false);

/// Starts to send the connections of the listeners `wanted` to the returned receiver.
pub(crate) fn begin_giving(wanted: Vec<String>) -> mpsc::UnboundedReceiver<Parcel> {
    let (parcels, outgoing) = mpsc::unbounded_channel();
    *lock_std(&WANTED) = wanted;
    *lock_std(&OUTBOX) = Some(parcels);
    IS_GIVING.store(true, Ordering::Relaxed);
    outgoing
}

/// There is a process that accepts on the listeners that it has taken: this one need not, and its
/// servers may end. So the sentinel has to know why before.
pub(crate) fn succeed() {
    SUCCEEDED.open();
}

/// Resolves when another process has taken this listener and accepts on it.
pub(super) async fn succeeded(listener: &str) {
    SUCCEEDED.opened().await;
    if !is_wanted(listener) {
        std::future::pending::<()>().await;
    }
}

/// Ends that: connections stay in this process.
pub(crate) fn end_giving() {
    IS_GIVING.store(false, Ordering::Relaxed);
    *lock_std(&OUTBOX) = None;
}

#[inline]
pub(crate) fn is_giving() -> bool {
    IS_GIVING.load(Ordering::Relaxed)
}

/// Whether the next process has taken this listener.
pub(crate) fn is_wanted(listener: &str) -> bool {
    lock_std(&WANTED).iter().any(|it| it == listener)
}

/// Whether connections of this listener go to the next process.
#[cfg_attr(not(feature = "handover"), allow(dead_code, reason = "nothing moves without it"))]
pub(super) fn gives(listener: &str) -> bool {
    is_giving() && is_wanted(listener)
}

/// Sends a connection to the next process. The receiver gets the socket back if it stays.
pub(crate) fn give(moved: Moved) -> oneshot::Receiver<Option<OwnedSocket>> {
    let (answer, answered) = oneshot::channel();
    let parcel = Parcel { moved, answer };
    let left = match &*lock_std(&OUTBOX) {
        Some(outbox) => outbox.send(parcel).err().map(|error| error.0),
        None => Some(parcel),
    };
    if let Some(Parcel { moved, answer }) = left {
        // The receiver is below.
        let _ = answer.send(Some(moved.socket));
    }
    answered
}

/// A listener, as far as it is offered to the next process.
pub(crate) trait Offers: Send + Sync {
    /// # Errors
    ///
    /// If there are no descriptors left.
    fn offer(&self) -> io::Result<Offer>;
}

/// The listeners of this process.
static LISTENING: Mutex<Vec<Weak<dyn Offers>>> = Mutex::new(Vec::new());

pub(crate) fn listens(listener: Weak<dyn Offers>) {
    let mut all = lock_std(&LISTENING);
    all.retain(|listener| listener.strong_count() > 0);
    all.push(listener);
}

/// A listening socket, for the next process.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) listener: String,
    /// How the program has written it; empty if it has not.
    pub(crate) written: String,
    pub(crate) sharing: SocketSharing,
    pub(crate) socket: OwnedSocket,
}

/// Returns a descriptor of each listener of this process.
///
/// # Errors
///
/// If there are no descriptors left.
pub(crate) fn offers() -> io::Result<Vec<Offer>> {
    let all: Vec<_> = lock_std(&LISTENING).iter().filter_map(Weak::upgrade).collect();
    all.iter().map(|listener| listener.offer()).collect()
}

// In the process that takes.

/// The listeners of the process before that no server has taken yet.
static INHERITED: Mutex<Vec<Offer>> = Mutex::new(Vec::new());

/// The names of those that a server has taken.
static CLAIMED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Closed until the old process has let this one begin. Clients accepted earlier would be lost if
/// it refuses.
static MAY_ACCEPT: Gate = Gate::new(true);

/// Closed while the old process is being asked. Until it answers, it is not known which of the two
/// has to empty the accept queues.
static IS_DECIDED: Gate = Gate::new(true);

/// Accepts nothing until the process before lets go. To be called before any server is bound.
pub(crate) fn hold_back() {
    MAY_ACCEPT.close();
}

/// The question to the old process. Dropping it marks the question as answered.
pub(crate) struct Asked(());

/// Marks the old process as being asked. Call this on the sentinel's thread while the phase is
/// earlier than `Stopping`, so that every accept loop that drains sees it.
pub(crate) fn ask() -> Asked {
    IS_DECIDED.close();
    Asked(())
}

impl Drop for Asked {
    fn drop(&mut self) {
        IS_DECIDED.open();
    }
}

/// The listeners are this process's from here on.
pub(crate) fn accept() {
    MAY_ACCEPT.open();
}

/// Resolves when it is known which process owns the listeners.
pub(super) async fn decided() {
    IS_DECIDED.opened().await;
}

pub(super) fn may_accept() -> bool {
    MAY_ACCEPT.is_open()
}

/// Resolves when this process may accept.
pub(super) async fn accepting() {
    MAY_ACCEPT.opened().await;
}

/// Keeps a listener of the process before for the server that asks for its address.
pub(crate) fn inherit(offer: Offer) {
    lock_std(&INHERITED).push(offer);
}

/// Takes the listeners that the process before had for an address that was written like this: for
/// port 0, the port that it had.
pub(super) fn inherited_as(written: &str) -> Vec<Offer> {
    let mut inherited = lock_std(&INHERITED);
    let mut taken: Vec<Offer> = Vec::new();
    // Of several at one address (`SO_REUSEPORT`), each server takes one.
    while let Some(at) = inherited.iter().position(|offer| {
        offer.written == written && taken.iter().all(|it| it.listener != offer.listener)
    }) {
        taken.push(inherited.remove(at));
    }
    lock_std(&CLAIMED).extend(taken.iter().map(|offer| offer.listener.clone()));
    taken
}

/// Takes the listener that the process before had at this address.
pub(super) fn inherited_at(addr: &LocalAddr) -> Option<Offer> {
    inherited_by(&key(addr))
}

pub(crate) fn inherited_by(listener: &str) -> Option<Offer> {
    let mut inherited = lock_std(&INHERITED);
    let at = inherited.iter().position(|offer| offer.listener == listener)?;
    lock_std(&CLAIMED).push(listener.to_owned());
    Some(inherited.remove(at))
}

/// Drops the copies of the inherited listeners that the service manager keeps.
#[cfg_attr(
    not(all(feature = "handover", feature = "systemd", target_os = "linux")),
    allow(dead_code, reason = "for the store")
)]
static DROP_STORED: Mutex<Option<Box<dyn FnMut() + Send>>> = Mutex::new(None);

/// Notes that the service manager keeps copies of the inherited listeners, whose process has ended,
/// and how to drop them.
#[cfg(all(feature = "handover", feature = "systemd", target_os = "linux"))]
pub(crate) fn on_make_way(drop_stored: impl FnMut() + Send + 'static) {
    *lock_std(&DROP_STORED) = Some(Box::new(drop_stored));
}

/// Closes unclaimed listeners at this port, which keep a new one from being bound at another
/// address. Returns whether there were any. Those of a process that is still running stay.
pub(super) fn make_way(port: u16) -> bool {
    let mut drop_stored = lock_std(&DROP_STORED);
    let Some(drop_stored) = &mut *drop_stored else { return false };
    let mut inherited = lock_std(&INHERITED);
    let before = inherited.len();
    inherited.retain(|offer| {
        let addr = socket2::SockRef::from(&offer.socket).local_addr().ok();
        addr.and_then(|addr| addr.as_socket()).is_none_or(|addr| addr.port() != port)
    });
    let are_in_the_way = inherited.len() < before;
    if are_in_the_way {
        drop_stored();
    }
    are_in_the_way
}

/// Closes the listeners that no server has taken: the process before empties their queues.
pub(crate) fn close_unclaimed() {
    lock_std(&INHERITED).clear();
    // It holds the queues open, with the connections in them.
    *lock_std(&DROP_STORED) = None;
}

/// A moved connection for its accept loop. The drain waits until that has counted it.
pub(super) struct Arriving {
    pub(super) moved: Moved,
    pub(super) hold: Arc<TaskGuard>,
}

/// An accept loop that takes moved connections.
struct Taker {
    listener: String,
    arrivals: mpsc::UnboundedSender<Arriving>,
}

static TAKERS: Mutex<Vec<Taker>> = Mutex::new(Vec::new());

/// Whether connections of the process before still come. Relaxed: whoever stops looks behind its
/// own phase, and one more look at no connection does no harm.
static IS_TAKING: AtomicBool = AtomicBool::new(false);

pub(crate) fn begin_taking() {
    IS_TAKING.store(true, Ordering::Relaxed);
}

/// No more connections come.
pub(crate) fn end_taking() {
    IS_TAKING.store(false, Ordering::Relaxed);
    lock_std(&TAKERS).clear();
}

pub(super) fn is_taking() -> bool {
    IS_TAKING.load(Ordering::Relaxed)
}

/// Returns the connections that come for this listener.
pub(super) fn arrivals(listener: &str) -> mpsc::UnboundedReceiver<Arriving> {
    let (arrivals, arriving) = mpsc::unbounded_channel();
    let mut takers = lock_std(&TAKERS);
    takers.retain(|taker| !taker.arrivals.is_closed());
    takers.push(Taker { listener: listener.to_owned(), arrivals });
    arriving
}

/// Returns the listeners that connections can be delivered to, and those of other frameworks.
pub(crate) fn takers() -> Vec<String> {
    let mut names: Vec<_> = lock_std(&TAKERS).iter().map(|taker| taker.listener.clone()).collect();
    names.append(&mut lock_std(&CLAIMED).clone());
    names.sort_unstable();
    names.dedup();
    names
}

/// Delivers a connection to the accept loop of its listener. Returns whether there is one. `hold`
/// holds the drain until the connection does.
pub(crate) fn deliver(moved: Moved, hold: &Arc<TaskGuard>) -> bool {
    let takers = lock_std(&TAKERS);
    let mut arriving = Some(Arriving { moved, hold: hold.clone() });
    for taker in takers.iter() {
        let is_its = |it: &mut Arriving| it.moved.details.listener == taker.listener;
        if let Some(it) = arriving.take_if(is_its) {
            match taker.arrivals.send(it) {
                Ok(()) => return true,
                Err(error) => arriving = Some(error.0),
            }
        }
    }
    false
}

impl Moved {
    /// Makes a stream of the socket. Needs the context of the runtime.
    ///
    /// # Errors
    ///
    /// If the socket is not connected any more.
    pub(super) fn into_stream(self) -> io::Result<(Stream, Peer, Details)> {
        let (stream, peer) = Stream::of_socket(self.socket)?;
        Ok((stream, peer, self.details))
    }
}
