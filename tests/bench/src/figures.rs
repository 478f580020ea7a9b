//! The figures, each measured on one server at a time.

#![allow(clippy::unnecessary_wraps, reason = "one form for all measures")]

use std::{fs, net::SocketAddr};

use crate::{
    client::{answered, ask_slow, connect, connections, echo, requests, slow_connects},
    http2,
    process::{Server, has_valgrind, millis},
};

/// How much is measured.
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    requests: usize,
    connections: usize,
    idle: usize,
    counted: usize,
}

impl Scale {
    pub(crate) const FULL: Self =
        Self { rounds: 5, requests: 100_000, connections: 5_000, idle: 10_000, counted: 2_000 };
    pub(crate) const QUICK: Self =
        Self { rounds: 1, requests: 20_000, connections: 2_000, idle: 1_000, counted: 500 };
}

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) digits: usize,
    /// Whether the other servers are shown as ratios to the bare loop.
    pub(crate) ratio: bool,
    /// Whether one round says it all.
    pub(crate) exact: bool,
    /// `None`: this server has no such figure.
    pub(crate) measure: fn(&str, &Scale) -> Option<f64>,
}

const fn figure(
    name: &'static str,
    unit: &'static str,
    ratio: bool,
    measure: fn(&str, &Scale) -> Option<f64>,
) -> Figure {
    Figure { name, unit, digits: if ratio { 0 } else { 1 }, ratio, exact: false, measure }
}

/// Those that open many connections come last: each leaves a socket in `TIME_WAIT` for a minute,
/// and a kernel that is asked for its sockets passes them all.
pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        exact: true,
        ..figure("instructions per request (callgrind)", "", true, instructions)
    },
    Figure {
        exact: true,
        ..figure("the same over HTTP/2, one stream at a time", "", true, instructions_h2)
    },
    Figure {
        exact: true,
        ..figure("the same over HTTP/2, ten at a time", "", true, instructions_h2_streams)
    },
    Figure {
        exact: true,
        ..figure("instructions per echo of 64 bytes, TCP", "", true, instructions_echo)
    },
    Figure {
        digits: 0,
        ..figure("bytes per idle connection, served once", "", false, idle_served)
    },
    Figure {
        digits: 0,
        ..figure("bytes per connection, never sent a byte", "", false, idle_silent)
    },
    figure("SIGTERM to exit, no connection", "ms", false, |server, _| {
        Some(Server::start(server).stop())
    }),
    figure("SIGTERM to exit, connections a moment ago", "ms", false, exit_recent),
    figure("SIGTERM to exit, 32 with the linger to run", "ms", false, exit_lingering),
    figure("SIGTERM to exit, idle connections", "ms", false, exit_idle),
    figure("last response byte to exit", "ms", false, exit_after_answer),
    figure("CPU per request, 32 keep-alive connections", "ns", true, cpu_per_request),
    figure("CPU per connection, one request each", "ns", true, cpu_per_connection),
    Figure { digits: 0, ..figure("of 1,000 clients at once, slower than 0.9 s", "", false, burst) },
];

pub(crate) fn instructions(server: &str, scale: &Scale) -> Option<f64> {
    counted(server, "http", scale, |addr, count| requests(&mut [connect(addr)], count))
}

fn instructions_h2(server: &str, scale: &Scale) -> Option<f64> {
    counted(server, "h2", scale, |addr, count| http2::requests(addr, count, 1))
}

fn instructions_h2_streams(server: &str, scale: &Scale) -> Option<f64> {
    counted(server, "h2", scale, |addr, count| http2::requests(addr, count, 10))
}

fn instructions_echo(server: &str, scale: &Scale) -> Option<f64> {
    // Only these two have a server that is not of HTTP.
    let is_one = matches!(server, "bare" | "graceful");
    is_one.then(|| counted(server, "echo", scale, |addr, count| echo(&mut connect(addr), count)))?
}

