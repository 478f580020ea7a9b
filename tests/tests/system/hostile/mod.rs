//! Everything around it misbehaves: the program, its clients, the signals, the machine. Each case
//! has its outcome written beside it: the exit code, the time that it takes at most, what the
//! client sees, and what the report names.
//!
//! `GRACEFUL_HOSTILE=20 cargo test -p graceful-tests --test system hostile` runs each of them so
//! often. System calls that fail are in `faults.rs`, clients without a link in `unplugged.rs`,
//! broken messages in `conformance.rs`.

mod clients;
mod floods;
mod resources;
mod runtimes;
mod signals;

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, Process, fixture, process::Ended};

const LIMIT: Duration = Duration::from_millis(500);
const CLEANUP: Duration = Duration::from_millis(200);

/// What the end of the process may take beyond its limits, on a machine that is busy with other
/// tests, and is stopped for two seconds now and then: alone, it is some 30 ms.
const SLACK: Duration = Duration::from_secs(3);

/// With limits that nobody reaches, on a machine however busy.
fn hostile() -> Fixture {
    fixture!("hostile").env("TIMEOUT", "20s").env("CLEANUP", "20s")
}

/// With limits that are there to be reached.
fn hurried() -> Fixture {
    // A backtrace takes longer than the cleanup may.
    let fixture = hostile().env("RUST_BACKTRACE", "0");
    fixture.env("TIMEOUT", "500ms").env("CLEANUP", "200ms")
}

/// A client whose request has the handler do something, which has begun.
fn does(process: &mut Process, addr: SocketAddr, what: &str) -> Client {
    let mut client = Client::connect(addr);
    client.get(&format!("/does/{}", what.replace(' ', "%20")));
    process.line(&format!("{what} begins"));
    client
}

/// Runs the program of `fixture` behind a line of the shell.
fn behind(fixture: Fixture, line: &str) -> Process {
    fixture.spawn_by(|program| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{line}; exec \"$@\""), "sh"]).arg(program);
        command
    })
}

/// How often each case is run.
fn rounds() -> usize {
    std::env::var("GRACEFUL_HOSTILE").map_or(1, |text| text.parse().expect("a number"))
}

/// What has to become of a process.
#[derive(Clone, Copy, Debug)]
struct End {
    code: i32,
    /// What the report names.
    named: &'static str,
}

impl End {
    /// The program that is to end in this way.
    fn program(self) -> Fixture {
        if self.code == 124 { hurried() } else { hostile() }
    }
}

/// It ends well, and names nothing.
const WELL: End = End { code: 0, named: "" };

/// It is cut at a limit, and names this.
const fn cut(named: &'static str) -> End {
    End { code: 124, named }
}

/// The bound of a stop.
const BOUND: Duration = LIMIT.saturating_add(CLEANUP).saturating_add(SLACK);

/// Checks how a process that was told to stop at `start` has ended.
fn check(case: &str, ended: &Ended, start: Instant, end: End) {
    let after = ended.after(start);
    assert_eq!(ended.status.code(), Some(end.code), "{case}: {ended:#?}");
    assert!(after < BOUND, "{case}: {after:?}, {ended:#?}");
    assert!(ended.said(end.named), "{case}: {:?} is not named in {ended:#?}", end.named);
    if end.code == 0 {
        assert!(!ended.said("cut off"), "{case}: {ended:#?}");
    }
}
