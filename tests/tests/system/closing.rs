//! What happens to connections at the drain: nothing that reached the machine is lost.

use crate::FIXTURES;
use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, Process, Signal, client::find, fixture};

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

fn web() -> Fixture {
    fixture!("web")
}

/// Starts the program where the kernel lacks something; `None` if that cannot be tried here.
fn spawn_without(what: &str, fixture: Fixture) -> Option<Process> {
    let possible = Command::new("python3").arg("--version").output().is_ok();
    let can = graceful_tests::can(&format!("a process without {what} (python3)"), possible);
    can.then(|| fixture.spawn_without(what))
}

/// Clients connect and send while the process sleeps; then it is told to stop, and wakes up.
fn everybody_in_the_queue_is_answered(process: &mut Process, addr: SocketAddr) {
    process.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        client.send(GET);
    }
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    for client in &mut clients {
        // With `Connection: close`, if the process has heard the signal before it came to this one.
        assert_eq!(client.response().text(), "fine");
        client.closed();
    }
    let _ = process.wait().expect(0);
}

#[test]
fn clients_in_the_accept_queue_are_answered() {
    let (mut process, addr) = web().serve();
    everybody_in_the_queue_is_answered(&mut process, addr);
}

#[test]
fn clients_in_the_accept_queue_are_answered_with_a_delay() {
    let (mut process, addr) = web().env("DELAY", "100ms").serve();
    everybody_in_the_queue_is_answered(&mut process, addr);
}

#[test]
fn clients_in_the_accept_queue_are_answered_by_an_unprivileged_process() {
    let is_root = rustix::process::getuid().is_root();
    if !graceful_tests::can("a process without the privileges of root", is_root) {
        return;
    }
    let mut process = web().spawn_by(|program| {
        // The build folder may lie where nobody else may look.
        let copy = std::env::temp_dir().join(format!("graceful-web-{}", std::process::id()));
        std::fs::copy(program, &copy).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"])
            .args(["--no-new-privs"])
            .arg(copy);
        command
    });
    let addr = process.addr();
    let copy = std::env::temp_dir().join(format!("graceful-web-{}", std::process::id()));
    std::fs::remove_file(copy).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    everybody_in_the_queue_is_answered(&mut process, addr);
}

/// An older kernel, or a sandbox: the queue is emptied, and the listener closed.
#[test]
fn clients_in_the_accept_queue_are_answered_where_the_kernel_lacks_the_option() {
    let Some(mut process) = spawn_without("bindtoifindex", web()) else { return };
    let addr = process.addr();
    everybody_in_the_queue_is_answered(&mut process, addr);
}

/// Without netlink, too, it is seen that a client has read what it had not when that was first
/// asked.
#[test]
fn a_slow_reader_without_netlink_holds_the_stop_until_it_has_read() {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let Some(mut process) = spawn_without("netlink", web()) else { return };
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4_096).unwrap();
    connect(&socket, &process.addr()).unwrap();
    let mut client = std::net::TcpStream::from(socket);
    client.write_all(b"GET /bytes/300000 HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).unwrap();
    let start = Instant::now();
    process.term();
    // Long enough to be asked about a few times.
    std::thread::sleep(Duration::from_millis(600));
    let mut buffer = vec![0; 65_536];
    let mut read = 0;
    while read < 300_000 {
        read += client.read(&mut buffer).unwrap();
    }
    // It keeps its side open: that it has read is all there is to know.
    let ended = process.wait().expect(0);
    let after = ended.after(start);
    assert!(after >= Duration::from_millis(600) && after < Duration::from_secs(8), "{after:?}");
    drop(client);
}

/// The first half comes before the signal, the second after it.
#[test]
fn an_upload_half_received_at_the_signal_is_read_to_its_end() {
    let chunked = "transfer-encoding: chunked\r\n\r\n3e8\r\n";
    for (head, end) in [("content-length: 2000\r\n\r\n", ""), (chunked, "\r\n0\r\n\r\n")] {
        let (mut process, addr) = web().env("LINGER", "50ms").serve();
        let mut client = Client::connect(addr);
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{head}"));
        client.send(vec![b'x'; 500]);
        // Answered after it: by then the first half has been read.
        assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        process.term();
        // Longer than the linger.
        std::thread::sleep(Duration::from_millis(200));
        let rest = if end.is_empty() { 1_500 } else { 500 };
        client.send(vec![b'x'; rest]);
        client.send(end);
        let response = client.response();
        assert_eq!(response.text(), (500 + rest).to_string());
        assert!(response.closes(), "{response:?}");
        client.closed();
        let _ = process.wait().expect(0);
    }
}

