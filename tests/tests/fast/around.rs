//! The life around the drain: what begins before it, goes on through it, and comes after it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, Process, fixture};

fn around(mode: &str) -> Fixture {
    fixture!("around").env("MODE", mode)
}

/// Where in what was said a line stands. That of stdout and of stderr comes by two pipes: only
/// within one of them is there an order.
#[track_caller]
fn place(lines: &[String], text: &str) -> usize {
    let found = lines.iter().position(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("no `{text}` in {lines:#?}"))
}

#[track_caller]
fn in_this_order(lines: &[String], texts: &[&str]) {
    let places: Vec<_> = texts.iter().map(|text| place(lines, text)).collect();
    assert!(places.is_sorted(), "{texts:?} are at {places:?} of {lines:#?}");
}

#[test]
fn stopping_resolves_before_the_delay_and_shutdown_after_it() {
    let mut process = around("stopping").env("DELAY", "300ms").spawn();
    // It has the address in it, and may come before the line that says so.
    let ready = process.line("ready at");
    let addr = process.addr();
    assert!(ready.contains(&format!("Some({addr}), said http://{addr}")), "{ready}");
    process.term();
    let (stopping, _) = process.line_at("stopping has resolved");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    let (shutdown, _) = process.line_at("shutdown has resolved");
    assert!(shutdown - stopping >= Duration::from_millis(290), "{:?}", shutdown - stopping);
    let _ = process.wait().expect(0);
}

#[test]
fn what_is_kept_is_dropped_after_the_report_the_last_first() {
    let (mut process, _) = around("keep").serve();
    process.term();
    let ended = process.wait().expect(0);
    in_this_order(
        &ended.lines,
        &[
            "hook",
            "stopped in",
            "dropped: last",
            "dropped: panics",
            "flushed by the runtime",
            "dropped: first",
        ],
    );
}

#[test]
fn what_is_kept_is_dropped_after_a_panic_of_main() {
    let ended = around("keep-and-panic").spawn().wait().expect(101);
    assert!(ended.said("dropped: first"), "{ended:#?}");
}

#[test]
fn a_kept_value_that_stalls_is_left_behind_at_the_cleanup_limit() {
    let (mut process, _) = around("keep-stalls").env("CLEANUP", "400ms").serve();
    let start = Instant::now();
    process.term();
    let ended = process.wait().expect(0);
    let after = ended.after(start);
    assert!(ended.said("dropped: stalls"), "{ended:#?}");
    let left = "error: kept values are left behind";
    let line = ended.lines.iter().find(|line| line.starts_with(left));
    assert!(
        line.is_some_and(|line| line.ends_with("around::Kept is still being dropped")),
        "{ended:#?}"
    );
    assert!(after >= Duration::from_millis(390) && after < Duration::from_secs(10), "{after:?}");
}

/// What the service owns goes with the last of its connections.
#[test]
fn a_worker_whose_channel_is_the_services_ends_in_the_drain() {
    let (mut process, addr) = around("worker").serve();
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/job").status, 200);
    let mut held = process.hold(addr);
    process.term();
    process.release();
    assert_eq!(held.response().text(), "held");
    let ended = process.wait().expect(0);
    assert!(ended.said("the worker ends"), "{ended:#?}");
    assert!(ended.said("drained 1 request, ") && ended.said(", 1 task in "), "{ended:#?}");
}

