//! Restarts far away from the clients: no request is lost.
//!
//! `GRACEFUL_RESTARTS=20 cargo test --release -p graceful-tests --test far -- --nocapture` is the
//! long form.

use crate::alone;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful_tests::{
    Process, Signal,
    far::{self, Far},
    fixture,
    load::{Habits, Random, Style, Tally},
};

fn restarts() -> u64 {
    std::env::var("GRACEFUL_RESTARTS").map_or(1, |text| text.parse().expect("a number"))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Starts the program at `addr`, sends it requests from far away, stops it in the middle, as often
/// as asked.
fn restart(
    (far, round_trip): (&Far, Duration),
    what: &str,
    habits: Habits,
    restarts: u64,
    start: impl Fn() -> (Process, SocketAddr),
) -> Tally {
    let mut all = Tally::default();
    let started = Instant::now();
    for round in 0..restarts {
        let (mut process, addr) = start();
        let mut random = Random(round + 1);
        let answers = 64 + usize::try_from(random.below(200)).unwrap();
        // The clients keep step with the network: the stop falls anywhere between two of their
        // steps.
        let later = round_trip * u32::try_from(random.below(100)).unwrap() / 100;
        let stop = || {
            std::thread::sleep(later);
            process.signal(Signal::TERM);
        };
        all +=
            far.clients(env!("CARGO_BIN_EXE_fixtures"), addr, (habits, 64), round, (answers, stop));
        let ended = process.wait().expect(0);
        assert!(!ended.said("cut off"), "{ended:#?}");
    }
    println!(
        "{what}: {restarts} restarts, {} answered, {} refused, {} lost, {} late in {:.1?}",
        all.answered,
        all.refused,
        all.lost.len(),
        all.late,
        started.elapsed()
    );
    all
}

#[track_caller]
fn no_loss(tally: &Tally) {
    assert!(tally.answered >= 64, "too few requests to tell: {}", tally.answered);
    assert!(tally.lost.is_empty(), "{} lost: {:?}", tally.lost.len(), tally.lost);
}

fn web(addr: SocketAddr) -> (Process, SocketAddr) {
    fixture!("web").env("ADDR", &addr.to_string()).serve()
}

fn one_request_each() -> Habits {
    Style::ConnectionEach.into()
}

/// Shorter than the linger, which is at its default of 250 ms: by as much as a busy machine may be
/// late, where this runs with everything else.
fn pausing() -> Habits {
    let pause = millis(if std::env::var_os("GRACEFUL_RESTARTS").is_some() { 200 } else { 150 });
    Habits { pause, ..Style::KeepAlive.into() }
}

#[test]
fn nothing_is_lost_at_any_distance() {
    if !far::can("restarts at a distance") {
        return;
    }
    let _alone = alone();
    for round_trip in [0, 20, 100, 300].map(millis) {
        let far = &Far::new(round_trip);
        let hesitating = Habits { hesitation: 2 * round_trip, ..Style::ConnectionEach.into() };
        let all = [
            ("one request each", one_request_each()),
            ("keep-alive, pausing", pausing()),
            ("first byte after two round trips", hesitating),
        ];
        for (what, habits) in all {
            let what = format!("{round_trip:?}, {what}");
            let addr = SocketAddr::new(far.here[0], 0);
            no_loss(&restart((far, round_trip), &what, habits, restarts(), || web(addr)));
        }
    }
}

/// Many of them: `GRACEFUL_FAR=5000` for more than the 1,000 of the short form. Each opens a
/// connection for each request, every four seconds at the most.
#[test]
fn a_thousand_at_100_ms() {
    if !far::can("a thousand clients at a distance") {
        return;
    }
    let _alone = alone();
    let count = std::env::var("GRACEFUL_FAR").map_or(1_000, |text| text.parse().unwrap());
    let round_trip = millis(100);
    let far = &Far::new(round_trip);
    let (mut process, addr) = web(SocketAddr::new(far.here[0], 0));
    let habits = Habits { pause: millis(4_000), ..one_request_each() };
    let answers = usize::try_from(count * 2).unwrap();
    let stop = || process.signal(Signal::TERM);
    let clients = env!("CARGO_BIN_EXE_fixtures");
    let tally = far.clients(clients, addr, (habits, count), 5, (answers, stop));
    let ended = process.wait().expect(0);
    println!(
        "{count} clients at {round_trip:?}: {} answered, {} refused, {} lost",
        tally.answered,
        tally.refused,
        tally.lost.len()
    );
    no_loss(&tally);
    assert!(!ended.said("cut off"), "{ended:#?}");
}

#[test]
fn ipv6_and_dual_stack_lose_nothing_either() {
    if !far::can("IPv6 at a distance") {
        return;
    }
    let _alone = alone();
    let round_trip = millis(100);
    let far = &Far::new(round_trip);
    let everywhere: SocketAddr = "[::]:0".parse().unwrap();
    for (what, bound, to) in [
        ("IPv6", SocketAddr::new(far.here[1], 0), far.here[1]),
        ("dual stack, IPv6", everywhere, far.here[1]),
        ("dual stack, IPv4", everywhere, far.here[0]),
    ] {
        for habits in [one_request_each(), pausing()] {
            let start = || {
                let (process, bound) = web(bound);
                (process, SocketAddr::new(to, bound.port()))
            };
            no_loss(&restart((far, round_trip), what, habits, restarts(), start));
        }
    }
}

#[test]
fn nothing_is_lost_where_netlink_may_not_be_used() {
    if !far::can("restarts without netlink") {
        return;
    }
    let _alone = alone();
    let round_trip = millis(100);
    let far = &Far::new(round_trip);
    let addr = SocketAddr::new(far.here[0], 0).to_string();
    let start = || {
        let mut process = fixture!("web").env("ADDR", &addr).spawn_without("netlink");
        let addr = process.addr();
        (process, addr)
    };
    for habits in [one_request_each(), pausing()] {
        no_loss(&restart((far, round_trip), "without netlink", habits, restarts(), start));
    }
}

/// The service has the sender of a worker's channel, so it has to go for the drain to end: also
/// where a handshake never completes, as after a port scan.
#[test]
fn a_handshake_that_never_completes_keeps_no_service() {
    if !far::can("handshakes that never complete") {
        return;
    }
    let _alone = alone();
    let far = &Far::new(Duration::ZERO);
    let addr = SocketAddr::new(far.here[0], 0).to_string();
    let around = fixture!("around").env("MODE", "worker");
    let (mut process, addr) = around.env("ADDR", &addr).serve();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/net/half_open.py");
    // Of the same net, and nobody's.
    let source = match far.there[0] {
        std::net::IpAddr::V4(ip) => std::net::Ipv4Addr::from(u32::from(ip) + 1),
        other @ std::net::IpAddr::V6(_) => panic!("{other} is no IPv4 address"),
    };
    let (here, port) = (addr.ip().to_string(), addr.port().to_string());
    far.run(&["python3", script, &here, &port, &source.to_string()]);
    let start = Instant::now();
    process.term();
    let ended = process.wait().expect(0);
    // A second for the handshakes, and not the 20 s of the limit.
    assert!(ended.after(start) >= millis(900), "no handshake was half open: {ended:#?}");
    assert!(ended.after(start) < Duration::from_secs(10), "{ended:#?}");
    assert!(ended.said("the worker ends"), "{ended:#?}");
}

/// The same clients see loss where there is some.
#[test]
fn the_usual_way_loses_requests_at_a_distance() {
    if !far::can("the control at a distance") {
        return;
    }
    let _alone = alone();
    let round_trip = millis(100);
    let far = &Far::new(round_trip);
    let addr = SocketAddr::new(far.here[0], 0).to_string();
    let usual = || fixture!("usual").env("ADDR", &addr).serve();
    let loses = |habits| {
        (0..5)
            .any(|_| !restart((far, round_trip), "the usual way", habits, 4, usual).lost.is_empty())
    };
    assert!(loses(one_request_each()), "the control lost nothing: these clients see no loss");
    assert!(loses(pausing()), "the control lost nothing: these clients see no loss");
}
