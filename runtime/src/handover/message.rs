//! The messages of a hand-over: what one process tells the next.
//!
//! A message is its kind (16 bits), the number of descriptors beside it (16 bits), the length of
//! the rest (32 bits), and fields: a tag (8 bits), a length (32 bits), and bytes. Numbers are
//! big-endian. A reader skips kinds and fields that it does not know, so that two versions of this
//! library understand each other; kinds and tags are never used for anything else again.

use std::{collections::VecDeque, iter, os::fd::OwnedFd, time::Duration};

use crate::{
    net::{
        SocketSharing,
        moving::{Details, Moved, Offer},
    },
    util::ProxiedAddrs,
};

/// The version of these messages. A reader that is older than a writer takes what it knows.
const VERSION: u64 = 1;

pub(super) const HEADER: usize = 8;

/// The longest message: one that is not complete, or a state, goes along up to this.
pub(super) const LONGEST: usize = 4 * 1024 * 1024;

/// A message, with descriptors of type `F` beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<F = OwnedFd> {
    /// The first message of either side.
    Hello { version: u64, process: u32 },
    /// A listening socket of the old process.
    Listener { listener: String, written: String, sharing: SocketSharing, socket: F },
    /// There are no more listeners.
    Offered,
    /// The new process serves. These are the listeners that it has taken.
    Ready {
        wanted: Vec<String>,
        /// How many connections it has descriptors for.
        room: u64,
    },
    /// The old process lets go, by `Go`, as soon as this is answered.
    Begin,
    /// The new process takes connections as soon as it may.
    Begun,
    /// It may: there is no way back for the old one.
    Go,
    /// A connection.
    Connection { details: Details, socket: F },
    /// There are no more connections.
    Done,
    /// The old process goes on, and why; the new one is to end.
    Refused { why: String },
}

/// The kinds.
mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const LISTENER: u16 = 2;
    pub(super) const OFFERED: u16 = 3;
    pub(super) const READY: u16 = 4;
    pub(super) const BEGIN: u16 = 5;
    pub(super) const BEGUN: u16 = 6;
    pub(super) const CONNECTION: u16 = 7;
    pub(super) const DONE: u16 = 8;
    pub(super) const REFUSED: u16 = 9;
    pub(super) const GO: u16 = 10;
    /// Those that this version knows.
    pub(super) const KNOWN: std::ops::RangeInclusive<u16> = HELLO..=GO;
}

/// The tags of the fields, over all kinds.
mod tag {
    pub(super) const VERSION: u8 = 1;
    pub(super) const PROCESS: u8 = 2;
    pub(super) const LISTENER: u8 = 3;
    pub(super) const SHARING: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const AGE: u8 = 6;
    pub(super) const IDLE: u8 = 7;
    pub(super) const SPEAKS_HTTP1: u8 = 8;
    pub(super) const PROXIED_PEER: u8 = 9;
    pub(super) const PROXIED_LOCAL: u8 = 10;
    pub(super) const STATE: u8 = 11;
    pub(super) const ROOM: u8 = 12;
    pub(super) const WHY: u8 = 13;
    pub(super) const WRITTEN: u8 = 14;
    pub(super) const HANDLER: u8 = 15;
}

impl From<Offer> for Message {
    fn from(offer: Offer) -> Self {
        let Offer { listener, written, sharing, socket } = offer;
        Self::Listener { listener, written, sharing, socket }
    }
}

/// The messages that offer listening sockets to the next process.
pub(super) fn offering(offers: impl IntoIterator<Item = Offer>) -> Vec<Message> {
    let offers = offers.into_iter().map(Message::from);
    iter::once(Message::hello()).chain(offers).chain([Message::Offered]).collect()
}

impl From<Moved> for Message {
    fn from(moved: Moved) -> Self {
        Self::Connection { details: moved.details, socket: moved.socket }
    }
}

