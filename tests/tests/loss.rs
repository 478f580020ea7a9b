//! Restarts under load: no request is lost.
//!
//! `GRACEFUL_RESTARTS=200 cargo test --release -p graceful-tests --test loss -- --nocapture` is the
//! long form.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use graceful_tests::{
    Fixture, Signal,
    load::{self, Random, Style, Tally},
};

const CLIENTS: u64 = 64;

fn restarts() -> u64 {
    std::env::var("GRACEFUL_RESTARTS").map_or(20, |text| text.parse().expect("a number"))
}

/// Starts the program, sends it requests, stops it in the middle, as often as asked.
fn restart(program: &str, style: Style, restarts: u64) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = Tally::default();
    let started = Instant::now();
    for round in 0..restarts {
        let (mut process, addr) = Fixture::new(program).serve();
        // After so many answers it is told to stop, in whatever it is at.
        let stop_after = 200 + usize::try_from(Random(round).below(400)).unwrap();
        let answered = Arc::new(AtomicUsize::new(0));
        let pid = process.pid();
        all += runtime.block_on(load::run(addr, style, CLIENTS, round, move || {
            if answered.fetch_add(1, Ordering::Relaxed) + 1 == stop_after {
                let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
                rustix::process::kill_process(pid, Signal::TERM).unwrap();
            }
            ControlFlow::Continue(())
        }));
        let _ = process.wait().expect(0);
    }
    println!(
        "{style:?}: {restarts} restarts, {} answered, {} refused, {} lost in {:.1?}",
        all.answered,
        all.refused,
        all.lost.len(),
        started.elapsed()
    );
    all
}

fn no_loss(style: Style) {
    let tally = restart(env!("CARGO_BIN_EXE_web"), style, restarts());
    assert!(tally.answered >= 1_000, "too few requests to tell: {}", tally.answered);
    assert!(
        tally.lost.is_empty(),
        "{} of {} lost: {:#?}",
        tally.lost.len(),
        tally.answered,
        tally.lost
    );
}

// One test, one after the other: they would take each other's time.
#[test]
fn restarts_lose_no_request_and_the_usual_way_does() {
    no_loss(Style::KeepAlive);
    no_loss(Style::ConnectionEach);
    // The same clients see loss where there is some. How much is up to chance: so until there is.
    let usual =
        |style| (0..10).any(|_| !restart(env!("CARGO_BIN_EXE_usual"), style, 5).lost.is_empty());
    assert!(usual(Style::KeepAlive), "the control lost nothing: these clients see no loss");
    assert!(usual(Style::ConnectionEach), "the control lost nothing: these clients see no loss");
}
