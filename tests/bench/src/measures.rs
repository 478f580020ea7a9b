//! How each figure is measured.

#![allow(clippy::unnecessary_wraps, reason = "one form for all measures")]

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
};

use crate::{
    callgrind::{self, Counts},
    client::{answered, ask_slow, connect, connections, echo, requests, slow_connects, upgrade},
    figures::{Reading, Scale},
    http2,
    process::{Server, Subject, has_valgrind, millis},
    tls,
};

pub(crate) fn instructions(subject: Subject, scale: &Scale) -> Option<Reading> {
    counted(subject, scale, |addr, count| requests(&mut [connect(addr)], count))
}

pub(crate) fn instructions_h2(subject: Subject, scale: &Scale) -> Option<Reading> {
    counted(subject, scale, |addr, count| http2::requests(addr, count, 1))
}

pub(crate) fn instructions_h2_streams(subject: Subject, scale: &Scale) -> Option<Reading> {
    counted(subject, scale, |addr, count| http2::requests(addr, count, 10))
}

/// Only these two speak something else than HTTP.
fn is_made_by_hand(subject: Subject) -> bool {
    matches!(subject.server, "bare" | "graceful")
}

pub(crate) fn instructions_tls(subject: Subject, scale: &Scale) -> Option<Reading> {
    let send = |addr, count| requests(&mut [tls::connect(addr)], count);
    counted(subject, scale, send)
}

pub(crate) fn instructions_echo(subject: Subject, scale: &Scale) -> Option<Reading> {
    let send = |addr, count| echo(&mut connect(addr), count);
    is_made_by_hand(subject).then(|| counted(subject, scale, send))?
}

pub(crate) fn instructions_upgraded(subject: Subject, scale: &Scale) -> Option<Reading> {
    counted(subject, scale, |addr, count| echo(&mut upgrade(addr), count))
}

/// The difference between two runs, of which one answers more requests: what happens once in the
/// life of a process is in both.
fn counted(subject: Subject, scale: &Scale, send: fn(SocketAddr, usize)) -> Option<Reading> {
    if !has_valgrind() {
        return None;
    }
    let few = count(subject, scale.counted, send)?;
    let many = count(subject, scale.counted * 3, send)?;
    let each = |many, few| (many - few) / as_f64(scale.counted * 2);
    let value = each(many.all, few.all);
    Some(Reading { value, without_allocator: Some(value - each(many.allocator, few.allocator)) })
}

fn count(subject: Subject, number: usize, send: fn(SocketAddr, usize)) -> Option<Counts> {
    let out = std::env::temp_dir().join(format!("graceful-callgrind-{}", std::process::id()));
    let process = Server::start_counted(subject, out.to_str()?);
    send(process.addr, number);
    // The bare loop dies of SIGTERM, which valgrind survives for long enough to write its counts.
    process.stop();
    let counts = callgrind::read(&fs::read_to_string(&out).ok()?);
    // Gone, or never there: the next run writes its own.
    let _ = fs::remove_file(&out);
    counts
}

pub(crate) fn cpu_per_request(subject: Subject, scale: &Scale) -> Option<Reading> {
    let process = Server::start(subject);
    let mut streams: Vec<_> = (0..32).map(|_| connect(process.addr)).collect();
    requests(&mut streams, 3_200);
    let before = process.cpu();
    requests(&mut streams, scale.requests);
    let used = process.cpu() - before;
    process.stop();
    Some((used / as_f64(scale.requests)).into())
}

pub(crate) fn cpu_per_connection(subject: Subject, scale: &Scale) -> Option<Reading> {
    let process = Server::start(subject);
    connections(process.addr, 500);
    let before = process.cpu();
    connections(process.addr, scale.connections);
    let used = process.cpu() - before;
    process.stop();
    Some((used / as_f64(scale.connections)).into())
}

pub(crate) fn idle_served(subject: Subject, scale: &Scale) -> Option<Reading> {
    resident(subject, scale.idle, true)
}