impl<F> Message<F> {
    /// The greeting of this process.
    pub(super) fn hello() -> Self {
        Self::Hello { version: VERSION, process: std::process::id() }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Listener { .. } => kind::LISTENER,
            Self::Offered => kind::OFFERED,
            Self::Ready { .. } => kind::READY,
            Self::Begin => kind::BEGIN,
            Self::Begun => kind::BEGUN,
            Self::Go => kind::GO,
            Self::Connection { .. } => kind::CONNECTION,
            Self::Done => kind::DONE,
            Self::Refused { .. } => kind::REFUSED,
        }
    }

    /// Returns the descriptor beside it.
    pub(super) fn socket(&self) -> Option<&F> {
        match self {
            Self::Listener { socket, .. } | Self::Connection { socket, .. } => Some(socket),
            _ => None,
        }
    }

    /// Takes the descriptor out.
    pub(super) fn into_socket(self) -> Option<F> {
        match self {
            Self::Listener { socket, .. } | Self::Connection { socket, .. } => Some(socket),
            _ => None,
        }
    }

    /// Appends the message to `bytes`.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend(self.kind().to_be_bytes());
        bytes.extend(u16::from(self.socket().is_some()).to_be_bytes());
        bytes.extend([0; 4]);
        self.write_fields(&mut Fields(bytes));
        let length = u32::try_from(bytes.len() - start - HEADER).unwrap_or(u32::MAX);
        bytes[start + 4..][..4].copy_from_slice(&length.to_be_bytes());
    }

    fn write_fields(&self, fields: &mut Fields<'_>) {
        match self {
            Self::Hello { version, process } => {
                fields.number(tag::VERSION, *version);
                fields.number(tag::PROCESS, u64::from(*process));
            }
            Self::Listener { listener, written, sharing, .. } => {
                fields.bytes(tag::LISTENER, listener.as_bytes());
                fields.bytes(tag::WRITTEN, written.as_bytes());
                fields.number(tag::SHARING, sharing_number(*sharing));
            }
            Self::Ready { wanted, room } => {
                for listener in wanted {
                    fields.bytes(tag::LISTENER, listener.as_bytes());
                }
                fields.number(tag::ROOM, *room);
            }
            Self::Refused { why } => fields.bytes(tag::WHY, why.as_bytes()),
            Self::Connection { details, .. } => {
                fields.bytes(tag::LISTENER, details.listener.as_bytes());
                if !details.read.is_empty() {
                    fields.bytes(tag::READ, &details.read);
                }
                fields.duration(tag::AGE, details.age);
                fields.duration(tag::IDLE, details.idle);
                if details.speaks_http1 {
                    fields.number(tag::SPEAKS_HTTP1, 1);
                }
                if let Some(proxied) = &details.proxied {
                    fields.bytes(tag::PROXIED_PEER, proxied.peer.to_string().as_bytes());
                    fields.bytes(tag::PROXIED_LOCAL, proxied.local.to_string().as_bytes());
                }
                if let Some(state) = &details.state {
                    fields.bytes(tag::STATE, state);
                }
                if let Some(handler) = &details.handler {
                    fields.bytes(tag::HANDLER, handler.as_bytes());
                }
            }
            Self::Offered | Self::Begin | Self::Begun | Self::Go | Self::Done => {}
        }
    }
}

fn sharing_number(sharing: SocketSharing) -> u64 {
    match sharing {
        SocketSharing::Exclusive => 0,
        SocketSharing::Unknown => 1,
        SocketSharing::Shared => 2,
    }
}

/// The fields of a message that is being written.
struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        // Nothing here comes close to 4 GiB; a reader refuses what is longer than `LONGEST`.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.push(tag);
        self.0.extend(length.to_be_bytes());
        self.0.extend(bytes);
    }

    fn number(&mut self, tag: u8, number: u64) {
        self.bytes(tag, &number.to_be_bytes());
    }

    /// In milliseconds.
    fn duration(&mut self, tag: u8, duration: Duration) {
        self.number(tag, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }
}

/// Why a stream of messages cannot be read on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(&'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Reads messages from bytes and descriptors as they come. Descriptors come no later than the bytes
/// that they were sent with.
#[derive(Debug)]
pub(crate) struct Reader<F = OwnedFd> {
    bytes: Vec<u8>,
    sockets: VecDeque<F>,
    /// Messages that begin before this place may lack their descriptors.
    lacking: usize,
}

