//! Restarts under load: no request is lost.
//!
//! `GRACEFUL_RESTARTS=200 cargo test --release -p graceful-tests --test loss -- --nocapture` is the
//! long form.

use crate::alone;
use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use graceful_tests::{
    Signal, fixture,
    load::{self, Random, Style, Tally},
    load_http2,
};

const CLIENTS: u64 = 64;

fn restarts() -> u64 {
    std::env::var("GRACEFUL_RESTARTS").map_or(20, |text| text.parse().expect("a number"))
}

/// What kind of clients there are.
#[derive(Clone, Copy, Debug)]
enum Clients {
    Http1(Style),
    Http2,
}

/// When the program is told to stop, in whatever it is at.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// Right behind an answer: while the others are at anything.
    AfterAnswers,
    /// By a timer of its own, which knows nothing of the clients.
    ByTimer,
}

/// Starts the program, sends it requests, stops it in the middle, as often as asked.
fn restart(program: &'static str, clients: Clients, stop: Stop, restarts: u64) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = Tally::default();
    let started = Instant::now();
    for round in 0..restarts {
        let (mut process, addr) = fixture!(program).env("HOOKS", "count").serve();
        let pid = rustix::process::Pid::from_raw(process.pid().try_into().unwrap()).unwrap();
        let term = move || rustix::process::kill_process(pid, Signal::TERM).unwrap();
        let random = Random(round).below(400);
        let stop_after = match stop {
            Stop::AfterAnswers => 200 + usize::try_from(random).unwrap(),
            Stop::ByTimer => usize::MAX,
        };
        let timer = matches!(stop, Stop::ByTimer).then(|| {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(30_000 + random * 250));
                term();
            })
        });
        let answered = Arc::new(AtomicUsize::new(0));
        let count = move || {
            if answered.fetch_add(1, Ordering::Relaxed) + 1 == stop_after {
                term();
            }
            ControlFlow::Continue(())
        };
        let tally = runtime.block_on(async {
            match clients {
                Clients::Http1(style) => load::run(addr, style, CLIENTS, round, count).await,
                Clients::Http2 => load_http2::run(addr, CLIENTS, round, count).await,
            }
        });
        if let Some(timer) = timer {
            timer.join().unwrap();
        }
        let ended = process.wait().expect(0);
        if matches!(clients, Clients::Http2) {
            // What was turned away was not processed, and may safely be sent again.
            let handled = tally.answered + tally.lost.len();
            assert!(ended.said(&format!("posts handled: {handled}")), "{handled}: {ended:#?}");
        }
        all += tally;
    }
    println!(
        "{clients:?}, {stop:?}: {restarts} restarts, {} answered, {} refused, {} turned away, {} lost in {:.1?}",
        all.answered,
        all.refused,
        all.turned_away,
        all.lost.len(),
        started.elapsed()
    );
    all
}

fn no_loss(clients: Clients, stop: Stop) {
    let tally = restart("web", clients, stop, restarts());
    assert!(tally.answered >= 1_000, "too few requests to tell: {}", tally.answered);
    assert!(
        tally.lost.is_empty(),
        "{} of {} lost: {:#?}",
        tally.lost.len(),
        tally.answered,
        tally.lost
    );
}

/// Through the pool of a client library, hyper-util's, which keeps connections and is told not to
/// try again: HTTP/1 and HTTP/2.
fn a_pool_loses_nothing(http2: bool) {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut answered, mut lost) = (0, Vec::new());
    for round in 0..restarts() {
        let (mut process, addr) = fixture!("web").serve();
        let uri: hyper::Uri = format!("http://{addr}/").parse().unwrap();
        let mut client = Client::builder(TokioExecutor::new());
        client.retry_canceled_requests(false).http2_only(http2);
        let client = client.build_http::<Empty<bytes::Bytes>>();
        let tallies = runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            for i in 0..32 {
                let (client, uri) = (client.clone(), uri.clone());
                clients.spawn(async move {
                    let (mut random, mut tally) = (Random(round * 1_000 + i + 1), Tally::default());
                    loop {
                        tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
                        let answer = async {
                            let response = client.get(uri.clone()).await?;
                            response.into_body().collect().await?;
                            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
                        };
                        match tokio::time::timeout(graceful_tests::PATIENCE, answer).await.unwrap()
                        {
                            Ok(()) => tally.answered += 1,
                            Err(error) if is_not_processed(&*error) => return tally,
                            Err(error) => {
                                tally.lost.push(format!("{error:?}"));
                                return tally;
                            }
                        }
                    }
                });
            }
            let random = Random(round + 1).below(20_000);
            tokio::time::sleep(Duration::from_micros(30_000 + random)).await;
            process.signal(Signal::TERM);
            let mut tallies = Vec::new();
            while let Some(tally) = clients.join_next().await {
                tallies.push(tally.unwrap());
            }
            tallies
        });
        let _ = process.wait().expect(0);
        for tally in tallies {
            answered += tally.answered;
            lost.extend(tally.lost);
        }
    }
    println!(
        "pool, http2 {http2}: {} restarts, {answered} answered, {} lost",
        restarts(),
        lost.len()
    );
    assert!(answered > 1_000 && lost.is_empty(), "{answered} answered, lost: {lost:#?}");
}

/// Refused; turned away by a GOAWAY before it was processed; or never sent, which is what
/// `Canceled` and `CheckoutNoLongerWanted` mean in hyper and its pool: what every client may send
/// again.
fn is_not_processed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        let text = format!("{error:?}");
        let signs =
            ["ConnectionRefused", "REFUSED_STREAM", "GoAway", "Canceled", "CheckoutNoLongerWanted"];
        if signs.iter().any(|sign| text.contains(sign)) {
            return true;
        }
        source = error.source();
    }
    false
}

// One test, one after the other: they would take each other's time.
#[test]
fn restarts_lose_no_request_and_the_usual_way_does() {
    let _alone = alone();
    let (keep_alive, each) =
        (Clients::Http1(Style::KeepAlive), Clients::Http1(Style::ConnectionEach));
    for stop in [Stop::AfterAnswers, Stop::ByTimer] {
        for clients in [keep_alive, each, Clients::Http2] {
            no_loss(clients, stop);
        }
    }
    for http2 in [false, true] {
        a_pool_loses_nothing(http2);
    }
    // The same clients see loss where there is some. How much is up to chance: so until there is.
    for (clients, stop) in
        [(keep_alive, Stop::AfterAnswers), (keep_alive, Stop::ByTimer), (each, Stop::AfterAnswers)]
    {
        let mut usual = (0..20).map(|_| restart("usual", clients, stop, 5));
        assert!(
            usual.any(|tally| !tally.lost.is_empty()),
            "the control lost nothing: these clients see no loss"
        );
    }
}
