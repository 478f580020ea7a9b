//! The figures, each measured on one server at a time.

use crate::{
    measures::{
        burst, cpu_per_connection, cpu_per_request, exit_after_answer, exit_at_once, exit_idle,
        exit_lingering, exit_recent, idle_long, idle_served, idle_silent, instructions,
        instructions_echo, instructions_h2, instructions_h2_streams, instructions_tls,
        instructions_upgraded,
    },
    process::{Build, Subject},
};

/// How much is measured.
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    pub(crate) counted: usize,
}

impl Scale {
    pub(crate) const FULL: Self =
        Self { rounds: 5, requests: 100_000, connections: 5_000, idle: 10_000, counted: 2_000 };
    pub(crate) const QUICK: Self =
        Self { rounds: 1, requests: 20_000, connections: 2_000, idle: 1_000, counted: 500 };
}

/// `None`: this server has no such figure. What goes wrong panics.
type Measure = fn(Subject, &Scale) -> Option<f64>;

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    /// What the servers speak.
    pub(crate) kind: &'static str,
    pub(crate) build: Build,
    pub(crate) unit: &'static str,
    pub(crate) digits: usize,
    /// Whether the other servers are shown as ratios to the bare loop.
    pub(crate) ratio: bool,
    /// Whether the worst round is shown, too.
    pub(crate) worst: bool,
    /// Whether one round says it all.
    pub(crate) exact: bool,
    pub(crate) measure: Measure,
}

impl Figure {
    const fn new(name: &'static str, measure: Measure) -> Self {
        Self {
            name,
            kind: "http",
            build: Build::Release,
            unit: "",
            digits: 0,
            ratio: false,
            worst: false,
            exact: false,
            measure,
        }
    }

    /// Instructions, counted by callgrind.
    const fn count(name: &'static str, kind: &'static str, measure: Measure) -> Self {
        Self { kind, ratio: true, exact: true, ..Self::new(name, measure) }
    }

    /// From a signal to the end of the process.
    const fn exit(name: &'static str, measure: Measure) -> Self {
        Self { unit: "ms", digits: 1, worst: true, ..Self::new(name, measure) }
    }

    const fn cpu(name: &'static str, measure: Measure) -> Self {
        Self { unit: "ns", ratio: true, ..Self::new(name, measure) }
    }

    const fn built(self, build: Build) -> Self {
        Self { build, ..self }
    }
}

/// Those that open many connections come last: each leaves a socket in `TIME_WAIT` for a minute,
/// and a kernel that is asked for its sockets passes them all.
pub(crate) const FIGURES: &[Figure] = &[
    Figure::count("instructions per request (callgrind)", "http", instructions),
    Figure::count("the same, an axum router", "router", instructions),
    Figure::count("the same over TLS", "tls", instructions_tls),
    Figure::count("the same over HTTP/2, one stream at a time", "h2", instructions_h2),
    Figure::count("the same over HTTP/2, ten at a time", "h2", instructions_h2_streams),
    Figure::count("instructions per echo of 64 bytes, TCP", "echo", instructions_echo),
    Figure::count("instructions per echo of 64 bytes, upgraded", "upgrade", instructions_upgraded),
    Figure::count("instructions per request, built as cargo does", "http", instructions)
        .built(Build::Defaults),
    Figure::count("instructions per request, built with thin LTO, one unit", "http", instructions)
        .built(Build::Thin),
    Figure::new("bytes per idle connection, served once", idle_served),
    Figure::new("bytes per connection, idle for 10 s", idle_long),
    Figure::new("bytes per connection, never sent a byte", idle_silent),
    Figure::new("bytes per idle connection, built as cargo does", idle_served)
        .built(Build::Defaults),
    Figure::exit("SIGTERM to exit, no connection", exit_at_once),
    Figure::exit("SIGTERM to exit, connections a moment ago", exit_recent),
    Figure::exit("SIGTERM to exit, 32 with the linger to run", exit_lingering),
    Figure::exit("SIGTERM to exit, idle connections", exit_idle),
    Figure::exit("last response byte to exit", exit_after_answer),
    Figure::cpu("CPU per request, 32 keep-alive connections", cpu_per_request),
    Figure::cpu("CPU per connection, one request each", cpu_per_connection),
    Figure::new("of 1,000 clients at once, slower than 0.9 s", burst),
];