impl<F> Reader<F> {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), sockets: VecDeque::new(), lacking: 0 }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], sockets: impl IntoIterator<Item = F>) {
        self.bytes.extend(bytes);
        self.sockets.extend(sockets);
    }

    /// Of what has been fed so far, the last descriptors are missing: this process had no room for
    /// them, and the messages that they belong to are skipped.
    pub(crate) fn lacks_sockets(&mut self) {
        self.lacking = self.bytes.len();
    }

    /// Whether any have been.
    pub(crate) fn is_lacking(&self) -> bool {
        self.lacking > 0
    }

    /// Returns the next message that is known and complete, or `None` if more has to be read.
    ///
    /// # Errors
    ///
    /// If the bytes are not such messages. Nothing can be read after that.
    pub(crate) fn next(&mut self) -> Result<Option<Message<F>>, Malformed> {
        let mut start = 0;
        let mut found = None;
        while let Some((header, rest)) = self.bytes[start..].split_first_chunk::<HEADER>() {
            let [k1, k2, s1, s2, l1, l2, l3, l4] = *header;
            let length = u32::from_be_bytes([l1, l2, l3, l4]) as usize;
            if length > LONGEST {
                return Err(Malformed("a message is too long"));
            }
            let Some(body) = rest.get(..length) else { break };
            let count = usize::from(u16::from_be_bytes([s1, s2]));
            if count > self.sockets.len() {
                if start < self.lacking {
                    start += HEADER + length;
                    continue;
                }
                return Err(Malformed("a descriptor is missing"));
            }
            let mut sockets = self.sockets.drain(..count);
            found = read(u16::from_be_bytes([k1, k2]), body, &mut sockets)?;
            start += HEADER + length;
            if found.is_some() {
                break;
            }
        }
        self.bytes.drain(..start);
        // Stays above 0: that it happened is remembered.
        self.lacking = self.lacking.saturating_sub(start).max(self.lacking.min(1));
        Ok(found)
    }
}

/// Reads one message; `None` if its kind is not known.
fn read<F>(
    kind: u16,
    mut body: &[u8],
    sockets: &mut impl Iterator<Item = F>,
) -> Result<Option<Message<F>>, Malformed> {
    if !kind::KNOWN.contains(&kind) {
        return Ok(None);
    }
    let mut fields = ReadFields::default();
    while let Some((tag, value)) = take_field(&mut body)? {
        fields.set(tag, value)?;
    }
    let mut socket = || sockets.next().ok_or(Malformed("a descriptor is missing"));
    let ReadFields { version, process, listeners, sharing, details, proxied, room, why, written } =
        fields;
    let mut listeners = listeners.into_iter();
    let mut listener = || listeners.next().ok_or(Malformed("a listener has no name"));
    Ok(Some(match kind {
        kind::HELLO => Message::Hello { version, process },
        kind::LISTENER => {
            Message::Listener { listener: listener()?, written, sharing, socket: socket()? }
        }
        kind::OFFERED => Message::Offered,
        kind::READY => Message::Ready { wanted: listeners.collect(), room },
        kind::BEGIN => Message::Begin,
        kind::BEGUN => Message::Begun,
        kind::GO => Message::Go,
        kind::CONNECTION => {
            let proxied = match proxied {
                (Some(peer), Some(local)) => Some(ProxiedAddrs { peer, local }),
                _ => None,
            };
            let details = Details { listener: listener()?, proxied, ..details };
            Message::Connection { details, socket: socket()? }
        }
        kind::DONE => Message::Done,
        kind::REFUSED => Message::Refused { why },
        _ => return Ok(None),
    }))
}

/// The fields that have been read, whichever kind of message they belong to.
struct ReadFields {
    version: u64,
    process: u32,
    listeners: Vec<String>,
    sharing: SocketSharing,
    details: Details,
    proxied: (Option<std::net::SocketAddr>, Option<std::net::SocketAddr>),
    room: u64,
    why: String,
    written: String,
}

impl Default for ReadFields {
    fn default() -> Self {
        Self {
            version: 0,
            process: 0,
            listeners: Vec::new(),
            sharing: SocketSharing::Unknown,
            details: Details::default(),
            proxied: (None, None),
            // A version that does not say so has no limit.
            room: u64::MAX,
            why: String::new(),
            written: String::new(),
        }
    }
}