#[test]
fn new_connections_are_refused_while_the_queue_is_worked_off() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.term();
    let until = Instant::now() + graceful_tests::PATIENCE;
    let error = loop {
        match Client::try_connect(addr) {
            Err(error) => break error,
            Ok(mut late) => {
                // Let in, then answered.
                assert_eq!(late.fetch("/").text(), "fine");
                assert!(Instant::now() < until);
            }
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    process.release();
    assert_eq!(client.response().text(), "held");
    let _ = process.wait().expect(0);
}

#[test]
fn what_nobody_could_read_is_named() {
    what_could_not_be_read_is_named(web().env("TIMEOUT", "800ms").spawn());
}

/// Where the kernel's tables are text.
#[test]
fn what_nobody_could_read_is_named_without_netlink() {
    if let Some(process) = spawn_without("netlink", web().env("TIMEOUT", "800ms")) {
        what_could_not_be_read_is_named(process);
    }
}

fn what_could_not_be_read_is_named(mut process: Process) {
    let addr = process.addr();
    let mut idle = Client::connect(addr);
    assert_eq!(idle.fetch("/").text(), "fine");
    let mut quiet = Client::connect(addr);
    assert_eq!(quiet.fetch("/").text(), "fine");
    let blocked = process.block_every_worker(addr);
    idle.get("/");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let named = |client: &Client, what: &str| {
        let peer = client.stream().local_addr().unwrap();
        ended.said(&format!("from {peer}, {what}"))
    };
    assert!(named(&blocked, "no response yet, "), "{ended:#?}");
    assert!(named(&idle, "what it sent was never read, "), "{ended:#?}");
    // The kernel is asked: this one has sent nothing.
    assert!(!named(&quiet, ""), "{ended:#?}");
}

#[test]
fn a_quiet_connection_is_kept_for_its_linger() {
    let (mut process, addr) = web().env("LINGER", "400ms").serve();
    let mut client = Client::connect(addr);
    let start = Instant::now();
    assert!(!client.fetch("/").closes());
    process.term();
    client.closed();
    let after = start.elapsed();
    assert!(after > Duration::from_millis(390) && after < Duration::from_secs(2), "{after:?}");
    let _ = process.wait().expect(0);
}

#[test]
fn a_request_within_the_linger_is_answered_and_told() {
    let (mut process, addr) = web().env("LINGER", "5s").serve();
    let mut client = Client::connect(addr);
    let mut fresh = Client::connect(addr);
    assert!(!client.fetch("/").closes());
    process.term();
    for client in [&mut client, &mut fresh] {
        let response = client.fetch("/");
        assert_eq!(response.text(), "fine");
        assert!(response.closes(), "{response:?}");
        client.closed();
    }
    let _ = process.wait().expect(0);
}

#[test]
fn the_linger_begins_with_the_answer_however_long_it_took() {
    // Shorter than the answer takes.
    let (mut process, addr) = web().env("LINGER", "1s").serve();
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/compute").text(), "computed");
    process.term();
    let response = client.fetch("/");
    assert_eq!(response.text(), "fine");
    assert!(response.closes(), "{response:?}");
    client.closed();
    let _ = process.wait().expect(0);
}

#[test]
fn a_connection_long_idle_closes_at_once() {
    let (mut process, addr) = web().env("LINGER", "200ms").serve();
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/").text(), "fine");
    let silent = Client::connect(addr);
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    std::thread::sleep(Duration::from_millis(250));
    let start = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_millis(150), "{:?}", ended.after(start));
    client.closed();
    drop(silent);
}

#[test]
fn a_linger_of_zero_closes_at_once() {
    let (mut process, addr) = web().env("LINGER", "0s").serve();
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/").text(), "fine");
    let start = Instant::now();
    process.signal(Signal::TERM);
    client.closed();
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_millis(150), "{:?}", ended.after(start));
}