pub(crate) fn idle_silent(subject: Subject, scale: &Scale) -> Option<Reading> {
    resident(subject, scale.idle, false)
}

pub(crate) fn idle_long(subject: Subject, scale: &Scale) -> Option<Reading> {
    long(subject, scale, connect)
}

pub(crate) fn idle_long_tls(subject: Subject, scale: &Scale) -> Option<Reading> {
    long(subject, scale, tls::connect)
}

/// Of connections that have all been idle for ten seconds, served once. An allocator keeps what it
/// was given back between what is in use, for each thread, and hands it out again: so what counts
/// is what as many more of them take, on one thread, once there is enough of that.
fn long<S: Read + Write>(
    subject: Subject,
    scale: &Scale,
    connect: impl Fn(SocketAddr) -> S,
) -> Option<Reading> {
    let process = Server::start_single(subject);
    let mut all = Vec::new();
    let mut resident = [0.0; 3];
    for resident in &mut resident {
        let mut streams: Vec<_> = (0..scale.idle).map(|_| connect(process.addr)).collect();
        requests(&mut streams, scale.idle);
        all.append(&mut streams);
        std::thread::sleep(std::time::Duration::from_millis(10_500));
        *resident = process.resident();
    }
    drop(all);
    process.stop();
    Some(((resident[2] - resident[1]) / as_f64(scale.idle)).into())
}

/// Of HTTP/2 connections, served once.
pub(crate) fn idle_h2(subject: Subject, scale: &Scale) -> Option<Reading> {
    let process = Server::start_single(subject);
    let first = http2::Connections::open(process.addr, scale.idle);
    let before = process.resident();
    let second = http2::Connections::open(process.addr, scale.idle);
    let bytes = (process.resident() - before) / as_f64(scale.idle);
    drop((first, second));
    process.stop();
    Some(bytes.into())
}

fn resident(subject: Subject, count: usize, ask: bool) -> Option<Reading> {
    let process = Server::start(subject);
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
    Some(bytes.into())
}

pub(crate) fn exit_at_once(subject: Subject, _: &Scale) -> Option<Reading> {
    Some(Server::start(subject).stop().into())
}

pub(crate) fn exit_recent(subject: Subject, _: &Scale) -> Option<Reading> {
    let process = Server::start(subject);
    connections(process.addr, 100);
    Some(process.stop().into())
}

pub(crate) fn exit_lingering(subject: Subject, _: &Scale) -> Option<Reading> {
    let process = Server::start(subject);
    let mut streams: Vec<_> = (0..32).map(|_| connect(process.addr)).collect();
    requests(&mut streams, 32);
    let taken = process.stop();
    drop(streams);
    Some(taken.into())
}

pub(crate) fn exit_idle(subject: Subject, scale: &Scale) -> Option<Reading> {
    let process = Server::start(subject);
    let mut streams: Vec<_> = (0..scale.idle).map(|_| connect(process.addr)).collect();
    requests(&mut streams, scale.idle);
    // Longer than any linger: quiet for good.
    std::thread::sleep(std::time::Duration::from_millis(400));
    let taken = process.stop();
    drop(streams);
    Some(taken.into())
}

pub(crate) fn exit_after_answer(subject: Subject, _: &Scale) -> Option<Reading> {
    if subject.server == "bare" {
        return None;
    }
    let process = Server::start(subject);
    let mut stream = ask_slow(process.addr);
    std::thread::sleep(std::time::Duration::from_millis(50));
    process.terminate();
    let answer = answered(&mut stream);
    let gone = process.gone();
    Some(millis(gone.saturating_duration_since(answer)).into())
}

pub(crate) fn burst(subject: Subject, _: &Scale) -> Option<Reading> {
    let process = Server::start(subject);
    // Asleep while they come: what is let in is what its queue holds.
    let slow = process.asleep(|| slow_connects(process.addr, 1_000));
    process.stop();
    Some(as_f64(slow).into())
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
