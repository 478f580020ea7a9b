//! Tasks: which are waited for, and what happens to the others.

use graceful_tests::{Client, Fixture, Process, Signal};

fn web() -> (Process, Client) {
    let (process, addr) = Fixture::new(env!("CARGO_BIN_EXE_web")).serve();
    (process, Client::connect(addr))
}

#[test]
fn a_tracked_task_is_waited_for() {
    let (mut process, mut client) = web();
    assert_eq!(client.fetch("/spawn").status, 200);
    process.line("work begins");
    process.signal(Signal::TERM);
    process.line("SIGTERM received");
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("work ends") && ended.said("1 task in "), "{ended:#?}");
}

#[test]
fn a_task_of_tokio_is_not() {
    let (mut process, mut client) = web();
    assert_eq!(client.fetch("/spawn-untracked").status, 200);
    process.line("work begins");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(!ended.said("work ends"), "{ended:#?}");
}

#[test]
fn a_panic_in_a_task_is_logged_with_its_line() {
    let (mut process, mut client) = web();
    assert_eq!(client.fetch("/spawn-panic").status, 200);
    let line = process.line("panicked: task panics");
    assert!(line.starts_with("task tests/src/app.rs:"), "{line}");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

#[test]
fn a_panic_in_a_handler_costs_its_connection_only() {
    let (mut process, mut client) = web();
    client.get("/panic");
    assert!(client.try_response().is_err());
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}
