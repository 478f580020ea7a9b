//! `/proc/net/tcp` and `/proc/net/tcp6` (`proc_pid_net(5)`): the same table as text, for processes
//! that may not use netlink. The kernel formats every socket of the machine, which takes a tenth of
//! a second for 50,000 of them. So a separate thread reads it, for all connections of the process
//! at once, and at most a fifth of the time.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    net::clock,
    util::{sync::lock_std, threads},
};

/// How long to wait for a read before giving up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The minimum pause between two reads, and the pause as a multiple of the duration of the last
/// read.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE: u32 = 4;

/// One reader per address family.
static V4: Mutex<Reader> = Mutex::new(Reader::new("/proc/net/tcp"));
/// Also contains the IPv4 clients of dual-stack listeners. Without IPv6, there is neither such a
/// file nor such a listener.
static V6: Mutex<Reader> = Mutex::new(Reader::new("/proc/net/tcp6"));

struct Reader {
    file: &'static str,
    /// The ports of the process; no others are queried.
    ports: Vec<u16>,
    latest: Option<Arc<Snapshot>>,
    /// Since when a thread has been reading.
    reading: Option<Instant>,
    /// When the next read may begin.
    next: Option<Instant>,
}

/// All sockets at the ports of the process at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) asked: Asked,
    by_peer: HashMap<SocketAddr, Vec<Entry>>,
}

/// The state of a request for the table.
pub(super) enum Read {
    Done(Arc<Snapshot>),
    /// A read is in progress or queued.
    Later,
    Impossible,
}

impl Reader {
    const fn new(file: &'static str) -> Self {
        Self { file, ports: Vec::new(), latest: None, reading: None, next: None }
    }
}

impl Snapshot {
    /// Returns the connections with this peer.
    pub(super) fn of(&self, peer: SocketAddr) -> &[Entry] {
        self.by_peer.get(&peer).map_or(&[], Vec::as_slice)
    }
}

fn reader(listener: SocketAddr) -> &'static Mutex<Reader> {
    match listener {
        SocketAddr::V4(_) => &V4,
        SocketAddr::V6(_) => &V6,
    }
}

/// Announces that connections of this listener will be queried.
pub(super) fn watch(listener: SocketAddr) {
    let mut reader = lock_std(reader(listener));
    if !reader.ports.contains(&listener.port()) {
        reader.ports.push(listener.port());
    }
}

/// Returns the table as of a moment after `active`. Never blocks: starts a read if there is no such
/// table yet.
pub(super) fn newer_than(listener: SocketAddr, active: Instant) -> Read {
    let this = reader(listener);
    let mut reader = lock_std(this);
    if let Some(latest) = reader.latest.as_ref().filter(|latest| latest.asked.at > active) {
        return Read::Done(latest.clone());
    }
    let now = Instant::now();
    if let Some(since) = reader.reading {
        return if now < since + PATIENCE { Read::Later } else { Read::Impossible };
    }
    if reader.next.is_some_and(|next| now < next) {
        return Read::Later;
    }
    if threads::spawn("graceful-proc", || read(this)).is_err() {
        return Read::Impossible;
    }
    reader.reading = Some(now);
    Read::Later
}

fn read(reader: &'static Mutex<Reader>) {
    let (file, ports) = {
        let reader = lock_std(reader);
        (reader.file, reader.ports.clone())
    };
    let asked = Asked::now();
    let start = Instant::now();
    let mut by_peer: HashMap<_, Vec<_>> = HashMap::new();
    let read = dump(file, &ports, |entry| by_peer.entry(entry.peer).or_default().push(entry));
    let end = Instant::now();
    let mut reader = lock_std(reader);
    reader.reading = None;
    reader.next = Some(end + LEAST_PAUSE.max((end - start) * PAUSE));
    // An unreadable table reports nothing as under way.
    reader.latest = Some(Arc::new(Snapshot {
        asked,
        by_peer: if read.is_ok() { by_peer } else { HashMap::new() },
    }));
}