#[test]
fn a_server_until_exit_answers_through_drain_and_hooks_and_is_not_waited_for() {
    let (mut process, admin) = around("until-exit").serve();
    let addr: SocketAddr = process.addr();
    assert_eq!(Client::connect(admin).fetch("/readyz").status, 200);
    // Neither this request nor this connection is waited for.
    let mut never = Client::connect(admin);
    never.get("/never");
    process.line("a request that is not waited for");
    let mut idle = Client::connect(admin);
    assert_eq!(idle.fetch("/metrics").text(), "up 1");
    let mut held = Client::connect(addr);
    held.get("/hold");
    process.line("hold begins");
    process.term();
    while Client::try_connect(addr).is_ok() {}
    let answers = |idle: &mut Client| {
        let response = idle.fetch("/metrics");
        assert!(response.text() == "up 1" && !response.closes());
        assert_eq!(Client::connect(admin).fetch("/metrics").text(), "up 1");
        // It is the program that is not ready any more.
        assert_eq!(Client::connect(admin).fetch("/readyz").status, 503);
    };
    answers(&mut idle);
    // What runs is what the program waits for.
    let in_flight = Client::connect(admin).fetch("/in-flight").text();
    assert!(in_flight.contains("/hold") && !in_flight.contains("/never"), "{in_flight}");
    process.release();
    assert_eq!(held.response().text(), "held");
    process.line("hook begins");
    answers(&mut idle);
    idle.get("/release-hook");
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 request, "), "{ended:#?}");
    assert!(never.try_response().is_err());
}

#[test]
fn servers_until_exit_alone_keep_the_program_until_a_signal() {
    let (mut process, addr) = around("only-until-exit").serve();
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    assert!(!process.is_over());
    process.term();
    let ended = process.wait().expect(0);
    assert!(ended.said("the task ends") && ended.said("drained 1 task"), "{ended:#?}");
}

#[test]
fn the_end_of_a_critical_task_stops_the_program() {
    for (how, said) in [
        ("ends", "error: task orders: has ended, and the program cannot do without it"),
        ("fails", "error: task orders: no more orders"),
        ("panics", "error: task orders: panicked: no orders at all"),
    ] {
        let (mut process, addr) = around("critical").env("HOW", how).serve();
        process.line("critical begins");
        // Stopped gracefully: what runs is answered.
        let mut client = Client::connect(addr);
        client.get("/hold");
        process.line("hold begins");
        process.release();
        assert_eq!(client.response().text(), "held");
        let ended = process.wait().expect(1);
        assert!(ended.said(said), "{how}: {ended:#?}");
        // The report may name the task as what ended last.
        let said = |line: &&String| line.contains("orders") && !line.starts_with("drained");
        let times = ended.lines.iter().filter(said).count();
        assert_eq!(times, 1 + usize::from(how == "panics"), "{ended:#?}");
    }
    let ended = around("critical-aborted").spawn().wait().expect(1);
    assert!(ended.said("task orders: has ended"), "{ended:#?}");
}

#[test]
fn a_critical_task_may_end_once_the_drain_has_begun() {
    for (how, code) in [("waits", 0), ("fails-late", 1)] {
        let (mut process, _) = around("critical").env("HOW", how).serve();
        process.line("critical begins");
        process.term();
        let ended = process.wait().expect(code);
        assert_eq!(ended.said("task orders: not flushed"), code == 1, "{ended:#?}");
    }
}

fn groups() -> Process {
    let (mut process, _) = around("groups").serve();
    process.line("writers begins");
    process
}

#[test]
fn groups_stop_one_after_another_the_last_first() {
    let mut process = groups();
    process.term();
    process.line("readers is told");
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 2 tasks"), "{ended:#?}");
    in_this_order(
        &ended.lines,
        &["readers is told", "readers ends", "writers is told", "writers ends"],
    );
}

#[test]
fn a_group_that_takes_too_long_is_cut_and_named_and_the_next_has_its_turn() {
    let (mut process, _) = around("groups").env("STAYS", "readers").serve();
    process.line("writers begins");
    process.term();
    let (told, _) = process.line_at("readers is told");
    let (next, _) = process.line_at("writers is told");
    assert!(next - told >= Duration::from_millis(290), "{:?}", next - told);
    process.release();
    let ended = process.wait().expect(124);
    // It was not the limit of the drain.
    let report = &ended.lines[place(&ended.lines, "cut off: ")];
    assert!(
        report.contains("drained 1 task") && report.contains("task readers: the task, "),
        "{report}"
    );
}

#[test]
fn servers_have_names_and_say_where_they_listen_and_that_they_have_ended() {
    let mut process = around("names").spawn();
    for said in ["listening on other on 127.0.0.1:", "listening on axum on 127.0.0.1:"] {
        process.line(said);
    }
    process.line("listening on http://127.0.0.1:");
    process.release();
    process.line("server short has ended by itself");
    process.term();
    let ended = process.wait().expect(0);
    assert!(!ended.said("some has ended") && !ended.said("other has ended"), "{ended:#?}");
}

#[test]
fn a_future_and_a_token_learn_of_the_drain() {
    for (mode, said) in [("until-shutdown", "None Some(7)"), ("token", "token is cancelled")] {
        let (mut process, _) = around(mode).serve();
        process.term();
        assert!(process.wait().expect(0).said(said), "{mode}");
    }
}
