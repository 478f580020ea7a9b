//! Messages under a `tracing` subscriber: a span for the stop, and events with fields.

use graceful_tests::{Client, Signal, fixture};
use serde_json::Value;

#[test]
fn events_have_fields_in_one_span() {
    let traced = fixture!("traced").env("TIMEOUT", "300ms");
    let mut process = traced.spawn();
    let line = process.line("listening on");
    let listening: Value = serde_json::from_str(&line).unwrap();
    let addr = listening["fields"]["addr"].as_str().unwrap();
    let addr = addr.strip_prefix("http://").unwrap().parse().unwrap();
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    let mut answered = Client::connect(addr);
    answered.get("/until-the-drain");
    process.line("stream begins");
    process.signal(Signal::TERM);
    process.line("SIGTERM received");
    // It ends at the drain; the other one does not.
    assert_eq!(answered.response().status, 200);
    let ended = process.wait().expect(124);

    let events: Vec<Value> =
        ended.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let event = |text: &str| {
        let is_it = |event: &&Value| event["fields"]["message"].as_str().unwrap().contains(text);
        events.iter().find(is_it).unwrap_or_else(|| panic!("no {text} in {events:#?}"))
    };
    let stopping = event("SIGTERM received, draining for at most 300ms");
    assert_eq!(stopping["fields"]["signal"], "SIGTERM");
    assert_eq!(stopping["fields"]["limit"], "300ms");
    let report = event("limit of 300ms reached, cut off: GET /hold from 127.0.0.1");
    assert_eq!(report["level"], "ERROR");
    assert!(report["fields"]["elapsed_ms"].as_u64().unwrap() >= 300);
    // Of two requests one was answered.
    for (field, value) in [("requests", 1), ("connections", 1), ("tasks", 0), ("cut", 1)] {
        assert_eq!(report["fields"][field], value, "{field} in {report:#?}");
    }
    for event in [stopping, report] {
        assert_eq!(event["span"]["name"], "stop", "{event:#?}");
        assert_eq!(event["target"], "graceful");
    }
    // The subscriber tells when a span is closed: exporters send it then.
    assert_eq!(events.last().unwrap()["fields"]["message"], "close", "{events:#?}");
    assert!(!ended.lines.iter().any(|line| line.starts_with("SIGTERM received")), "said once");
}

/// As most programs set it up: `EnvFilter` without `RUST_LOG` lets errors through, and nothing
/// else.
#[test]
fn what_is_cut_is_one_error_with_the_names() {
    let traced = fixture!("traced").env("TIMEOUT", "300ms");
    let mut process = traced.env("LEVEL", "error").spawn();
    let addr = process.line("address ").strip_prefix("address ").unwrap().parse().unwrap();
    let mut clients = [Client::connect(addr), Client::connect(addr)];
    for client in &mut clients {
        client.get("/hold");
        process.line("hold begins");
    }
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let events: Vec<Value> =
        ended.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [event] = &events[..] else { panic!("not one event: {ended:#?}") };
    assert_eq!((&event["level"], &event["fields"]["cut"]), (&"ERROR".into(), &2.into()));
    let message = event["fields"]["message"].as_str().unwrap();
    for client in &clients {
        let peer = client.stream().local_addr().unwrap().to_string();
        assert_eq!(message.matches(&peer).count(), 1, "{message}");
    }
    assert!(message.starts_with("limit of 300ms reached, cut off: GET /hold from "), "{message}");
    assert!(!message.contains('\n'), "{message:?}");
}

#[test]
fn a_message_of_several_lines_is_one_field() {
    let mut process = fixture!("traced").spawn();
    let addr = process.line("address ").strip_prefix("address ").unwrap().parse().unwrap();
    assert_eq!(Client::connect(addr).fetch("/spawn-panic").status, 200);
    let line = process.line("panicked: task panics");
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["fields"]["panic"], "task panics in two lines");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}
