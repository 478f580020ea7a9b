//! A machine that has nothing left: descriptors, threads, memory, and somebody who reads.

use std::{process::Command, time::Instant};

use graceful_tests::{
    Client, Process, Signal,
    balanced::{free_addrs, wait_for},
};

use super::{WELL, behind, check, does, hostile, rounds};

/// Serves a request, and drains another one.
fn serves(case: &str, process: &mut Process) {
    let addr = process.addr();
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine", "{case}");
    let mut client = does(process, addr, "reads stdin");
    let start = Instant::now();
    process.term();
    process.release();
    assert_eq!(client.response().text(), "reads stdin ended", "{case}");
    check(case, &process.wait(), start, WELL);
}

#[test]
fn limits_of_the_process() {
    for line in ["ulimit -n 64", "ulimit -c 0; ulimit -s 512", "ulimit -v 2000000", "ulimit -l 0"] {
        for _ in 0..rounds() {
            serves(line, &mut behind(hostile(), line));
        }
    }
}

/// Whatever it is that there is no descriptor for: it serves, or says why not.
#[test]
fn too_few_descriptors() {
    let (mut served, mut refused) = (0, 0);
    for most in 4..24 {
        let mut process = behind(hostile(), &format!("ulimit -n {most}"));
        let line = process.any_line(&["listening on", "error:"]);
        let start = Instant::now();
        if line.contains("listening on") {
            served += 1;
            process.signal(Signal::TERM);
            check(&format!("{most} descriptors"), &process.wait(), start, WELL);
        } else {
            refused += 1;
            assert!(line.contains("Too many open files"), "{most} descriptors: {line}");
            assert_eq!(process.wait().code(), 1, "{most} descriptors");
        }
    }
    assert!(served > 0 && refused > 5, "{served} served, {refused} refused");
}

/// More clients than descriptors: those in the queue wait, and all are answered.
#[test]
fn more_clients_than_descriptors() {
    for _ in 0..rounds() {
        let mut process = behind(hostile(), "ulimit -n 64");
        let addr = process.addr();
        let mut clients: Vec<_> = (0..100).map(|_| Client::connect(addr)).collect();
        for client in &mut clients {
            client.get("/");
        }
        let start = Instant::now();
        process.term();
        // A connection that is answered closes, and the next one comes in.
        for (answered, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), "fine", "after {answered}");
        }
        check("more clients than descriptors", &process.wait(), start, WELL);
    }
}

/// A thread that cannot be had at the start is an error in words, and one that cannot be had later
/// costs nothing. Root has no such limit: another user of ours has.
#[test]
fn threads_that_cannot_be_had() {
    let is_root = rustix::process::getuid().is_root();
    let has_it = Command::new("setpriv").arg("--version").output().is_ok();
    if !graceful_tests::can("a limit of threads (as root, with setpriv)", is_root && has_it) {
        return;
    }
    // Nobody else has this number.
    let user = 40_000 + std::process::id() % 20_000;
    let (mut served, mut refused) = (0, 0);
    for most in 1..=12 {
        let mut process = hostile().spawn_by(|program| {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={user}"), "--clear-groups", "prlimit"]);
            command.arg(format!("--nproc={most}")).arg(program);
            command
        });
        if process.any_line(&["listening on", "error:"]).contains("listening on") {
            served += 1;
            let start = Instant::now();
            process.signal(Signal::TERM);
            check(&format!("{most} threads"), &process.wait(), start, WELL);
        } else {
            refused += 1;
            let ended = process.wait();
            assert_eq!(ended.code(), 1, "{most} threads: {ended:#?}");
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
}

/// Nobody reads what it says.
#[test]
fn messages_that_go_nowhere() {
    for line in ["exec 2>&-", "exec 2>/dev/full", "exec 2>/dev/null", "exec 0<&-"] {
        for _ in 0..rounds() {
            let [addr, ..] = free_addrs();
            let mut process = behind(hostile().env("ADDR", &addr.to_string()), line);
            wait_for("it listens", || Client::try_connect(addr).is_ok());
            let mut client = Client::connect(addr);
            assert_eq!(client.fetch("/does/nothing").text(), "nothing ended", "{line}");
            let start = Instant::now();
            process.signal(Signal::TERM);
            check(line, &process.wait(), start, WELL);
        }
    }
}