/// The tick of the times in the table: `USER_HZ` is 100 on every architecture that tokio runs on.
const TICK_US: u32 = 10_000;

/// The kernel's retransmission timeout is the round-trip time plus at least this (`TCP_RTO_MIN`).
const LEAST_VARIANCE_US: u32 = 200_000;

/// Calls `each` with every socket at the port of this listener. Unlike `newer_than`, reads the
/// table at once and on the calling thread.
pub(super) fn dump_now(listener: SocketAddr, each: impl FnMut(Entry)) -> io::Result<()> {
    let file = lock_std(reader(listener)).file;
    dump(file, &[listener.port()], each)
}

/// Calls `each` with every socket of the machine's network namespace at one of these local ports.
fn dump(file: &str, ports: &[u16], mut each: impl FnMut(Entry)) -> io::Result<()> {
    let mut text = Vec::new();
    File::open(file)?.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    for line in text.lines().skip(1) {
        let local = line.split_ascii_whitespace().nth(1);
        let port = local.and_then(|local| local.rsplit_once(':'));
        let port = port.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        // Most lines belong to other ports and need not be parsed further.
        if port.is_some_and(|port| ports.contains(&port)) {
            parse(line).into_iter().for_each(&mut each);
        }
    }
    Ok(())
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    /// The connections in its queue.
    pub(super) waiting: u32,
    /// Whether any client is on the way to it or waits in its queue.
    pub(super) has_clients: bool,
}

/// Finds the listener with this inode; `None` if it is not listed.
///
/// Each client holds a reference to the listening socket (`inet_reqsk_alloc()` in the kernel, since
/// Linux 4.4), and the table shows the count; the process holds one itself. Listeners come first,
/// so the table need not be read to its end, which matters when it is large, as with many sockets
/// in `TIME_WAIT`.
pub(super) fn listening(local: SocketAddr, inode: u64) -> Option<Listening> {
    const LISTEN: &str = "0A";
    let file = if local.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let lines = BufReader::with_capacity(4096, File::open(file).ok()?).lines().skip(1);
    for line in lines.map_while(Result::ok) {
        let mut fields = line.split_ascii_whitespace().skip(3);
        if fields.next() != Some(LISTEN) {
            return None;
        }
        let (_, waiting) = fields.next()?.split_once(':')?;
        // After timer, retransmissions, user and timeout.
        let own = fields.nth(4).and_then(|it| it.parse::<u64>().ok()) == Some(inode);
        if own {
            let references: u32 = fields.next()?.parse().ok()?;
            let waiting = u32::from_str_radix(waiting, 16).ok()?;
            return Some(Listening { waiting, has_clients: references > 1 });
        }
    }
    None
}

fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let peer = address(fields.next()?)?;
    let state = TcpState::from_number(u8::from_str_radix(fields.next()?, 16).ok()?);
    let (unacknowledged, received) = fields.next()?.split_once(':')?;
    // After timer, retransmissions, user and timeout.
    let inode = fields.nth(4).and_then(|inode| inode.parse().ok()).unwrap_or(0);
    // After references and address.
    let timeout = fields.nth(2).and_then(|ticks| ticks.parse::<u32>().ok());
    let timing = timeout.map(|ticks| Timing {
        round_trip_us: ticks.saturating_mul(TICK_US).saturating_sub(LEAST_VARIANCE_US),
        since_last_ack_ms: None,
        unsent: None,
        window: None,
    });
    let unacknowledged = u32::from_str_radix(unacknowledged, 16).ok()?;
    let received = u32::from_str_radix(received, 16).ok()?;
    Some(Entry { local, peer, state, inode, received, unacknowledged, timing })
}

/// Parses an address: hexadecimal words of 32 bits, each in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = *words.as_flattened().first_chunk()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

// An entry of the kernel's table of TCP sockets, however it was read.

