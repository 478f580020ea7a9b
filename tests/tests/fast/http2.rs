//! HTTP/2 at the drain.

use std::time::{Duration, Instant};

use graceful_tests::{
    Http2, Process, Signal, fixture,
    http2::kind::{DATA, GOAWAY},
};

fn web() -> (Process, Http2) {
    let (process, addr) = fixture!("web").serve();
    (process, Http2::connect(addr))
}

#[test]
fn goes_away_twice_and_answers_open_streams() {
    let (mut process, mut client) = web();
    client.pongs = false;
    client.get(1, "/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    let first = client.frame().unwrap();
    assert_eq!((first.kind, first.last_stream()), (GOAWAY, 0x7fff_ffff));
    client.ping();
    // Crosses the first GOAWAY on the wire: opened before the client has answered the PING, so it
    // counts.
    client.get(3, "/hold");
    process.line("hold begins");
    client.pong();
    let second = client.frame().unwrap();
    assert_eq!((second.kind, second.last_stream()), (GOAWAY, 3));
    // Above the last id: left unprocessed.
    client.get(5, "/stream");
    process.release();
    let rest = client.rest();
    assert!(rest.iter().all(|frame| frame.stream != 5), "{rest:?}");
    for stream in [1, 3] {
        let data = rest.iter().filter(|it| it.kind == DATA && it.stream == stream);
        let data: Vec<_> = data.flat_map(|it| it.payload.clone()).collect();
        assert_eq!(data, b"held", "stream {stream}");
    }
    let ended = process.wait().expect(0);
    assert!(!ended.said("stream begins"), "the handler was called: {ended:#?}");
    assert!(ended.said("drained 2 requests, 1 connection in "), "{ended:#?}");
}

#[test]
fn an_idle_connection_ends_with_the_second_goaway() {
    let (mut process, mut client) = web();
    client.get(1, "/");
    while !client.frame().unwrap().ends_stream() {}
    let start = Instant::now();
    process.signal(Signal::TERM);
    let kinds: Vec<_> = client.rest().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [GOAWAY, GOAWAY]);
    drop(client);
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_millis(500), "{:?}", ended.after(start));
}

/// A header that HTTP/2 forbids (RFC 9113, section 8.2.2): a client takes an answer with it for
/// malformed.
#[test]
fn never_says_connection_close() {
    let (mut process, addr) = fixture!("web").serve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut process = runtime.block_on(async {
        use hyper_util::rt::{TokioExecutor, TokioIo};
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut client, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get(format!("http://{addr}/hold"));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let answer = tokio::spawn(client.send_request(request));
        let stop = move || {
            process.line("hold begins");
            process.term();
            process.release();
            process
        };
        let process = tokio::task::spawn_blocking(stop).await.unwrap();
        let response = tokio::time::timeout(graceful_tests::PATIENCE, answer).await;
        let response = response.unwrap().unwrap().expect("not malformed");
        assert_eq!((response.status().as_u16(), response.headers().get("connection")), (200, None));
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        assert_eq!(body.to_bytes(), "held");
        process
    });
    let _ = process.wait().expect(0);
}

#[test]
fn a_client_that_answers_no_ping_does_not_hold_the_exit() {
    let (mut process, mut client) = web();
    client.pongs = false;
    client.get(1, "/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    process.release();
    let start = Instant::now();
    let frames = client.rest();
    assert!(
        frames.iter().any(|frame| frame.kind == DATA && frame.payload == b"held"),
        "{frames:?}"
    );
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_secs(3), "{:?}", ended.after(start));
}

#[test]
fn half_a_preface_is_bounded() {
    use graceful_tests::Client;
    let (mut process, addr) = fixture!("web").serve();
    let mut half = Client::connect(addr);
    half.send("PRI * HTTP/2.0\r\n\r\nSM");
    // The preface without the SETTINGS that have to follow.
    let mut without = Client::connect(addr);
    without.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    let start = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    let after = ended.after(start);
    assert!(after < Duration::from_secs(2), "{after:?}");
}

#[test]
fn the_limit_names_streams() {
    let web = fixture!("web").env("TIMEOUT", "200ms");
    let (mut process, addr) = web.serve();
    let mut client = Http2::connect(addr);
    for stream in [1, 3] {
        client.get(stream, "/hold?secret");
        process.line("hold begins");
    }
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let named = ended.lines.iter().filter(|line| line.contains("GET /hold from 127.0.0.1")).count();
    assert_eq!(named, 2, "{ended:#?}");
    assert!(!ended.said("secret"), "{ended:#?}");
}

