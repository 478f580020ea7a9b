//! What cleanup hooks may do, whatever has become of the program.

use std::time::{Duration, Instant};

use graceful_tests::{Client, Fixture, Signal, fixture};

fn web(hooks: &str) -> Fixture {
    let web = fixture!("web").env("TIMEOUT", "100ms");
    web.env("HOOKS", hooks).env("PANICS", "abort")
}

#[test]
fn a_hook_gets_what_it_spawns_also_after_a_cut() {
    for cut in [true, false] {
        let (mut process, addr) = web("spawning").serve();
        let _client = cut.then(|| process.hold(addr));
        process.signal(Signal::TERM);
        let ended = process.wait().expect(if cut { 124 } else { 0 });
        for line in ["hook's thread runs", "hook's task ends"] {
            assert!(ended.said(line), "{line}, cut: {cut}, in {ended:#?}");
        }
    }
}

#[test]
fn what_a_hook_leaves_behind_is_cut_at_the_cleanup_limit_and_named() {
    for cut in [true, false] {
        let (mut process, addr) = web("spawning-too-much").env("CLEANUP", "200ms").serve();
        let _client = cut.then(|| process.hold(addr));
        let start = Instant::now();
        process.signal(Signal::TERM);
        let ended = process.wait().expect(124);
        assert!(ended.after(start) >= Duration::from_millis(200), "{ended:#?}");
        assert!(ended.said("task of a hook, "), "{ended:#?}");
        assert_eq!(ended.said("GET /hold from "), cut, "{ended:#?}");
    }
}

#[test]
fn a_hook_sleeps_and_connects_with_every_worker_blocked() {
    let (mut process, addr) = web("connecting").serve();
    let _client = process.block_every_worker(addr);
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(ended.said("hook connected: true"), "{ended:#?}");
}

#[test]
fn what_a_hook_cannot_use_while_every_worker_is_blocked_is_said() {
    let (mut process, addr) = web("dependent").env("CLEANUP", "200ms").serve();
    let _client = process.block_every_worker(addr);
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(ended.said("the threads of the runtime are blocked"), "{ended:#?}");
    assert!(ended.said("hook tests/src/app.rs:"), "{ended:#?}");
    // Where they are not, it can.
    let (mut process, _) = web("dependent").serve();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("hook was told") && !ended.said("blocked"), "{ended:#?}");
    // A hook that hangs by itself has nobody to blame.
    let (mut process, _) = web("stuck").env("CLEANUP", "100ms").serve();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    assert!(!ended.said("blocked"), "{ended:#?}");
}

/// Whatever is cut in the middle of using a timer: a panic would end the process with SIGABRT here.
#[test]
fn what_is_cut_never_panics_for_want_of_its_timers() {
    for _ in 0..10 {
        let (mut process, addr) = web("ticking").env("CLEANUP", "50ms").serve();
        assert_eq!(Client::connect(addr).fetch("/tick").status, 200);
        process.signal(Signal::TERM);
        let ended = process.wait().expect(124);
        assert!(ended.said("hook tests/src/app.rs:") && ended.said("task tests/src/app.rs:"));
        // Forced: 130.
        let (mut process, addr) = web("ticking").env("TIMEOUT", "none").serve();
        assert_eq!(Client::connect(addr).fetch("/tick").status, 200);
        process.signal(Signal::TERM);
        process.line_before_second("SIGTERM received");
        process.signal(Signal::INT);
        let _ = process.wait().expect(130);
    }
}