/// One socket. Addresses are canonical: an IPv4 client of a dual-stack listener has its IPv4
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) state: TcpState,
    /// The socket's inode; 0 if unknown.
    pub(super) inode: u64,
    /// Bytes received but not read, a FIN counting as one; for a listener, the connections in its
    /// queue.
    pub(super) received: u32,
    /// Bytes written but not acknowledged by the peer's kernel (`SIOCOUTQ`, tcp(7)). A FIN counts
    /// as one.
    pub(super) unacknowledged: u32,
    pub(super) timing: Option<Timing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// The smoothed round-trip time, in microseconds.
    pub(super) round_trip_us: u32,
    /// How long ago the peer last acknowledged something, in milliseconds.
    pub(super) since_last_ack_ms: Option<u32>,
    /// How many of the unacknowledged bytes were never sent.
    pub(super) unsent: Option<u32>,
    /// The peer's receive window.
    pub(super) window: Option<u32>,
}

/// The states that matter here, of those in `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpState {
    /// A handshake in progress: the SYN has been answered, the final ACK has not come.
    SynRecv,
    Listen,
    /// Our side is shut and the FIN not yet acknowledged (`FIN_WAIT1`).
    FinSent,
    /// The peer's side is shut (`CLOSE_WAIT`).
    FinReceived,
    /// Both (`LAST_ACK`, `CLOSING`).
    BothFins,
    Other,
}

impl TcpState {
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            3 => Self::SynRecv,
            10 => Self::Listen,
            4 => Self::FinSent,
            8 => Self::FinReceived,
            9 | 11 => Self::BothFins,
            _ => Self::Other,
        }
    }
}

/// A set of states, in the kernel's format.
#[derive(Clone, Copy, Debug)]
pub(super) struct States(u32);

impl States {
    pub(super) const ALL: Self = Self(u32::MAX);
    pub(super) const SYN_RECV: Self = Self(1 << 3);
    pub(super) const LISTEN: Self = Self(1 << 10);
    /// Connections that may still receive something: not listeners, and not `TIME_WAIT`, of which a
    /// busy machine has many.
    pub(super) const CONNECTED: Self = Self(!(1 << 10) & !(1 << 6) & !(1 << 7));

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl Entry {
    /// Unacknowledged bytes of data.
    pub(super) fn undelivered(&self) -> u32 {
        let fin = u32::from(matches!(self.state, TcpState::FinSent | TcpState::BothFins));
        self.unacknowledged.saturating_sub(fin)
    }

    /// Bytes of data that have not been read.
    pub(super) fn unread(&self) -> u32 {
        let fin = u32::from(matches!(self.state, TcpState::FinReceived | TcpState::BothFins));
        self.received.saturating_sub(fin)
    }
}

/// The moment before a query: what a connection does later is not in the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) exact: Instant,
    /// By the clock that connections record their times with: anything before this was before the
    /// query.
    pub(super) at: Instant,
}

impl Asked {
    pub(super) fn now() -> Self {
        Self { exact: Instant::now(), at: clock::instant(clock::now()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_lines_of_the_kernel() {
        let line = "   3: 0100007F:1F90 0200007F:C350 01 00013178:00000000 01:00000015 00000000     0        0 36219 2 00000000f2b1 30 4 30 10 -1";
        let entry = parse(line).unwrap();
        assert_eq!(entry.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(entry.peer, "127.0.0.2:50000".parse().unwrap());
        assert_eq!((entry.state, entry.unacknowledged), (TcpState::Other, 78_200));
        assert_eq!(entry.timing.unwrap().round_trip_us, 100_000);
        let line = "   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:C350 03 00000000:00000000 01:00000015 00000000 0 0 0";
        let entry = parse(line).unwrap();
        assert_eq!(entry.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((entry.state, entry.timing), (TcpState::SynRecv, None));
        assert_eq!(parse("  sl  local_address rem_address   st"), None);
    }
}
