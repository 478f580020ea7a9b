//! Probes: on the service's port and on one of their own, and what the program says of itself.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful::{Config, Running};
use graceful_tests::{Client, Fixture, Process, app, fixture, in_time};

async fn start(config: Config) -> (Running, SocketAddr, SocketAddr) {
    let server = graceful::serve("127.0.0.1:0", app::router());
    let server = server.readiness("/ready").probes("127.0.0.1:0");
    let running = config.start(server).await.unwrap();
    let addrs: Vec<_> = running.local_addrs().collect();
    (running, addrs[0], addrs[1])
}

/// Blocking, as the other clients of these tests.
async fn get(addr: SocketAddr, path: &'static str) -> (u16, String) {
    let response = tokio::task::spawn_blocking(move || Client::connect(addr).fetch(path));
    let response = in_time(response).await.unwrap();
    (response.status, response.text().trim_end().to_owned())
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_whether_it_is_ready_and_why_not() {
    let (running, addr, probes) = start(Config::new()).await;
    for path in ["/startupz", "/livez", "/readyz"] {
        assert_eq!(get(probes, path).await, said(200, "ok"), "{path}");
    }
    assert_eq!(get(probes, "/").await.0, 404);
    let handle = running.handle();
    handle.ready(Err("the cache is cold"));
    assert_eq!(get(probes, "/readyz").await, said(503, "the cache is cold"));
    assert_eq!(get(addr, "/ready").await.0, 503);
    // It lives all the same, and answers.
    assert_eq!(get(probes, "/livez").await, said(200, "ok"));
    assert_eq!(get(addr, "/").await, said(200, "fine"));
    handle.ready(Ok(()));
    assert_eq!(get(probes, "/readyz").await, said(200, "ok"));
    assert_eq!(get(addr, "/ready").await.0, 200);
    handle.ready(Err("not ready"));
    assert_eq!(get(probes, "/readyz").await, said(503, "not ready"));
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_json_and_a_page() {
    let (running, _, probes) = start(Config::new().timeout(Duration::from_millis(1))).await;
    let task = running.handle().spawn_named("nightly report", std::future::pending::<()>());
    let (status, json) = get(probes, "/in-flight").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &json["tasks"]), (200, &1.into()));
    // The sentinel says so a moment after the listeners are bound.
    assert!(["starting", "serving"].map(Into::into).contains(&json["phase"]), "{json}");
    let all = json["in_flight"].as_array().unwrap();
    let named = all.iter().find(|work| work["kind"] == "task").unwrap();
    assert_eq!(named["name"], "nightly report");
    let page = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(probes);
        client.send("GET /in-flight HTTP/1.1\r\nhost: x\r\naccept: text/html, */*\r\n\r\n");
        client.response().text()
    });
    let page = in_time(page).await.unwrap();
    assert!(page.starts_with("in flight: ") && page.contains("\ntask nightly report, "), "{page}");
    let _ = in_time(running.stop()).await;
    drop(task);
}

fn managed() -> Fixture {
    let fixture = fixture!("managed").env("LISTEN", "127.0.0.1:0");
    fixture.env("PROBES", "127.0.0.1:0")
}

/// Both addresses.
fn serve(fixture: Fixture) -> (Process, SocketAddr, SocketAddr) {
    let (mut process, addr) = fixture.serve();
    let probes = process.addr();
    (process, addr, probes)
}

/// Through the delay, the drain and the hooks.
#[test]
fn probes_are_answered_until_the_very_end() {
    let (mut process, addr, probes) = serve(managed().env("HOOK", "yes").env("DELAY", "300ms"));
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.term();
    let probe = |path: &str| Client::connect(probes).fetch(path);
    let readiness = probe("/readyz");
    assert_eq!((readiness.status, readiness.text().trim_end()), (503, "stopping"));
    let start = Instant::now();
    while !probe("/in-flight").text().contains("\"phase\":\"draining\"") {
        assert!(start.elapsed() < graceful_tests::PATIENCE);
    }
    let json = probe("/in-flight").text();
    assert!(json.contains("\"path\":\"/hold\""), "{json}");
    assert_eq!(probe("/livez").status, 200);
    process.release();
    assert_eq!(client.response().text(), "held");
    let _ = process.wait().expect(0);
}