#[test]
fn a_slow_reader_gets_its_whole_answer() {
    let (mut process, mut client) = web();
    client.get(1, "/large");
    // A window's worth has been sent, the rest waits for the client; the handler is long done.
    let mut read = 0;
    while read < 65_535 {
        let frame = client.frame().unwrap();
        read += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
    process.signal(Signal::TERM);
    process.line("waiting for 1 request, 1 connection");
    // Longer than an idle connection is given to answer a PING.
    std::thread::sleep(Duration::from_millis(1_200));
    client.allow(1, 100_000);
    assert_eq!(read + client.body(1).unwrap(), 3_000_000);
    drop(client);
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 request, 1 connection in "), "{ended:#?}");
}

#[test]
fn an_answer_in_the_socket_buffers_is_not_destroyed() {
    let (mut process, mut client) = web();
    client.get(1, "/hold");
    process.line("hold begins");
    // The windows are open: all of it goes to the kernel at once.
    client.get(3, "/upload-answer");
    client.allow(3, 400_000);
    process.signal(Signal::TERM);
    process.line("SIGTERM received");
    process.release();
    std::thread::sleep(Duration::from_millis(400));
    let size: usize = client
        .rest()
        .iter()
        .filter(|it| it.kind == DATA && it.stream == 3)
        .map(|it| it.payload.len())
        .sum();
    assert_eq!(size, 300_000);
    let _ = process.wait().expect(0);
}

/// Reads what the client's first windows have room for.
fn read_a_window(client: &mut Http2, stream: u32) {
    let mut size = 0;
    while size < 65_535 {
        let frame = client.frame().unwrap();
        if (frame.kind, frame.stream) == (DATA, stream) {
            size += frame.payload.len();
        }
    }
}

fn with_limit(limit: &str) -> (Process, Http2) {
    let web = fixture!("web").env("TIMEOUT", limit);
    let (process, addr) = web.serve();
    (process, Http2::connect(addr))
}

/// A body of one piece is in h2's hands as a whole, long before the client's windows have room for
/// it.
#[test]
fn a_response_that_waits_for_the_client_is_cut_with_its_name() {
    let (mut process, mut client) = with_limit("400ms");
    client.get(1, "/bytes/200000");
    read_a_window(&mut client, 1);
    // Room on the connection: what is answered beside it is, and is not named.
    client.send(8, 0, 0, &1_000_000_u32.to_be_bytes());
    client.get(3, "/");
    while !client.frame().unwrap().ends_stream() {}
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(ended.said("cut off: GET /bytes/200000 from "), "{ended:#?}");
    assert!(!ended.said("GET / from"), "{ended:#?}");
}

#[test]
fn a_second_signal_names_it_too() {
    let (mut process, mut client) = with_limit("20s");
    client.get(1, "/bytes/200000");
    read_a_window(&mut client, 1);
    process.signal(Signal::TERM);
    process.line_before_second("SIGTERM received");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(143);
    assert!(ended.said("cut off: GET /bytes/200000 from "), "{ended:#?}");
}

/// The handler of the WebSocket has sent everything and has ended; the client has not got it.
#[test]
fn a_websocket_that_has_ended_is_waited_for_until_its_bytes_are_written() {
    let (mut process, mut client) = with_limit("400ms");
    client.connect_websocket(1, "/ws-gift/100000");
    process.line("the gift is sent");
    read_a_window(&mut client, 1);
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(ended.said("cut off: upgraded connection /ws-gift/100000 from "), "{ended:#?}");

    let (mut process, mut client) = with_limit("20s");
    client.connect_websocket(1, "/ws-gift/100000");
    process.line("the gift is sent");
    read_a_window(&mut client, 1);
    process.term();
    client.allow(1, 100_000);
    let rest = client.rest();
    let data = rest.iter().filter(|frame| frame.kind == DATA);
    // The head of the WebSocket's frame is ten bytes.
    assert_eq!(data.map(|frame| frame.payload.len()).sum::<usize>(), 100_010 - 65_535);
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 connection in "), "{ended:#?}");
}

/// Half a frame is half a head: the rest of it has a second.
#[test]
fn half_a_frame_is_waited_for() {
    let (mut process, mut client) = web();
    client.get(1, "/");
    while !client.frame().unwrap().ends_stream() {}
    client.pongs = false;
    process.term();
    assert_eq!(client.frame().unwrap().kind, GOAWAY);
    client.ping();
    // Late, so that a second from the signal would not do.
    std::thread::sleep(Duration::from_millis(700));
    let head = b"\0\0\x06\x01\x05\0\0\0\x03\x82\x86\x84\x01\x01x";
    std::io::Write::write_all(client.raw(), &head[..12]).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    std::io::Write::write_all(client.raw(), &head[12..]).unwrap();
    client.pong();
    let rest = client.rest();
    let answer = rest.iter().filter(|frame| frame.kind == DATA && frame.stream == 3);
    let answer: Vec<_> = answer.flat_map(|frame| frame.payload.clone()).collect();
    assert_eq!(answer, b"fine", "{rest:?}");
    let _ = process.wait().expect(0);
}
