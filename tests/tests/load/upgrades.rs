//! Upgrades under load: no request is lost, none is refused, and no connection is closed.
//!
//! `GRACEFUL_UPGRADES=100 cargo test --release -p graceful-tests --test load upgrades -- --nocapture`
//! is the long form.

use std::{
    net::SocketAddr,
    ops::ControlFlow,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use graceful_tests::{
    Client, Folder, Generations, PATIENCE, Signal,
    far::{self, Far},
    fixture,
    load::{self, Random, Style, Tally},
    load_http2,
};

use crate::alone;

const CLIENTS: u64 = 64;

fn upgrades() -> u64 {
    std::env::var("GRACEFUL_UPGRADES").map_or(10, |text| text.parse().expect("a number"))
}

#[test]
fn no_client_sees_an_upgrade() {
    let _alone = alone();
    let mut generations = Generations::new(fixture!("upgraded"));
    let addr = generations.addr;
    let before = Client::connect(addr).fetch("/environment").text();
    let over = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicUsize::new(0));
    let clients = [Style::OneConnection, Style::ConnectionEach].map(|style| {
        let (over, answers) = (over.clone(), answers.clone());
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(load::run(addr, style, CLIENTS, 7, move || {
                answers.fetch_add(1, Ordering::Relaxed);
                let is_over = over.load(Ordering::Relaxed);
                if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }))
        })
    });
    let started = Instant::now();
    let mut random = Random(3);
    for _ in 0..upgrades() {
        // In whatever they are at.
        let next = answers.load(Ordering::Relaxed) + 200;
        while answers.load(Ordering::Relaxed) < next {
            thread::sleep(Duration::from_micros(random.below(3_000)));
        }
        let old = generations.upgrade();
        generations.gone(old);
    }
    let elapsed = started.elapsed();
    over.store(true, Ordering::Relaxed);
    let [kept, each] = clients.map(|clients| clients.join().unwrap());
    for (what, tally) in [("one connection", &kept), ("a connection each", &each)] {
        let Tally { answered, refused, lost, late, closed, .. } = tally;
        println!(
            "{} upgrades, {what}: {answered} answered, {refused} refused, {} lost, {closed} closed, {late} late in {elapsed:.1?}",
            upgrades(),
            lost.len()
        );
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!((*refused, *closed, *late), (0, 0, 0), "{what}");
    }
    // Neither descriptors nor variables nor arguments are more than they were.
    let split = |text: &str| {
        let (count, rest) = text.split_once(' ').unwrap();
        (count.parse::<usize>().unwrap(), rest.to_owned())
    };
    let (had, environment) = split(&before);
    let asked = Instant::now();
    loop {
        let (has, same) = split(&Client::connect(addr).fetch("/environment").text());
        assert_eq!(environment, same);
        // Connections of the clients are there until the server has heard of their end.
        if has <= had + 2 {
            break;
        }
        assert!(asked.elapsed() < PATIENCE, "{has} descriptors, and {had} before");
    }
    generations.signal(Signal::TERM);
    let ended = generations.first.wait();
    assert!(!ended.said("cut off") && !ended.said("failed"), "{ended:#?}");
}

/// One request over a Unix socket. Returns whether it was answered.
fn ask(stream: &mut UnixStream) -> bool {
    use std::io::{Read as _, Write as _};
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = Vec::new();
    let mut piece = [0; 1_024];
    if stream.write_all(request).is_err() {
        return false;
    }
    while !answer.ends_with(b"fine") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(length) => answer.extend(&piece[..length]),
        }
    }
    !String::from_utf8_lossy(&answer).contains("connection: close")
}

