//! `Config`, and the three ways to run by it: `run` owns the process, `start` runs inside of
//! another program, `test` inside of a test.
//!
//! May use: everything.

mod builder;
mod limits;
mod preflight;
mod run;
mod start;

pub use builder::{Config, Flavor, OnUnhandledPanic, StartPaused, UnhandledPanic};
pub use limits::{Env, IntoLimit, IntoWait, env};
pub use start::{Running, Start};
