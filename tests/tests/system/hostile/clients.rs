//! Clients that do everything but what they should, beside one that does.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use graceful_tests::{
    Certificates, Client, PATIENCE, Process, certificates, fixture, http2::PREFACE,
};
use rustls::StreamOwned;

use super::{End, WELL, check, cut, hostile, hurried, rounds};

/// Clients that are there, and what keeps them at it.
#[derive(Default)]
struct Crowd {
    streams: Vec<TcpStream>,
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Crowd {
    /// `count` clients, each of which has sent this.
    fn sending(addr: SocketAddr, count: usize, bytes: impl AsRef<[u8]>) -> Self {
        let connect = |_| {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(bytes.as_ref()).unwrap();
            stream
        };
        let mut crowd = Self::default();
        crowd.streams.extend((0..count).map(connect));
        crowd
    }

    /// Waits until each of them has been answered.
    fn answered(mut self) -> Self {
        for stream in &mut self.streams {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        self
    }

    /// Has each of them send a piece again and again.
    fn dripping(mut self, piece: &'static [u8], pause: Duration) -> Self {
        let mut streams: Vec<_> =
            self.streams.iter().map(|stream| stream.try_clone().unwrap()).collect();
        let over = self.over.clone();
        self.threads.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && !streams.is_empty() {
                streams.retain_mut(|stream| stream.write_all(piece).is_ok());
                thread::sleep(pause);
            }
        }));
        self
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

const HEAD: &str = "GET / HTTP/1.1\r\nhost: test\r\nx: ";

fn silent(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 1_000, "")
}

fn half_heads(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 50, HEAD)
}

fn dripped_heads(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 50, HEAD).dripping(b"y", Duration::from_millis(20))
}

fn half_frames(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 50, [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9, 1]].concat())
}

/// Cut at each byte of the preface, of SETTINGS, and of a head.
fn http2_at_each_byte(addr: SocketAddr) -> Crowd {
    let mut bytes = [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    bytes.extend([0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]);
    let mut all = Crowd::default();
    for end in 0..bytes.len() {
        all.streams.append(&mut Crowd::sending(addr, 1, &bytes[..end]).streams);
    }
    all
}

fn bodies_without_an_end(addr: SocketAddr) -> Crowd {
    let head = "POST /count HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    Crowd::sending(addr, 20, head).dripping(b"1\r\nx\r\n", Duration::from_millis(20))
}

fn a_byte_at_a_time(addr: SocketAddr) -> Crowd {
    let head = "POST /count HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n";
    Crowd::sending(addr, 20, head).dripping(b"x", Duration::from_millis(100))
}

fn readers_that_never_read(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 5, "GET /megabytes/100 HTTP/1.1\r\nhost: test\r\n\r\n")
}

fn resets(addr: SocketAddr) -> Crowd {
    for bytes in ["", HEAD, "GET /does/waits HTTP/1.1\r\nhost: test\r\n\r\n"] {
        let crowd = Crowd::sending(addr, 50, bytes);
        for stream in &crowd.streams {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
        }
    }
    Crowd::default()
}

fn half_closed(addr: SocketAddr) -> Crowd {
    let crowd = Crowd::sending(addr, 20, HEAD);
    crowd.streams.iter().for_each(|stream| stream.shutdown(Shutdown::Write).unwrap());
    crowd
}

fn pipelines(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 5, "GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(500))
}

fn expectations(addr: SocketAddr) -> Crowd {
    let head =
        "POST /count HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    Crowd::sending(addr, 20, head)
}

fn upgrades_with_early_bytes(addr: SocketAddr) -> Crowd {
    let head = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
                \u{1}\u{2}early";
    Crowd::sending(addr, 20, head).answered()
}

fn tunnels(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 20, "CONNECT test:1 HTTP/1.1\r\nhost: test:1\r\n\r\nearly").answered()
}

fn nonsense(addr: SocketAddr) -> Crowd {
    Crowd::sending(addr, 20, [0xff; 300]).answered()
}

type Clients = fn(SocketAddr) -> Crowd;

