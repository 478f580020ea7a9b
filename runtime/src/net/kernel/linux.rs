//! The questions, and which way they are asked.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    Facts,
    entry::{Entry, State, States},
    proc_net,
    sock_diag::SockDiag,
};
use crate::{
    net::clock,
    util::sync::{Mutex, lock},
};

/// What the kernel knows of the connections of one listener.
#[derive(Debug)]
pub(crate) struct Kernel {
    listener: SocketAddr,
    /// The listening socket's; `None`: not known.
    inode: Option<u64>,
    /// `None`: netlink is not to be had (seccomp, `RestrictAddressFamilies=`).
    diag: Option<Mutex<SockDiag>>,
    /// All connections as of the start of the drain.
    table: OnceLock<Option<Table>>,
}

/// By peer.
type Table = HashMap<SocketAddr, Facts>;

impl Kernel {
    /// For the listener that is bound to `listener`; `inode` is its socket's.
    pub(crate) fn new(listener: SocketAddr, inode: Option<u64>) -> Self {
        let diag = SockDiag::open().ok().map(Mutex::new);
        Self { listener, inode, diag, table: OnceLock::new() }
    }

    /// The clients whose handshake with the listener is under way.
    pub(crate) fn arriving(&self) -> Option<HashSet<SocketAddr>> {
        // A dump passes every socket of the machine, so it is not asked for in vain.
        if self.inode.and_then(|inode| proc_net::has_clients(self.listener, inode)) == Some(false) {
            return Some(HashSet::new());
        }
        let mut arriving = HashSet::new();
        self.dump(States::SYN_RECV, |entry| {
            if entry.state == State::SynRecv && self.is_local(entry.local.ip()) {
                arriving.insert(entry.peer);
            }
        })
        .ok()?;
        Some(arriving)
    }

    /// What was known of the connection to `peer` soon after the drain started. The first call
    /// asks, for all connections at once.
    pub(crate) fn at_the_drain(&self, peer: SocketAddr) -> Option<Facts> {
        let table = self.table.get_or_init(|| self.table()).as_ref()?;
        table.get(&canonical(peer)).copied()
    }

    /// What is known of a connection now.
    pub(crate) fn ask(&self, local: SocketAddr, peer: SocketAddr) -> Option<Facts> {
        let asked = Asked::now();
        let entry = self.one(local, peer)?;
        let mut facts = facts(&entry, &asked);
        // All that was sent to this very host has arrived: loopback hands it over within the call.
        // A peer that is slow to acknowledge, as Linux is by up to 40 ms, need not be waited for.
        let all_sent = entry.timing.is_some_and(|timing| timing.unsent == Some(0));
        if facts.undelivered > 0 && all_sent && self.one(peer, local).is_some() {
            facts.undelivered = 0;
            facts.last_ack = Some(asked.exact);
        }
        Some(facts)
    }

    fn table(&self) -> Option<Table> {
        let mut table = Table::new();
        let asked = Asked::now();
        self.dump(States::CONNECTED, |entry| {
            if !self.is_local(entry.local.ip()) {
                return;
            }
            let facts = facts(&entry, &asked);
            // A client may have one port at two addresses of ours: then what holds for either holds
            // for both.
            let both = table.entry(entry.peer).or_insert(facts);
            both.undelivered = both.undelivered.max(facts.undelivered);
            both.round_trip = both.round_trip.max(facts.round_trip);
            both.last_ack = both.last_ack.max(facts.last_ack);
        })
        .ok()?;
        Some(table)
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        let own = self.listener.ip();
        own.is_unspecified() || own.to_canonical() == ip
    }

    fn dump(&self, states: States, mut each: impl FnMut(Entry)) -> io::Result<()> {
        if let Some(diag) = &self.diag {
            let mut entries = Vec::new();
            if lock(diag).dump(self.listener, states, |entry| entries.push(entry)).is_ok() {
                entries.into_iter().for_each(each);
                return Ok(());
            }
        }
        proc_net::dump(self.listener, &mut each)
    }

    fn one(&self, local: SocketAddr, peer: SocketAddr) -> Option<Entry> {
        let (at, to) = (canonical(local), canonical(peer));
        let is_asked_for = |entry: &Entry| entry.local == at && entry.peer == to;
        if let Some(diag) = &self.diag
            && let Ok(entry) = lock(diag).one(at, to)
        {
            return entry.filter(is_asked_for);
        }
        let mut found = None;
        // The family of the listener is that of its connections.
        let family = SocketAddr::new(self.listener.ip(), local.port());
        proc_net::dump(family, |entry| found = found.or(Some(entry).filter(is_asked_for))).ok()?;
        found
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The moment before a question: what a connection does later is not in the answer.
struct Asked {
    exact: Instant,
    /// By the clock that connections note their times by: what is before this was before the
    /// question.
    at: Instant,
}

impl Asked {
    fn now() -> Self {
        Self { exact: Instant::now(), at: clock::instant(clock::now()) }
    }
}

fn facts(entry: &Entry, asked: &Asked) -> Facts {
    let round_trip = entry.timing.map_or(0, |timing| timing.round_trip_us);
    let ack = entry.timing.and_then(|timing| timing.since_last_ack_ms);
    let last_ack = ack.and_then(|ago| asked.exact.checked_sub(Duration::from_millis(ago.into())));
    Facts {
        at: asked.at,
        local: entry.local,
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

    /// As with netlink, and as without.
    fn both(listener: &TcpListener) -> [Kernel; 2] {
        let inode =
            std::fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().ino();
        let new = || Kernel::new(listener.local_addr().unwrap(), Some(inode));
        let netlink = new();
        assert!(netlink.diag.is_some());
        let proc_net = Kernel { diag: None, ..new() };
        [netlink, proc_net]
    }

    #[test]
    fn a_listener_knows_whether_it_has_clients() {
        for bound in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(bound).unwrap();
            let kernel = &both(&listener)[0];
            let has_clients = || proc_net::has_clients(kernel.listener, kernel.inode.unwrap());
            assert_eq!(has_clients(), Some(false), "{bound}");
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(has_clients(), Some(true), "{bound}: in the queue");
            let accepted = listener.accept().unwrap();
            assert_eq!(has_clients(), Some(false), "{bound}: accepted");
            drop((client, accepted));
            assert_eq!(proc_net::has_clients(kernel.listener, u64::MAX), None);
        }
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
            for kernel in both(&listener) {
                let listed = kernel.at_the_drain(peer).unwrap_or_else(|| panic!("{bound} {to}"));
                assert_eq!(listed.local, canonical(local));
                assert_eq!(listed.undelivered, 0);
                assert_eq!(listed.last_ack.is_some(), kernel.diag.is_some());
                assert!(listed.round_trip < Duration::from_millis(300), "{listed:?}");
                for local in [local, listed.local] {
                    let facts = kernel.ask(local, peer).unwrap_or_else(|| panic!("{bound} {to}"));
                    assert_eq!((facts.local, facts.undelivered), (listed.local, 0));
                }
                assert_eq!(kernel.arriving().unwrap().len(), 0);
                // The listener would take such a connection, and is none.
                let nobody = SocketAddr::new(peer.ip(), 1);
                assert!(
                    kernel.ask(local, nobody).is_none() && kernel.at_the_drain(nobody).is_none()
                );
            }
        }
    }
}
