//! What a request costs in memory, and that nothing grows with the number of requests served.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use bytes::Bytes;
use graceful::Config;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use stats_alloc::Region;

use crate::{ALLOCATOR, alone};

/// The long form is 200,000:
/// `GRACEFUL_SOAK=200000 cargo test --release -p graceful-tests --test load soak`.
fn requests() -> usize {
    std::env::var("GRACEFUL_SOAK").map_or(40_000, |text| text.parse().expect("a number"))
}
const CONNECTIONS: usize = 8;
const REQUEST: &[u8] = b"GET /some/path HTTP/1.1\r\nhost: test\r\n\r\n";

/// Marks the end of an answer: no header has this byte in it.
const MARK: u8 = b'\x01';

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(&[MARK]))))
}

/// Sends `count` requests on each connection, a few at a time, without allocating.
fn load(connections: &mut [TcpStream], count: usize) {
    const BATCH: usize = 10;
    let mut pipeline = [0; REQUEST.len() * BATCH];
    for place in pipeline.chunks_mut(REQUEST.len()) {
        place.copy_from_slice(REQUEST);
    }
    for _ in 0..count / BATCH {
        for connection in &mut *connections {
            connection.write_all(&pipeline).unwrap();
        }
        for connection in &mut *connections {
            let (mut buffer, mut answers) = ([0; 4096], 0);
            while answers < BATCH {
                let n = connection.read(&mut buffer).unwrap();
                assert!(n > 0, "closed");
                answers += buffer[..n].split(|byte| *byte == MARK).count() - 1;
            }
        }
    }
}

fn connect(addr: SocketAddr) -> Vec<TcpStream> {
    (0..CONNECTIONS).map(|_| TcpStream::connect(addr).unwrap()).collect()
}

/// Allocations and bytes still held, for `count` requests on each of some warm connections.
async fn measure(addr: SocketAddr, count: usize) -> (usize, isize) {
    let work = move || {
        let mut connections = connect(addr);
        load(&mut connections, 200);
        let region = Region::new(ALLOCATOR);
        load(&mut connections, count);
        let change = region.change();
        let held = change.bytes_allocated.cast_signed() - change.bytes_deallocated.cast_signed();
        (change.allocations + change.reallocations, held)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The loop with no shutdown code at all.
async fn bare() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
            tokio::spawn(connection.with_upgrades());
        }
    });
    addr
}

// One test: the allocator counts for the whole process.
#[test]
fn requests_cost_no_allocation_and_leave_nothing_behind() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(requests_cost_no_allocation());
}

async fn requests_cost_no_allocation() {
    let count = requests() / CONNECTIONS;
    let (bare_count, _) = measure(bare().await, 1_000).await;

    let server = graceful::serve("127.0.0.1:0", service_fn(hello));
    let running = Config::new().start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    let (ours, _) = measure(addr, 1_000).await;
    let measured = 1_000 * CONNECTIONS;
    println!("allocations for {measured} requests: bare loop {bare_count}, graceful {ours}");
    assert!(
        ours <= bare_count + measured / 100,
        "an allocation per request: {ours} > {bare_count}"
    );

    let (_, held) = measure(addr, count).await;
    assert!(held < 100_000, "{held} bytes more are held after {} requests", requests());
    let left = loop {
        let left = running.handle().in_flight();
        // The connections of the clients end a moment after the clients.
        if left.len() <= 1 {
            break left;
        }
        tokio::task::yield_now().await;
    };
    assert!(left[0].to_string().starts_with("server http://127.0.0.1"), "{left:?}");
    assert!(graceful_tests::in_time(running.stop()).await.is_clean());
}

/// Once they have been idle for a while, without a word from anybody.
#[test]
fn idle_connections_are_parked_and_answer_all_the_same() {
    const IDLE: usize = 500;
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = graceful::serve("127.0.0.1:0", service_fn(hello));
    let running = runtime.block_on(async { Config::new().start(server).await }).unwrap();
    let addr = running.local_addr().unwrap();
    let handle = running.handle().clone();
    runtime.block_on(async {
        let clients = tokio::task::spawn_blocking(move || {
            let ask = |client: &mut TcpStream| {
                client.write_all(REQUEST).unwrap();
                let mut answer = [0; 256];
                while !answer.contains(&MARK) {
                    assert!(client.read(&mut answer).unwrap() > 0);
                }
            };
            // What tables take that grow by doubling is there already.
            let mut before: Vec<_> = (0..IDLE).map(|_| TcpStream::connect(addr).unwrap()).collect();
            before.iter_mut().for_each(ask);
            drop(before);
            while handle.in_flight().len() > 1 {
                std::thread::yield_now();
            }
            let region = Region::new(ALLOCATOR);
            let held = || {
                let change = region.change();
                let held =
                    change.bytes_allocated.cast_signed() - change.bytes_deallocated.cast_signed();
                held / IDLE.cast_signed()
            };
            let mut clients: Vec<_> =
                (0..IDLE).map(|_| TcpStream::connect(addr).unwrap()).collect();
            clients.iter_mut().for_each(ask);
            let speaking = held();
            let until = std::time::Instant::now() + graceful_tests::PATIENCE;
            // hyper's buffer alone is 8 KiB.
            while held() > 1_700 {
                assert!(std::time::Instant::now() < until, "{speaking} bytes, then {}", held());
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            println!("bytes per connection: {speaking} served once, {} parked", held());
            clients.iter_mut().for_each(ask);
            clients
        });
        let clients = clients.await.unwrap();
        let report = graceful_tests::in_time(running.stop()).await;
        assert!(report.is_clean(), "{report}");
        drop(clients);
    });
}
