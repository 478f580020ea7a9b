//! The stop signals: their names, and how they arrive.
//!
//! May use: `util`. Must not know: the effects of a signal.

mod handlers;
mod name;
#[cfg(test)]
mod signal_names;

pub use name::Signal;

pub(crate) use handlers::{Signals, process_is_ending};
#[cfg(target_os = "linux")]
pub(crate) use name::Mask;
