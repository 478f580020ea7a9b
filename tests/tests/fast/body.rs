//! The body of `main`: what a stop does to it follows from its type.

use std::time::{Duration, Instant};

use graceful_tests::{Client, Fixture, Signal, fixture};

fn body(mode: &str) -> Fixture {
    fixture!("body").env("MODE", mode)
}

/// What people write first when they move over: the shutdown is handed to a server, which takes it
/// elsewhere.
#[test]
fn a_server_in_the_body_is_drained() {
    for mode in ["axum", "spawned"] {
        let (mut process, addr) = body(mode).serve();
        let mut client = Client::connect(addr);
        client.get("/hold");
        process.line("hold begins");
        process.term();
        process.release();
        assert_eq!(client.response().text(), "held", "{mode}");
        let _ = process.wait().expect(0);
    }
}

#[test]
fn a_server_on_threads_of_its_own_is_drained() {
    let (mut process, _) = body("thread").serve();
    // What it says of the signal comes by another pipe, before or after.
    process.signal(Signal::TERM);
    process.line("job begins");
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("job ends"), "{ended:#?}");
}

/// The job runs when the stop comes; nobody holds a `Shutdown` in that moment.
#[test]
fn a_job_between_two_looks_at_the_shutdown_is_finished() {
    for mode in ["looking", "biased"] {
        let mut process = body(mode).spawn();
        process.line("job begins");
        process.term();
        process.release();
        let ended = process.wait().expect(0);
        assert!(ended.said("job ends"), "{mode}: {ended:#?}");
    }
}

#[test]
fn a_body_on_its_way_to_ask_for_the_shutdown_takes_its_last_steps() {
    let mut process = body("on-its-way").spawn();
    process.line("job begins");
    process.term();
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("job ends"), "{ended:#?}");
}

#[test]
fn a_body_that_never_asks_is_waited_for_and_named_with_a_hint() {
    for mode in ["deaf", "deaf-and-blocked"] {
        let mut process = body(mode).env("TIMEOUT", "300ms").spawn();
        process.line("job begins");
        let start = Instant::now();
        process.signal(Signal::TERM);
        let ended = process.wait().expect(124);
        assert!(ended.after(start) >= Duration::from_millis(300), "{ended:#?}");
        let line = "cut off: main, which has never asked for `graceful::shutdown()`, ";
        assert!(ended.said(line), "{mode}: {ended:#?}");
    }
}

#[test]
fn a_body_that_is_waited_for_is_named_while_it_lasts() {
    let mut process = body("deaf").env("TIMEOUT", "1500ms").spawn();
    process.line("job begins");
    process.signal(Signal::TERM);
    process.line("waiting for main; ");
    let _ = process.wait().expect(124);
}

/// A program that ends before it was meant to looks like one that has done its work.
#[test]
fn nothing_to_serve_is_said() {
    let program = |mode| fixture!("program").env("MODE", mode);
    let nothing = |mode| fixture!("nothing").env("MODE", mode);
    for (fixture, line) in [
        (nothing("vec"), "nothing to serve: `main` has returned no server"),
        (
            program("semicolon"),
            "nothing to serve: the server for 127.0.0.1:0 was dropped; return it",
        ),
        (program("only-spawns"), "ended a task of `tokio::spawn`; `graceful::spawn` is waited for"),
    ] {
        let ended = fixture.spawn().wait().expect(0);
        assert!(ended.said(line), "{line} in {ended:#?}");
    }
    // Nor is it said of a program that has done its work, or of one that serves.
    let ended = program("").spawn().wait().expect(0);
    assert_eq!(ended.lines, ["nothing to do"]);
    let (mut process, addr) = nothing("serve").serve();
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(!ended.said("nothing"), "{ended:#?}");
}
