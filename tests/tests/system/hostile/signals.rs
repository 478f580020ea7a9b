//! Signals at every moment, and of every kind.

use std::{
    os::unix::process::CommandExt,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Signal, load::Random, terminal::Tmux};
use rustix::process::{Pid, kill_process, kill_process_group};

use super::{LIMIT, SLACK, WELL, check, cut, does, hostile, hurried, rounds};

/// However many there are, and of however many kinds, they are one as long as they come together.
#[test]
fn ten_at_once_are_one() {
    for _ in 0..rounds() {
        let (mut process, addr) = hostile().serve();
        let mut client = does(&mut process, addr, "reads stdin");
        let start = Instant::now();
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::TERM].repeat(2)
        {
            process.signal(signal);
        }
        process.line("draining");
        process.release();
        assert_eq!(client.response().text(), "reads stdin ended");
        check("ten at once", &process.wait(), start, WELL);
    }
}

/// Before there is a handler the default action ends the process, and behind it the program does.
#[test]
fn before_the_first_line_and_while_it_starts() {
    let began = Instant::now();
    let (_process, _) = hostile().serve();
    // As long as a start takes on this machine, and half as long again.
    let most = u64::try_from(began.elapsed().as_micros() * 3 / 2).unwrap();
    let mut random = Random(11);
    let mut drained = 0;
    let count = 40 * rounds();
    for _ in 0..count {
        let mut process = hostile().spawn();
        thread::sleep(Duration::from_micros(random.below(most)));
        let start = Instant::now();
        process.signal(Signal::TERM);
        let ended = process.wait();
        let is_killed = ended.status.code().is_none();
        assert!(is_killed || ended.status.success(), "{ended:#?}");
        assert!(ended.after(start) < LIMIT + SLACK, "{ended:#?}");
        drained += usize::from(!is_killed);
    }
    println!("{drained} of {count} had a handler");
    assert!((1..count).contains(&drained), "{drained} of {count} had a handler");
}

/// In the moment of the limit: what was cut is named, or the signal ends it at once, and whoever
/// forces it does not wait for what it says, on a machine that is busy.
#[test]
fn a_second_one_in_the_moment_of_the_limit() {
    let mut random = Random(12);
    for _ in 0..10 * rounds() {
        let (mut process, addr) = hurried().serve();
        let _client = does(&mut process, addr, "waits");
        let start = Instant::now();
        process.signal(Signal::TERM);
        // Up to 3 ms before, or behind.
        let moment = Duration::from_millis(497) + Duration::from_micros(random.below(6_000));
        thread::sleep(moment.saturating_sub(start.elapsed()));
        process.signal_if_there(Signal::TERM);
        let ended = process.wait();
        let code = ended.status.code();
        // 128 and the signal, or the signal itself in the very last step.
        assert!([Some(124), Some(143), None].contains(&code), "{ended:#?}");
        if code == Some(124) {
            assert!(ended.said("cut off: GET /does/waits"), "{ended:#?}");
        }
        assert!(ended.after(start) < LIMIT + SLACK, "{ended:#?}");
    }
}

/// A stopped process hears what came once it goes on.
#[test]
fn while_it_is_stopped() {
    for _ in 0..rounds() {
        let (mut process, addr) = hostile().serve();
        let mut client = does(&mut process, addr, "reads stdin");
        process.signal(Signal::STOP);
        process.signal(Signal::TERM);
        thread::sleep(LIMIT + Duration::from_millis(100));
        assert!(!process.is_over());
        process.release();
        let start = Instant::now();
        process.signal(Signal::CONT);
        assert_eq!(client.response().text(), "reads stdin ended");
        check("stopped before", &process.wait(), start, WELL);
    }
}

/// In the middle of a drain: time that it was stopped counts, as the clock goes on.
#[test]
fn stopped_in_the_drain() {
    for _ in 0..rounds() {
        let (mut process, addr) = hurried().serve();
        let _client = does(&mut process, addr, "waits");
        process.term();
        process.signal(Signal::STOP);
        thread::sleep(LIMIT + Duration::from_millis(100));
        assert!(!process.is_over());
        let start = Instant::now();
        process.signal(Signal::CONT);
        let ended = process.wait();
        check("stopped in the drain", &ended, start, cut("GET /does/waits"));
    }
}

/// As Ctrl-C in a shell without job control: the child, which knows nothing of it, is not waited
/// for.
#[test]
fn to_the_group() {
    for _ in 0..rounds() {
        let mut process = hostile().spawn_by(|program| {
            let mut command = Command::new("sh");
            let line = "sleep 600 & echo child $!; exec \"$@\"";
            command.args(["-c", line, "sh"]).arg(program).process_group(0);
            command
        });
        let line = process.line("child ");
        let child = line.strip_prefix("child ").and_then(|number| number.parse().ok());
        let child = Child(Pid::from_raw(child.expect("a number")).unwrap());
        let addr = process.addr();
        let mut client = does(&mut process, addr, "reads stdin");
        let group = Pid::from_raw(process.pid().cast_signed()).unwrap();
        let start = Instant::now();
        kill_process_group(group, Signal::INT).unwrap();
        process.line("SIGINT received");
        process.release();
        assert_eq!(client.response().text(), "reads stdin ended");
        // It holds the pipes of the program, whose end is told by theirs.
        drop(child);
        check("to the group", &process.wait(), start, WELL);
    }
}

/// A process that ends with the test. Its shell has it ignore SIGINT, as it is in the background.
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// Ctrl-Z stops it, `fg` lets it go on, and Ctrl-C drains it.
#[test]
fn from_a_terminal_in_the_background_and_back() {
    let Some(tmux) = Tmux::start("hostile") else { return };
    let program = env!("CARGO_BIN_EXE_fixtures");
    tmux.run(&["new-session", "-d", "-x", "120", "-y", "30", "bash", "--norc"]);
    tmux.run(&["send-keys", &format!("ADDR=127.0.0.1:0 {program} hostile"), "Enter"]);
    let screen = tmux.wait_for("listening on http://127");
    let addr = screen.lines().find_map(|line| line.strip_prefix("listening on http://")).unwrap();
    let addr = addr.trim().parse().unwrap();
    tmux.run(&["send-keys", "C-z"]);
    tmux.wait_for("Stopped");
    // The kernel lets it in all the same.
    let mut client = Client::connect(addr);
    client.get("/");
    tmux.run(&["send-keys", "fg", "Enter"]);
    assert_eq!(client.response().text(), "fine");
    tmux.run(&["send-keys", "C-c"]);
    tmux.wait_for("SIGINT received, draining");
    tmux.run(&["send-keys", "echo code $?", "Enter"]);
    tmux.wait_for("code 0");
}
