//! The stop signals: their names, and how they arrive.
//!
//! May use: `util`. Must not know: the effects of a signal.

#[cfg(unix)]
mod handlers;
mod name;
#[cfg(test)]
mod signal_names;
#[cfg(windows)]
mod windows;

pub use name::Signal;

#[cfg(unix)]
pub(crate) use handlers::{Signals, prepare, process_is_ending};
#[cfg(target_os = "linux")]
pub(crate) use name::Mask;
#[cfg(windows)]
pub(crate) use windows::{Signals, prepare, process_is_ending};
