//! `panic = "abort"`: a panic anywhere is the end of the process, and a stop causes none.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, ExitStatus},
};

use graceful_tests::{Client, Fixture, Signal};

use crate::{anywhere, workspace};

/// Builds the server so.
fn build() -> PathBuf {
    let target = workspace().join("target/elsewhere");
    let status = Command::new(env!("CARGO"))
        .args(["build", "-q", "--profile", "aborts", "--target-dir"])
        .arg(&target)
        .current_dir(workspace().join("tests/anywhere"))
        .status()
        .unwrap();
    assert!(status.success(), "it does not build");
    target.join("aborts/graceful-anywhere")
}

#[track_caller]
fn aborted(what: &str, status: ExitStatus) {
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{what}: {status}");
}

#[test]
fn where_panics_abort() {
    let program = build();
    let start = |place| Fixture::program(&program).env("PANICS", place);

    // Without a panic, a stop is what it is anywhere: it drains, it cuts, also what is blocked.
    anywhere::everything("abort", &program.display().to_string());

    // A panic ends it at once, and says where it was.
    for place in ["main", "a task", "a thread", "a handler", "the drain", "a hook"] {
        let mut process = start(place).spawn();
        match place {
            "a handler" => {
                let mut client = Client::connect(process.addr());
                client.get("/panic");
                assert!(client.try_response().is_err(), "{place}");
            }
            "the drain" | "a hook" => {
                process.addr();
                process.signal(Signal::TERM);
            }
            _ => {}
        }
        let ended = process.wait();
        aborted(place, ended.status);
        assert!(ended.said(&format!("a panic in {place}")), "{ended:#?}");
        // The hook has begun, or never does.
        assert_eq!(ended.said("hook runs"), place == "a hook", "{ended:#?}");
    }

    // So does that of one request for the others, also in the drain.
    let (mut process, addr) = start("nowhere").serve();
    let (mut slow, mut late) = (Client::connect(addr), Client::connect(addr));
    slow.get("/endless");
    process.line("endless begins");
    late.get("/late");
    process.line("late begins");
    process.term();
    for client in [&mut slow, &mut late] {
        assert!(client.try_response().is_err());
    }
    let ended = process.wait();
    aborted("a request in the drain", ended.status);
    assert!(!ended.said("hook runs"), "{ended:#?}");
}
