//! The queries, through netlink or `/proc/net/tcp`.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    Answer, TcpInfo,
    proc_net::{self, Read},
    proc_net::{Asked, Entry, States, TcpState},
    sock_diag::SockDiag,
};
use crate::util::sync::{Mutex, lock};

/// The kernel's view of one listener's connections.
#[derive(Debug)]
pub(crate) struct Kernel {
    listener: SocketAddr,
    /// The inode of the listening socket, if known.
    inode: Option<u64>,
    /// `None` if netlink is not available (seccomp, `RestrictAddressFamilies=`).
    diag: Option<Mutex<SockDiag>>,
    /// All connections as of the start of the drain.
    table: OnceLock<Option<Table>>,
    unread: Mutex<Option<Unread>>,
}

/// The clients of which bytes wait to be read, at a moment.
#[derive(Debug)]
struct Unread {
    at: Instant,
    /// `None`: the kernel did not say.
    from: Option<HashSet<SocketAddr>>,
}

/// By peer.
type Table = HashMap<SocketAddr, TcpInfo>;

impl Kernel {
    /// Creates the view for the listener bound to `listener`, whose socket has this `inode`.
    pub(crate) fn new(listener: SocketAddr, inode: Option<u64>) -> Self {
        let diag = SockDiag::open().ok().map(Mutex::new);
        if diag.is_none() {
            proc_net::watch(listener);
        }
        Self { listener, inode, diag, table: OnceLock::new(), unread: Mutex::new(None) }
    }

    /// Returns the clients whose handshake with the listener is in progress.
    pub(crate) fn arriving(&self) -> Option<HashSet<SocketAddr>> {
        // A dump walks every socket of the machine, so avoid it if there are no clients.
        if self.listening().is_some_and(|listening| !listening.has_clients) {
            return Some(HashSet::new());
        }
        let Some(diag) = &self.diag else {
            // Someone is, but the table does not say who, so the listener's address stands in. New
            // clients are turned away by now, so nobody else joins.
            return self.listening().map(|_| HashSet::from([self.listener]));
        };
        let mut arriving = HashSet::new();
        lock(diag)
            .dump(self.listener, States::SYN_RECV, |entry| {
                if entry.state == TcpState::SynRecv && self.is_local(entry.local.ip()) {
                    arriving.insert(entry.peer);
                }
            })
            .ok()?;
        Some(arriving)
    }

    /// Counts the clients that wait in the queue of the listener.
    pub(crate) fn waiting(&self) -> usize {
        let mut waiting = None;
        if let (Some(diag), Some(inode)) = (&self.diag, self.inode) {
            // On failure, the table is read below.
            let _ = lock(diag).dump(self.listener, States::LISTEN, |entry| {
                if entry.inode == inode {
                    waiting = Some(entry.received);
                }
            });
        }
        let waiting = waiting.or_else(|| self.listening().map(|listening| listening.waiting));
        waiting.unwrap_or(0) as usize
    }

    /// The same for the Unix listener with this inode.
    pub(crate) fn waiting_unix(inode: u64) -> usize {
        let waiting = SockDiag::open().and_then(|mut diag| diag.unix_queue(inode));
        waiting.unwrap_or(0) as usize
    }

    /// Reads the beginning of the kernel's table, where the listeners are; cheap, however long the
    /// table is.
    fn listening(&self) -> Option<proc_net::Listening> {
        proc_net::listening(self.listener, self.inode?)
    }

    /// Returns the state of the connection to `peer` soon after the drain started. The first call
    /// queries all connections at once. `active` is when the connection last did anything.
    pub(crate) fn at_the_drain(&self, peer: SocketAddr, active: Instant) -> Answer {
        let Some(diag) = &self.diag else {
            return self.read(None, peer, active);
        };
        let table = self.table.get_or_init(|| self.table(diag));
        let facts = table.as_ref().and_then(|table| table.get(&canonical(peer)));
        facts.map_or(Answer::Unknown, |facts| Answer::Known(*facts))
    }

    /// Returns the state of a connection now, or at least at a moment after `active`.
    pub(crate) fn ask(&self, local: SocketAddr, peer: SocketAddr, active: Instant) -> Answer {
        match &self.diag {
            Some(diag) => ask_now(diag, local, peer).map_or(Answer::Unknown, Answer::Known),
            None => self.read(Some(local), peer, active),
        }
    }

