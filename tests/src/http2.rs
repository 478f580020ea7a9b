//! Just enough of HTTP/2 (RFC 9113) to see its frames on the wire.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::PATIENCE;

/// Frame types (RFC 9113, section 6).
#[allow(missing_docs, reason = "named as in the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags.
#[allow(missing_docs, reason = "named as in the RFC")]
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

use flag::{ACK, END_HEADERS, END_STREAM};

/// The connection preface (section 3.4), without the SETTINGS behind it.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it is sent (section 4.1).
#[must_use]
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream it belongs to.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is the last one of its stream.
    #[must_use]
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// The last stream id of a GOAWAY.
    #[must_use]
    pub fn last_stream(&self) -> u32 {
        assert_eq!(self.kind, kind::GOAWAY);
        u32::from_be_bytes(self.payload[..4].try_into().expect("four bytes"))
    }

    fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }
}

/// A connection with prior knowledge.
#[derive(Debug)]
pub struct Http2 {
    stream: TcpStream,
    /// Whether PING is answered.
    pub pongs: bool,
    /// The PINGs that were not.
    unanswered: Vec<Frame>,
}

impl Http2 {
    /// Connects and sends the preface with empty SETTINGS.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut this = Self { stream, pongs: true, unanswered: Vec::new() };
        this.stream.write_all(PREFACE).expect("sends");
        this.send(kind::SETTINGS, 0, 0, &[]);
        this
    }

    /// The socket.
    pub fn raw(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&encode(kind, flags, stream, payload)).expect("sends");
    }

    /// Opens a stream with a GET.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.send(kind::HEADERS, END_STREAM | END_HEADERS, stream, &head(path));
    }

    /// Opens a stream for a WebSocket (RFC 8441).
    pub fn connect_websocket(&mut self, stream: u32, path: &str) {
        let length = u8::try_from(path.len()).expect("a short path");
        // :method CONNECT, :protocol websocket, :scheme http, :path, :authority, and the version.
        let mut block = vec![0x02, 7];
        block.extend(b"CONNECT");
        block.extend([0x00, 9]);
        block.extend(b":protocol");
        block.push(9);
        block.extend(b"websocket");
        block.extend([0x86, 0x04, length]);
        block.extend(path.as_bytes());
        block.extend([0x01, 4]);
        block.extend(b"test");
        block.extend([0x00, 21]);
        block.extend(b"sec-websocket-version");
        block.extend([2, b'1', b'3']);
        self.send(kind::HEADERS, END_HEADERS, stream, &block);
    }

    /// Allows the server to send so much more, on the connection and on the stream.
    pub fn allow(&mut self, stream: u32, bytes: u32) {
        for stream in [0, stream] {
            self.send(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
        }
    }

    /// Reads the rest of a stream's body, as fast as it comes.
    pub fn body(&mut self, stream: u32) -> io::Result<usize> {
        let mut size = 0;
        loop {
            let frame = self.frame()?;
            if frame.stream != stream || frame.kind != kind::DATA {
                continue;
            }
            let length = frame.payload.len();
            size += length;
            if frame.ends_stream() {
                return Ok(size);
            }
            if length > 0 {
                self.allow(stream, u32::try_from(length).expect("a frame"));
            }
        }
    }

    /// The next frame other than SETTINGS and PING, which it answers.
    ///
    /// # Errors
    ///
    /// If the connection ends.
    pub fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            match frame.kind {
                kind::SETTINGS if !frame.is_ack() => self.send(kind::SETTINGS, ACK, 0, &[]),
                kind::PING if !frame.is_ack() && self.pongs => {
                    self.send(kind::PING, ACK, 0, &frame.payload);
                }
                kind::PING if !frame.is_ack() => self.unanswered.push(frame),
                kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE => {}
                _ => return Ok(frame),
            }
        }
    }

    /// Answers the PINGs that have come so far, and all that come later.
    pub fn pong(&mut self) {
        self.pongs = true;
        for ping in std::mem::take(&mut self.unanswered) {
            self.send(kind::PING, ACK, 0, &ping.payload);
        }
    }

    /// Reads until a PING has come, which is not answered.
    pub fn ping(&mut self) {
        while self.unanswered.is_empty() {
            let frame = self.read().expect("a PING");
            match frame.kind {
                kind::SETTINGS if !frame.is_ack() => self.send(kind::SETTINGS, ACK, 0, &[]),
                kind::PING if !frame.is_ack() => self.unanswered.push(frame),
                kind::SETTINGS | kind::PING | kind::WINDOW_UPDATE => {}
                other => panic!("a frame of the type {other} before the PING"),
            }
        }
    }

    fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Frames until the connection ends.
    pub fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.frame() {
                Ok(frame) => frames.push(frame),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return frames,
                Err(error) => panic!("{error} after {frames:?}"),
            }
        }
    }
}

/// `GET path` in HPACK (RFC 7541): indexed fields, and literals without indexing.
fn head(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("a short path");
    // :method GET, :scheme http, :path, :authority
    let mut block = vec![0x82, 0x86, 0x04, length];
    block.extend(path.as_bytes());
    block.extend([0x01, 4]);
    block.extend(b"test");
    block
}
