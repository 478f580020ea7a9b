//! The HTTP server: from an address to answered requests.
//!
//! `accept` → `connection` (a task each) → `http1`, `http2` (a call each). What a
//! connection is doing is kept in its `conn`, which the drain and the report read from outside.

mod accept;
mod body;
mod bounds;
mod conn;
mod connection;
mod describe;
mod detect;
mod exchange;
mod exec;
pub(crate) mod framing;
mod held;
mod http1;
mod http2;
mod io;
mod label;
mod look;
mod plain;
#[cfg(all(test, not(graceful_loom)))]
mod random;
mod server;
mod service;
mod state;
mod streams;
mod timer;
#[cfg(all(test, not(graceful_loom)))]
mod walk;

pub use server::{Server, serve};
pub use service::HttpService;