    /// Returns whether bytes of the client `peer` wait to be read, at `since` or later; `None`: the
    /// kernel cannot be asked. Asks about all of them at once, so that many questions with one
    /// `since` cost one query, also if that fails.
    ///
    /// Without netlink, this reads the whole table on the calling thread. Only connections that
    /// blocked threads have failed to close in time are asked about.
    pub(crate) fn is_unread(&self, peer: SocketAddr, since: Instant) -> Option<bool> {
        let mut unread = lock(&self.unread);
        let unread = match &mut *unread {
            Some(unread) if unread.at >= since => unread,
            older => older.insert(self.all_unread()),
        };
        Some(unread.from.as_ref()?.contains(&canonical(peer)))
    }

    fn all_unread(&self) -> Unread {
        let (at, mut from) = (Instant::now(), HashSet::new());
        let each = |entry: Entry| {
            if self.is_local(entry.local.ip()) && entry.unread() > 0 {
                from.insert(entry.peer);
            }
        };
        let asked = match &self.diag {
            Some(diag) => lock(diag).dump(self.listener, States::CONNECTED, each),
            None => proc_net::dump_now(self.listener, each),
        };
        Unread { at, from: asked.ok().map(|()| from) }
    }

    /// Answers from `/proc/net/tcp`.
    fn read(&self, local: Option<SocketAddr>, peer: SocketAddr, active: Instant) -> Answer {
        let snapshot = match proc_net::newer_than(self.listener, active) {
            Read::Done(snapshot) => snapshot,
            Read::Later => return Answer::Later,
            Read::Impossible => return Answer::Unknown,
        };
        let (local, peer) = (local.map(canonical), canonical(peer));
        let is_it = |entry: &&Entry| {
            entry.local.port() == self.listener.port()
                && entry.peer == peer
                && local.map_or_else(|| self.is_local(entry.local.ip()), |it| it == entry.local)
        };
        match snapshot.of(peer).iter().find(is_it) {
            Some(entry) => Answer::Known(facts(entry, &snapshot.asked)),
            None => Answer::Unknown,
        }
    }

    fn table(&self, diag: &Mutex<SockDiag>) -> Option<Table> {
        let mut table = Table::new();
        let asked = Asked::now();
        let each = |entry: Entry| {
            if !self.is_local(entry.local.ip()) {
                return;
            }
            let facts = facts(&entry, &asked);
            // A client may use the same port with two of our addresses. The merged facts then have
            // to hold for either connection.
            let both = table.entry(entry.peer).or_insert(facts);
            both.unread |= facts.unread;
            both.undelivered = both.undelivered.max(facts.undelivered);
            both.round_trip = both.round_trip.max(facts.round_trip);
            both.last_ack = both.last_ack.max(facts.last_ack);
        };
        lock(diag).dump(self.listener, States::CONNECTED, each).ok()?;
        Some(table)
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        let own = self.listener.ip();
        own.is_unspecified() || own.to_canonical() == ip
    }
}

/// Returns the current state of a connection.
fn ask_now(diag: &Mutex<SockDiag>, local: SocketAddr, peer: SocketAddr) -> Option<TcpInfo> {
    let asked = Asked::now();
    let entry = one(diag, local, peer)?;
    let mut facts = facts(&entry, &asked);
    // On the same host, everything sent has arrived: loopback delivers it within the call. There is
    // no need to wait for a peer that delays its acknowledgements, as Linux does by up to 40 ms.
    let all_sent = entry.timing.is_some_and(|timing| timing.unsent == Some(0));
    if facts.undelivered > 0 && all_sent && one(diag, peer, local).is_some() {
        facts.undelivered = 0;
        facts.last_ack = Some(asked.exact);
    }
    Some(facts)
}

