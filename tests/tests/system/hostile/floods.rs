//! Floods of HTTP/2, the known ones: what they cost is bounded, while they last and in the stop.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use graceful_tests::{
    Client, PATIENCE, Signal, held,
    http2::{
        PREFACE, encode,
        flag::{END_HEADERS, END_STREAM},
        kind,
    },
};

use super::{BOUND, hurried, rounds};

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// `GET /` by indexes of the static table, and its authority.
const GET: [u8; 9] = [0x82, 0x86, 0x84, 0x41, 0x04, b't', b'e', b's', b't'];

/// What is sent in the round `at`.
type Flood = fn(u32) -> Vec<u8>;

/// CVE-2023-44487.
fn rapid_resets(at: u32) -> Vec<u8> {
    let stream = 2 * at + 1;
    [
        encode(kind::HEADERS, WHOLE, stream, &GET),
        encode(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
    ]
    .concat()
}

/// CVE-2019-9512.
fn pings(_: u32) -> Vec<u8> {
    encode(kind::PING, 0, 0, b"12345678")
}

/// CVE-2019-9515.
fn settings(_: u32) -> Vec<u8> {
    encode(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
}

/// CVE-2024-27316: a head that never ends.
fn continuations(at: u32) -> Vec<u8> {
    let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
    if at == 0 {
        encode(kind::HEADERS, END_STREAM, 1, &GET)
    } else {
        encode(kind::CONTINUATION, 0, 1, &field.repeat(100))
    }
}

/// CVE-2019-9518.
fn empty_frames(at: u32) -> Vec<u8> {
    if at == 0 {
        encode(kind::HEADERS, END_HEADERS, 1, &GET)
    } else {
        encode(kind::DATA, 0, 1, &[])
    }
}

/// CVE-2019-9511 and 9517: answers that the client leaves no window for.
fn no_window(at: u32) -> Vec<u8> {
    let stream = 2 * at + 1;
    let closed =
        if at == 0 { encode(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]) } else { Vec::new() };
    [closed, encode(kind::HEADERS, WHOLE, stream, &GET)].concat()
}

/// CVE-2019-9513.
fn priorities(at: u32) -> Vec<u8> {
    encode(kind::PRIORITY, 0, 2 * (at % 100) + 1, &[0, 0, 0, 0, at.to_be_bytes()[3]])
}

fn window_updates(_: u32) -> Vec<u8> {
    encode(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
}

fn unknown_frames(_: u32) -> Vec<u8> {
    encode(0xbe, 0, 0, &[0; 100])
}

/// The same field again and again, which costs a byte (CVE-2016-6581).
fn bombs(at: u32) -> Vec<u8> {
    let stream = 2 * at + 1;
    let long = [&GET[..], &[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], &[b'y'; 4_000]].concat();
    let block = if at == 0 { long } else { [&GET[..], &[0xbe; 4_000]].concat() };
    encode(kind::HEADERS, WHOLE, stream, &block)
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

/// How long a flood lasts before the signal at least, and how much comes in it at least, if the
/// server does not end it.
const LASTS: Duration = Duration::from_millis(400);
const LEAST: u32 = 500;

/// The bound of what the floods may take, in kB: hyper's own limits, and the socket buffers.
const MEMORY: usize = 64 * 1024;

/// Sends until the server closes, and counts. `is_read`: whether somebody reads what it answers.
fn flood(
    addr: SocketAddr,
    flood: Flood,
    is_read: bool,
    count: &Arc<AtomicU32>,
) -> thread::JoinHandle<()> {
    let count = count.clone();
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut reader = stream.try_clone().unwrap();
    if is_read {
        thread::spawn(move || while reader.read(&mut [0; 16_384]).is_ok_and(|read| read > 0) {});
    }
    // Not for ever, if nothing is read on either side.
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    thread::spawn(move || {
        let preface = [&PREFACE[..], &encode(kind::SETTINGS, 0, 0, &[])].concat();
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
            count.fetch_add(20, Ordering::Relaxed);
        }
    })
}

#[test]
fn a_flood_has_bounds() {
    for (name, sends) in (0..rounds()).flat_map(|_| FLOODS) {
        for is_read in [true, false] {
            let (mut process, addr) = hurried().serve();
            let before = held::peak(process.pid());
            let sent = Arc::default();
            let floods: Vec<_> = (0..2).map(|_| flood(addr, *sends, is_read, &sent)).collect();
            let is_going_on = || floods.iter().any(|flood| !flood.is_finished());
            let mut client = Client::connect(addr);
            let started = Instant::now();
            let mut answered = 0;
            while started.elapsed() < LASTS
                || (sent.load(Ordering::Relaxed) < LEAST && is_going_on())
            {
                assert!(started.elapsed() < PATIENCE, "{name} is no flood: {sent:?}");
                assert_eq!(client.fetch("/").text(), "fine", "{name}");
                answered += 1;
            }
            let grown = held::peak(process.pid()).saturating_sub(before);
            let start = Instant::now();
            process.signal(Signal::TERM);
            let ended = process.wait();
            for flood in floods {
                flood.join().unwrap();
            }
            println!(
                "{name}, read: {is_read}: {sent:?} sent, {answered} others answered, {grown} kB more, \
                 ended in {:?}",
                ended.after(start)
            );
            assert!(grown < MEMORY, "{name}: {grown} kB more");
            assert!([Some(0), Some(124)].contains(&ended.status.code()), "{name}: {ended:#?}");
            assert!(ended.after(start) < BOUND, "{name}: {ended:#?}");
        }
    }
}