#[test]
fn hooks_run_while_probes_are_answered() {
    let (mut process, _, probes) = serve(managed().env("HOOK", "yes"));
    process.term();
    process.line("hook begins");
    let json = Client::connect(probes).fetch("/in-flight").text();
    assert!(json.contains("\"phase\":\"cleanup\"") && json.contains("\"kind\":\"hook\""), "{json}");
    process.release();
    let _ = process.wait().expect(0);
}

/// A manifest says how long the process has.
#[test]
fn a_grace_period_that_is_too_short_is_said_at_the_start() {
    let limits = |grace: &str| {
        let fixture = managed().env("TIMEOUT", "20s").env("DELAY", "1s").env("CLEANUP", "5s");
        fixture.env("GRACEFUL_GRACE_PERIOD", grace)
    };
    let mut process = limits("25").spawn();
    process
        .line("a stop may take 26s (delay, timeout and cleanup), and GRACEFUL_GRACE_PERIOD is 25s");
    process.signal(graceful_tests::Signal::TERM);
    let _ = process.wait().expect(0);
    let (mut process, _) = limits("27").serve();
    process.signal(graceful_tests::Signal::TERM);
    let ended = process.wait();
    assert!(!ended.said("GRACEFUL_GRACE_PERIOD"), "{:#?}", ended.lines);
}

/// Each platform is known by what it sets.
#[test]
fn a_limit_behind_the_kill_is_said_at_the_start() {
    let on = |variable: &str| managed().env("GRACEFUL_GRACE_PERIOD", "").env(variable, "a");
    let mut process = on("NOMAD_ALLOC_ID").spawn();
    process.line(
        "a stop may take 25s (delay, timeout and cleanup), and Nomad kills after 5s: \
         write `timeout = \"auto\"`, or raise the time by `kill_timeout` and repeat it in \
         GRACEFUL_GRACE_PERIOD",
    );
    process.signal(graceful_tests::Signal::TERM);
    let ended = process.wait().expect(0);
    assert_eq!(ended.lines.iter().filter(|line| line.contains("may take")).count(), 1);
    let (mut process, _) = on("KUBERNETES_SERVICE_HOST").serve();
    process.signal(graceful_tests::Signal::TERM);
    assert!(!process.wait().expect(0).said("may take"));
}

/// What fits is in force: a request that takes longer is cut, and named.
#[test]
fn an_automatic_limit_fits_the_platform() {
    // 8 s, less 5 s of cleanup and one for the steps.
    let fixture = managed().env("TIMEOUT", "auto").env("GRACEFUL_GRACE_PERIOD", "8");
    let (mut process, addr, _) = serve(fixture);
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    let start = Instant::now();
    process.term();
    let ended = process.wait().expect(124);
    let taken = ended.after(start);
    // The lower end says that it is not what follows from another time.
    assert!(taken >= Duration::from_millis(1_900) && taken < Duration::from_secs(5), "{taken:?}");
    assert!(!ended.said("may take") && ended.said("GET /hold"), "{:#?}", ended.lines);
}

/// On the one thread that there is, so many names are not made while nothing else runs.
#[tokio::test(flavor = "current_thread")]
async fn what_is_in_flight_is_described_beside_the_workers() {
    let (running, _, probes) = start(Config::new().timeout(Duration::from_millis(1))).await;
    for number in 0..50_000 {
        let name = format!("task {number}");
        running.handle().spawn_named(name, std::future::pending::<()>());
    }
    let longest = std::sync::Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let seen = longest.clone();
    let ticker = tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            tokio::task::yield_now().await;
            let pause = last.elapsed();
            last = Instant::now();
            let mut longest = seen.lock().unwrap();
            *longest = pause.max(*longest);
        }
    });
    // All that has been spawned has had its first turn.
    assert_eq!(get(probes, "/livez").await, said(200, "ok"));
    *longest.lock().unwrap() = Duration::ZERO;
    let start = Instant::now();
    let (status, text) = get(probes, "/in-flight").await;
    let took = start.elapsed();
    assert!(status == 200 && text.contains("task 49999"));
    let longest = *longest.lock().unwrap();
    assert!(longest < took / 2, "of {took:?} the thread was busy for {longest:?}");
    ticker.abort();
    drop(in_time(running.stop()).await);
}