/// Looks up the socket of a connection.
fn one(diag: &Mutex<SockDiag>, local: SocketAddr, peer: SocketAddr) -> Option<Entry> {
    let (at, to) = (canonical(local), canonical(peer));
    let entry = lock(diag).one(at, to).ok()??;
    (entry.local == at && entry.peer == to).then_some(entry)
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn facts(entry: &Entry, asked: &Asked) -> TcpInfo {
    let round_trip = entry.timing.map_or(0, |timing| timing.round_trip_us);
    let ack = entry.timing.and_then(|timing| timing.since_last_ack_ms);
    let last_ack = ack.and_then(|ago| asked.exact.checked_sub(Duration::from_millis(ago.into())));
    TcpInfo {
        at: asked.at,
        local: entry.local,
        unread: entry.unread() > 0,
        undelivered: entry.undelivered(),
        window: entry.timing.and_then(|timing| timing.window),
        round_trip: Duration::from_micros(round_trip.into()),
        last_ack,
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::{fd::AsRawFd, unix::fs::MetadataExt},
    };

    use super::*;

    /// A connection to a listener at `bound`, and its server side.
    fn connect(bound: &str, to: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(bound).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((to, port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        (listener, client, server)
    }

    /// With netlink, and without.
    fn both(listener: &TcpListener) -> [Kernel; 2] {
        let inode =
            std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().ino();
        let new = || Kernel::new(listener.local_addr().unwrap(), Some(inode));
        let netlink = new();
        assert!(netlink.diag.is_some());
        let proc_net = Kernel { diag: None, ..new() };
        proc_net::watch(proc_net.listener);
        [netlink, proc_net]
    }

    #[test]
    fn a_listener_knows_whether_it_has_clients() {
        for bound in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(bound).unwrap();
            let kernel = &both(&listener)[0];
            let kernels = both(&listener);
            let check = |clients: usize, what: &str| {
                let listening = kernel.listening().unwrap();
                assert_eq!(listening.has_clients, clients > 0, "{bound}: {what}");
                for kernel in &kernels {
                    assert_eq!(kernel.waiting(), clients, "{bound}: {what}");
                }
            };
            check(0, "nobody");
            let clients = [(); 3].map(|()| TcpStream::connect(listener.local_addr().unwrap()));
            check(3, "in the queue");
            let accepted = [(); 3].map(|()| listener.accept().unwrap());
            check(0, "accepted");
            drop((clients, accepted));
            assert_eq!(proc_net::listening(kernel.listener, u64::MAX), None);
        }
    }

    #[test]
    fn knows_of_whom_something_waits_to_be_read() {
        for (bound, to) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "::1"), ("[::]:0", "127.0.0.1")]
        {
            let (listener, mut client, mut server) = connect(bound, to);
            let peer = server.peer_addr().unwrap();
            for kernel in both(&listener) {
                let is_unread = || kernel.is_unread(peer, Instant::now()).unwrap();
                assert!(!is_unread(), "{bound}");
                client.write_all(b"x").unwrap();
                assert!(is_unread(), "{bound}");
                server.read_exact(&mut [0]).unwrap();
                assert!(!is_unread(), "{bound}");
            }
            // That it has closed is nothing to read.
            drop(client);
            for kernel in both(&listener) {
                assert_ne!(kernel.is_unread(peer, Instant::now()), Some(true), "{bound}");
            }
        }
    }

    #[test]
    fn counts_the_queue_of_a_unix_listener() {
        let path = std::env::temp_dir().join(format!("graceful-queue-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let inode = crate::net::system::inode(&listener).unwrap();
        assert_eq!(Kernel::waiting_unix(inode), 0);
        let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
        let _clients = [connect(), connect()];
        assert_eq!(Kernel::waiting_unix(inode), 2);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn finds_connections_of_either_family() {
        for (bound, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ] {
            let (listener, mut client, mut server) = connect(bound, to);
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
            let (local, peer) = (server.local_addr().unwrap(), server.peer_addr().unwrap());
            let active = Instant::now();
            let known = |ask: &dyn Fn() -> Answer| loop {
                match ask() {
                    Answer::Known(facts) => break Some(facts),
                    Answer::Later => std::thread::yield_now(),
                    Answer::Unknown => break None,
                }
            };
            for kernel in both(&listener) {
                let listed = known(&|| kernel.at_the_drain(peer, active));
                let listed = listed.unwrap_or_else(|| panic!("{bound} {to}"));
                assert_eq!(listed.local, canonical(local));
                assert_eq!(listed.undelivered, 0);
                assert_eq!(listed.last_ack.is_some(), kernel.diag.is_some());
                assert!(listed.round_trip < Duration::from_millis(300), "{listed:?}");
                for local in [local, listed.local] {
                    let facts = known(&|| kernel.ask(local, peer, active));
                    let facts = facts.unwrap_or_else(|| panic!("{bound} {to}"));
                    assert_eq!((facts.local, facts.undelivered), (listed.local, 0));
                }
                assert_eq!(kernel.arriving().unwrap().len(), 0);
                // The listener would accept such a connection, but is not one.
                let nobody = SocketAddr::new(peer.ip(), 1);
                assert_eq!(known(&|| kernel.ask(local, nobody, active)), None);
                assert_eq!(known(&|| kernel.at_the_drain(nobody, active)), None);
            }
        }
    }
}