#[test]
fn half_a_head_gets_a_second() {
    let (first, rest) = GET.split_at(9);
    let (mut process, addr) = web().serve();
    // On a fresh connection, in the first bytes of what might be HTTP/2, after an answer, and in
    // the same packet as the request before.
    let mut fresh = Client::connect(addr);
    fresh.send(first);
    let mut preface = Client::connect(addr);
    preface.send("P");
    let mut later = Client::connect(addr);
    assert_eq!(later.fetch("/").text(), "fine");
    later.send(first);
    let mut pipelined = Client::connect(addr);
    pipelined.send(format!("{GET}{first}"));
    assert_eq!(pipelined.response().text(), "fine");
    let mut posted = Client::connect(addr);
    posted.send(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody{first}"));
    assert_eq!(posted.response().text(), "4");
    // Answered after they were accepted: by then the others have been read from, too.
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    // Longer than the linger.
    std::thread::sleep(Duration::from_millis(300));
    process.term();
    std::thread::sleep(Duration::from_millis(300));
    preface.send("UT / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(preface.response().status, 405);
    for (name, client) in [
        ("fresh", &mut fresh),
        ("later", &mut later),
        ("pipelined", &mut pipelined),
        ("posted", &mut posted),
    ] {
        client.send(rest);
        let response = client.try_response().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(response.text(), "fine", "{name}");
        assert!(response.closes(), "{name}: {response:?}");
    }
    let _ = process.wait().expect(0);
}

#[test]
fn a_head_that_is_dripped_does_not_hold_the_exit() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.send("GET / HTTP/1.1\r\n");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    let start = Instant::now();
    process.signal(Signal::TERM);
    while client.stream().write_all(b"x: y\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let ended = process.wait().expect(0);
    let after = ended.after(start);
    assert!(after > Duration::from_millis(900) && after < Duration::from_secs(2), "{after:?}");
}

#[test]
fn responses_say_close_from_the_first_signal_on() {
    let (mut process, addr) = web().env("DELAY", "10s").serve();
    let mut client = Client::connect(addr);
    assert!(!client.fetch("/").closes());
    process.term();
    let response = client.fetch("/");
    assert!(response.closes(), "{response:?}");
    client.closed();
    // New connections are still served.
    let response = Client::connect(addr).fetch("/");
    assert!(response.status == 200 && response.closes(), "{response:?}");
}

#[test]
fn http_1_0_gets_what_it_understands() {
    let old = "GET / HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n";
    let (mut process, addr) = web().env("DELAY", "10s").serve();
    let mut client = Client::connect(addr);
    client.send(old);
    let response = client.response();
    assert!(response.head.contains("connection: keep-alive"), "{response:?}");
    process.term();
    client.send(old);
    let response = client.response();
    assert!(response.head.starts_with("http/1.0 200"), "{response:?}");
    assert!(response.closes() && !response.head.contains("keep-alive"), "{response:?}");
    client.closed();
}

#[test]
fn a_response_that_has_begun_finishes_then_closes() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.get("/stream");
    client.read_until(|bytes| find(bytes, b"chunk 0")).unwrap();
    process.term();
    process.release();
    let response = client.response();
    assert_eq!(response.text(), "chunk 0chunk 1");
    assert!(!response.closes(), "its head was out before the signal");
    client.closed();
    let _ = process.wait().expect(0);
}

#[test]
fn an_upload_that_is_not_read_does_not_destroy_the_answer() {
    for stopping in [false, true] {
        let (mut process, addr) = web().serve();
        let mut client = Client::connect(addr);
        client.send("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1048576\r\n\r\n");
        client.send(vec![b'x'; 1000]);
        if stopping {
            process.term();
        }
        // The answer may be out by now: what comes here finds nobody who wants it.
        for _ in 0..1024 {
            client.send(vec![b'x'; 1000]);
        }
        let response = client.response();
        assert_eq!((response.status, response.body.len()), (200, 100_000));
        drop(client);
        if !stopping {
            process.signal(Signal::TERM);
        }
        let _ = process.wait().expect(0);
    }
}

#[test]
fn a_client_that_goes_on_sending_does_not_hold_the_exit() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.send("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000000\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let start = Instant::now();
    process.signal(Signal::TERM);
    while client.stream().write_all(&[b'x'; 1000]).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_secs(2), "{:?}", ended.after(start));
}

