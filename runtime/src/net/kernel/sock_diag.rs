//! `sock_diag(7)`: queries about sockets over netlink, answered from the kernel's own tables. Needs
//! no privilege.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::proc_net::{Entry, States, TcpState, Timing};

/// `netlink(7)`, `linux/netlink.h`: family and protocol of the socket.
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
/// `linux/sock_diag.h`, `linux/netlink.h`, `linux/inet_diag.h`: message numbers.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;

/// The sizes of `struct nlmsghdr`, `struct inet_diag_req_v2` and `struct inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
/// Offset of the sequence number in a header.
const SEQUENCE: usize = 8;

/// A part of a dump is at most 32 KiB (`netlink_dump()` in the kernel).
const BUFFER: usize = 64 * 1024;

/// A netlink socket; one query at a time.
#[derive(Debug)]
pub(super) struct SockDiag {
    socket: Socket,
    /// Allocated by the first query.
    buffer: Vec<u8>,
    /// The sequence number of the latest query, which its answers carry.
    sequence: u32,
}

impl SockDiag {
    /// Opens the socket. Do this once and early, so that a process without free descriptors can
    /// still ask.
    pub(super) fn open() -> io::Result<Self> {
        let protocol = Protocol::from(NETLINK_SOCK_DIAG);
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer: Vec::new(), sequence: 0 })
    }

    /// Calls `each` with all sockets of the family of `local`, at its port, that are in one of
    /// `states`.
    pub(super) fn dump(
        &mut self,
        local: SocketAddr,
        states: States,
        each: impl FnMut(Entry),
    ) -> io::Result<()> {
        let anybody = SocketAddr::new(unspecified_like(local), 0);
        let local = SocketAddr::new(unspecified_like(local), local.port());
        self.ask(request(local, anybody, states, NLM_F_DUMP), each)
    }

    /// Looks up the socket of this connection or, if there is none, a listener that would accept
    /// it.
    pub(super) fn one(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Entry>> {
        let mut found = None;
        match self.ask(request(local, peer, States::ALL, 0), |entry| found = Some(entry)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// Counts the clients in the queue of the Unix listener with this inode (`linux/unix_diag.h`).
    pub(super) fn unix_queue(&mut self, inode: u64) -> io::Result<u32> {
        const AF_UNIX: u8 = 1;
        const UDIAG_SHOW_RQLEN: u32 = 0x10;
        const UNIX_DIAG_RQLEN: u16 = 4;
        /// `struct unix_diag_req`, `struct unix_diag_msg`.
        const UNIX_REQUEST: usize = 24;
        const UNIX_MESSAGE: usize = 16;
        let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut request = header(HEADER + UNIX_REQUEST, 0);
        request.extend([AF_UNIX, 0, 0, 0]);
        request.extend(States::ALL.bits().to_ne_bytes());
        request.extend(inode.to_ne_bytes());
        request.extend(UDIAG_SHOW_RQLEN.to_ne_bytes());
        // Any cookie.
        request.extend([0xff; 8]);
        let mut length = None;
        self.exchange(request, |body| {
            length = attribute(body.get(UNIX_MESSAGE..)?, UNIX_DIAG_RQLEN)
                .and_then(|value| read_u32(value, 0));
            Some(())
        })?;
        length.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn ask(&mut self, request: Vec<u8>, mut each: impl FnMut(Entry)) -> io::Result<()> {
        self.exchange(request, |body| parse(body).map(&mut each))
    }

    /// Sends a query and passes the body of each answer to `each`, which returns `None` if it makes
    /// no sense.
    fn exchange(
        &mut self,
        mut request: Vec<u8>,
        mut each: impl FnMut(&[u8]) -> Option<()>,
    ) -> io::Result<()> {
        let Self { socket, buffer, sequence } = self;
        buffer.resize(BUFFER, 0);
        *sequence = sequence.wrapping_add(1);
        request[SEQUENCE..][..4].copy_from_slice(&sequence.to_ne_bytes());
        // A datagram is sent whole or not at all.
        let _ = socket.write(&request)?;
        loop {
            // The kernel answers within the call: what is not there now will not come.
            let length = socket.read(buffer)?;
            let mut rest = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            while let Some(message) = take_message(&mut rest) {
                match message.kind {
                    // Left over from an answer that was not read to its end.
                    _ if message.sequence != *sequence => {}
                    SOCK_DIAG_BY_FAMILY => {
                        each(message.body).ok_or(io::ErrorKind::InvalidData)?;
                        if !message.multipart {
                            return Ok(());
                        }
                    }
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = read_u32(message.body, 0).map_or(0, u32::cast_signed);
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A netlink message: `struct nlmsghdr` and what follows.
struct Message<'a> {
    kind: u16,
    multipart: bool,
    sequence: u32,
    body: &'a [u8],
}

fn take_message<'a>(rest: &mut &'a [u8]) -> Option<Message<'a>> {
    const NLM_F_MULTI: u16 = 2;
    let length = read_u32(rest, 0)? as usize;
    let kind = read_u16(rest, 4)?;
    let multipart = read_u16(rest, 6)? & NLM_F_MULTI != 0;
    let sequence = read_u32(rest, SEQUENCE)?;
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(Message { kind, multipart, sequence, body })
}

/// The header of a query of this length.
fn header(length: usize, flags: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // The sequence number, which `exchange` fills in, and the sender, which the kernel fills in.
    bytes.extend([0; 8]);
    bytes
}

fn request(local: SocketAddr, peer: SocketAddr, states: States, flags: u16) -> Vec<u8> {
    let mut bytes = header(HEADER + REQUEST, flags);
    let family = match local {
        SocketAddr::V4(_) => AF_INET,
        SocketAddr::V6(_) => AF_INET6,
    };
    bytes.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    bytes.extend(states.bits().to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(address_bytes(local.ip()));
    bytes.extend(address_bytes(peer.ip()));
    // Any device, any cookie.
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

fn address_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn unspecified_like(addr: SocketAddr) -> IpAddr {
    match addr {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Parses `struct inet_diag_msg` and, among its attributes, `struct tcp_info`.
fn parse(body: &[u8]) -> Option<Entry> {
    let is_v4 = *body.first()? == AF_INET;
    let addr = |port: usize, at: usize| {
        let port = u16::from_be_bytes([*body.get(port)?, *body.get(port + 1)?]);
        let ip: [u8; 16] = *body.get(at..)?.first_chunk()?;
        let ip = if is_v4 { IpAddr::from(*ip.first_chunk::<4>()?) } else { IpAddr::from(ip) };
        Some(SocketAddr::new(ip.to_canonical(), port))
    };
    let mut entry = Entry {
        local: addr(4, 8)?,
        peer: addr(6, 24)?,
        state: TcpState::from_number(*body.get(1)?),
        inode: read_u32(body, 68)?.into(),
        received: read_u32(body, 56)?,
        unacknowledged: read_u32(body, 60)?,
        timing: None,
    };
    entry.timing = attribute(body.get(MESSAGE..)?, INET_DIAG_INFO).and_then(parse_tcp_info);
    Some(entry)
}

/// Returns the value of the attribute of this kind (`struct rtattr`, rtnetlink(7)).
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (read_u16(rest, 0)?, read_u16(rest, 2)?);
        let value = rest.get(4..usize::from(length))?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
}

/// Parses the fields of `struct tcp_info` (`linux/tcp.h`) that are used here; `tcpi_notsent_bytes`
/// is there since Linux 4.6, `tcpi_snd_wnd` since 5.4.
fn parse_tcp_info(info: &[u8]) -> Option<Timing> {
    const LAST_ACK_RECV: usize = 56;
    const RTT: usize = 68;
    const NOTSENT_BYTES: usize = 144;
    const SND_WND: usize = 228;
    Some(Timing {
        round_trip_us: read_u32(info, RTT)?,
        since_last_ack_ms: Some(read_u32(info, LAST_ACK_RECV)?),
        unsent: read_u32(info, NOTSENT_BYTES),
        window: read_u32(info, SND_WND),
    })
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}
