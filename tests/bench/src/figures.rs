//! The figures, each measured on one server at a time.

use crate::{
    measures::{
        burst, cpu_per_connection, cpu_per_request, exit_after_answer, exit_at_once, exit_idle,
        exit_lingering, exit_recent, idle_h2, idle_long, idle_long_tls, idle_served, idle_silent,
        instructions, instructions_echo, instructions_h2, instructions_h2_streams,
        instructions_tls, instructions_upgraded,
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

/// What one round has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) value: f64,
    /// Of instructions: those outside of the allocator.
    pub(crate) without_allocator: Option<f64>,
}

impl From<f64> for Reading {
    fn from(value: f64) -> Self {
        Self { value, without_allocator: None }
    }
}

/// `None`: this server has no such figure. What goes wrong panics.
type Measure = fn(Subject, &Scale) -> Option<Reading>;

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
    /// What the ratio may be, outside of the allocator: as it was when this was written.
    pub(crate) gate: Option<f64>,
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
            gate: None,
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

    const fn of(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    const fn built(self, build: Build) -> Self {
        Self { build, ..self }
    }

    const fn gate(self, ratio: f64) -> Self {
        Self { gate: Some(ratio), ..self }
    }
}

pub(crate) const FIGURES: &[Figure] = &[
    Figure::count(
        "instructions per request, a service of somebody else's",
        "service",
        instructions,
    )
    .built(Build::Thin)
    .gate(1.12),
    Figure::count("the same, built as cargo does", "service", instructions).built(Build::Defaults),
    Figure::count("an axum router", "router", instructions).gate(1.046),
    Figure::count("the smallest service", "http", instructions).gate(1.089),
    Figure::count("the same over TLS", "tls", instructions_tls).gate(1.079),
    Figure::count("the same over HTTP/2, one stream at a time", "h2", instructions_h2).gate(1.072),
    Figure::count("the same over HTTP/2, ten at a time", "h2", instructions_h2_streams).gate(1.072),
    Figure::count("an echo of 64 bytes, TCP", "echo", instructions_echo).gate(1.073),
    Figure::count("an echo of 64 bytes, upgraded", "upgrade", instructions_upgraded).gate(1.068),
    Figure::new("bytes per idle connection, served once", idle_served),
    Figure::new("bytes per connection, idle for 10 s", idle_long),
    Figure::new("bytes per connection, never sent a byte", idle_silent),
    Figure::new("bytes per TLS connection, idle for 10 s", idle_long_tls).of("tls"),
    Figure::new("bytes per idle HTTP/2 connection", idle_h2).of("h2"),
    Figure::exit("SIGTERM to exit, no connection", exit_at_once),
    Figure::exit("SIGTERM to exit, connections a moment ago", exit_recent),
    Figure::exit("SIGTERM to exit, 32 with the linger to run", exit_lingering),
    Figure::exit("SIGTERM to exit, idle connections", exit_idle),
    Figure::exit("last response byte to exit", exit_after_answer),
    Figure::cpu("CPU per request, 32 keep-alive connections", cpu_per_request),
    Figure::cpu("CPU per connection, one request each", cpu_per_connection),
    Figure::new("of 1,000 clients at once, slower than 0.9 s", burst),
];