#[test]
fn a_client_that_never_reads_is_cut_at_the_limit() {
    let (mut process, addr) = web().env("TIMEOUT", "500ms").serve();
    let mut client = Client::connect(addr);
    // More than the buffers of both kernels hold.
    for _ in 0..200 {
        client.send("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
    }
    client.stream().peek(&mut [0]).unwrap();
    let peer = client.stream().local_addr().unwrap();
    let start = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let after = ended.after(start);
    assert!(after >= Duration::from_millis(500) && after < Duration::from_secs(2), "{after:?}");
    assert!(ended.said(&format!("cut off: POST /upload from {peer}, response ")), "{ended:#?}");
}

#[test]
fn readiness_turns_at_the_first_signal() {
    let (mut process, addr) = web().env("DELAY", "10s").serve();
    assert_eq!(Client::connect(addr).fetch("/readyz").status, 200);
    process.term();
    assert_eq!(Client::connect(addr).fetch("/readyz").status, 503);
    assert_eq!(Client::connect(addr).fetch("/").status, 200);
}

#[test]
fn readiness_can_last_until_the_drain() {
    let web = web().env("DELAY", "300ms").env("READINESS", "until-drain").env("LINGER", "5s");
    let (mut process, addr) = web.serve();
    let mut later = Client::connect(addr);
    assert_eq!(later.fetch("/readyz").status, 200);
    let mut held = Client::connect(addr);
    held.get("/hold");
    process.line("hold begins");
    process.term();
    let start = Instant::now();
    assert_eq!(Client::connect(addr).fetch("/readyz").status, 200);
    // Refused: the drain has begun.
    while Client::try_connect(addr).is_ok() {
        assert!(start.elapsed() < graceful_tests::PATIENCE);
    }
    assert!(start.elapsed() > Duration::from_millis(250));
    assert_eq!(later.fetch("/readyz").status, 503);
    process.release();
    assert_eq!(held.response().text(), "held");
    let _ = process.wait().expect(0);
}

#[test]
fn a_pipeline_is_answered_up_to_the_close() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.send(format!("GET /hold HTTP/1.1\r\nhost: x\r\n\r\n{GET}{GET}"));
    process.line("hold begins");
    process.term();
    process.release();
    let response = client.response();
    assert_eq!(response.text(), "held");
    assert!(response.closes(), "{response:?}");
    let mut rest = Vec::new();
    client.stream().read_to_end(&mut rest).expect("a clean close");
    assert!(rest.is_empty());
    let _ = process.wait().expect(0);
}

#[test]
fn a_post_that_looks_like_a_head_does_not_hold_the_exit() {
    let post = |body: &str| {
        let length = body.len();
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let (mut process, addr) = web().serve();
    let mut one = Client::connect(addr);
    one.send(post("a\r\n\r\n"));
    assert_eq!(one.response().text(), "5");
    let mut two = Client::connect(addr);
    two.send(format!("{}{GET}", post("hello")));
    assert_eq!((two.response().text(), two.response().text()), ("5".into(), "fine".into()));
    let start = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_secs(1), "{:?}", ended.after(start));
}

#[test]
fn a_chunked_upload_that_is_refused_gets_the_whole_answer() {
    for line in ["line\n\n", "line\r\n"] {
        let (_process, addr) = web().serve();
        let mut client = Client::connect(addr);
        client.send("POST /refuse HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..50 {
            client.send(format!("6\r\n{line}\r\n"));
            std::thread::sleep(Duration::from_millis(2));
        }
        let response = client.response();
        assert_eq!((response.status, response.body.len()), (413, 300_000), "{line:?}");
    }
}

#[test]
fn nobody_is_served_while_the_hooks_run() {
    let (mut process, addr) = web().env("HOOKS", "stuck").env("CLEANUP", "2s").serve();
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    process.line("hook hangs");
    assert!(Client::try_connect(addr).is_err());
}

#[test]
fn a_head_request_is_counted() {
    let (mut process, addr) = web().env("LINGER", "5s").serve();
    let mut client = Client::connect(addr);
    process.term();
    // The drain has begun when nobody new is let in.
    while Client::try_connect(addr).is_ok() {}
    client.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n");
    client.read_until(|bytes| find(bytes, b"\r\n\r\n")).unwrap();
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 request, "), "{ended:#?}");
}

/// Without netlink the kernel's table of sockets is read as text, and on this machine that is long:
/// so it is read once or twice in a stop, and not by a worker.
#[test]
fn a_busy_machine_without_netlink_is_not_read_all_the_time() {
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    let root = rustix::process::getuid().is_root();
    if !graceful_tests::can("a busy machine without netlink (root, strace)", has_it && root) {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/net/busy.py");
    let mut python = Command::new("python3");
    let output = python.args([script, "20000", FIXTURES, "web"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let [code, answered, lost, took, reads] = words[..] else { panic!("{line:?}") };
    println!("{answered} answered, {lost} lost, {took} s, the table was read {reads} times");
    assert_eq!((code, lost), ("0", "0"), "{line}");
    assert!(reads.parse::<f64>().unwrap() < 2.5, "{line}");
}
