//! Programs that do not turn, or panic, on each flavor of the runtime.

use std::time::Instant;

use graceful_tests::Signal;

use super::{End, WELL, check, cut, does, rounds};

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Answer,
    /// Its connection ends.
    End,
}

/// What a handler does, what its client sees, and what comes of the process.
fn requests(flavor: &str) -> Vec<(&'static str, Seen, End)> {
    use Seen::{Answer, End as Closed};
    let has_more_threads = flavor == "multi_thread";
    let exits = End { code: 7, named: "" };
    // tokio panics where it is not possible.
    let in_place = if has_more_threads { cut("GET /does/blocks%20in%20place") } else { WELL };
    vec![
        ("nothing", Answer, WELL),
        ("waits", Closed, cut("GET /does/waits from 127.0.0.1")),
        ("blocks", Closed, cut("GET /does/blocks from 127.0.0.1")),
        ("spins", Closed, cut("GET /does/spins from 127.0.0.1")),
        ("spins and yields", Closed, cut("GET /does/spins%20and%20yields from 127.0.0.1")),
        ("deadlocks", Closed, cut("GET /does/deadlocks from 127.0.0.1")),
        ("blocks in place", Closed, in_place),
        ("blocks a thread", Answer, cut("task tests/fixtures/hostile.rs:")),
        ("sticks", Closed, cut("GET /does/sticks from 127.0.0.1")),
        ("reads stdin", Closed, cut("GET /does/reads%20stdin from 127.0.0.1")),
        ("exits", Closed, exits),
        ("panics", Closed, WELL),
        ("panics in a drop", Closed, cut("GET /does/panics%20in%20a%20drop from 127.0.0.1")),
        ("panics in a task", Answer, WELL),
        ("panics in a thread", Answer, WELL),
        ("panics in a thread of its own", Answer, WELL),
        ("stops", Answer, WELL),
        ("signals itself", Answer, WELL),
        ("opens all", Answer, WELL),
    ]
}

fn of_a_flavor(flavor: &str) {
    for (what, seen, end) in (0..rounds()).flat_map(|_| requests(flavor)) {
        let (mut process, addr) = end.program().env("FLAVOR", flavor).serve();
        let mut client = does(&mut process, addr, what);
        let case = format!("{what}, {flavor}");
        if seen == Seen::Answer {
            assert_eq!(client.response().text(), format!("{what} ended"), "{case}");
        }
        let start = Instant::now();
        // It may end by itself.
        if !["exits", "stops", "signals itself"].contains(&what) {
            process.signal(Signal::TERM);
        }
        check(&case, &process.wait(), start, end);
        if seen == Seen::End {
            assert!(client.try_response().is_err(), "{case}");
        }
    }
}

#[test]
fn a_handler_on_many_threads() {
    of_a_flavor("multi_thread");
}

#[test]
fn a_handler_on_one_thread() {
    of_a_flavor("current_thread");
}

#[test]
fn a_handler_on_a_local_runtime() {
    of_a_flavor("local");
}

/// What comes of a body of `main` that has not returned its server yet.
const MAINS: &[(&str, End)] = &[
    ("blocks", cut("main")),
    ("spins", cut("main")),
    ("spins and yields", End { code: 0, named: "`main` had not returned its server yet" }),
    ("deadlocks", cut("main")),
    ("blocks in place", cut("main")),
    ("blocks a thread", cut("task tests/fixtures/hostile.rs:")),
    ("sticks", cut("main")),
    ("reads stdin", cut("main")),
    ("waits", End { code: 0, named: "`main` had not returned its server yet" }),
    ("exits", End { code: 7, named: "" }),
    ("panics", End { code: 101, named: "it panics" }),
    ("panics in a drop", End { code: 101, named: "a drop panics" }),
    ("stops", WELL),
];

/// The same for a hook; one that panics in its drop, at the cut, does so too late to be a failure,
/// or in time.
const HOOKS: &[(&str, End)] = &[
    ("blocks", cut("cleanup limit of 200ms reached, cut off: hook tests/fixtures/hostile.rs:")),
    ("spins", cut("hook tests/fixtures/hostile.rs:")),
    ("spins and yields", cut("hook tests/fixtures/hostile.rs:")),
    ("deadlocks", cut("hook tests/fixtures/hostile.rs:")),
    ("blocks in place", cut("hook tests/fixtures/hostile.rs:")),
    (
        "blocks a thread",
        cut("cleanup limit of 200ms reached, cut off: task tests/fixtures/hostile.rs:"),
    ),
    ("sticks", cut("hook tests/fixtures/hostile.rs:")),
    ("reads stdin", cut("hook tests/fixtures/hostile.rs:")),
    ("waits", cut("hook tests/fixtures/hostile.rs:")),
    ("exits", End { code: 7, named: "" }),
    ("panics", End { code: 1, named: "it panics" }),
    ("stops", WELL),
];

/// The same for a task.
const TASKS: &[(&str, End)] = &[
    ("blocks", cut("task tests/fixtures/hostile.rs:")),
    ("spins", cut("task tests/fixtures/hostile.rs:")),
    ("spins and yields", cut("task tests/fixtures/hostile.rs:")),
    ("deadlocks", cut("task tests/fixtures/hostile.rs:")),
    ("blocks in place", cut("task tests/fixtures/hostile.rs:")),
    ("blocks a thread", cut("task tests/fixtures/hostile.rs:")),
    ("sticks", cut("task tests/fixtures/hostile.rs:")),
    ("reads stdin", cut("task tests/fixtures/hostile.rs:")),
    ("waits", cut("task tests/fixtures/hostile.rs:")),
    ("exits", End { code: 7, named: "" }),
    ("panics", End { code: 0, named: "it panics" }),
    ("panics in a drop", cut("task tests/fixtures/hostile.rs:")),
    ("stops", WELL),
];

/// Every flavor. Where there is one thread, tokio panics rather than to block in place, and the
/// process ends with `in_place`; hooks have threads of their own.
fn of_a_place(place: &str, in_place: Option<i32>, cases: &[(&str, End)]) {
    for flavor in ["multi_thread", "current_thread", "local"] {
        for &(what, end) in (0..rounds()).flat_map(|_| cases) {
            let has_one_thread = flavor != "multi_thread";
            let in_place = in_place.filter(|_| what == "blocks in place" && has_one_thread);
            let end = in_place.map_or(end, |code| End { code, named: "can call blocking only" });
            let mut process = end.program().env("FLAVOR", flavor).env(place, what).spawn();
            let is_hook = place == "HOOK";
            if is_hook {
                process.addr();
            } else {
                process.line(&format!("{what} begins"));
            }
            let start = Instant::now();
            // These end by themselves, except for a hook, which a stop makes begin.
            let panics = what == "panics" || in_place.is_some();
            let ends = ["exits", "stops"].contains(&what) || (place == "MAIN" && panics);
            if is_hook || !ends {
                process.signal(Signal::TERM);
            }
            let (case, ended) = (format!("{what}, {place}, {flavor}"), process.wait());
            check(&case, &ended, start, end);
            if place == "TASK" && end.code == 124 {
                assert!(ended.said("limit of 500ms reached, cut off:"), "{case}: {ended:#?}");
            }
        }
    }
}

#[test]
fn a_main() {
    of_a_place("MAIN", Some(101), MAINS);
}

#[test]
fn a_hook() {
    of_a_place("HOOK", None, HOOKS);
}

#[test]
fn a_task() {
    of_a_place("TASK", Some(0), TASKS);
}
