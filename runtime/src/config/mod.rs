//! `Config` and its three ways to run: `run` owns the process, `start` runs inside another program,
//! and `test` runs inside a test.
//!
//! May use: everything.

mod builder;
mod grace;
mod handover;
mod launch;
mod limits;
mod preflight;
mod run;
mod start;

pub use builder::{Config, Flavor, OnUnhandledPanic, StartPaused, UnhandledPanic};
pub use limits::{Env, IntoLimit, IntoWait, env};
pub use start::{Running, Start};
