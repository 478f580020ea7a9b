//! Protocols, where the answer is hyper's and tungstenite's: ours never differs, in service, while
//! a stop is delayed, and in the drain; over HTTP/1, where the first answer of a stop is the last,
//! that answer does not. Each case goes to hyper as it is as well, with the same application.
//!
//! The cases of HTTP/2 are those of RFC 9113 and RFC 7541 that a client can break, the ones that
//! h2spec has among them; those of WebSockets are the groups of the Autobahn test suite, which runs
//! on Python 2 alone.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use graceful_tests::{
    Client, Generations, PATIENCE, Process, Signal, fixture,
    http2::{
        self,
        flag::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY},
        kind,
    },
};

/// Where a server is when a case begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Serving,
    /// After the signal, before the drain.
    Delaying,
    /// With a request in flight on the same connection.
    Draining,
}

/// A server in `state`; for `Draining`, the test sends the signal once its clients are connected.
fn server(name: &'static str, state: State) -> (Process, SocketAddr) {
    let delay = if state == State::Delaying { "600s" } else { "0s" };
    let (mut process, addr) = fixture!(name).env("DELAY", delay).env("TIMEOUT", "600s").serve();
    if state == State::Delaying {
        process.term();
    }
    (process, addr)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

// HTTP/2.

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Frames as they are sent.
#[derive(Clone, Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        self.0.extend(http2::encode(kind, flags, stream, payload));
        self
    }

    fn headers(self, stream: u32, flags: u8, block: &[u8]) -> Self {
        self.frame(kind::HEADERS, flags, stream, block)
    }

    /// A request that is not answered while the case lasts.
    fn request(self, stream: u32) -> Self {
        self.headers(stream, WHOLE, &get())
    }

    /// The same, with a body that is still to come.
    fn upload(self, stream: u32) -> Self {
        self.headers(stream, END_HEADERS, &get())
    }

    fn window(self, stream: u32, more: u32) -> Self {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }

    fn setting(self, name: u16, value: u32) -> Self {
        let mut payload = name.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        self.frame(kind::SETTINGS, 0, 0, &payload)
    }
}

/// A literal without indexing (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
    block
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// What every request begins with.
const PSEUDO: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/hold"), (":authority", "test")];

fn get() -> Vec<u8> {
    block(&PSEUDO)
}

fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    [get(), block(fields)].concat()
}

/// The fields of a request, but the one of this name.
fn get_without(name: &str) -> Vec<u8> {
    let fields: Vec<_> = PSEUDO.into_iter().filter(|(it, _)| *it != name).collect();
    block(&fields)
}

