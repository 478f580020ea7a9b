//! Clients on bare sockets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const END: &[u8] = b"Hello world!";

pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connects");
    // Closed by a reset: else each leaves a socket in TIME_WAIT for a minute, which the next
    // `connect` has to go around, and which is in every answer of the kernel's.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("an option");
    stream
}

fn read_answer(stream: &mut impl Read) {
    let (mut buffer, mut filled) = ([0; 1024], 0);
    while !buffer[..filled].ends_with(END) {
        let n = stream.read(&mut buffer[filled..]).expect("an answer");
        assert!(n > 0, "closed in the middle of an answer");
        filled += n;
    }
}

/// `count` requests in all, on these connections in turn, one at a time on each.
pub(crate) fn requests(streams: &mut [impl Read + Write], count: usize) {
    for _ in 0..count / streams.len() {
        for stream in streams.iter_mut() {
            stream.write_all(REQUEST).expect("sends");
        }
        for stream in streams.iter_mut() {
            read_answer(stream);
        }
    }
}

/// A connection that has left HTTP.
pub(crate) fn upgrade(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    let request =
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request).expect("sends");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "not upgraded");
    stream
}

/// `count` times 64 bytes, each after the one before has come back.
pub(crate) fn echo(stream: &mut TcpStream, count: usize) {
    let (message, mut answer) = ([b'x'; 64], [0; 64]);
    for _ in 0..count {
        stream.write_all(&message).expect("sends");
        stream.read_exact(&mut answer).expect("an echo");
    }
}

/// A connection for each request.
pub(crate) fn connections(addr: SocketAddr, count: usize) {
    for _ in 0..count {
        let mut stream = connect(addr);
        stream.write_all(LAST).expect("sends");
        read_answer(&mut stream);
        assert_eq!(stream.read(&mut [0]).expect("a clean end"), 0);
    }
}

/// Asks for the slow answer; returns once it is being made.
pub(crate) fn ask_slow(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    requests(std::slice::from_mut(&mut stream), 1);
    stream.write_all(SLOW).expect("sends");
    stream
}

/// When the last byte of the answer has come.
pub(crate) fn answered(stream: &mut TcpStream) -> Instant {
    read_answer(stream);
    Instant::now()
}

/// How many of `count` clients that connect at once take longer than 0.9 s. All of them have to be
/// answered.
pub(crate) fn slow_connects(addr: SocketAddr, count: usize) -> usize {
    let barrier = std::sync::Barrier::new(count);
    let times: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|_| {
                let barrier = &barrier;
                let client = move || {
                    barrier.wait();
                    let start = Instant::now();
                    let mut stream = connect(addr);
                    stream.write_all(REQUEST).expect("sends");
                    read_answer(&mut stream);
                    start.elapsed()
                };
                let builder = std::thread::Builder::new().stack_size(64 * 1024);
                builder.spawn_scoped(scope, client).expect("a thread")
            })
            .collect();
        clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let failed = times.iter().filter(|time| time.is_err()).count();
    assert!(failed == 0, "{failed} of {count} clients got no answer");
    times.into_iter().flatten().filter(|time| *time > Duration::from_millis(900)).count()
}
