//! Where messages go: an error, and what was cut, always reaches a person.

use graceful_tests::{Fixture, Signal, fixture, process::Ended};

fn program(mode: &str, log: &str) -> Fixture {
    let messages = fixture!("messages");
    let messages =
        messages.env("MODE", mode).env("LOG", log).env("RUST_LOG", "fixtures::messages=info");
    // With one an error of `anyhow` prints where it was made.
    messages.env("RUST_BACKTRACE", "0")
}

fn run(mode: &str, log: &str) -> Ended {
    program(mode, log).spawn().wait()
}

/// How often a line with `text` was printed.
fn times(ended: &Ended, text: &str) -> usize {
    ended.lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn an_error_is_a_line_where_the_filter_is_for_the_programs_own_messages() {
    for log in ["env-filter", "global", "layer", "log", "none"] {
        let ended = run("error", log).expect(1);
        let line = "error: No such file or directory (os error 2)";
        assert!(ended.lines.iter().any(|it| it == line), "{log}: {ended:#?}");
        assert_eq!(times(&ended, "No such file"), 1, "{log}: {ended:#?}");
        let ended = run("cut", log).expect(124);
        let line = "limit of 100ms reached, cut off: task for good, ";
        assert!(ended.lines.iter().any(|it| it.starts_with(line)), "{log}: {ended:#?}");
        // What is no error stays filtered.
        assert_eq!(ended.said("stop requested"), log == "none", "{log}: {ended:#?}");
        if log != "none" {
            assert!(ended.said("the program's own"), "{log}: {ended:#?}");
        }
    }
}

#[test]
fn a_subscriber_that_wants_all_gets_all_and_stderr_nothing() {
    for (mode, code, text) in [
        ("error", 1, "ERROR graceful: error: No such file"),
        ("cut", 124, "graceful: limit of 100ms reached, cut off: task for good, "),
    ] {
        let ended = run(mode, "all").expect(code);
        assert!(ended.said(text), "{ended:#?}");
        let raw = |line: &String| line.starts_with("error: ") || line.starts_with("limit of ");
        assert!(!ended.lines.iter().any(raw), "{ended:#?}");
    }
}

/// `anyhow` prints its causes over several lines: the program has chosen that.
#[test]
fn a_report_of_several_lines_is_printed_as_it_is() {
    let ended = run("report", "none").expect(1);
    let at = ended.lines.iter().position(|line| line == "error: setting up TLS");
    let at = at.unwrap_or_else(|| panic!("{ended:#?}"));
    let rest: Vec<_> = ended.lines[at + 1..].iter().map(|line| line.trim()).collect();
    assert_eq!(rest[..3], ["", "Caused by:", "0: no certificate"], "{ended:#?}");
    assert!(rest[3].starts_with("1: No such file"), "{ended:#?}");
    // An event is one line, with the whole of it in a field.
    let ended = run("report", "all").expect(1);
    let event = "graceful: error: setting up TLS: no certificate: No such file";
    assert!(ended.said(event) && ended.said("Caused by:"), "{ended:#?}");
}

#[test]
fn a_logger_of_the_crate_log_has_the_messages_in_its_own_format() {
    let mut process = program("", "log").env("RUST_LOG", "info").spawn();
    process.line("begins");
    process.term();
    let ended = process.wait().expect(0);
    let line = |text: &str| ended.lines.iter().find(|line| line.contains(text));
    for text in ["SIGTERM received, draining for at most 20s", "stopped in "] {
        let line = line(text).unwrap_or_else(|| panic!("no {text}: {ended:#?}"));
        assert!(line.starts_with("[INFO  graceful] "), "{line}");
        assert_eq!(times(&ended, text), 1, "{ended:#?}");
    }
    let ended = {
        let mut process = program("error", "log").env("RUST_LOG", "info").spawn();
        process.wait().expect(1)
    };
    assert!(ended.said("[ERROR graceful] error: No such file"), "{ended:#?}");
    assert_eq!(times(&ended, "No such file"), 1, "{ended:#?}");
}

#[test]
fn a_quiet_program_says_errors_and_what_was_cut_and_what_it_is_asked_for() {
    let mut process = program("", "none").env("QUIET", "1").spawn();
    process.line("begins");
    process.signal(Signal::USR1);
    process.line("SIGUSR1 received, in flight: ");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(!ended.said("SIGTERM") && !ended.said("stopped in"), "{ended:#?}");
    for (mode, code, text) in [("error", 1, "error: "), ("cut", 124, "limit of 100ms reached")] {
        let mut process = program(mode, "none").env("QUIET", "1").spawn();
        let ended = process.wait().expect(code);
        let said: Vec<_> = ended.lines.iter().filter(|line| *line != "begins").collect();
        assert!(said.len() == 1 && said[0].starts_with(text), "{ended:#?}");
    }
}

#[test]
fn a_hook_that_fails_or_panics_is_a_failure_and_named() {
    for (mode, text) in [("hook-fails", "not flushed"), ("hook-panics", "panicked: out of hooks")] {
        let ended = run(mode, "none").expect(1);
        let line = ended.lines.iter().find(|line| line.starts_with("error: hook tests/fixtures/"));
        let line = line.unwrap_or_else(|| panic!("{mode}: {ended:#?}"));
        assert!(line.ends_with(text), "{line}");
        assert!(ended.said("the first hook runs all the same"), "{ended:#?}");
    }
}

#[test]
fn a_main_may_end_before_anything_runs() {
    for (mode, code) in [("nothing", 0), ("nothing-failed", 1)] {
        let ended = run(mode, "none").expect(code);
        assert!(ended.lines.is_empty(), "{ended:#?}");
    }
}
