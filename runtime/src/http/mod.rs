//! The HTTP server: from an address to answered requests.
//!
//! `address` → `listener` → `accept` → `connection` (a task each) → `http1`, `http2` (a call each). What a
//! connection is doing is kept in its `conn`, which the drain and the report read from outside.

mod accept;
mod address;
mod body;
mod clock;
mod conn;
mod connection;
mod detect;
mod exec;
mod held;
mod http1;
mod http2;
mod io;
mod label;
mod listener;
mod server;
mod service;
mod state;
mod stream;
mod streams;
mod timer;
mod wire;

pub use address::Listen;
pub use server::{Server, serve};
pub use service::HttpService;
