//! What a person, and a program, sees of the work: while it runs, while a stop waits for it, and
//! when it is over.

use std::time::Duration;

use graceful_tests::{Client, Fixture, Process, Signal, fixture};

fn web() -> Fixture {
    fixture!("web").env("ADDR", "127.0.0.1:0").env("TIMEOUT", "30s")
}

#[track_caller]
fn begins(process: &mut Process, addr: std::net::SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(addr);
    client.get(path);
    let handler = path[1..].split('?').next().unwrap();
    process.line(&format!("{handler} begins"));
    client
}

#[test]
fn a_signal_prints_what_is_in_flight_at_any_time() {
    let (mut process, addr) = web().serve();
    // The task that has bound it may be there for a moment still: "server binding".
    loop {
        process.signal(Signal::USR1);
        let line = process.line("SIGUSR1 received, in flight: ");
        if line.ends_with(": 1 server") && process.line("  server ").contains("http://127.0.0.1:") {
            break;
        }
    }
    let mut client = begins(&mut process, addr, "/hold?secret=1");
    let _idle = Client::connect(addr);
    let mut served = Client::connect(addr);
    served.fetch("/");
    process.signal(Signal::USR1);
    process.line("SIGUSR1 received, in flight: ");
    let line = process.line("  GET /hold from 127.0.0.1:");
    assert!(line.contains(", no response yet, ") && !line.contains("secret"), "{line}");
    // During a stop, too; and it is no second signal.
    process.term();
    // The client has the answer to `/` before the server has heard that it is written.
    loop {
        process.signal(Signal::USR1);
        if process.line("SIGUSR1 received, in flight: ").contains(": 1 request") {
            break;
        }
    }
    process.line("  GET /hold from 127.0.0.1:");
    process.release();
    assert_eq!(client.response().text(), "held");
    let ended = process.wait().expect(0);
    // Idle connections are counted, and not listed.
    let listed = ended.lines.iter().filter(|line| line.starts_with("  connection"));
    assert_eq!(listed.count(), 0, "{:#?}", ended.lines);
}

#[test]
fn the_oldest_piece_of_work_is_named_while_a_stop_waits_and_the_last_in_the_report() {
    let (mut process, addr) = web().serve();
    let mut client = begins(&mut process, addr, "/hold");
    process.term();
    let line = process.line("waiting for 1 request, 1 connection");
    assert!(line.contains("; oldest: GET /hold from 127.0.0.1, "), "{line}");
    assert!(line.ends_with(" left"), "{line}");
    process.release();
    assert_eq!(client.response().text(), "held");
    let ended = process.wait().expect(0);
    let report = ended.lines.iter().find(|line| line.starts_with("drained 1 request")).unwrap();
    assert!(report.contains("; last: GET /hold from 127.0.0.1, "), "{report}");
}

/// What comes to its end last need not be what is oldest.
#[test]
fn the_last_piece_may_be_a_task_or_a_websocket() {
    let (mut process, addr) = web().serve();
    Client::connect(addr).fetch("/spawn");
    process.line("work begins");
    process.term();
    process.release();
    let ended = process.wait().expect(0);
    let report = ended.lines.iter().find(|line| line.starts_with("drained")).unwrap();
    assert!(report.contains("; last: task "), "{report}");

    let (mut process, addr) = web().serve();
    let (mut socket, _) = tungstenite::connect(format!("ws://{addr}/ws")).unwrap();
    socket.send("hello".into()).unwrap();
    socket.read().unwrap();
    process.term();
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    let ended = process.wait().expect(0);
    let report = ended.lines.iter().find(|line| line.starts_with("drained")).unwrap();
    assert!(report.contains("; last: upgraded /ws from 127.0.0.1, "), "{report}");
}

#[test]
fn a_signal_with_two_meanings_is_one_error() {
    let config = graceful::Config::new().dump([graceful::Signal::SIGTERM]);
    assert_eq!(config.run(async || {}).code(), 1);
}

#[tokio::test]
async fn what_is_in_flight_and_the_report_are_json() {
    let config = graceful::Config::new().timeout(Duration::from_millis(1));
    let running = config.start(()).await.unwrap();
    let task = running.handle().spawn_named("nightly report", std::future::pending::<()>());
    let in_flight = serde_json::to_value(running.handle().in_flight()).unwrap();
    let task_json = &in_flight.as_array().unwrap()[0];
    assert_eq!(
        (&task_json["kind"], &task_json["name"]),
        (&"task".into(), &"nightly report".into())
    );
    assert!(task_json["age_ms"].is_u64(), "{task_json}");
    let report = serde_json::to_value(running.stop().await).unwrap();
    assert_eq!((&report["cause"], &report["code"]), (&"stop requested".into(), &124.into()));
    assert_eq!(report["cut"][0]["name"], "nightly report");
    assert!(report["last"].is_null() && report["elapsed_ms"].is_u64(), "{report}");
    drop(task);
}
