//! Floods of HTTP/2, the known ones: what they cost is bounded, while they last and in the stop.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Process, Signal};

use super::{LIMIT, hostile, rounds};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET /` by indexes of the static table, and its authority.
const GET: [u8; 9] = [0x82, 0x86, 0x84, 0x41, 0x04, b't', b'e', b's', b't'];

/// What is sent in the round `at`.
type Flood = fn(u32) -> Vec<u8>;

/// CVE-2023-44487.
fn rapid_resets(at: u32) -> Vec<u8> {
    let stream = 2 * at + 1;
    [frame(1, 5, stream, &GET), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
}

/// CVE-2019-9512.
fn pings(_: u32) -> Vec<u8> {
    frame(6, 0, 0, b"12345678")
}

/// CVE-2019-9515.
fn settings(_: u32) -> Vec<u8> {
    frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])
}

/// CVE-2024-27316: a head that never ends.
fn continuations(at: u32) -> Vec<u8> {
    let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    if at == 0 { frame(1, 1, 1, &GET) } else { frame(9, 0, 1, &field.repeat(100)) }
}

/// CVE-2019-9518.
fn empty_frames(at: u32) -> Vec<u8> {
    if at == 0 { frame(1, 4, 1, &GET) } else { frame(0, 0, 1, &[]) }
}

/// CVE-2019-9511 and 9517: answers that the client leaves no window for.
fn no_window(at: u32) -> Vec<u8> {
    let stream = 2 * at + 1;
    let closed = if at == 0 { frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]) } else { Vec::new() };
    [closed, frame(1, 5, stream, &GET)].concat()
}

/// CVE-2019-9513.
fn priorities(at: u32) -> Vec<u8> {
    frame(2, 0, 2 * (at % 100) + 1, &[0, 0, 0, 0, at.to_be_bytes()[3]])
}

fn window_updates(_: u32) -> Vec<u8> {
    frame(8, 0, 0, &1_u32.to_be_bytes())
}

fn unknown_frames(_: u32) -> Vec<u8> {
    frame(0xbe, 0, 0, &[0; 100])
}

/// The same field again and again, which costs a byte (CVE-2016-6581).
fn bombs(at: u32) -> Vec<u8> {
    let stream = 2 * at + 1;
    let long = [&GET[..], &[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], &[b'y'; 4_000]].concat();
    let block = if at == 0 { long } else { [&GET[..], &[0xbe; 4_000]].concat() };
    frame(1, 5, stream, &block)
}

const FLOODS: &[(&str, Flood)] = &[
    ("rapid resets", rapid_resets),
    ("PING", pings),
    ("SETTINGS", settings),
    ("CONTINUATION", continuations),
    ("empty DATA", empty_frames),
    ("no window", no_window),
    ("PRIORITY", priorities),
    ("WINDOW_UPDATE", window_updates),
    ("unknown frames", unknown_frames),
    ("fields that grow", bombs),
];

/// How long a flood lasts before the signal.
const LASTS: Duration = Duration::from_millis(400);

/// What a connection may take, at the most: hyper's own limits, and what lies in the sockets.
const MEMORY: u64 = 64 * 1024;

fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends until the server closes. `is_read`: whether somebody reads what it answers.
fn flood(addr: SocketAddr, flood: Flood, is_read: bool) -> thread::JoinHandle<u32> {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut reader = stream.try_clone().unwrap();
    if is_read {
        thread::spawn(move || while reader.read(&mut [0; 16_384]).is_ok_and(|read| read > 0) {});
    }
    // Not for ever, if nothing is read on either side.
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    thread::spawn(move || {
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
        let mut sent = stream.write_all(&preface);
        let mut at = 0;
        while sent.is_ok() {
            let frames: Vec<u8> = (0..20)
                .flat_map(|_| {
                    at += 1;
                    flood(at - 1)
                })
                .collect();
            sent = stream.write_all(&frames);
        }
        at
    })
}

#[test]
fn a_flood_has_bounds() {
    for (name, sends) in (0..rounds()).flat_map(|_| FLOODS) {
        for is_read in [true, false] {
            let (mut process, addr) = hostile().serve();
            let before = resident(&process);
            let floods: Vec<_> = (0..2).map(|_| flood(addr, *sends, is_read)).collect();
            let mut client = Client::connect(addr);
            let started = Instant::now();
            let mut answered = 0;
            while started.elapsed() < LASTS {
                assert_eq!(client.fetch("/").text(), "fine", "{name}");
                answered += 1;
            }
            let grown = resident(&process).saturating_sub(before);
            let start = Instant::now();
            process.signal(Signal::TERM);
            let ended = process.wait();
            let sent: u32 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
            println!(
                "{name}, read: {is_read}: {sent} sent, {answered} others answered, {grown} kB more, \
                 ended in {:?}",
                ended.after(start)
            );
            assert!(sent > 500, "{name} is no flood: {sent}");
            assert!(grown < MEMORY, "{name}: {grown} kB more");
            assert!([Some(0), Some(124)].contains(&ended.status.code()), "{name}: {ended:#?}");
            assert!(
                ended.after(start) < LIMIT + super::CLEANUP + super::SLACK,
                "{name}: {ended:#?}"
            );
        }
    }
}