impl ReadFields {
    fn set(&mut self, tag: u8, value: &[u8]) -> Result<(), Malformed> {
        let details = &mut self.details;
        match tag {
            tag::VERSION => self.version = number(value)?,
            tag::PROCESS => {
                self.process =
                    u32::try_from(number(value)?).map_err(|_| Malformed("not a process"))?;
            }
            tag::LISTENER => self.listeners.push(text(value)?.to_owned()),
            tag::SHARING => {
                self.sharing = match number(value)? {
                    0 => SocketSharing::Exclusive,
                    2 => SocketSharing::Shared,
                    // What a later version may say: the careful reading.
                    _ => SocketSharing::Unknown,
                }
            }
            tag::READ => details.read = value.to_vec(),
            tag::AGE => details.age = Duration::from_millis(number(value)?),
            tag::IDLE => details.idle = Duration::from_millis(number(value)?),
            tag::SPEAKS_HTTP1 => details.speaks_http1 = number(value)? != 0,
            tag::PROXIED_PEER => self.proxied.0 = Some(addr(value)?),
            tag::PROXIED_LOCAL => self.proxied.1 = Some(addr(value)?),
            tag::STATE => details.state = Some(value.to_vec()),
            tag::HANDLER => details.handler = Some(text(value)?.to_owned()),
            tag::ROOM => self.room = number(value)?,
            tag::WRITTEN => text(value)?.clone_into(&mut self.written),
            tag::WHY => self.why = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
        Ok(())
    }
}

fn take_field<'a>(body: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, Malformed> {
    if body.is_empty() {
        return Ok(None);
    }
    let cut_short = Malformed("a field is cut short");
    let Some(([tag, length @ ..], rest)) = body.split_first_chunk::<5>() else {
        return Err(cut_short);
    };
    let length = u32::from_be_bytes(*length) as usize;
    let Some((value, rest)) = rest.split_at_checked(length) else { return Err(cut_short) };
    *body = rest;
    Ok(Some((*tag, value)))
}