/// The cases, each on a connection of its own, on the streams from 3 on.
#[allow(clippy::too_many_lines, reason = "a table")]
fn http2_cases() -> Vec<(&'static str, Frames)> {
    use kind::{
        CONTINUATION, DATA, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS,
        WINDOW_UPDATE,
    };
    let new = Frames::default;
    let long = vec![0; 16_385];
    let depends_on = |stream: u32| [stream.to_be_bytes().to_vec(), vec![15]].concat();
    let hpack = |bytes: &[u8]| new().headers(3, WHOLE, &[get(), bytes.to_vec()].concat());
    let with = |fields: &[(&str, &str)]| new().headers(3, WHOLE, &get_with(fields));
    let sized = |size: &str| new().headers(3, END_HEADERS, &get_with(&[("content-length", size)]));
    let closed = || new().upload(3).frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes());
    vec![
        ("a request", new().request(3)),
        ("ten requests", (0..10).fold(new(), |it, at| it.request(3 + 2 * at))),
        // Section 4.1, 4.2.
        ("an unknown frame", new().frame(0xbe, 0xff, 0, b"what").frame(0xbf, 0, 3, b"ever")),
        ("flags that mean nothing", new().frame(PING, 0xfe, 0, b"12345678")),
        ("the reserved bit of a stream", new().frame(PING, 0, 1 << 31, b"12345678")),
        ("DATA that is too long", new().upload(3).frame(DATA, 0, 3, &long)),
        ("HEADERS that are too long", new().headers(3, WHOLE, &long)),
        ("SETTINGS that are too long", new().frame(SETTINGS, 0, 0, &[0; 16_386])),
        // Section 4.3, 6.10.
        ("PRIORITY within a head", {
            new().headers(3, END_STREAM, &get()).frame(kind::PRIORITY, 0, 3, &depends_on(0))
        }),
        ("another head within a head", { new().headers(3, END_STREAM, &get()).request(5) }),
        ("an unknown frame within a head", {
            new().headers(3, END_STREAM, &get()).frame(0xbe, 0, 3, b"what")
        }),
        ("DATA within a head", new().headers(3, 0, &get()).frame(DATA, 0, 3, b"x")),
        ("a head in three pieces", {
            let block = get();
            new().headers(3, END_STREAM, &block[..4]).frame(CONTINUATION, 0, 3, &block[4..9]).frame(
                CONTINUATION,
                END_HEADERS,
                3,
                &block[9..],
            )
        }),
        ("CONTINUATION of another stream", {
            new().headers(3, END_STREAM, &get()).frame(CONTINUATION, END_HEADERS, 5, &[])
        }),
        ("CONTINUATION of nothing", new().frame(CONTINUATION, END_HEADERS, 3, &[])),
        ("CONTINUATION of no stream", new().frame(CONTINUATION, END_HEADERS, 0, &[])),
        ("CONTINUATION behind a head", {
            new().upload(3).frame(CONTINUATION, END_HEADERS, 3, &field("x", "y"))
        }),
        ("CONTINUATION behind DATA", {
            new().upload(3).frame(DATA, 0, 3, b"x").frame(CONTINUATION, END_HEADERS, 3, &[])
        }),
        // Section 5.1.
        ("DATA on an idle stream", new().frame(DATA, END_STREAM, 3, b"x")),
        ("RST_STREAM on an idle stream", new().frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes())),
        ("WINDOW_UPDATE on an idle stream", new().window(3, 100)),
        ("DATA behind the end", new().request(3).frame(DATA, END_STREAM, 3, b"x")),
        ("HEADERS behind the end", new().request(3).request(3)),
        ("CONTINUATION behind the end", new().request(3).frame(CONTINUATION, END_HEADERS, 3, &[])),
        ("DATA behind a reset", closed().frame(DATA, END_STREAM, 3, b"x")),
        ("HEADERS behind a reset", closed().request(3)),
        ("CONTINUATION behind a reset", closed().frame(CONTINUATION, END_HEADERS, 3, &[])),
        ("WINDOW_UPDATE behind a reset", closed().window(3, 1)),
        ("two resets", closed().frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes())),
        // Section 5.1.1.
        ("a stream of the server", new().request(2)),
        ("a stream that comes too late", new().request(7).request(5)),
        // Section 5.3.1.
        ("HEADERS that depend on themselves", {
            new().headers(3, WHOLE | PRIORITY, &[depends_on(3), get()].concat())
        }),
        ("HEADERS with a priority", {
            new().headers(3, WHOLE | PRIORITY, &[depends_on(0), get()].concat())
        }),
        ("PRIORITY that depends on itself", new().frame(kind::PRIORITY, 0, 3, &depends_on(3))),
        // Section 6.1, 6.2.
        ("DATA of no stream", new().frame(DATA, 0, 0, b"x")),
        ("DATA with padding", new().upload(3).frame(DATA, PADDED, 3, &[2, b'x', 0, 0])),
        ("DATA with too much padding", new().upload(3).frame(DATA, PADDED, 3, &[9, b'x'])),
        ("DATA with padding that is not there", new().upload(3).frame(DATA, PADDED, 3, &[])),
        ("HEADERS of no stream", new().request(0)),
        ("HEADERS with too much padding", {
            new().headers(3, WHOLE | PADDED, &[vec![200], get()].concat())
        }),
        // Section 6.3, 6.4.
        ("PRIORITY of no stream", new().frame(kind::PRIORITY, 0, 0, &depends_on(3))),
        ("PRIORITY that is too short", new().frame(kind::PRIORITY, 0, 3, &[0; 4])),
        ("RST_STREAM of no stream", new().frame(RST_STREAM, 0, 0, &8_u32.to_be_bytes())),
        ("RST_STREAM that is too short", new().upload(3).frame(RST_STREAM, 0, 3, &[0; 3])),
        // Section 6.5.
        ("an ACK of SETTINGS with something in it", new().frame(SETTINGS, ACK, 0, &[0; 6])),
        ("SETTINGS of a stream", new().frame(SETTINGS, 0, 3, &[])),
        ("SETTINGS of an odd length", new().frame(SETTINGS, 0, 0, &[0; 5])),
        ("ENABLE_PUSH of 2", new().setting(2, 2)),
        ("a window of 2^31", new().setting(4, 1 << 31)),
        ("a frame size of less than 2^14", new().setting(5, 16_383)),
        ("a frame size of 2^24", new().setting(5, 1 << 24)),
        ("a setting that nobody knows", new().setting(0xbeef, 1)),
        ("a table of nothing", new().setting(1, 0).request(3)),
        // Section 6.6, 6.7, 6.8.
        ("PUSH_PROMISE of a client", {
            new().upload(3).frame(PUSH_PROMISE, END_HEADERS, 3, &[vec![0, 0, 0, 2], get()].concat())
        }),
        ("an ACK of a PING that was not sent", new().frame(PING, ACK, 0, b"12345678")),
        ("PING of a stream", new().frame(PING, 0, 3, b"12345678")),
        ("PING that is too short", new().frame(PING, 0, 0, b"1234567")),
        ("GOAWAY of a stream", new().frame(GOAWAY, 0, 3, &[0; 8])),
        ("GOAWAY that is too short", new().frame(GOAWAY, 0, 0, &[0; 7])),
        // Section 6.9.
        ("WINDOW_UPDATE of nothing", new().window(0, 0)),
        ("WINDOW_UPDATE of nothing for a stream", new().upload(3).window(3, 0)),
        ("WINDOW_UPDATE that is too short", new().frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])),
        ("a window of more than 2^31", new().window(0, 0x7fff_ffff).window(0, 0x7fff_ffff)),
        ("a window of more than 2^31 for a stream", {
            new().upload(3).window(3, 0x7fff_ffff).window(3, 0x7fff_ffff)
        }),
        ("a window that gets less than nothing", {
            new().setting(4, 3).request(3).setting(4, 2).setting(4, 65_535)
        }),
        // Section 8.1, 8.2, 8.3.
        ("a second head without an end", new().upload(3).headers(3, END_HEADERS, &get())),
        ("trailers", new().upload(3).headers(3, WHOLE, &field("x-trailer", "y"))),
        ("trailers with a pseudo-field", new().upload(3).headers(3, WHOLE, &field(":path", "/"))),
        ("a field in capitals", with(&[("X-Test", "y")])),
        ("a pseudo-field that nobody knows", with(&[(":what", "ever")])),
        ("a pseudo-field of responses", with(&[(":status", "200")])),
        ("a pseudo-field behind others", {
            let block = [get_without(":path"), block(&[("x", "y"), (":path", "/hold")])].concat();
            new().headers(3, WHOLE, &block)
        }),
        ("connection", with(&[("connection", "keep-alive")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te: trailers", with(&[("te", "trailers")])),
        ("te: gzip", with(&[("te", "gzip")])),
        ("no :method", new().headers(3, WHOLE, &get_without(":method"))),
        ("no :scheme", new().headers(3, WHOLE, &get_without(":scheme"))),
        ("no :path", new().headers(3, WHOLE, &get_without(":path"))),
        ("no :authority", new().headers(3, WHOLE, &get_without(":authority"))),
        ("an empty :path", {
            let block = [get_without(":path"), field(":path", "")].concat();
            new().headers(3, WHOLE, &block)
        }),
        ("two of :method", with(&[(":method", "GET")])),
        ("two of :path", with(&[(":path", "/hold")])),
        ("a field with a line feed", with(&[("x", "a\nb")])),
        ("a field with a NUL", with(&[("x", "a\0b")])),
        ("a body that is too long", sized("1").frame(DATA, END_STREAM, 3, b"xy")),
        ("a body that is too short", sized("3").frame(DATA, END_STREAM, 3, b"xy")),
        ("a body that is too long, in two", {
            sized("1").frame(DATA, 0, 3, b"x").frame(DATA, END_STREAM, 3, b"y")
        }),
        ("a length that is none", with(&[("content-length", "-1")])),
        ("CONNECT", {
            new().headers(3, END_HEADERS, &block(&[(":method", "CONNECT"), (":authority", "a:1")]))
        }),
        ("CONNECT with a path", {
            let block = [get_without(":method"), field(":method", "CONNECT")].concat();
            new().headers(3, END_HEADERS, &block)
        }),
        // RFC 7541.
        ("HPACK: index 0", hpack(&[0x80])),
        ("HPACK: an index that is not there", hpack(&[0xff, 0x7f])),
        ("HPACK: an index of too many bytes", hpack(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        ("HPACK: a table that is too large", {
            new().headers(3, WHOLE, &[vec![0x3f, 0xe2, 0x1f], get()].concat())
        }),
        ("HPACK: a table's size at the end", hpack(&[0x20])),
        ("HPACK: Huffman with a padding of 8", hpack(&[0, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0])),
        ("HPACK: Huffman with zeros behind it", hpack(&[0, 0x82, 0xf2, 0xb0, 0])),
        ("HPACK: Huffman with its own end", hpack(&[0, 0x84, 0xff, 0xff, 0xff, 0xff, 0])),
        ("HPACK: a string that is cut", hpack(&[0, 10, b'x'])),
        ("HPACK: half a field", {
            let block = get();
            new().headers(3, WHOLE, &block[..block.len() - 2])
        }),
        (
            "two heads, and then nonsense",
            new().request(3).request(5).frame(HEADERS, WHOLE, 7, &[0xff]),
        ),
    ]
}

/// What a server makes of the frames: resets and GOAWAY with their errors, and whether it goes on.
fn http2_outcome(mut stream: &TcpStream, frames: &Frames) -> Vec<String> {
    /// Nobody else sends it.
    const PROBE: &[u8; 8] = b"go on???";
    let sent = frames.clone().frame(kind::PING, 0, 0, PROBE);
    // The server may close before it has read everything.
    let _ = stream.write_all(&sent.0);
    let mut outcome = Vec::new();
    loop {
        let mut head = [0; 9];
        if let Err(error) = stream.read_exact(&mut head) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it hangs");
            outcome.push("closed".to_owned());
            break;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            outcome.push("closed within a frame".to_owned());
            break;
        }
        let error = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match head[3] {
            kind::RST_STREAM => outcome.push(format!("RST_STREAM {id} {}", error(0))),
            // The goodbyes of the drain have no error.
            kind::GOAWAY if error(4) != 0 => outcome.push(format!("GOAWAY {}", error(4))),
            kind::HEADERS => outcome.push(format!("HEADERS {id}")),
            kind::PING if head[4] & ACK != 0 && payload == PROBE => {
                outcome.push("goes on".to_owned());
                break;
            }
            _ => {}
        }
    }
    outcome.sort_unstable();
    outcome
}

/// Connects over HTTP/2, with a request in flight on stream 1.
fn connect_http2(process: &mut Process, addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    stream.write_all(http2::PREFACE).unwrap();
    stream.write_all(&Frames::default().frame(kind::SETTINGS, 0, 0, &[]).request(1).0).unwrap();
    process.line("hold begins");
    stream
}

#[test]
fn http2_that_is_broken_is_answered_as_by_hyper() {
    let cases = http2_cases();
    let run = |name, state| -> Vec<_> {
        let (mut process, addr) = server(name, state);
        let connections: Vec<_> = cases.iter().map(|_| connect_http2(&mut process, addr)).collect();
        if state == State::Draining {
            process.term();
        }
        let outcomes = connections.iter().zip(&cases);
        outcomes.map(|(stream, (_, frames))| http2_outcome(stream, frames)).collect()
    };
    let bare = run("bare", State::Serving);
    let broken = bare.iter().filter(|outcome| *outcome != &["goes on"]).count();
    assert!(broken > cases.len() / 2, "{broken} of {} are errors: {bare:?}", cases.len());
    for state in [State::Serving, State::Delaying, State::Draining] {
        let ours = run("web", state);
        for (at, (name, _)) in cases.iter().enumerate() {
            assert_eq!(ours[at], bare[at], "{name}, {state:?}");
        }
    }
    println!("{} cases of HTTP/2, {broken} of them errors, in three states", cases.len());
}

// HTTP/1.

/// Messages whose end two readers could see in different places (RFC 9112, section 11.2), and
/// others that are not what they should be; each with a request behind it.
fn http1_cases() -> Vec<(&'static str, String)> {
    let post = |fields: &str, body: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: test\r\n{fields}\r\n{body}GET /x HTTP/1.1\r\nhost: test\r\n\r\n"
        )
    };
    let chunked = |body: &str| post("transfer-encoding: chunked\r\n", body);
    let get = |head: &str| format!("{head}GET /x HTTP/1.1\r\nhost: test\r\n\r\n");
    let field = |field: &str| get(&format!("GET / HTTP/1.1\r\nhost: test\r\n{field}\r\n\r\n"));
    vec![
        // Two lengths.
        ("CL.CL, the same", post("content-length: 5\r\ncontent-length: 5\r\n", "hello")),
        ("CL.CL, different", post("content-length: 5\r\ncontent-length: 3\r\n", "hello")),
        ("CL in a list", post("content-length: 5, 5\r\n", "hello")),
        ("CL in a list, different", post("content-length: 5, 3\r\n", "hello")),
        ("CL.TE", post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        ("TE.CL", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n")),
        ("CL with a sign", post("content-length: +5\r\n", "hello")),
        ("CL below nothing", post("content-length: -5\r\n", "hello")),
        ("CL in hexadecimal", post("content-length: 0x5\r\n", "hello")),
        ("CL with a space within", post("content-length: 1 0\r\n", "hellohello")),
        ("CL of nothing", post("content-length:\r\n", "hello")),
        ("CL that overflows", post("content-length: 18446744073709551621\r\n", "hello")),
        ("CL with zeros before", post("content-length: 005\r\n", "hello")),
        // What is a coding.
        (
            "TE twice",
            post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        ("TE in capitals", post("Transfer-Encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        ("TE of another kind", post("transfer-encoding: gzip\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        ("TE with chunked last", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("TE with chunked first", post("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n")),
        ("TE: identity", post("transfer-encoding: identity\r\ncontent-length: 5\r\n", "hello")),
        ("TE: xchunked", post("transfer-encoding: xchunked\r\n", "0\r\n\r\n")),
        ("TE with a tab", post("transfer-encoding:\tchunked\r\n", "0\r\n\r\n")),
        ("TE with a space before the colon", post("transfer-encoding : chunked\r\n", "0\r\n\r\n")),
        ("TE with a vertical tab", post("transfer-encoding: \u{b}chunked\r\n", "0\r\n\r\n")),
        ("TE in a folded line", post("transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n")),
        ("TE behind a bare CR", post("x: y\rtransfer-encoding: chunked\r\n", "0\r\n\r\n")),
        ("TE in HTTP/1.0", {
            get("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        }),
        // Chunks.
        ("a chunk", chunked("5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk with an extension", chunked("5;a=\"b\"\r\nhello\r\n0\r\n\r\n")),
        ("a chunk's size in capitals", chunked("A\r\nhellohello\r\n0\r\n\r\n")),
        ("a chunk's size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk's size with a sign", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("a chunk's size with a space", chunked("5 \r\nhello\r\n0\r\n\r\n")),
        ("a chunk's size that overflows", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        ("a chunk's size of nothing", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("a chunk that is longer than it says", chunked("4\r\nhello\r\n0\r\n\r\n")),
        ("a chunk's line feed without CR", chunked("5\nhello\n0\n\n")),
        ("an extension with a bare LF", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        ("the last chunk in three zeros", chunked("000\r\n\r\n")),
        ("trailers", chunked("0\r\nx: y\r\n\r\n")),
        ("trailers with a length", chunked("0\r\ncontent-length: 50\r\n\r\n")),
        ("trailers that are none", chunked("0\r\nnothing\r\n\r\n")),
        // Heads.
        (
            "a GET with a body",
            get("GET /body HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"),
        ),
        ("a HEAD", get("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("no host", get("GET / HTTP/1.1\r\n\r\n")),
        ("two hosts", field("host: other")),
        ("HTTP/1.0", get("GET / HTTP/1.0\r\n\r\n")),
        ("HTTP/1.0 that is kept", get("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")),
        ("HTTP/1.2", get("GET / HTTP/1.2\r\nhost: test\r\n\r\n")),
        ("HTTP/0.9", get("GET /\r\n\r\n")),
        ("HTTP/2.0 in a request", get("GET / HTTP/2.0\r\nhost: test\r\n\r\n")),
        ("a whole address", get("GET http://test/ HTTP/1.1\r\nhost: other\r\n\r\n")),
        ("two spaces", get("GET  / HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("a tab", get("GET\t/ HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("bare line feeds", get("GET / HTTP/1.1\nhost: test\n\n")),
        ("bare carriage returns", get("GET / HTTP/1.1\rhost: test\r\r")),
        ("empty lines before", get("\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("a space before", get(" GET / HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("a field that begins with a space", get("GET / HTTP/1.1\r\n host: test\r\n\r\n")),
        ("a field without a colon", field("nothing")),
        ("a field without a name", field(": nothing")),
        ("a field with a NUL", field("x: a\0b")),
        ("a field with a bare CR", field("x: a\rb")),
        ("a field of UTF-8", field("x: ü")),
        ("a hundred fields", field(&vec!["x: y"; 98].join("\r\n"))),
        ("more fields than there may be", field(&vec!["x: y"; 120].join("\r\n"))),
        ("a path of 70,000 bytes", get(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)))),
        ("connection: close", field("connection: close")),
        ("connection: close in capitals", field("Connection: Close")),
        ("an upgrade that nobody wants", field("connection: upgrade\r\nupgrade: nothing")),
        ("an upgrade to h2c", field("connection: upgrade, http2-settings\r\nupgrade: h2c")),
        ("Expect", { post("expect: 100-continue\r\ncontent-length: 5\r\n", "hello") }),
        ("Expect of something else", post("expect: nothing\r\ncontent-length: 5\r\n", "hello")),
        ("CONNECT", get("CONNECT test:1 HTTP/1.1\r\nhost: test:1\r\n\r\n")),
        ("OPTIONS *", get("OPTIONS * HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("a method of nobody", get("BREW / HTTP/1.1\r\nhost: test\r\n\r\n")),
        ("TLS", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\0".to_owned()),
    ]
}

/// All that is answered until the end, or until the request behind it is answered, or until the
/// server waits; without the lines that say when.
fn http1_outcome(addr: SocketAddr, message: &str) -> String {
    /// Far longer than an answer takes: only messages that are not complete wait so long.
    const QUIET: Duration = Duration::from_secs(3);
    let mut stream = connect(addr);
    stream.set_read_timeout(Some(QUIET)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(message.as_bytes());
    let (mut answer, mut piece) = (Vec::new(), vec![0; 65_536]);
    let end = loop {
        match stream.read(&mut piece) {
            Ok(0) => break "closed",
            Ok(length) => answer.extend(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break "waits",
            // Of what came behind the last request that was read.
            Err(_) => break "closed",
        }
    };
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    let answer: String =
        answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date:")).collect();
    answer + end
}

/// The first answer in it, without what it says of the connection.
fn first_answer(answers: &str) -> String {
    let first = answers.split_inclusive("http/1.").take(2).collect::<String>();
    let first = first.strip_suffix("http/1.").unwrap_or(&first);
    let first = first.strip_suffix("waits").or(first.strip_suffix("closed")).unwrap_or(first);
    first.split_inclusive("\r\n").filter(|line| !line.starts_with("connection:")).collect()
}

#[test]
fn where_messages_end_hyper_says() {
    let cases = http1_cases();
    let run = |name, state| -> Vec<_> {
        let (_process, addr) = server(name, state);
        // At once: a few of them wait.
        thread::scope(|scope| {
            let all: Vec<_> = cases
                .iter()
                .map(|(_, message)| scope.spawn(move || http1_outcome(addr, message)))
                .collect();
            all.into_iter().map(|it| it.join().unwrap()).collect()
        })
    };
    let bare = run("bare", State::Serving);
    let refused = bare.iter().filter(|answer| answer.starts_with("http/1.1 400")).count();
    assert!(refused > 20, "{refused} of {} are refused", cases.len());
    let (ours, late) = (run("web", State::Serving), run("web", State::Delaying));
    for (at, (name, _)) in cases.iter().enumerate() {
        assert_eq!(ours[at], bare[at], "{name}");
        assert_eq!(
            first_answer(&late[at]),
            first_answer(&bare[at]),
            "{name}, while a stop is delayed"
        );
    }
    println!("{} messages of HTTP/1, {refused} of them refused, in two states", cases.len());
}

// WebSockets.

/// A frame of a client (RFC 6455, section 5.2): `first` is the flags and the opcode.
fn ws(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ ..65_536 => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 0x7f);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const WS_PING: u8 = 9;
const WS_PONG: u8 = 10;

/// The cases, each of frames that are sent one by one.
fn websocket_cases() -> Vec<(String, Vec<Vec<u8>>)> {
    let mut cases: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    let mut case = |name: &str, frames: &[Vec<u8>]| cases.push((name.to_owned(), frames.to_vec()));
    let close = |code: u16, reason: &[u8]| {
        ws(FIN | CLOSE, &[code.to_be_bytes().to_vec(), reason.to_vec()].concat())
    };
    // Framing.
    for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 300_000] {
        case(&format!("a text of {size} bytes"), &[ws(FIN | TEXT, &vec![b'*'; size])]);
        case(&format!("{size} bytes"), &[ws(FIN | BINARY, &vec![0xfe; size])]);
    }
    let whole = ws(FIN | TEXT, &[b'*'; 500]);
    for pieces in [1, 7, 100] {
        let frames: Vec<_> = whole.chunks(pieces).map(<[u8]>::to_vec).collect();
        case(&format!("a frame in pieces of {pieces}"), &frames);
    }
    // Pings and pongs.
    for size in [0, 1, 125, 126] {
        case(&format!("a ping of {size} bytes"), &[ws(FIN | WS_PING, &vec![0xfe; size])]);
    }
    case("a pong that nobody asked for", &[ws(FIN | WS_PONG, b"x"), ws(FIN | TEXT, b"hello")]);
    let pings: Vec<_> = (0..10_u8).map(|at| ws(FIN | WS_PING, &[at])).collect();
    case("ten pings", &pings);
    case("ten pings at once", &[pings.concat()]);
    case("a ping without an end", &[ws(WS_PING, b"x")]);
    // Reserved bits and opcodes.
    for bit in [0x40, 0x20, 0x10, 0x70] {
        case(&format!("reserved bits {bit:x}"), &[ws(FIN | bit | TEXT, b"hello")]);
        case(&format!("reserved bits {bit:x} of a ping"), &[ws(FIN | bit | WS_PING, b"x")]);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        case(&format!("opcode {opcode}"), &[ws(FIN | TEXT, b"before"), ws(FIN | opcode, b"x")]);
    }
    let bare = [FIN | TEXT, 5];
    case("a frame without a mask", &[[&bare[..], b"hello"].concat()]);
    // Fragments.
    case("two fragments", &[ws(TEXT, b"one"), ws(FIN, b"two")]);
    case("a ping between fragments", &[ws(TEXT, b"a"), ws(FIN | WS_PING, b"p"), ws(FIN, b"b")]);
    case("a close between fragments", &[ws(TEXT, b"a"), close(1000, b""), ws(FIN, b"b")]);
    case("a fragment of nothing", &[ws(FIN, b"x")]);
    case("a fragment of nothing, to be continued", &[ws(0, b"x"), ws(FIN, b"y")]);
    case("a message within a message", &[ws(TEXT, b"a"), ws(FIN | TEXT, b"b")]);
    case("fifty fragments", &{
        let mut frames = vec![ws(BINARY, b"x")];
        frames.extend((0..48).map(|_| ws(0, b"x")));
        frames.push(ws(FIN, b"x"));
        frames
    });
    // UTF-8.
    let texts: [(&str, &[u8]); 8] = [
        ("Greek", "κόσμε".as_bytes()),
        ("four bytes", "🌍".as_bytes()),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("half a character", b"\xce"),
        ("no beginning", b"\x80abc"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
        ("a byte that is none", b"abc\xff"),
    ];
    for (name, text) in texts {
        case(&format!("text: {name}"), &[ws(FIN | TEXT, text)]);
        let bytes: Vec<_> = text.iter().map(|byte| ws(0, &[*byte])).collect();
        let frames = [vec![ws(TEXT, b"")], bytes, vec![ws(FIN, b"")]].concat();
        case(&format!("text: {name}, byte by byte"), &frames);
        case(&format!("a close with {name}"), &[close(1000, text)]);
    }
    // Closing.
    let codes = [999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011];
    for code in codes.into_iter().chain([1012, 1015, 1016, 1100, 2000, 2999, 3000, 4999, 5000]) {
        case(&format!("a close with {code}"), &[close(code, b"why")]);
    }
    case("a close of nothing", &[ws(FIN | CLOSE, b"")]);
    case("a close of one byte", &[ws(FIN | CLOSE, b"x")]);
    case("a close of 126 bytes", &[close(1000, &[b'x'; 124])]);
    case("two closes", &[close(1000, b""), close(1000, b"")]);
    case("a text behind a close", &[close(1000, b""), ws(FIN | TEXT, b"late")]);
    case("a ping behind a close", &[close(1000, b""), ws(FIN | WS_PING, b"late")]);
    cases
}

/// A WebSocket by `/ws`, which echoes whatever the state is, or by `/count`.
fn websocket(addr: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connect(addr);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

/// All that is answered until the end, or to a last message.
fn websocket_outcome(mut stream: &TcpStream, frames: &[Vec<u8>]) -> Vec<u8> {
    // "the last", as the server sends it.
    const LAST: &[u8] = b"\x81\x08the last";
    for frame in frames {
        // The server may have closed.
        let _ = stream.write_all(frame);
    }
    let _ = stream.write_all(&ws(FIN | TEXT, b"the last"));
    let (mut answer, mut piece) = (Vec::new(), vec![0; 65_536]);
    while !answer.ends_with(LAST) {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it hangs"),
            // Of what came behind the end.
            Err(_) => break,
        }
    }
    answer
}

#[test]
fn websockets_are_as_tungstenite_makes_them() {
    let cases = websocket_cases();
    let run = |name, state| -> Vec<_> {
        let (mut process, addr) = server(name, state);
        let connections: Vec<_> = cases.iter().map(|_| websocket(addr, "/ws")).collect();
        if state == State::Draining {
            process.term();
        }
        let outcomes = connections.iter().zip(&cases);
        outcomes.map(|(stream, (_, frames))| websocket_outcome(stream, frames)).collect()
    };
    let bare = run("bare", State::Serving);
    let ended = bare.iter().filter(|answer| !answer.ends_with(b"the last")).count();
    assert!(ended > 30 && ended < cases.len(), "{ended} of {} end", cases.len());
    for state in [State::Serving, State::Delaying, State::Draining] {
        let ours = run("web", state);
        for (at, (name, _)) in cases.iter().enumerate() {
            assert!(ours[at] == bare[at], "{name}, {state:?}: {:?} {:?}", ours[at], bare[at]);
        }
    }
    println!("{} cases of WebSockets, {ended} of which end it, in three states", cases.len());
}

/// What a server has sent, as opcodes and payloads, without the number of the process in it.
fn frames_of(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (
                usize::try_from(u64::from_be_bytes(rest[..8].try_into().unwrap())).unwrap(),
                &rest[8..],
            ),
            length => (usize::from(*length), rest),
        };
        let payload = String::from_utf8_lossy(&rest[..length]).into_owned();
        let payload = payload.trim_start_matches(|digit: char| digit.is_ascii_digit()).to_owned();
        frames.push((*first, payload));
        bytes = &rest[length..];
    }
    frames
}

/// All that is answered until the last message is, or until the end.
fn counted(mut stream: &TcpStream) -> Vec<(u8, String)> {
    let (mut answer, mut piece) = (Vec::new(), vec![0; 65_536]);
    while !answer.ends_with(b" the last") {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it hangs"),
            // Of what came behind the end.
            Err(_) => break,
        }
    }
    frames_of(&answer)
}

/// The cases that do not end the connection, each cut somewhere, with the hand-over there: what the
/// client sees is what it sees without one.
#[test]
fn websockets_go_on_in_the_next_process_as_in_one() {
    let run = |cases: &[(String, Vec<Vec<u8>>)], cut: usize, upgrades: bool| -> Vec<_> {
        let mut generations = Generations::new(fixture!("upgraded").env("TIMEOUT", "600s"));
        let addr = generations.addr;
        let connections: Vec<_> = cases.iter().map(|_| websocket(addr, "/count")).collect();
        let bytes: Vec<_> = cases.iter().map(|(_, frames)| frames.concat()).collect();
        let cut = |bytes: &[u8]| bytes.len() * cut / 4;
        for (mut stream, bytes) in connections.iter().zip(&bytes) {
            stream.write_all(&bytes[..cut(bytes)]).unwrap();
        }
        // All of it has been read, and looked at.
        for _ in 0..3 {
            assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        }
        thread::sleep(Duration::from_millis(100));
        if upgrades {
            let old = generations.upgrade();
            generations.gone(old);
        }
        for (mut stream, bytes) in connections.iter().zip(&bytes) {
            // The server may have closed.
            let _ = stream.write_all(&bytes[cut(bytes)..]);
            let _ = stream.write_all(&ws(FIN | TEXT, b"the last"));
        }
        let seen = connections.iter().map(counted).collect();
        drop(connections);
        generations.signal(Signal::TERM);
        assert!(!generations.first.wait().said("cut off"));
        seen
    };
    let all = websocket_cases();
    let whole = run(&all, 4, false);
    let goes_on =
        |seen: &Vec<(u8, String)>| seen.last().is_some_and(|(_, it)| it.ends_with(" the last"));
    let (cases, expected): (Vec<_>, Vec<_>) =
        all.into_iter().zip(whole).filter(|(_, seen)| goes_on(seen)).unzip();
    assert!(cases.len() > 20, "{} cases", cases.len());
    for cut in 1..=4 {
        let seen = run(&cases, cut, true);
        for (at, (name, _)) in cases.iter().enumerate() {
            assert_eq!(seen[at], expected[at], "{name}, cut at {cut} of 4");
        }
    }
    println!("{} cases of WebSockets across a hand-over, cut in four places", cases.len());
}
