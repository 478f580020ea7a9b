//! What has not reached the client is not done: slow readers, slow uploads, and clients that go on
//! sending.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use graceful_tests::{
    Client, Fixture, Http2, Process, Signal,
    client::find,
    fixture,
    http2::kind::{DATA, GOAWAY, PING},
};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

fn web() -> Fixture {
    fixture!("web")
}

/// A stream that is read from at so many bytes per tick of 25 ms.
struct Throttled {
    stream: TcpStream,
    per_tick: usize,
    left: usize,
    tick: Pin<Box<Sleep>>,
}

const TICK: Duration = Duration::from_millis(25);

impl Throttled {
    fn new(stream: TcpStream, per_second: usize) -> Self {
        let per_tick = per_second / 40;
        Self { stream, per_tick, left: per_tick, tick: Box::pin(tokio::time::sleep(TICK)) }
    }
}

impl AsyncRead for Throttled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == 0 {
            std::task::ready!(this.tick.as_mut().poll(cx));
            this.tick = Box::pin(tokio::time::sleep(TICK));
            this.left = this.per_tick;
        }
        let mut part = buf.take(this.left);
        std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        this.left -= read;
        // It was initialised as a part of `buf`.
        let filled = part.filled().to_vec();
        buf.put_slice(&filled);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Downloads `size` bytes with hyper's own HTTP/2 client, at `per_second`, across a stop.
async fn slow_download(mut process: Process, addr: SocketAddr, size: usize, per_second: usize) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let io = TokioIo::new(Throttled::new(stream, per_second));
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let uri = format!("http://test/bytes/{size}");
    let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.unwrap_or_else(|error| panic!("after {read} of {size} bytes: {error}"));
        if read == 0 {
            process.signal(Signal::TERM);
        }
        read += frame.data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(read, size);
    drop(client);
    let _: Result<(), hyper::Error> = connection.await.unwrap();
    let ended = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().expect(0);
    assert!(ended.said("1 connection in "), "{ended:#?}");
}

#[tokio::test]
async fn a_slow_http2_download_is_complete() {
    let [one, two] = [(2_000_000, 400_000), (4_000_000, 800_000)].map(|(size, per_second)| {
        let (process, addr) = web().serve();
        tokio::spawn(slow_download(process, addr, size, per_second))
    });
    one.await.unwrap();
    two.await.unwrap();
}

