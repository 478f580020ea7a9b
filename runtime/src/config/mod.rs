//! `Config`, and the three ways to run by it: `run` owns the process, `start` runs inside of
//! another program, `test` inside of a test.
//!
//! May use: everything.

mod body;
mod builder;
mod conditional;
mod flavor;
mod limits;
mod run;
mod start;
mod surroundings;
mod test;
mod whole;

pub use builder::Config;
pub use conditional::{OnUnhandledPanic, StartPaused};
pub use flavor::{Flavor, UnhandledPanic};
pub use limits::{Env, IntoLimit, IntoWait, env};
pub use start::{Running, Start};
