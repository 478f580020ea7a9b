//! The examples do what their head comments say.

use crate::FIXTURES;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, PATIENCE, Process, Signal};

fn example(name: &str) -> (Process, Client) {
    let (process, addr) = Fixture::example(FIXTURES, name).serve();
    (process, Client::connect(addr))
}

/// Sends a request and waits until the handler has it.
fn begin(process: &mut Process, client: &mut Client) {
    client.get("/");
    process.line("a request has come");
}

#[test]
fn hello_says_hello() {
    let (mut process, mut client) = example("hello");
    assert_eq!(client.fetch("/").text(), "Hello world!");
    process.signal(Signal::INT);
    let _ = process.wait().expect(0);
}

#[test]
fn hard_stop_cuts_the_request_off() {
    use std::os::unix::process::ExitStatusExt;
    let (mut process, mut client) = example("hard_stop");
    begin(&mut process, &mut client);
    process.signal(Signal::INT);
    assert_eq!(process.wait().status.signal(), Some(2));
    assert!(client.try_response().is_err());
}

#[test]
fn drain_answers_and_refuses() {
    let (mut process, mut client) = example("drain");
    let addr = client.stream().peer_addr().unwrap();
    begin(&mut process, &mut client);
    process.signal(Signal::INT);
    process.line("SIGINT received, draining without a limit");
    process.line("waiting for 1 request, 1 connection; oldest: GET / from 127.0.0.1, ");
    assert!(Client::try_connect(addr).is_err());
    assert_eq!(client.response().text(), "Hello world!\n");
    let _ = process.wait().expect(0);
}

#[test]
fn limit_cuts_at_three_seconds_and_says_what() {
    let (mut process, mut client) = example("limit");
    begin(&mut process, &mut client);
    let start = Instant::now();
    process.signal(Signal::INT);
    let ended = process.wait().expect(124);
    let after = ended.after(start);
    assert!(after >= Duration::from_secs(3) && after < Duration::from_millis(3500), "{after:?}");
    assert!(ended.said("limit of 3s reached, cut off: GET / from 127.0.0.1"), "{ended:#?}");
}

#[test]
fn wait_group_waits_for_the_work() {
    let (mut process, mut client) = example("wait_group");
    assert_eq!(client.fetch("/").text(), "Accepted\n");
    process.line("working");
    process.signal(Signal::INT);
    let ended = process.wait().expect(0);
    assert!(ended.said("work done"), "{ended:#?}");
}

#[test]
fn echo_answers_lines_and_says_goodbye() {
    let (mut process, addr) = Fixture::example(FIXTURES, "echo").serve();
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello\n").unwrap();
    let mut said = [0; 6];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello\n");
    process.signal(Signal::INT);
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
    let _ = process.wait().expect(0);
}

/// A Redis of this test's own, killed at the end.
struct Redis(std::process::Child, SocketAddr);

impl Redis {
    fn start() -> Self {
        // Free a moment ago; should another take it, Redis ends and says so.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        let child = redis.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        let redis = Self(child, addr);
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            assert!(start.elapsed() < PATIENCE, "Redis does not listen");
            std::thread::yield_now();
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

/// A command on a connection of its own; `None`: refused, so the next instance's.
fn increment(addr: SocketAddr) -> Option<Result<u64, String>> {
    let mut client = TcpStream::connect(addr).ok()?;
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reply = String::new();
    let sent = client.write_all(b"INCR counter\r\n");
    let read = sent.and_then(|()| BufReader::new(client).read_line(&mut reply));
    let number = reply.trim().strip_prefix(':').and_then(|number| number.parse().ok());
    Some(number.ok_or_else(|| format!("{reply:?} {read:?}")))
}

/// What Redis has counted is what clients were told: no reply is lost, in 20 restarts under load.
#[test]
fn proxy_loses_no_reply() {
    let found = Command::new("redis-server").arg("--version").output().is_ok();
    if !graceful_tests::can("the proxy in front of a Redis (redis-server)", found) {
        return;
    }
    let redis = Redis::start();
    let (told, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 0..20 {
        let fixture = Fixture::example(FIXTURES, "proxy");
        let (mut process, addr) = fixture.env("UPSTREAM", &redis.1.to_string()).serve();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        match increment(addr) {
                            Some(Ok(_)) => told.fetch_add(1, Ordering::Relaxed),
                            Some(Err(what)) => {
                                println!("round {round}: {what}");
                                lost.fetch_add(1, Ordering::Relaxed)
                            }
                            None => return,
                        };
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20 + round));
            process.signal(Signal::TERM);
            let _ = process.wait().expect(0);
            over.store(true, Ordering::Relaxed);
        });
    }
    let (told, lost) = (told.into_inner(), lost.into_inner());
    println!("20 restarts: {told} told, {lost} lost");
    let counted = increment(redis.1).unwrap().unwrap() - 1;
    assert!(told > 100 && lost == 0, "{told} told, {lost} lost");
    assert_eq!(counted, told as u64);
}
