//! Against programs that were not written here, and what takes its time: systemd, containers,
//! proxies, a terminal, curl and openssl, a gRPC client, the examples.

mod closing;
mod conformance;
mod container;
mod delivery;
mod examples;
mod faults;
mod frameworks;
mod framing;
mod haproxy;
mod hostile;
mod kubernetes;
mod long_lived;
mod nginx;
mod notify;
mod systemd;
mod tls;
mod ui_axum;
mod unplugged;

/// The program of the fixtures.
const FIXTURES: &str = env!("CARGO_BIN_EXE_fixtures");
