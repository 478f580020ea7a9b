//! Tasks: which are waited for, and what happens to the others.

use graceful_tests::{Client, Process, Signal, fixture};

fn web() -> (Process, Client) {
    let (process, addr) = fixture!("web").serve();
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
    let addr = client.stream().peer_addr().unwrap();
    let mut other = Client::connect(addr);
    assert_eq!(other.fetch("/").text(), "fine");
    client.get("/panic");
    assert!(client.try_response().is_err());
    assert_eq!(other.fetch("/").text(), "fine", "on a connection that was there before");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine", "on a new one");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

#[test]
fn a_blocking_task_is_waited_for_to_its_end() {
    let (mut process, mut client) = web();
    assert_eq!(client.fetch("/spawn-blocking").status, 200);
    process.line("blocking work begins");
    process.term();
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("blocking work ends") && ended.said("1 task in "), "{ended:#?}");
}

#[test]
fn a_panic_in_a_task_during_the_drain_comes_before_the_hooks_which_run() {
    let web = fixture!("web").env("HOOKS", "two");
    let (mut process, addr) = web.serve();
    assert_eq!(Client::connect(addr).fetch("/spawn-panic-at-the-drain").status, 200);
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    let at = |text: &str| ended.lines.iter().position(|line| line.contains(text));
    let (panic, hook) = (at("panicked: at the drain"), at("hook two"));
    assert!(panic.is_some() && hook.is_some() && at("hook one").is_some(), "{ended:#?}");
}
