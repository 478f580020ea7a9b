//! `Config`, and the three ways to run by it: `run` owns the process, `start` runs inside of
//! another program, `test` inside of a test.
//!
//! May use: everything.

mod builder;
mod limits;
mod run;
mod start;
mod surroundings;
mod test;

pub use builder::Config;
pub use builder::{Flavor, UnhandledPanic};
pub use builder::{OnUnhandledPanic, StartPaused};
pub use limits::{Env, IntoLimit, IntoWait, env};
pub use start::{Running, Start};
