//! A minute, or an hour, of everything at once: stops, upgrades and steady service, over HTTP/1,
//! HTTP/2, TLS, WebSockets and a protocol of one's own. No request is lost, and what a process
//! holds stays what it was.
//!
//! `GRACEFUL_ENDURANCE=3600 cargo test --release -p graceful-tests --test load endurance --
//! --nocapture` is the hour, in seconds; twenty by default, and a minute in CI.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use graceful_tests::{
    Certificates, Fixture, Generations, PATIENCE, Process, Signal, certificates, fixture,
    held::Held,
    load::{self, Random, Style, Tally},
    load_http2,
};
use tungstenite::Message;

use crate::alone;

fn lasts() -> Duration {
    let seconds = std::env::var("GRACEFUL_ENDURANCE").ok();
    Duration::from_secs(seconds.map_or(20, |text| text.parse().expect("seconds")))
}

/// Between two stops, and between two upgrades.
const PERIOD: Duration = Duration::from_secs(3);

/// Whether it is over, for the clients, and how many answers they have had.
#[derive(Clone, Default)]
struct Show {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl Show {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn answered(&self) -> ControlFlow<()> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Ends it for the clients, however the test ends.
struct Curtain(Show);

impl Drop for Curtain {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Clients of HTTP/1 and of HTTP/2, with longer pauses than those of the other tests: this is about
/// time.
fn http(addr: SocketAddr, show: &Show, seed: u64) -> JoinHandle<Tally> {
    let show = show.clone();
    thread::spawn(move || {
        runtime().block_on(async move {
            let pause = Duration::from_millis(40);
            let habits = |style| load::Habits { style, pause, hesitation: Duration::ZERO };
            let answered = move || show.answered();
            let (kept, each, http2) = tokio::join!(
                load::run(addr, habits(Style::KeepAlive), 8, seed, answered.clone()),
                load::run(addr, habits(Style::ConnectionEach), 4, seed + 1, answered.clone()),
                load_http2::run(addr, 1, seed + 2, answered),
            );
            let mut all = Tally::default();
            for tally in [kept, each, http2] {
                all += tally;
            }
            all
        })
    })
}

/// A client over TLS, whose connection ends at each upgrade. Never sends a request twice.
fn over_tls(files: Arc<Certificates>, addr: SocketAddr, show: Show) -> JoinHandle<Tally> {
    thread::spawn(move || {
        let (mut tally, mut kept, mut random) = (Tally::default(), None, Random(5));
        let mut answered = Instant::now();
        while !show.is_over() {
            thread::sleep(Duration::from_millis(random.below(40)));
            let reused = kept.is_some();
            let mut stream = kept.take().unwrap_or_else(|| files.connect(addr));
            let paused = answered.elapsed();
            match certificates::exchange(&mut stream) {
                Ok(keeps) => {
                    tally.answered += 1;
                    let _ = show.answered();
                    kept = keeps.then_some(stream);
                }
                // The machine was elsewhere for longer than the linger.
                Err(_) if reused && paused > Duration::from_millis(250) => tally.late += 1,
                Err(error) => tally.lost.push(format!("over TLS: {error}")),
            }
            answered = Instant::now();
        }
        tally
    })
}

/// A WebSocket, and a connection of a protocol of one's own, that go on through all upgrades: each
/// message is answered with how many there have been.
fn for_ever(addr: SocketAddr, lines: SocketAddr, show: Show) -> JoinHandle<Tally> {
    thread::spawn(move || {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("ws://{addr}/count");
        let (mut socket, _) = tungstenite::client(request, stream).unwrap();
        let writer = TcpStream::connect(lines).unwrap();
        writer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(writer.try_clone().unwrap()).lines();
        let (mut tally, mut count) = (Tally::default(), 0);
        while !show.is_over() {
            count += 1;
            socket.send(Message::text("hello")).unwrap();
            let said = socket.read().unwrap().into_text().unwrap();
            assert!(said.ends_with(&format!(" {count} hello")), "{said}, {count}");
            (&writer).write_all(b"hello\n").unwrap();
            let line = reader.next().unwrap().unwrap();
            assert!(line.ends_with(&format!(" {count} hello")), "{line}, {count}");
            tally.answered += 2;
            let _ = show.answered();
            thread::sleep(Duration::from_millis(10));
        }
        tally
    })
}

/// What a process held, over time.
#[derive(Default)]
struct Course(Vec<Held>);

impl Course {
    /// The most in the first third and in the last one: neither grows.
    fn check(&self, what: &str) {
        let third = self.0.len() / 3;
        let most = |held: &[Held]| {
            held.iter().fold(Held::default(), |most, held| Held {
                descriptors: most.descriptors.max(held.descriptors),
                threads: most.threads.max(held.threads),
                kilobytes: most.kilobytes.max(held.kilobytes),
            })
        };
        let (first, last) = (most(&self.0[..third]), most(&self.0[self.0.len() - third..]));
        println!("{what}, {} times: {first:?}, then {last:?}", self.0.len());
        assert!(third > 0, "too short to tell");
        assert!(self.0.iter().all(|held| held.kilobytes > 0), "{what} was not there");
        // As many clients as there are, on this or that side of a close.
        assert!(last.descriptors <= first.descriptors + 20, "{what}: {first:?} {last:?}");
        // Threads that block come and go.
        assert!(last.threads <= first.threads + 4, "{what}: {first:?} {last:?}");
        assert!(last.kilobytes <= first.kilobytes * 5 / 4 + 2_000, "{what}: {first:?} {last:?}");
    }
}

#[test]
fn a_long_time_of_everything() {
    let _alone = alone();
    let show = Show::default();
    let curtain = Curtain(show.clone());
    let files = Arc::new(Certificates::new("endurance"));
    let mut upgraded = Generations::new(fixture!("upgraded"));
    let mut tls = Generations::new(files.of(fixture!("upgraded")));
    let mut lines = Generations::new(fixture!("upgraded_lines"));
    let (steady, steady_addr) = fixture!("web").serve();
    let clients = [
        http(upgraded.addr, &show, 10),
        http(steady_addr, &show, 20),
        over_tls(files.clone(), tls.addr, show.clone()),
        for_ever(upgraded.addr, lines.addr, show.clone()),
    ];
    let fixture = || -> Fixture { fixture!("web") };
    let (mut restarted, mut addr): (Process, _) = fixture().serve();
    let mut restarting = http(addr, &show, 30);
    let (mut all, mut new_versions, mut restarts) = (Tally::default(), 0, 0);
    let [mut of_steady, mut of_upgraded, mut of_tls, mut of_lines] = <[Course; 4]>::default();
    let started = Instant::now();
    while started.elapsed() < lasts() {
        thread::sleep(PERIOD.mul_f32(0.6));
        of_steady.0.push(Held::by(steady.pid()));
        of_upgraded.0.push(Held::by(upgraded.pid));
        of_tls.0.push(Held::by(tls.pid));
        of_lines.0.push(Held::by(lines.pid));
        for generations in [&mut upgraded, &mut tls, &mut lines] {
            let old = generations.upgrade();
            generations.gone(old);
            new_versions += 1;
        }
        restarted.signal(Signal::TERM);
        let ended = restarted.wait().expect(0);
        assert!(!ended.said("cut off"), "{ended:#?}");
        all += restarting.join().unwrap();
        restarts += 1;
        (restarted, addr) = fixture().serve();
        restarting = http(addr, &show, 30 + restarts);
        thread::sleep(PERIOD.mul_f32(0.4));
    }
    drop(curtain);
    for client in clients.into_iter().chain([restarting]) {
        all += client.join().unwrap();
    }
    println!(
        "{:?}: {restarts} restarts, {new_versions} upgrades, {} answered, {} late, {} lost",
        started.elapsed(),
        all.answered,
        all.late,
        all.lost.len()
    );
    assert!(all.lost.is_empty(), "{:?}", all.lost);
    of_steady.check("the one that stays");
    of_upgraded.check("the one that is upgraded");
    of_tls.check("the one over TLS");
    of_lines.check("the one of lines");
    for generations in [upgraded, tls, lines] {
        generations.signal(Signal::TERM);
        let ended = { generations }.first.wait();
        assert!(!ended.said("cut off") && !ended.said("failed"), "{ended:#?}");
    }
}
