//! Upgrades under load: no request is lost, none is refused, and no connection is closed.
//!
//! `GRACEFUL_UPGRADES=100 cargo test --release -p graceful-tests --test load upgrades -- --nocapture`
//! is the long form.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use graceful_tests::{
    Client, Generations, PATIENCE, Signal, fixture,
    load::{self, Random, Style, Tally},
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