fn number(value: &[u8]) -> Result<u64, Malformed> {
    let bytes = value.try_into().map_err(|_| Malformed("not a number"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn text(value: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(value).map_err(|_| Malformed("not a text"))
}

fn addr(value: &[u8]) -> Result<std::net::SocketAddr, Malformed> {
    text(value)?.parse().map_err(|_| Malformed("not an address"))
}

/// Reads `bytes` in pieces of `size`, as the fuzzer makes them up.
#[cfg(fuzzing)]
pub fn read_messages(bytes: &[u8], size: usize) {
    let mut reader = Reader::new();
    for piece in bytes.chunks(size) {
        reader.feed(piece, [()]);
        loop {
            match reader.next() {
                Ok(Some(message)) => {
                    // Whatever is read can be written, and reads as the same.
                    let mut written = Vec::new();
                    message.write(&mut written);
                    let mut again = Reader::new();
                    again.feed(&written, message.socket().map(|()| ()));
                    assert_eq!(again.next(), Ok(Some(message)));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

#[cfg(all(test, not(graceful_loom)))]
mod tests {
    use super::*;

    fn details() -> Details {
        Details {
            listener: "tcp://127.0.0.1:8080".into(),
            read: b"GET / HT".to_vec(),
            age: Duration::from_millis(61_001),
            idle: Duration::from_millis(7),
            speaks_http1: true,
            proxied: Some(ProxiedAddrs {
                peer: "[2001:db8::1]:5".parse().unwrap(),
                local: "10.0.0.1:443".parse().unwrap(),
            }),
            state: Some(b"room 7".to_vec()),
            handler: Some("chat".into()),
        }
    }

    fn all() -> Vec<Message<u8>> {
        vec![
            Message::Hello { version: VERSION, process: 4711 },
            Message::Listener {
                listener: "unix:/run/app.sock".into(),
                written: "unix:app.sock".into(),
                sharing: SocketSharing::Exclusive,
                socket: 1,
            },
            Message::Listener {
                listener: "a".into(),
                written: String::new(),
                sharing: SocketSharing::Unknown,
                socket: 2,
            },
            Message::Listener {
                listener: "b".into(),
                written: ":1".into(),
                sharing: SocketSharing::Shared,
                socket: 3,
            },
            Message::Offered,
            Message::Ready { wanted: vec!["a".into(), "unix:/run/app.sock".into()], room: 900 },
            Message::Begin,
            Message::Begun,
            Message::Go,
            Message::Connection { details: details(), socket: 4 },
            Message::Connection {
                details: Details { listener: "a".into(), ..Details::default() },
                socket: 5,
            },
            Message::Done,
            Message::Refused { why: "it stops".into() },
        ]
    }

    fn written(message: &Message<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        bytes
    }

    #[test]
    fn every_message_reads_as_it_was_written_in_whatever_pieces() {
        let bytes: Vec<u8> = all().iter().flat_map(written).collect();
        let sockets: Vec<u8> = all().iter().filter_map(|it| it.socket().copied()).collect();
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let mut reader = Reader::new();
            let mut sockets = Some(sockets.clone());
            let mut read = Vec::new();
            for piece in bytes.chunks(size) {
                reader.feed(piece, sockets.take().unwrap_or_default());
                while let Some(message) = reader.next().unwrap() {
                    read.push(message);
                }
            }
            assert_eq!(read, all(), "in pieces of {size}");
        }
    }

    /// As a later version may write it: with a field and a message that this one does not know.
    #[test]
    fn each_message_of_a_later_version_is_understood() {
        for message in all() {
            let mut bytes = vec![0xff, 0xfe, 0, 1, 0, 0, 0, 2, 9, 9];
            let start = bytes.len();
            bytes.extend(written(&message));
            let length = u32::try_from(bytes.len() - start - HEADER + 6).unwrap();
            bytes[start + 4..][..4].copy_from_slice(&length.to_be_bytes());
            bytes.extend([250, 0, 0, 0, 1, 1]);
            let mut reader = Reader::new();
            // The unknown message has a descriptor, too, which is closed.
            reader.feed(&bytes, [99].into_iter().chain(message.socket().copied()));
            assert_eq!(reader.next(), Ok(Some(message)));
            assert!(reader.sockets.is_empty() && reader.bytes.is_empty());
        }
    }

    /// As an earlier version may have written it: without the fields that are not needed.
    #[test]
    fn each_message_of_an_earlier_version_is_understood() {
        let bare = |kind: u16, fields: &[(u8, &[u8])], sockets: &[u8]| {
            let mut bytes = Vec::new();
            for (tag, value) in fields {
                Fields(&mut bytes).bytes(*tag, value);
            }
            let mut message = kind.to_be_bytes().to_vec();
            message.extend(u16::try_from(sockets.len()).unwrap().to_be_bytes());
            message.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            message.extend(bytes);
            let mut reader = Reader::new();
            reader.feed(&message, sockets.iter().copied());
            reader.next()
        };
        let known = |message| Ok(Some(message));
        assert_eq!(bare(1, &[], &[]), known(Message::Hello { version: 0, process: 0 }));
        let listener = "a".to_owned();
        let sharing = SocketSharing::Unknown;
        assert_eq!(
            bare(2, &[(3, b"a")], &[7]),
            known(Message::Listener {
                listener: listener.clone(),
                written: String::new(),
                sharing,
                socket: 7
            })
        );
        assert_eq!(bare(3, &[], &[]), known(Message::Offered));
        assert_eq!(bare(4, &[], &[]), known(Message::Ready { wanted: vec![], room: u64::MAX }));
        assert_eq!(bare(5, &[], &[]), known(Message::Begin));
        assert_eq!(bare(6, &[], &[]), known(Message::Begun));
        assert_eq!(bare(10, &[], &[]), known(Message::Go));
        assert_eq!(
            bare(7, &[(3, b"a")], &[8]),
            known(Message::Connection {
                details: Details { listener, ..Details::default() },
                socket: 8
            })
        );
        assert_eq!(bare(8, &[], &[]), known(Message::Done));
        assert_eq!(bare(9, &[], &[]), known(Message::Refused { why: String::new() }));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut reader = Reader::<u8>::new();
        reader.feed(&[0, 1, 0, 0, 0xff, 0, 0, 0], []);
        assert_eq!(reader.next(), Err(Malformed("a message is too long")));
        for (bytes, why) in [
            (&[0, 2, 0, 1, 0, 0, 0, 0][..], "a descriptor is missing"),
            (&[0, 7, 0, 0, 0, 0, 0, 6, 3, 0, 0, 0, 1, b'a'], "a descriptor is missing"),
            (&[0, 7, 0, 0, 0, 0, 0, 0], "a listener has no name"),
            (&[0, 1, 0, 0, 0, 0, 0, 3, 1, 0, 0], "a field is cut short"),
            (&[0, 1, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 8], "a field is cut short"),
            (&[0, 1, 0, 0, 0, 0, 0, 6, 1, 0, 0, 0, 1, 1], "not a number"),
            (&[0, 2, 0, 0, 0, 0, 0, 6, 3, 0, 0, 0, 1, 0xff], "not a text"),
            (&[0, 7, 0, 0, 0, 0, 0, 6, 9, 0, 0, 0, 1, b'x'], "not an address"),
        ] {
            let mut reader = Reader::<u8>::new();
            reader.feed(bytes, []);
            assert_eq!(reader.next(), Err(Malformed(why)), "{bytes:?}");
        }
    }
}
