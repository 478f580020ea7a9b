//! Where a message goes: to `tracing` where the program has installed a subscriber, else to stderr,
//! one line each.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{stderr, writer::Writer};
use crate::util::sync::lock_std;

/// Where the messages of one context go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    writer: Writer,
    /// Whether stderr is ours: under `Config::run` it is, inside of another program it is not.
    stderr: bool,
    /// The span of the stop: entered for each event, closed with the last. Only the writer's thread
    /// touches it: a subscriber is the program's code, which may block or panic.
    stop: Arc<Mutex<tracing::Span>>,
}

/// Says something, as an event with these fields, or as a line on stderr:
/// `say!(log, warn, { server = name }, "{name}: cannot accept")`.
///
/// The fields and the text are evaluated here, and written by the thread of the log.
macro_rules! say {
    ($log:expr, $level:ident, { $($field:ident = $value:expr),* $(,)? }, $($text:tt)+) => {{
        let line = format!($($text)+);
        $(let $field = $value;)*
        $log.write(line, Box::new(move |line: &str| {
            tracing::$level!(target: "graceful", $($field,)* "{line}");
        }));
    }};
}

pub(crate) use say;

/// Whether this thread has a subscriber: one for the whole program. A subscriber that is set for
/// another thread alone would not hear what is said here.
pub(crate) fn is_traced() -> bool {
    tracing::dispatcher::has_been_set()
        && tracing::dispatcher::get_default(|it| !it.is::<tracing::subscriber::NoSubscriber>())
}

/// The milliseconds of a field.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Log {
    /// `stderr`: whether it is ours to write to.
    ///
    /// # Errors
    ///
    /// If there is no thread to write from.
    pub(crate) fn start(stderr: bool) -> io::Result<Self> {
        let stop = Arc::new(Mutex::new(tracing::Span::none()));
        Ok(Self { writer: Writer::start()?, stderr, stop })
    }

    /// One that has nothing to say and needs no thread.
    #[cfg(test)]
    pub(crate) fn closed() -> Self {
        let stop = Arc::new(Mutex::new(tracing::Span::none()));
        Self { writer: Writer::closed(), stderr: false, stop }
    }

    /// Resolves once all is written. What is said afterwards is heard all the same.
    pub(crate) fn close(&self) -> impl Future<Output = ()> + use<> {
        self.writer.close()
    }

    /// Waits until all is written, for `limit` at the most.
    pub(crate) fn flush(&self, limit: Duration) {
        self.writer.flush(limit);
    }

    /// Whether messages arrive anywhere.
    pub(crate) fn is_heard(&self) -> bool {
        self.stderr || is_traced()
    }

    /// Whether messages go to stderr, where a live line may stand between them.
    pub(crate) fn is_live(&self) -> bool {
        self.stderr && !is_traced()
    }

    /// What `say!` comes to: boxed there, so that this is compiled once and not for each message.
    pub(crate) fn write(&self, line: String, event: Box<dyn FnOnce(&str) + Send>) {
        self.write_by(Box::new(|| line), event);
    }

    /// The same for a text that the thread of the log makes.
    pub(crate) fn write_by(
        &self,
        line: Box<dyn FnOnce() -> String + Send>,
        event: Box<dyn FnOnce(&str) + Send>,
    ) {
        let (stderr_is_ours, stop) = (self.stderr, self.stop.clone());
        self.writer.push(Box::new(move || {
            if is_traced() {
                let _in_stop = lock_std(&stop).clone().entered();
                event(&line());
            } else if stderr_is_ours {
                stderr::write(&line());
            }
        }));
    }

    /// From here on events are in a span of the stop.
    pub(crate) fn begin_stop(&self, cause: String) {
        let stop = self.stop.clone();
        self.writer.push(Box::new(move || {
            if is_traced() {
                *lock_std(&stop) = tracing::info_span!(target: "graceful", "stop", cause);
            }
        }));
    }

    /// Closes that span.
    pub(crate) fn end_stop(&self) {
        let stop = self.stop.clone();
        self.writer.push(Box::new(move || *lock_std(&stop) = tracing::Span::none()));
    }

    /// Rewrites the live line of a terminal; an empty one wipes it.
    pub(crate) fn live(&self, line: String) {
        self.writer.push(Box::new(move || stderr::write_live(&line)));
    }
}
