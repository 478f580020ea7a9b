//! Messages: to `tracing` or `log` where the program has installed either, else to stderr.
//!
//! May use: `util`. Must not know: what is said. Each concept says its own messages, with `say!`.

mod events;
mod writer;

pub(crate) use events::{Form, Log, level, millis, say};