/// What they do, and what comes of the process. Half a head gets a second, and so does a client
/// that goes on after its last answer and does not close: longer than the limit here.
const CLIENTS: &[(&str, Clients, End)] = &[
    ("1,000 that are silent", silent, WELL),
    ("half a head", half_heads, cut("the head of a request not complete")),
    ("a head that is dripped", dripped_heads, cut("the head of a request not complete")),
    ("half a frame", half_frames, cut("the head of a request not complete")),
    ("HTTP/2, cut at each byte", http2_at_each_byte, cut("the head of a request not complete")),
    ("a body without an end", bodies_without_an_end, cut("POST /count from 127.0.0.1")),
    ("a byte at a time", a_byte_at_a_time, cut("POST /count from 127.0.0.1")),
    ("readers that never read", readers_that_never_read, cut("GET /megabytes/100 from 127.0.0.1")),
    ("resets", resets, WELL),
    ("closed in the middle of a head", half_closed, WELL),
    ("500 requests at once", pipelines, WELL),
    ("an expectation", expectations, cut("POST /count from 127.0.0.1")),
    ("an upgrade that nobody wants", upgrades_with_early_bytes, cut("still sending")),
    ("a tunnel that nobody wants", tunnels, cut("the head of a request not complete")),
    ("nonsense", nonsense, cut("still sending after the last response")),
];

#[test]
fn one_that_behaves_is_answered_beside_them() {
    for (name, clients, end) in (0..rounds()).flat_map(|_| CLIENTS) {
        let (process, addr) = end.program().serve();
        stopped_beside(name, process, addr, || clients(addr), *end);
    }
}

fn stopped_beside(
    name: &str,
    mut process: Process,
    addr: SocketAddr,
    clients: impl FnOnce() -> Crowd,
    end: End,
) {
    let mut client = Client::connect(addr);
    let crowd = clients();
    assert_eq!(client.fetch("/").text(), "fine", "{name}");
    let start = Instant::now();
    process.term();
    client.get("/");
    match client.try_response() {
        Ok(response) => {
            assert_eq!(response.text(), "fine", "{name}");
            assert!(response.closes(), "{name}");
        }
        // The machine was elsewhere for longer than the linger.
        Err(_) if start.elapsed() > Duration::from_millis(250) => {}
        Err(error) => panic!("{name}: {error}"),
    }
    check(name, &process.wait(), start, end);
    drop(crowd);
}

