//! Out of service without a stop, and back; and the refusal of what comes in the drain.

use std::{net::SocketAddr, time::Duration};

use graceful::Config;
use graceful_tests::{
    Client, Fixture, Http2, Process, Signal, app, fixture,
    http2::kind::{DATA, GOAWAY},
    in_time,
};

fn managed() -> Fixture {
    fixture!("managed").env("LISTEN", "127.0.0.1:0").env("PROBES", "127.0.0.1:0")
}

/// Also the addresses of the server and of its probes.
fn serve(fixture: Fixture) -> (Process, SocketAddr, SocketAddr) {
    let (mut process, addr) = fixture.serve();
    let probes = process.addr();
    (process, addr, probes)
}

fn readiness(probes: SocketAddr) -> (u16, String) {
    let response = Client::connect(probes).fetch("/readyz");
    (response.status, response.text().trim_end().to_owned())
}

const OUT: &str = "lame duck: not ready, but still accepting";
const BACK: &str = "lame duck no more: ready for new clients";

#[test]
fn clients_are_sent_elsewhere_and_come_back() {
    let (mut process, addr, probes) = serve(managed());
    let mut idle = Client::connect(addr);
    assert!(!idle.fetch("/").closes());
    let mut idle_http2 = Http2::connect(addr);
    idle_http2.get(1, "/");
    while !idle_http2.frame().unwrap().ends_stream() {}
    let mut busy_http2 = Http2::connect(addr);
    busy_http2.get(1, "/hold");
    process.line("hold begins");

    process.signal(Signal::USR1);
    process.line(OUT);
    assert_eq!(readiness(probes), (503, "lame duck".to_owned()));
    // No request of its own is needed: it is told at once, and closed when it has heard.
    let kinds: Vec<_> = idle_http2.rest().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [GOAWAY, GOAWAY]);
    assert_eq!(busy_http2.frame().unwrap().kind, GOAWAY);
    assert!(idle.fetch("/").closes());
    idle.closed();
    // Still accepting, for those that have not heard of it.
    let mut new = Client::connect(addr);
    assert!(new.fetch("/").closes());
    let mut new_http2 = Http2::connect(addr);
    new_http2.get(1, "/");
    let frames = new_http2.rest();
    assert_eq!(frames.iter().filter(|frame| frame.kind == GOAWAY).count(), 2, "{frames:?}");
    assert!(frames.iter().any(|frame| frame.kind == DATA && frame.payload == b"fine"));
    process.release();
    let frames = busy_http2.rest();
    assert!(frames.iter().any(|frame| frame.kind == DATA && frame.payload == b"held"));

    process.signal(Signal::USR1);
    process.line(BACK);
    assert_eq!(readiness(probes), (200, "ok".to_owned()));
    let mut client = Client::connect(addr);
    assert!(!client.fetch("/").closes());
    assert!(!client.fetch("/").closes());
    let mut http2 = Http2::connect(addr);
    for stream in [1, 3] {
        http2.get(stream, "/");
        while !http2.frame().unwrap().ends_stream() {}
    }
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

/// Whichever came first: the order, or the service.
#[test]
fn a_program_begins_as_a_lame_duck_if_it_says_so_first() {
    let (mut process, addr, probes) = serve(managed().env("LAME_DUCK", "yes"));
    assert_eq!(readiness(probes), (503, "lame duck".to_owned()));
    assert_eq!(Client::connect(probes).fetch("/startupz").status, 200);
    assert!(Client::connect(addr).fetch("/").closes());
    process.signal(Signal::USR1);
    process.line(BACK);
    assert!(!Client::connect(addr).fetch("/").closes());
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

/// With its `delay`, and everything after it.
#[test]
fn a_lame_duck_stops_as_any_other() {
    let (mut process, addr, probes) = serve(managed().env("DELAY", "1s"));
    let mut client = process.hold(addr);
    process.signal(Signal::USR1);
    process.line(OUT);
    process.term();
    assert_eq!(readiness(probes), (503, "stopping".to_owned()));
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    // It is too late for that, in either direction.
    process.signal(Signal::USR1);
    process.release();
    assert_eq!(client.response().text(), "held");
    let ended = process.wait().expect(0);
    assert!(!ended.said(BACK), "{:#?}", ended.lines);
}

/// Connections that have left HTTP, and those of other protocols, stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_keeps_its_websockets() {
    let server = graceful::serve("127.0.0.1:0", app::router());
    let running = Config::new().start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    let url = format!("ws://{addr}/ws");
    let (mut socket, _) =
        tokio::task::spawn_blocking(move || tungstenite::connect(url).unwrap()).await.unwrap();
    running.handle().lame_duck(true);
    running.handle().lame_duck(true);
    let said = tokio::task::spawn_blocking(move || {
        socket.send("still here".into()).unwrap();
        let said = socket.read().unwrap();
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
        said
    });
    assert_eq!(in_time(said).await.unwrap().into_text().unwrap(), "still here");
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_in_the_drain_is_told_to_retry_if_the_server_wants_that() {
    for refuses in [true, false] {
        let mut server = graceful::serve("127.0.0.1:0", app::router());
        if refuses {
            server = server.retry_after(Duration::from_millis(1_500));
        }
        let config = Config::new().linger(Duration::from_secs(600)).delay(Duration::from_millis(1));
        let running = config.start(server).await.unwrap();
        let (addr, handle) = (running.local_addr().unwrap(), running.handle().clone());
        let fetch = |mut client: Client| async move {
            let fetch = tokio::task::spawn_blocking(move || (client.fetch("/"), client));
            in_time(fetch).await.unwrap()
        };
        let (response, client) = fetch(Client::connect(addr)).await;
        assert_eq!((response.status, response.closes()), (200, false));
        handle.stop();
        in_time(handle.shutdown()).await;
        let (response, mut client) = fetch(client).await;
        let status = if refuses { (503, Some("2")) } else { (200, None) };
        assert_eq!((response.status, response.header("retry-after")), status);
        assert!(response.closes());
        in_time(tokio::task::spawn_blocking(move || client.closed())).await.unwrap();
        assert!(in_time(running.ended()).await.is_clean());
    }
}
