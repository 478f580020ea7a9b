//! Which signals start the drain, and what a second one does.

use std::{
    os::unix::process::ExitStatusExt,
    process::Command,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, Signal, fixture};

fn web() -> Fixture {
    fixture!("web")
}

#[test]
fn an_idle_server_ends_on_each_of_the_default_signals() {
    let all = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::TERM, "SIGTERM"),
        (Signal::QUIT, "SIGQUIT"),
    ];
    for (signal, name) in all {
        let (mut process, _) = web().serve();
        process.signal(signal);
        let ended = process.wait().expect(0);
        let line =
            format!("{name} received, draining for at most 20s (signal again to stop at once)");
        assert!(ended.said(&line), "{ended:#?}");
    }
}

#[test]
fn a_second_signal_forces_the_end() {
    for (second, code) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let (mut process, addr) = web().env("HOOKS", "two").serve();
        let mut client = Client::connect(addr);
        client.get("/hold");
        process.line("hold begins");
        process.signal(Signal::TERM);
        process.line_before_second("SIGTERM received");
        let sent = Instant::now();
        process.signal(second);
        let ended = process.wait().expect(code);
        assert!(ended.after(sent) < Duration::from_secs(2), "{ended:#?}");
        assert!(ended.said("GET /hold from 127.0.0.1"), "{ended:#?}");
        assert!(!ended.said("hook"), "hooks are skipped: {ended:#?}");
    }
}

#[test]
fn a_second_signal_forces_with_every_worker_blocked() {
    let (mut process, addr) = web().env("TIMEOUT", "none").serve();
    let _client = process.block_every_worker(addr);
    process.signal(Signal::TERM);
    process.line_before_second("draining without a limit");
    process.signal(Signal::INT);
    let _ = process.wait().expect(130);
}

#[test]
fn a_second_signal_during_the_cleanup_forces() {
    let (mut process, _) = web().env("HOOKS", "stuck").env("CLEANUP", "none").serve();
    process.signal(Signal::TERM);
    process.line_before_second("SIGTERM received");
    process.line("hook hangs");
    process.signal(Signal::INT);
    let ended = process.wait().expect(130);
    assert!(!ended.said("hook one"), "the other hook is skipped: {ended:#?}");
}

/// The same one, as from a terminal, or another, as from systemd with `SendSIGHUP=yes`.
#[test]
fn signals_that_come_together_count_as_one() {
    for (first, second) in
        [(Signal::INT, Signal::INT), (Signal::TERM, Signal::HUP), (Signal::TERM, Signal::INT)]
    {
        let (mut process, addr) = web().serve();
        let mut client = Client::connect(addr);
        client.get("/hold");
        process.line("hold begins");
        process.signal(first);
        process.line("received, draining");
        process.signal(second);
        // By the time of a third one that counts, the second would have.
        std::thread::sleep(Duration::from_millis(50));
        process.release();
        assert_eq!(client.response().text(), "held", "{second:?} behind {first:?}");
        let _ = process.wait().expect(0);
    }
}

#[test]
fn only_the_chosen_signals_start_the_drain() {
    let custom = || fixture!("custom_signals");
    for signal in [Signal::USR1, Signal::TERM] {
        let (mut process, _) = custom().serve();
        process.signal(signal);
        let _ = process.wait().expect(0);
    }
    // One that is left out keeps its default action.
    let (mut process, _) = custom().serve();
    process.signal(Signal::INT);
    let ended = process.wait();
    assert_eq!(ended.status.signal(), Some(2), "{ended:#?}");
}

#[test]
fn a_signal_during_start_up_ends_it() {
    let slow_start = || fixture!("slow_start").env("HOOKS", "two");
    let mut process = slow_start().spawn();
    process.line("start-up begins");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("start-up dropped") && ended.said("hook one"), "{ended:#?}");
    assert!(ended.said("`main` had not returned its server yet, and was dropped"), "{ended:#?}");

    // A start-up that blocks its thread cannot be dropped: the limit holds.
    let mut process = slow_start().env("MODE", "blocked").env("TIMEOUT", "200ms").spawn();
    process.line("start-up begins");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(ended.said("cut off: main, ") && !ended.said("never asked"), "{ended:#?}");
    assert!(ended.said("hook one"), "hooks run all the same: {ended:#?}");
}

#[test]
fn a_start_up_that_has_asked_for_the_shutdown_is_waited_for() {
    let slow_start = fixture!("slow_start").env("MODE", "asked");
    let mut process = slow_start.spawn();
    process.line("start-up begins");
    process.term();
    process.release();
    let ended = process.wait().expect(0);
    assert!(ended.said("start-up went on"), "{ended:#?}");
    assert!(!ended.said("had not returned its server yet"), "{ended:#?}");
}

#[test]
fn a_panic_in_the_drop_of_a_start_up_runs_the_hooks() {
    let slow_start = fixture!("slow_start").env("HOOKS", "two");
    let mut process = slow_start.env("MODE", "panicking-drop").spawn();
    process.line("start-up begins");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(101);
    assert!(ended.said("hook one"), "{ended:#?}");
}

/// `nohup`, `trap ''`, and the background jobs of a shell without job control.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let mut process = web().spawn_by(|program| {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""]).arg(program);
        command
    });
    let addr = process.addr();
    process.signal(Signal::HUP);
    process.signal(Signal::INT);
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("SIGTERM received") && !ended.said("SIGHUP"), "{ended:#?}");
}

/// As some supervisors start their children; one signal is already waiting.
#[test]
fn signals_that_were_blocked_at_the_start_are_unblocked() {
    let start = |pending: &str| {
        let program = format!(
            "import os, signal, sys\n\
             signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n\
             {pending}\n\
             os.execv(sys.argv[1], sys.argv[1:])"
        );
        web().spawn_by(|web| {
            let mut command = Command::new("python3");
            command.args(["-c", &program]).arg(web);
            command
        })
    };
    let mut process = start("");
    let _addr = process.addr();
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
    let ended = start("os.kill(os.getpid(), signal.SIGTERM)").wait().expect(0);
    assert!(ended.said("SIGTERM received"), "{ended:#?}");
}