/// The difference between two runs, of which one answers more requests.
fn counted(server: &str, kind: &str, scale: &Scale, send: fn(SocketAddr, usize)) -> Option<f64> {
    if !has_valgrind() {
        return None;
    }
    let few = count(server, kind, scale.counted, send)?;
    let many = count(server, kind, scale.counted * 3, send)?;
    Some((many - few) / as_f64(scale.counted * 2))
}

fn count(server: &str, kind: &str, number: usize, send: fn(SocketAddr, usize)) -> Option<f64> {
    let out = std::env::temp_dir().join(format!("graceful-callgrind-{}", std::process::id()));
    let process = Server::start_counted(server, kind, out.to_str()?);
    send(process.addr, number);
    // The bare loop dies of SIGTERM, which valgrind survives for long enough to write its counts.
    process.stop();
    let text = fs::read_to_string(&out).ok()?;
    // Gone, or never there: the next run writes its own.
    let _ = fs::remove_file(&out);
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total?.trim().parse().ok()
}

fn cpu_per_request(server: &str, scale: &Scale) -> Option<f64> {
    let process = Server::start(server);
    let mut streams: Vec<_> = (0..32).map(|_| connect(process.addr)).collect();
    requests(&mut streams, 3_200);
    let before = process.cpu();
    requests(&mut streams, scale.requests);
    let used = process.cpu() - before;
    process.stop();
    Some(used / as_f64(scale.requests))
}

fn cpu_per_connection(server: &str, scale: &Scale) -> Option<f64> {
    let process = Server::start(server);
    connections(process.addr, 500);
    let before = process.cpu();
    connections(process.addr, scale.connections);
    let used = process.cpu() - before;
    process.stop();
    Some(used / as_f64(scale.connections))
}

fn idle_served(server: &str, scale: &Scale) -> Option<f64> {
    resident(server, scale.idle, true)
}

fn idle_silent(server: &str, scale: &Scale) -> Option<f64> {
    resident(server, scale.idle, false)
}

fn resident(server: &str, count: usize, ask: bool) -> Option<f64> {
    let process = Server::start(server);
    let mut last = connect(process.addr);
    requests(std::slice::from_mut(&mut last), 10);
    let before = process.resident();
    let mut streams: Vec<_> = (0..count).map(|_| connect(process.addr)).collect();
    if ask {
        requests(&mut streams, count);
    }
    // Answered after they were all accepted.
    requests(std::slice::from_mut(&mut connect(process.addr)), 1);
    let bytes = (process.resident() - before) / as_f64(count);
    drop(streams);
    process.stop();
    Some(bytes)
}

fn exit_recent(server: &str, _: &Scale) -> Option<f64> {
    let process = Server::start(server);
    connections(process.addr, 100);
    Some(process.stop())
}

fn exit_lingering(server: &str, _: &Scale) -> Option<f64> {
    let process = Server::start(server);
    let mut streams: Vec<_> = (0..32).map(|_| connect(process.addr)).collect();
    requests(&mut streams, 32);
    let taken = process.stop();
    drop(streams);
    Some(taken)
}

fn exit_idle(server: &str, scale: &Scale) -> Option<f64> {
    let process = Server::start(server);
    let mut streams: Vec<_> = (0..scale.idle).map(|_| connect(process.addr)).collect();
    requests(&mut streams, scale.idle);
    // Longer than any linger: quiet for good.
    std::thread::sleep(std::time::Duration::from_millis(400));
    let taken = process.stop();
    drop(streams);
    Some(taken)
}

fn exit_after_answer(server: &str, _: &Scale) -> Option<f64> {
    if server == "bare" {
        return None;
    }
    let process = Server::start(server);
    let mut stream = ask_slow(process.addr);
    std::thread::sleep(std::time::Duration::from_millis(50));
    process.terminate();
    let answer = answered(&mut stream);
    let gone = process.gone();
    Some(millis(gone.saturating_duration_since(answer)))
}

fn burst(server: &str, _: &Scale) -> Option<f64> {
    let process = Server::start(server);
    // Asleep while they come: what is let in is what its queue holds.
    let slow = process.asleep(|| slow_connects(process.addr, 1_000));
    process.stop();
    Some(as_f64(slow))
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
