//! Messages: to `tracing` where the program has installed a subscriber, else to stderr.
//!
//! May use: `util`. Must not know: what is said. Each concept says its own messages, with `say!`.

mod events;
mod stderr;
mod writer;

pub(crate) use events::{Log, is_traced, millis, say};