#[test]
fn no_client_of_a_unix_socket_sees_an_upgrade() {
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("graceful-upgrades-{}", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let mut first = fixture!("upgraded").env("ADDR", &listen).spawn();
    first.line("listening on unix:");
    let pid = first.pid();
    let mut generations = Generations { first, pid, addr: SocketAddr::from(([127, 0, 0, 1], 1)) };
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..32)
        .map(|number| {
            let (over, path, keeps) = (over.clone(), path.clone(), number % 2 == 0);
            thread::spawn(move || {
                let mut random = Random(number);
                let connect = || {
                    let stream = UnixStream::connect(&path).expect("not refused");
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream
                };
                let (mut stream, mut answered) = (connect(), 0);
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_micros(random.below(3_000)));
                    if !keeps {
                        stream = connect();
                    }
                    assert!(ask(&mut stream), "lost, or closed, after {answered} answers");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for _ in 0..upgrades() {
        thread::sleep(Duration::from_millis(50));
        let old = generations.upgrade();
        generations.gone(old);
    }
    over.store(true, Ordering::Relaxed);
    let answered: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("{} upgrades on a Unix socket: {answered} answered, 0 lost, 0 closed", upgrades());
    generations.signal(Signal::TERM);
    assert!(!generations.first.wait().said("cut off"));
    assert!(!path.exists());
}

/// Clients that ask for as long as somebody serves, which is not for ever.
fn clients_until_refused(addr: SocketAddr, seed: u64) -> [JoinHandle<Tally>; 2] {
    let started = Instant::now();
    let answered = move || {
        assert!(started.elapsed() < PATIENCE, "somebody goes on");
        ControlFlow::Continue(())
    };
    [Style::KeepAlive, Style::ConnectionEach].map(|style| {
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(load::run(addr, style, 16, seed, answered))
        })
    })
}

/// A stop at any moment of an upgrade, of either process: whichever goes on, or nobody, no request
/// is lost.
#[test]
fn a_stop_at_any_moment_of_an_upgrade_loses_nothing() {
    let _alone = alone();
    let (mut all, mut taken_over) = (Tally::default(), 0);
    for round in 0..2 * upgrades() {
        let mut generations = Generations::new(fixture!("upgraded"));
        let addr = generations.addr;
        let clients = clients_until_refused(addr, round);
        let mut random = Random(round + 1);
        let mut pause = |most| thread::sleep(Duration::from_micros(random.below(most)));
        thread::sleep(Duration::from_millis(50));
        generations.signal(Signal::USR2);
        pause(20_000);
        let first = generations.pid;
        // It may have handed over and ended by now.
        generations.first.signal_if_there(Signal::TERM);
        let line = generations.first.any_line(&["has taken over", "SIGTERM received, draining"]);
        if let Some(next) = line.strip_prefix("process ") {
            taken_over += 1;
            generations.pid = next.split(' ').next().unwrap().parse().unwrap();
            pause(if round % 2 == 0 { 10_000 } else { 1_000 });
            generations.signal(Signal::TERM);
        }
        generations.gone(first);
        let before = all.lost.len();
        for client in clients {
            all += client.join().unwrap();
        }
        let ended = generations.first.wait();
        let is_lossless = all.lost.len() == before && !ended.said("cut off");
        assert!(is_lossless, "round {round}: {:?}, {ended:#?}", all.lost);
    }
    println!(
        "{} stops during an upgrade, {taken_over} after it: {} answered, {} lost, {} late",
        2 * upgrades(),
        all.answered,
        all.lost.len(),
        all.late
    );
}

/// The same, where the next process is somebody else's child: it cannot be killed, and has to hear
/// that it may not begin.
#[test]
fn a_stop_at_any_moment_of_a_take_over_loses_nothing() {
    let _alone = alone();
    let (mut all, mut taken_over) = (Tally::default(), 0);
    for round in 0..2 * upgrades() {
        let folder = Folder::new("take-over");
        let path = folder.file("handover.sock").display().to_string();
        let (mut first, addr) = fixture!("upgraded").env("HANDOVER", &path).serve();
        let clients = clients_until_refused(addr, round);
        thread::sleep(Duration::from_millis(50));
        let next = fixture!("upgraded").env("HANDOVER", &path).env("ADDR", &addr.to_string());
        let mut next = next.spawn();
        thread::sleep(Duration::from_micros(Random(round + 1).below(20_000)));
        first.signal_if_there(Signal::TERM);
        let first = first.wait();
        // It goes on from the old one, has heard that it may not begin, or has come too late.
        taken_over += u64::from(first.said("has taken over"));
        if next.any_line(&["listening on", "error:"]).contains("listening on") {
            next.signal_if_there(Signal::TERM);
        }
        let next = next.wait();
        let before = all.lost.len();
        for client in clients {
            all += client.join().unwrap();
        }
        let is_lossless =
            all.lost.len() == before && ![&first, &next].iter().any(|it| it.said("cut off"));
        assert!(is_lossless, "round {round}: {:?}, {first:#?}, {next:#?}", all.lost);
    }
    println!(
        "{} stops during a take-over, {taken_over} after it: {} answered, {} lost, {} late",
        2 * upgrades(),
        all.answered,
        all.lost.len(),
        all.late
    );
}

/// HTTP/2 connections do not move: they end by GOAWAY, as in any drain.
#[test]
fn over_http2_nothing_is_lost() {
    let _alone = alone();
    let mut generations = Generations::new(fixture!("upgraded"));
    let addr = generations.addr;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let clients = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(load_http2::run(addr, 32, 5, move || {
            let is_over = is_over.load(Ordering::Relaxed);
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }))
    });
    for _ in 0..upgrades() {
        thread::sleep(Duration::from_millis(100));
        let old = generations.upgrade();
        generations.gone(old);
    }
    over.store(true, Ordering::Relaxed);
    let tally = clients.join().unwrap();
    println!(
        "{} upgrades over HTTP/2: {} answered, {} turned away, {} refused, {} lost",
        upgrades(),
        tally.answered,
        tally.turned_away,
        tally.refused,
        tally.lost.len()
    );
    assert!(tally.lost.is_empty(), "{:?}", tally.lost);
    assert_eq!(tally.refused, 0);
}

/// A client that is a round trip of 100 ms away keeps its connection as well.
#[test]
fn clients_far_away_keep_their_connections() {
    if !far::can("upgrades at a distance") {
        return;
    }
    let _alone = alone();
    let round_trip = Duration::from_millis(100);
    let far = &Far::new(round_trip);
    for style in [Style::OneConnection, Style::ConnectionEach] {
        let addr = SocketAddr::new(far.here[0], 0).to_string();
        let mut generations = Generations::new(fixture!("upgraded").env("ADDR", &addr));
        let addr = generations.addr;
        let upgrade = || {
            let mut random = Random(11);
            for _ in 0..upgrades() {
                thread::sleep(round_trip * u32::try_from(random.below(100)).unwrap() / 100);
                let old = generations.upgrade();
                generations.gone(old);
            }
            generations.signal(Signal::TERM);
        };
        let tally =
            far.clients(env!("CARGO_BIN_EXE_fixtures"), addr, (style.into(), 64), 3, (64, upgrade));
        println!(
            "{} upgrades at {round_trip:?}, {style:?}: {} answered, {} lost, {} closed",
            upgrades(),
            tally.answered,
            tally.lost.len(),
            tally.closed
        );
        assert!(tally.lost.is_empty(), "{:?}", tally.lost);
        // At the very end, by the last of them.
        assert_eq!((tally.closed + tally.refused, tally.late), (64, 0), "{style:?}");
        let _ = generations.first.wait();
    }
}
