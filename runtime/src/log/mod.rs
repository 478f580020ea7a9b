//! Messages: to `tracing` or `log` if the program has installed either, otherwise to stderr.
//!
//! May use: `util`. Must not know: the messages. Each module logs its own, with `say!`.

mod events;
mod writer;

pub(crate) use events::{Form, Log, level, millis, say};