#[test]
fn a_pipeline_behind_a_slow_download_does_not_eat_its_end() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.get("/bytes/3000000");
    client.stream().peek(&mut [0]).unwrap();
    process.term();
    // What comes now is never read by the service, if the response has announced its end.
    let mut all = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let enough =
        |all: &[u8]| find(all, b"\r\n\r\n").is_some_and(|at| all.len() - at - 4 >= 3_000_000);
    while !enough(&all) {
        // Nobody has to take it.
        let _ = client.stream().write_all(GET.as_bytes());
        match client.stream().read(&mut chunk).expect("no reset") {
            0 => panic!("{} bytes, then the end", all.len()),
            n => all.extend(&chunk[..n]),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(client);
    let _ = process.wait().expect(0);
}

/// Waits until all of the response is with the kernel: then the request is not in a handler any
/// more.
fn written(addr: SocketAddr) {
    let mut other = Client::connect(addr);
    let until = Instant::now() + graceful_tests::PATIENCE;
    while other.fetch("/in-flight").text().contains("GET /bytes") {
        assert!(Instant::now() < until);
    }
}

#[test]
fn a_response_that_the_client_has_not_got_is_waited_for_and_named() {
    for wait in [true, false] {
        let timeout = if wait { "20s" } else { "700ms" };
        let (mut process, addr) = web().env("TIMEOUT", timeout).serve();
        let mut client = Client::connect(addr);
        client.get("/bytes/1500000?secret");
        client.stream().peek(&mut [0]).unwrap();
        written(addr);
        let start = Instant::now();
        process.term();
        if wait {
            // Longer than the linger, and than any fixed second.
            process.line("waiting for 1 request");
            std::thread::sleep(Duration::from_millis(1_500));
            assert!(!process.is_over());
            assert_eq!(client.response().body.len(), 1_500_000);
            client.closed();
            let _ = process.wait().expect(0);
        } else {
            let ended = process.wait().expect(124);
            assert!(ended.after(start) >= Duration::from_millis(700), "{ended:#?}");
            assert!(ended.said("GET /bytes/1500000 from 127.0.0.1:"), "{ended:#?}");
            assert!(ended.said("bytes not acknowledged"), "{ended:#?}");
        }
    }
}

#[test]
fn an_upload_that_is_still_read_after_its_answer_is_waited_for() {
    // A chunk may look like the end of the body.
    for part in ["x".repeat(1_000), "0\r\n\r\n".to_owned()] {
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        let (mut process, addr) = web().serve();
        let mut client = Client::connect(addr);
        client.send("POST /early HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(&chunk);
        assert_eq!(client.response().text(), "early");
        process.line(&format!("read {} bytes", part.len()));
        process.term();
        // Longer than the linger, and than a head or a lingering close is given.
        std::thread::sleep(Duration::from_millis(1_500));
        client.send(&chunk);
        client.send("0\r\n\r\n");
        process.line(&format!("upload ends after {} bytes", 2 * part.len()));
        let ended = process.wait().expect(0);
        assert!(!ended.said("cut off"), "{ended:#?}");
    }
}

#[test]
fn an_upload_that_is_still_read_is_named_at_the_limit() {
    let (mut process, addr) = web().env("TIMEOUT", "300ms").serve();
    let mut client = Client::connect(addr);
    client.send("POST /early HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello");
    assert_eq!(client.response().text(), "early");
    process.term();
    let ended = process.wait().expect(124);
    assert!(ended.said("POST /early from 127.0.0.1:"), "{ended:#?}");
}

#[test]
fn a_client_that_goes_on_after_goaway_does_not_hold_the_exit() {
    // A PING, a WINDOW_UPDATE for the connection, a frame that nobody knows, garbage.
    let pings: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let updates: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let unknown: &[u8] = &[0, 0, 1, 0xee, 0, 0, 0, 0, 0, 0];
    let garbage: &[u8] = &[0xff; 32];
    for frame in [pings, updates, unknown, garbage] {
        let (mut process, addr) = web().serve();
        let mut client = Http2::connect(addr);
        // It never answers the server's own PING.
        client.pongs = false;
        client.get(1, "/");
        while !client.frame().unwrap().ends_stream() {}
        let start = Instant::now();
        process.signal(Signal::TERM);
        while client.raw().write_all(frame).is_ok() && start.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let ended = process.wait().expect(0);
        assert!(ended.after(start) < Duration::from_secs(4), "{frame:?}: {:?}", ended.after(start));
    }
}

#[test]
fn half_a_head_and_a_lingering_close_are_named_at_the_limit() {
    let (mut process, addr) = web().env("TIMEOUT", "300ms").serve();
    let mut half = Client::connect(addr);
    half.send("GET / HTTP/1.1\r\nhost:");
    // Answered, and still sending what nobody reads.
    let mut sending = Client::connect(addr);
    sending.send("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000000\r\n\r\n");
    assert_eq!(sending.response().status, 200);
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    for what in ["the head of a request not complete", "still sending after the last response"] {
        assert!(ended.said(what), "{what}: {ended:#?}");
    }
}

#[test]
fn goodbye_frames_are_no_loss_for_a_client_that_reads_late() {
    let (mut process, addr) = web().serve();
    let mut client = Http2::connect(addr);
    client.get(1, "/bytes/60000");
    client.raw().peek(&mut [0]).unwrap();
    process.term();
    // The response and GOAWAY are in the client's receive buffer; it comes to them later.
    std::thread::sleep(Duration::from_millis(700));
    let mut size = 0;
    loop {
        let frame = client.frame().unwrap();
        size += if frame.kind == DATA { frame.payload.len() } else { 0 };
        if frame.ends_stream() {
            break;
        }
    }
    assert_eq!(size, 60_000);
    assert!(client.rest().iter().all(|frame| frame.kind == GOAWAY || frame.kind == PING));
    let _ = process.wait().expect(0);
}
