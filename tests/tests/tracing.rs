//! Messages under a `tracing` subscriber: a span for the stop, and events with fields.

use graceful_tests::{Client, Fixture, Signal};
use serde_json::Value;

#[test]
fn events_have_fields_in_one_span() {
    let traced = Fixture::new(env!("CARGO_BIN_EXE_traced")).env("TIMEOUT", "300ms");
    let mut process = traced.spawn();
    let line = process.line("listening on");
    let listening: Value = serde_json::from_str(&line).unwrap();
    let addr = listening["fields"]["addr"].as_str().unwrap();
    let addr = addr.strip_prefix("http://").unwrap().parse().unwrap();
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
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
    let cut = event("cut off: GET /hold");
    assert_eq!(cut["level"], "WARN");
    let report = event("limit of 300ms reached");
    assert!(report["fields"]["elapsed_ms"].as_u64().unwrap() >= 300);
    for (field, value) in [("requests", 0), ("connections", 0), ("tasks", 0), ("cut", 1)] {
        assert_eq!(report["fields"][field], value, "{field}");
    }
    for event in [stopping, cut, report] {
        assert_eq!(event["span"]["name"], "stop", "{event:#?}");
        assert_eq!(event["target"], "graceful");
    }
    // The subscriber tells when a span is closed: exporters send it then.
    assert_eq!(events.last().unwrap()["fields"]["message"], "close", "{events:#?}");
    assert!(!ended.lines.iter().any(|line| line.starts_with("SIGTERM received")), "said once");
}
