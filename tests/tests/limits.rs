//! One bound, whatever the program does.

use std::time::{Duration, Instant};

use graceful_tests::{Client, Fixture, Process, Signal};

fn web() -> Fixture {
    Fixture::new(env!("CARGO_BIN_EXE_web")).env("TIMEOUT", "300ms")
}

/// Sends SIGTERM and checks that the process ends at its limit, cut.
fn ends_at_the_limit(process: &mut Process, cut: &str) {
    let start = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let after = ended.after(start);
    let limit = Duration::from_millis(300);
    // 50 ms is what the issue gives; the rest is for a machine that is busy with other tests.
    assert!(after >= limit && after < limit + Duration::from_millis(450), "{after:?} {ended:#?}");
    assert!(ended.said("limit of 300ms reached, cut off:"), "{ended:#?}");
    assert!(ended.said(cut), "{ended:#?}");
}

#[test]
fn the_limit_cuts_a_request_and_names_it() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.get("/hold?token=secret");
    process.line("hold begins");
    let peer = client.stream().local_addr().unwrap();
    ends_at_the_limit(&mut process, &format!("GET /hold from {peer}, no response yet, "));
    assert!(!process.wait().said("secret"), "query strings are left out");
    assert!(client.try_response().is_err());
}

#[test]
fn the_limit_cuts_an_endless_response() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    client.get("/stream");
    client.read_until(|bytes| graceful_tests::client::find(bytes, b"chunk 0")).unwrap();
    ends_at_the_limit(&mut process, "GET /stream from 127.0.0.1");
    assert!(process.wait().said("response begun"));
}

#[test]
fn the_limit_holds_with_every_worker_blocked() {
    let (mut process, addr) = web().serve();
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        client.get("/block");
    }
    process.line("block begins");
    process.line("block begins");
    ends_at_the_limit(&mut process, "GET /block from 127.0.0.1");
}

#[test]
fn the_limit_holds_on_one_blocked_thread() {
    let one = Fixture::new(env!("CARGO_BIN_EXE_web_current_thread")).env("TIMEOUT", "300ms");
    let (mut process, addr) = one.serve();
    let mut client = Client::connect(addr);
    client.get("/block");
    process.line("block begins");
    ends_at_the_limit(&mut process, "GET /block from 127.0.0.1");
}

#[test]
fn the_limit_holds_with_a_blocking_thread_that_never_returns() {
    let (mut process, addr) = web().serve();
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/block-a-thread").text(), "left behind");
    process.line("blocking thread begins");
    ends_at_the_limit(&mut process, "task tests/src/app.rs:");
}

#[test]
fn the_limit_holds_for_a_main_that_does_not_listen() {
    let program = Fixture::new(env!("CARGO_BIN_EXE_program"));
    let mut process = program.env("TIMEOUT", "300ms").env("MODE", "stubborn").spawn();
    process.line("loop begins");
    ends_at_the_limit(&mut process, "cut off: main, ");
}

#[test]
fn the_limit_holds_with_stderr_that_nobody_reads() {
    use std::process::{Command, Stdio};
    let (reader, writer) = std::io::pipe().unwrap();
    // A pipe that is full: whoever writes to stderr waits for good.
    fill(&writer);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut child = Command::new(env!("CARGO_BIN_EXE_web"))
        .env("ADDR", addr.to_string())
        .env("TIMEOUT", "300ms")
        .stderr(writer)
        .stdout(Stdio::null())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = loop {
        match Client::try_connect(addr) {
            Ok(client) => break client,
            Err(_) => assert!(child.try_wait().unwrap().is_none()),
        }
    };
    assert_eq!(client.fetch("/").text(), "fine");
    client.get("/hold");
    let pid = rustix::process::Pid::from_child(&child);
    let start = Instant::now();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(reader);
}

/// Writes until the pipe takes no more.
fn fill(writer: &std::io::PipeWriter) {
    use std::io::Write;
    let mut writer = writer.try_clone().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
}

#[test]
fn hooks_have_a_limit_of_their_own() {
    for hooks in ["stuck", "blocked"] {
        let (mut process, _) = web().env("HOOKS", hooks).env("CLEANUP", "200ms").serve();
        let start = Instant::now();
        process.signal(Signal::TERM);
        let ended = process.wait().expect(124);
        let after = ended.after(start);
        assert!(after >= Duration::from_millis(200) && after < Duration::from_secs(1), "{after:?}");
        assert!(ended.said("hook tests/src/app.rs:"), "{ended:#?}");
    }
}

#[test]
fn durations_from_the_environment_are_checked_before_anything_is_served() {
    let mut process = web().env("TIMEOUT", "3").spawn();
    let ended = process.wait().expect(1);
    let message =
        "error: the environment variable TIMEOUT=\"3\": a number without a unit: write `\"3s\"`";
    assert!(ended.said(message), "{ended:#?}");
    assert!(!ended.said("listening"), "{ended:#?}");
}

#[test]
fn a_hook_that_never_ran_may_take_its_time_to_be_dropped() {
    for hooks in ["slow-drop", "panicking-drop"] {
        for program in [env!("CARGO_BIN_EXE_web"), env!("CARGO_BIN_EXE_web_current_thread")] {
            let fixture = Fixture::new(program).env("HOOKS", hooks).env("CLEANUP", "200ms");
            let (mut process, _) = fixture.serve();
            let start = Instant::now();
            process.signal(Signal::TERM);
            let ended = process.wait().expect(124);
            let after = ended.after(start);
            assert!(
                after >= Duration::from_millis(200) && after < Duration::from_secs(1),
                "{after:?}"
            );
            assert!(ended.said("cleanup limit of 200ms reached, cut off:"), "{ended:#?}");

            // Forced, it is not waited for either.
            let fixture = Fixture::new(program).env("HOOKS", hooks).env("CLEANUP", "none");
            let (mut process, _) = fixture.serve();
            process.signal(Signal::TERM);
            process.line_before_second("SIGTERM received");
            process.line("hook hangs");
            process.signal(Signal::INT);
            let _ = process.wait().expect(130);
        }
    }
}

#[test]
fn a_second_signal_during_the_cleanup_still_names_what_the_limit_cut() {
    let (mut process, addr) = web().env("HOOKS", "stuck").env("CLEANUP", "none").serve();
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    process.line_before_second("SIGTERM received");
    process.line("hook hangs");
    process.signal(Signal::INT);
    let ended = process.wait().expect(130);
    assert!(
        ended.said("  GET /hold from 127.0.0.1") && ended.said("  hook tests/src"),
        "{ended:#?}"
    );
}

#[test]
fn what_nobody_could_read_is_named() {
    let (mut process, addr) = web().env("TIMEOUT", "800ms").serve();
    let mut blocked: Vec<_> = (0..4).map(|_| Client::connect(addr)).collect();
    for client in &mut blocked {
        client.get("/block");
    }
    process.line("block begins");
    process.line("block begins");
    let mut unread = Client::connect(addr);
    unread.get("/");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let peers = blocked.iter().chain([&unread]);
    let named = |client: &Client| ended.said(&client.stream().local_addr().unwrap().to_string());
    // The one that is still in the accept queue is nobody's yet.
    assert!(peers.filter(|client| named(client)).count() >= 3, "{ended:#?}");
}