/// PROXY headers that are cut at each byte, of either version.
#[test]
fn proxy_headers_that_stall() {
    let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n".to_vec();
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    binary.extend([192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 0, 80]);
    for _ in 0..rounds() {
        for header in [&text, &binary] {
            let (mut process, addr) = hurried().env("PROXY", "yes").serve();
            let _all: Vec<_> =
                (0..header.len()).map(|end| Crowd::sending(addr, 1, &header[..end])).collect();
            let mut client = Client::connect(addr);
            client.send([&header[..], b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"].concat());
            assert_eq!(client.response().text(), "fine");
            let start = Instant::now();
            process.term();
            check("a PROXY header that stalls", &process.wait(), start, cut("handshake"));
        }
    }
}

/// A handshake that stalls at each byte of the client's hello.
#[test]
fn handshakes_that_stall() {
    let files = Certificates::new("hostile-handshakes");
    let mut hello = Vec::new();
    files.client().write_tls(&mut hello).unwrap();
    for _ in 0..rounds() {
        let (mut process, addr) = files.of(hurried()).serve();
        let _all: Vec<_> =
            (0..hello.len()).map(|end| Crowd::sending(addr, 1, &hello[..end])).collect();
        let stream = TcpStream::connect(addr).unwrap();
        let mut client = StreamOwned::new(files.client(), stream);
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("fine"), "{answer}");
        let start = Instant::now();
        process.term();
        check("a handshake that stalls", &process.wait(), start, cut("handshake"));
    }
}

/// Keys that change with each record cost the client as much as the server.
#[test]
fn keys_that_change_all_the_time() {
    let files = Certificates::new("hostile-keys");
    for _ in 0..rounds() {
        let (mut process, addr) = files.of(hostile()).serve();
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut client = files.client();
        while client.is_handshaking() {
            client.complete_io(&mut stream).unwrap();
        }
        let mut reader = stream.try_clone().unwrap();
        thread::spawn(move || while reader.read(&mut [0; 16_384]).is_ok_and(|read| read > 0) {});
        let flood = thread::spawn(move || {
            let mut count = 0;
            while client.refresh_traffic_keys().is_ok() && client.write_tls(&mut stream).is_ok() {
                count += 1;
            }
            count
        });
        let stream = TcpStream::connect(addr).unwrap();
        let mut other = StreamOwned::new(files.client(), stream);
        let started = Instant::now();
        let mut answered = 0;
        while started.elapsed() < Duration::from_millis(400) {
            assert!(certificates::exchange(&mut other).unwrap(), "the connection is kept");
            answered += 1;
        }
        let start = Instant::now();
        process.term();
        let ended = process.wait();
        let changed = flood.join().unwrap();
        println!("{changed} keys, {answered} others answered, ended in {:?}", ended.after(start));
        check("keys that change", &ended, start, WELL);
    }
}

/// On a connection that it has, and on a new one, from 20 ms before the signal to 20 ms behind it.
#[test]
fn a_request_in_each_millisecond_around_the_signal() {
    for at in (0..rounds()).flat_map(|_| 0..40) {
        let (mut process, addr) = hostile().env("LINGER", "5s").serve();
        let mut kept = Client::connect(addr);
        assert_eq!(kept.fetch("/").text(), "fine");
        let begin = Instant::now();
        let start = begin + Duration::from_millis(20);
        let asking = thread::spawn(move || {
            let moment = begin + Duration::from_millis(at);
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            let of_new = match Client::try_connect(addr) {
                Ok(mut client) => {
                    client.get("/");
                    client.try_response().map(|response| response.text()).ok()
                }
                Err(_) => Some("refused".to_owned()),
            };
            kept.get("/");
            (of_new, kept.try_response().map(|response| response.text()).ok())
        });
        thread::sleep(start.saturating_duration_since(Instant::now()));
        process.term();
        let ended = process.wait();
        let (of_new, of_kept) = asking.join().unwrap();
        assert!(matches!(of_new.as_deref(), Some("fine" | "refused")), "{at} ms: {of_new:?}");
        assert_eq!(of_kept.as_deref(), Some("fine"), "{at} ms");
        check(&format!("{at} ms"), &ended, start, WELL);
    }
}

/// A client that sends its requests one by one is answered until the server says that it is enough,
/// and its connection is closed without a loss.
#[test]
fn a_pipeline_that_never_ends() {
    for _ in 0..rounds() {
        let (mut process, addr) = hostile().serve();
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sending = thread::spawn(move || {
            while writer.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").is_ok() {}
        });
        let mut answers = vec![0; 100_000];
        stream.read_exact(&mut answers).unwrap();
        let start = Instant::now();
        process.term();
        let _ = stream.read_to_end(&mut answers);
        let answers = String::from_utf8_lossy(&answers);
        let last = answers.rfind("HTTP/1.1 200 OK").unwrap();
        assert!(answers[last..].contains("connection: close"), "{}", &answers[last..]);
        assert!(answers.ends_with("fine"), "{}", &answers[last..]);
        check("a pipeline that never ends", &process.wait(), start, WELL);
        drop(stream);
        sending.join().unwrap();
    }
}

/// An upgrade whose first message comes beside its head, before the signal, in the lame duck and in
/// the drain: it is answered, and the connection ends by its handler.
#[test]
fn upgrades_whose_first_message_comes_with_the_head() {
    let head = "GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A masked text, and a masked close (RFC 6455, section 5.2).
    let first = [head.as_bytes(), b"\x81\x85\0\0\0\0early"].concat();
    for (when, delay) in [("before", "0s"), ("in the lame duck", "1s"), ("in the drain", "0s")] {
        let web = fixture!("web").env("DELAY", delay).env("LINGER", "20s");
        let (mut process, addr) = web.serve();
        let mut client = Client::connect(addr);
        assert_eq!(client.fetch("/").text(), "fine", "{when}");
        if when != "before" {
            process.term();
        }
        client.send(&first);
        let (mut stream, mut seen) = (client.stream(), Vec::new());
        while !seen.ends_with(b"\x81\x05early") {
            let mut piece = [0; 1_024];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{when}: {}", String::from_utf8_lossy(&seen));
            seen.extend(&piece[..read]);
        }
        assert!(seen.starts_with(b"HTTP/1.1 101 "), "{when}: {}", String::from_utf8_lossy(&seen));
        if when == "before" {
            process.term();
        }
        client.send(b"\x88\x80\0\0\0\0");
        // Whether the close is answered is up to the handler.
        client.stream().read_to_end(&mut seen).expect("a clean close");
        let _ = process.wait().expect(0);
    }
}
