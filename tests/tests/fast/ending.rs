//! The end of the process: the bound holds to its very last step, and what follows a run is not
//! touched.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use graceful_tests::{Fixture, PATIENCE, Signal, fixture};

fn ending(mode: &str) -> Fixture {
    fixture!("ending").env("MODE", mode)
}

/// The default of the fixture.
const CLEANUP: Duration = Duration::from_millis(300);

#[test]
#[cfg_attr(target_env = "musl", ignore = "musl drops no thread-local of the main thread")]
fn a_thread_local_that_blocks_is_ended_with_the_code() {
    for (mode, code) in [("thread-local", 0), ("code", 1)] {
        let mut process = ending(mode).spawn();
        process.line("drop begins");
        let start = Instant::now();
        let ended = process.wait().expect(code);
        assert!(ended.after(start) < CLEANUP + Duration::from_secs(1), "{ended:#?}");
    }
}

#[test]
#[cfg_attr(target_env = "musl", ignore = "musl drops no thread-local of the main thread")]
fn the_end_after_a_signal_is_bounded_too() {
    let mut process = ending("thread-local").env("WAIT", "1").spawn();
    process.line("body begins");
    let start = Instant::now();
    process.term();
    let ended = process.wait().expect(0);
    assert!(ended.said("drop begins"), "{ended:#?}");
    assert!(ended.after(start) < CLEANUP + Duration::from_secs(1), "{ended:#?}");
}

#[test]
#[cfg_attr(target_env = "musl", ignore = "musl drops no thread-local of the main thread")]
fn a_signal_ends_what_is_stuck_in_its_last_steps() {
    let mut process = ending("thread-local").env("CLEANUP", "none").spawn();
    process.line("drop begins");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(128 + 15);
}

#[test]
fn stdout_that_nobody_reads_does_not_hold_the_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    graceful_tests::pipe::fill(&writer);
    let mut child = Command::new(env!("CARGO_BIN_EXE_fixtures"))
        .arg("ending")
        .env("MODE", "print")
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "still there");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(0));
    drop(reader);
}

/// A library whose `atexit` handler never returns.
#[test]
#[cfg_attr(target_env = "musl", ignore = "a static program loads no library")]
fn an_exit_handler_that_blocks_is_ended_with_the_code() {
    let folder = std::env::temp_dir().join(format!("graceful-atexit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("stuck.c"), folder.join("stuck.so"));
    let code = "#include <stdlib.h>\n#include <unistd.h>\n\
        static void stuck(void) { sleep(600); }\n\
        __attribute__((constructor)) static void begin(void) { atexit(stuck); }\n";
    std::fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    let built = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if graceful_tests::can("a library in C (Debian: apt-get install gcc)", built.is_ok()) {
        assert!(built.unwrap().success());
        let mut process = ending("").env("LD_PRELOAD", library.to_str().unwrap()).spawn();
        process.line("body begins");
        let start = Instant::now();
        let ended = process.wait().expect(0);
        let after = ended.after(start);
        // It was there: without it the end takes no time.
        assert!(after > CLEANUP / 2 && after < CLEANUP + Duration::from_secs(1), "{after:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_follows_a_run_by_hand_is_not_touched() {
    let ended = ending("slow").spawn().wait().expect(0);
    assert!(ended.said("all done"), "{ended:#?}");
}

#[test]
fn the_default_actions_are_back_after_a_run() {
    // Without a signal: at once.
    let mut process = ending("idle").spawn();
    process.line("after the run");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().status.signal(), Some(15));
    // After one: those that come together with it still count as one with it.
    let mut process = ending("idle").env("WAIT", "1").spawn();
    process.line("body begins");
    process.term();
    process.signal(Signal::HUP);
    process.line_before_second("after the run");
    assert!(!process.is_over());
    process.signal(Signal::HUP);
    assert_eq!(process.wait().status.signal(), Some(1));
}

#[test]
fn a_second_run_has_its_signals() {
    let mut process = ending("twice").spawn();
    process.line("second run");
    // Whether its handlers are there yet cannot be seen from outside; one that comes before ends
    // the process by itself.
    std::thread::sleep(Duration::from_millis(100));
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("SIGTERM received"), "{ended:#?}");
}

/// Every thread may be the one that cannot be had.
#[test]
fn without_threads_to_be_had_it_says_so_and_fails() {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let can = has("setpriv") && has("prlimit") && rustix::process::geteuid().is_root();
    if !graceful_tests::can("a limit on threads, as another user", can) {
        return;
    }
    let (mut served, mut failed) = (0, 0);
    for threads in 1..=8 {
        let program = fixture!("program").env("MODE", "loop");
        let mut process = program.env("HOOKS", "two").spawn_by(|program| {
            let mut command = Command::new("setpriv");
            // A user that nobody else is.
            command.args(["--reuid", "54321", "--clear-groups", "prlimit"]);
            command.arg(format!("--nproc={threads}")).arg(program);
            command
        });
        if process.any_line(&["loop begins", "error: "]).starts_with("error: ") {
            failed += 1;
            let _ = process.wait().expect(1);
        } else {
            process.signal(Signal::TERM);
            let ended = process.wait();
            assert!(ended.said("last steps"), "{ended:#?}");
            // Or there was none for the hooks.
            if ended.said("error: no thread to run the cleanup hooks on: ") {
                assert!(ended.said("the hooks could not be run, cut off:"), "{ended:#?}");
                let _ = ended.expect(124);
            } else {
                served += 1;
                assert!(ended.expect(0).said("hook one"));
            }
        }
    }
    assert!(served > 0 && failed > 2, "{served} served, {failed} failed");
}
