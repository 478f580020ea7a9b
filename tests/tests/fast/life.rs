//! The life of a process: serving, draining, hooks, exit codes.

use std::time::{Duration, Instant};

use graceful_tests::{Client, Fixture, Signal, fixture};

fn web() -> Fixture {
    fixture!("web")
}

fn program(mode: &str) -> Fixture {
    fixture!("program").env("MODE", mode)
}

#[test]
fn a_request_in_flight_is_answered_and_the_exit_follows_at_once() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    process.line("SIGTERM received");
    refused(addr);
    process.release();
    let response = client.response();
    let answered = Instant::now();
    assert_eq!(response.text(), "held");
    assert!(response.closes(), "{response:?}");
    client.closed();
    let ended = process.wait().expect(0);
    // Beside it, the connections of `refused` that were let in.
    assert!(ended.said("drained 1 request, "), "{ended:#?}");
    // How fast exactly is for the benchmark; here, that nothing is polled or slept for.
    assert!(ended.after(answered) < Duration::from_millis(200), "{:?}", ended.after(answered));
}

/// The drain has begun when the signal is reported; the listener is closed a moment later.
fn refused(addr: std::net::SocketAddr) {
    let until = Instant::now() + graceful_tests::PATIENCE;
    while Client::try_connect(addr).is_ok() {
        assert!(Instant::now() < until, "new connections are still accepted");
    }
    let error = Client::try_connect(addr).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn hooks_run_once_in_reverse_order() {
    let (mut process, _) = web().env("HOOKS", "two").serve();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    let hooks: Vec<_> = ended.lines.iter().filter(|line| line.starts_with("hook")).collect();
    assert_eq!(hooks, ["hook two", "hook one"]);
}

#[test]
fn hooks_run_after_a_cut() {
    let (mut process, addr) = web().env("HOOKS", "two").env("TIMEOUT", "100ms").serve();
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let hooks: Vec<_> = ended.lines.iter().filter(|line| line.starts_with("hook")).collect();
    assert_eq!(hooks, ["hook two", "hook one"]);
}

#[test]
fn a_hook_runs_with_every_worker_blocked() {
    let (mut process, addr) = web().env("HOOKS", "two").env("TIMEOUT", "100ms").serve();
    let _client = process.block_every_worker(addr);
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(ended.said("hook one"), "{ended:#?}");
}

#[test]
fn a_panicking_hook_is_reported_and_the_next_runs() {
    let (mut process, _) = web().env("HOOKS", "panic").serve();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(1);
    assert!(ended.said("panicked: hook panics") && ended.said("hook one"), "{ended:#?}");
}

#[test]
fn an_error_of_main_is_printed_with_its_causes() {
    let mut process = program("error").env("HOOKS", "two").spawn();
    let ended = process.wait().expect(1);
    let message = "error: reading the configuration: invalid digit found in string";
    assert!(ended.said(message), "{ended:#?}");
    assert!(ended.said("hook one"), "{ended:#?}");
}

#[test]
fn a_panic_of_main_runs_the_hooks() {
    let mut process = program("panic").env("HOOKS", "two").spawn();
    let ended = process.wait().expect(101);
    assert!(ended.said("main panics") && ended.said("hook one"), "{ended:#?}");
}

#[test]
fn a_main_without_a_server_is_the_whole_program() {
    let mut process = program("").env("HOOKS", "two").spawn();
    let ended = process.wait().expect(0);
    assert!(ended.said("nothing to do") && ended.said("hook one"), "{ended:#?}");
}

#[test]
fn a_main_that_awaits_shutdown_takes_its_last_steps() {
    let mut process = program("loop").spawn();
    process.line("loop begins");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("last steps") && ended.said("after 1 drain"), "{ended:#?}");
}

#[test]
fn the_program_can_stop_itself() {
    let mut process = program("stop").spawn();
    let ended = process.wait().expect(0);
    assert!(ended.said("stop requested") && ended.said("told to stop"), "{ended:#?}");
}

#[test]
fn a_handler_can_stop_the_program() {
    let (mut process, addr) = web().serve();
    let response = Client::connect(addr).fetch("/stop");
    assert_eq!(response.status, 200);
    let _ = process.wait().expect(0);
}

#[test]
fn tasks_left_by_a_main_are_waited_for() {
    let mut process = program("leave-task").spawn();
    process.line("task begins");
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("task ends"), "{ended:#?}");
}

#[test]
fn several_servers_drain_together() {
    let mut process = fixture!("two").spawn();
    let (first, second) = (process.addr(), process.addr());
    let (mut one, mut two) = (Client::connect(first), Client::connect(second));
    one.get("/hold");
    process.line("hold begins");
    two.get("/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    process.line("function told to stop");
    process.release();
    assert_eq!(one.response().text(), "held");
    assert_eq!(two.response().text(), "held");
    let _ = process.wait().expect(0);
}

#[test]
fn a_port_in_use_stops_the_others_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let two = fixture!("two").env("SECOND", &addr).env("HOOKS", "two");
    let ended = two.spawn().wait().expect(1);
    let in_use = graceful_tests::in_words(graceful_tests::Errno::ADDRINUSE);
    let message = format!("error: cannot listen on {addr}: {in_use}");
    assert!(ended.said(&message) && ended.said("hook one"), "{ended:#?}");
    // There was nothing to be drained yet: that line says it all.
    assert!(!ended.said("draining") && !ended.said("stopped"), "{ended:#?}");
}

#[test]
fn a_server_that_fails_late_makes_the_exit_code_1() {
    let mut process = fixture!("two").env("MODE", "fails").spawn();
    process.addr();
    process.addr();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(1);
    assert!(ended.said("the third server fails"), "{ended:#?}");
    assert!(ended.said("server tests/fixtures/two.rs:"), "{ended:#?}");
}

#[test]
fn a_name_that_cannot_be_resolved_is_named() {
    let ended = web().env("ADDR", "no-such-host.invalid:80").spawn().wait().expect(1);
    assert!(ended.said("error: cannot listen on no-such-host.invalid:80: "), "{ended:#?}");
}
