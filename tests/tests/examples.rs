//! The examples do what their head comments say.

use std::time::{Duration, Instant};

use graceful_tests::{Client, Fixture, Process, Signal};

fn example(name: &str) -> (Process, Client) {
    let (process, addr) = Fixture::example(env!("CARGO_BIN_EXE_web"), name).serve();
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
    process.line("waiting for 1 request, 1 connection, no limit");
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
