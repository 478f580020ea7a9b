//! Where messages end, on the wire: nothing of it holds the exit, and nothing turns the header
//! timeout off.

use std::time::{Duration, Instant};

use graceful_tests::{Client, Process, Signal, fixture};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// What is sent, in pieces, each of which is read by itself, and what is answered.
type Exchange = (&'static str, Vec<String>, &'static [&'static str]);

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: test\r\n{fields}\r\n\r\n{body}")
}

fn exchanges() -> Vec<Exchange> {
    let multipart = "--b\r\ncontent-disposition: form-data\r\n\r\nvalue\r\n--b--\r\n";
    let sized = format!("content-length: {}", multipart.len());
    let upload = post(&sized, multipart);
    let head = upload.len() - multipart.len();
    let long = format!("x: {}\r\n{sized}", "y".repeat(2_050 - head - 5));
    let split = |text: &str, at: usize| vec![text[..at].to_owned(), text[at..].to_owned()];
    let get = "GET /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    // As from a client that puts it all into one write: the blank line is the last of it.
    let long_get = get.replace("host: x", &format!("host: x\r\nx: {}", "y".repeat(5_000)));
    let long_get = long_get.replace("hello", "o\r\n\r\n");
    let chunked = "transfer-encoding: chunked";
    vec![
        ("a head that ends in two reads", split(&upload, head - 2), &["53"]),
        ("a head of 2,050 bytes", vec![post(&long, multipart)], &["53"]),
        (
            "bare line feeds",
            vec![format!("POST / HTTP/1.1\nhost: x\n{sized}\n\n{multipart}")],
            &["53"],
        ),
        ("a GET with a body that comes later", split(get, get.len() - 5), &["5"]),
        ("a GET with a body that comes later still", split(get, get.len() - 4), &["5"]),
        ("a GET with a head of 5,000 bytes and a body", vec![long_get], &["5"]),
        ("trailers", vec![post(chunked, "5\r\nhello\r\n0\r\na: b\r\n\r\n")], &["5"]),
        ("an extension", vec![post(chunked, "5;a=b\r\nhello\r\n0\r\n\r\n")], &["5"]),
        ("two POSTs at once", vec![post("content-length: 2", "hi").repeat(2)], &["2", "2"]),
        ("a line break before", vec![format!("\r\n\r\n{GET}")], &["fine"]),
        ("a line break behind", vec![post("content-length: 2", "hi\r\n")], &["2"]),
        (
            "a line break behind, later",
            vec![post("content-length: 2", "hi"), "\r\n".into()],
            &["2"],
        ),
    ]
}

/// Sends the exchange; each piece has been read before the next one comes.
fn run(client: &mut Client, (name, pieces, answers): &Exchange) {
    for piece in pieces {
        client.send(piece);
        // The kernel hands over what it has: a pause makes two reads of two sends.
        std::thread::sleep(Duration::from_millis(60));
    }
    for answer in *answers {
        let response = client.try_response().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(response.text(), *answer, "{name}");
    }
}

/// Waits until what was sent on other connections has been read.
fn settle(addr: std::net::SocketAddr) {
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
}

#[test]
fn answered_connections_do_not_hold_the_exit() {
    for exchange in &exchanges() {
        let name = exchange.0;
        let (mut process, addr): (Process, _) = fixture!("web").serve();
        let mut client = Client::connect(addr);
        run(&mut client, exchange);
        settle(addr);
        let start = Instant::now();
        process.signal(Signal::TERM);
        let ended = process.wait();
        assert_eq!(ended.code(), 0, "{name}: {ended:#?}");
        // The linger, and no head's second on top of it.
        assert!(
            ended.after(start) < Duration::from_millis(900),
            "{name}: {:?}",
            ended.after(start)
        );
    }
}

#[test]
fn the_header_timeout_goes_on_behind_them() {
    let web = fixture!("web").env("HEADER_TIMEOUT_MS", "300");
    let (_process, addr) = web.serve();
    for exchange in &exchanges() {
        let name = exchange.0;
        let mut client = Client::connect(addr);
        run(&mut client, exchange);
        // Idle is not half a head: that lasts.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(client.fetch("/").text(), "fine", "{name}");
        client.send("GET / HT");
        let start = Instant::now();
        client.closed();
        let after = start.elapsed();
        assert!(after > Duration::from_millis(250), "{name}: {after:?}");
    }
}

#[test]
fn the_header_timeout_runs_from_the_accept() {
    let web = fixture!("web").env("HEADER_TIMEOUT_MS", "1000");
    let (_process, addr) = web.serve();
    let mut client = Client::connect(addr);
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(700));
    client.send("GET / HT");
    client.closed();
    let after = start.elapsed();
    assert!(
        after > Duration::from_millis(950) && after < Duration::from_millis(1_600),
        "{after:?}"
    );
}
