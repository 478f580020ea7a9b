//! Goodbyes that do not come all at once.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use graceful::{Config, Connection};
use graceful_tests::{Client, Http2, PATIENCE, Signal, fixture, http2::kind::GOAWAY, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SPREAD: Duration = Duration::from_secs(2);

/// Of each kind.
const COUNT: usize = 30;

/// Clients in threads of their own: each waits for its goodbye and notes when it comes.
struct Goodbyes(Vec<std::thread::JoinHandle<Instant>>);

impl Goodbyes {
    fn wait<C: Send + 'static>(
        connect: impl Fn() -> C,
        told: impl Fn(C) + Clone + Send + 'static,
    ) -> Self {
        let client = |_| {
            let (client, told) = (connect(), told.clone());
            std::thread::spawn(move || {
                told(client);
                Instant::now()
            })
        };
        Self((0..COUNT).map(client).collect())
    }

    /// When they came, in parts of the spread, each later than the one before.
    fn after(self, start: Instant) -> Vec<f64> {
        let times = self.0.into_iter().map(|client| client.join().unwrap() - start);
        let mut times: Vec<_> = times.map(|time| time.div_duration_f64(SPREAD)).collect();
        times.sort_by(f64::total_cmp);
        times
    }
}

/// The first goodbyes come early, the last ones late, and the others between them. A busy machine
/// may be late, but not early.
#[track_caller]
fn are_spread(times: &[f64]) {
    let (first, last) = (times[0], times[COUNT - 1]);
    assert!(first < 0.5 && last > 0.9, "{times:?}");
    for tenth in 1..10_u8 {
        let before = f64::from(tenth) / 10.0;
        let early = times.iter().filter(|time| **time < before).count();
        let even = COUNT * usize::from(tenth) / 10;
        assert!(early <= even + 3, "{early} goodbyes before {before}: {times:?}");
    }
}

fn websocket(addr: SocketAddr) -> tungstenite::WebSocket<TcpStream> {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(format!("ws://{addr}/ws-goodbye"), stream).unwrap().0
}

fn http2(addr: SocketAddr) -> Http2 {
    let mut client = Http2::connect(addr);
    client.get(1, "/");
    while !client.frame().unwrap().ends_stream() {}
    client
}

#[test]
fn websockets_and_http2_clients_are_told_one_after_another() {
    let fixture = fixture!("managed").env("LISTEN", "127.0.0.1:0");
    let (mut process, addr) = fixture.env("SPREAD", "2s").serve();
    let websockets = Goodbyes::wait(
        || websocket(addr),
        |mut socket| {
            let tungstenite::Message::Close(Some(frame)) = socket.read().unwrap() else {
                panic!("no goodbye");
            };
            assert_eq!(u16::from(frame.code), 1012);
            while socket.read().is_ok() {}
        },
    );
    let idle = Goodbyes::wait(
        || http2(addr),
        |mut client| {
            assert_eq!(client.frame().unwrap().kind, GOAWAY);
            client.rest();
        },
    );
    // As before, until it is told.
    let (asks, asked) = std::sync::mpsc::channel();
    let busy = Goodbyes::wait(
        || http2(addr),
        move |mut client| {
            for stream in (3..).step_by(2) {
                client.get(stream, "/");
                loop {
                    let frame = client.frame().unwrap();
                    if frame.kind == GOAWAY {
                        client.rest();
                        return;
                    }
                    if frame.ends_stream() {
                        break;
                    }
                }
                asks.send(Instant::now()).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        },
    );
    Client::connect(addr).fetch("/spawn-later");
    process.line("parent waits");
    let start = Instant::now();
    process.signal(Signal::TERM);
    // A task is told at once, and so are those that it spawns.
    let (told, _) = process.line_at("grandchild ends");
    assert!(told - start < SPREAD / 2, "{:?}", told - start);
    are_spread(&websockets.after(start));
    are_spread(&idle.after(start));
    are_spread(&busy.after(start));
    let late = asked.iter().filter(|asked| *asked > start + SPREAD / 2).count();
    assert!(late > COUNT / 4, "{late} requests in the second half");
    let ended = process.wait().expect(0);
    assert!(ended.after(start) >= SPREAD * 9 / 10);
}

/// Bodies that end with the drain.
#[test]
fn streams_are_told_one_after_another() {
    let fixture = fixture!("managed").env("LISTEN", "127.0.0.1:0");
    let (mut process, addr) = fixture.env("SPREAD", "2s").serve();
    let over_http1 = Goodbyes::wait(
        || {
            let mut client = Client::connect(addr);
            client.get("/until-the-drain");
            client
        },
        |mut client| assert_eq!(client.response().text(), "the drain"),
    );
    let over_http2 = Goodbyes::wait(
        || {
            let mut client = Http2::connect(addr);
            client.get(1, "/until-the-drain");
            client
        },
        |mut client| {
            client.body(1).unwrap();
        },
    );
    for _ in 0..2 * COUNT {
        process.line("stream begins");
    }
    let start = Instant::now();
    process.signal(Signal::TERM);
    are_spread(&over_http1.after(start));
    are_spread(&over_http2.after(start));
    let _ = process.wait().expect(0);
}

/// Whichever of the two futures the handler awaits, and wherever it does.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_listen_are_told_one_after_another() {
    async fn handler(mut connection: Connection) -> std::io::Result<()> {
        let way = connection.read_u8().await?;
        connection.write_u8(way).await?;
        let mut idle = connection.idle_shutdown();
        let own = connection.shutdown();
        match way {
            0 => own.await,
            1 => idle.await,
            2 => tokio::select! {
                _ = connection.read_u8() => {}
                () = &mut idle => {}
            },
            3 => tokio::select! {
                _ = connection.read_u8() => {}
                () = graceful::shutdown() => {}
            },
            // A task that has nothing to do with this crate.
            _ => {
                let shutdown = graceful::shutdown();
                let task = tokio::spawn(async move {
                    tokio::select! {
                        _ = connection.read_u8() => {}
                        () = shutdown => {}
                    }
                    drop(connection);
                });
                task.await?;
            }
        }
        Ok(())
    }
    for way in 0..5_u8 {
        let config = Config::new().spread(SPREAD).linger(Duration::ZERO);
        let running = config.start(graceful::listen("127.0.0.1:0", handler)).await.unwrap();
        let addr = running.local_addr().unwrap();
        let clients = Goodbyes::wait(
            || {
                let mut stream = TcpStream::connect(addr).unwrap();
                std::io::Write::write_all(&mut stream, &[way]).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // It waits, or is about to.
                stream.read_exact(&mut [0]).unwrap();
                stream
            },
            |mut stream| assert_eq!(stream.read(&mut [0]).unwrap(), 0),
        );
        let start = Instant::now();
        let report = in_time(running.stop()).await;
        assert!(report.is_clean(), "{way}: {report}");
        let times = tokio::task::spawn_blocking(move || clients.after(start)).await.unwrap();
        are_spread(&times);
    }
}

#[tokio::test]
async fn a_spread_ends_before_the_limit() {
    let config = Config::new().spread(SPREAD).timeout(SPREAD);
    let error = config.start(()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "`spread` is 2s and `timeout` 2s: the last goodbyes would come with the cut; make `spread` shorter"
    );
    let running = Config::new().spread(SPREAD).timeout(None).start(()).await.unwrap();
    assert!(in_time(running.stop()).await.is_clean());
}
