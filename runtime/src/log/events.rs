//! Where a message goes: to `tracing` if the program has installed a subscriber, to `log` if it has
//! installed a logger and the feature is on, otherwise to stderr.
//!
//! An error goes to stderr if the subscriber or the logger does not want it: a filter such as
//! `myapp=info` is about the program's own messages, and must not hide why the process ends.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing::Level;

use super::writer::{self, Writer};
use crate::util::sync::lock_std;

/// Where the messages of one context go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    writer: Writer,
    /// Whether this crate may write to stderr: under `Config::run` it may, inside another program
    /// it may not.
    stderr: bool,
    /// Whether only errors are written.
    quiet: bool,
    /// The span of the stop, entered for each event and closed with the last one. Only the writer's
    /// thread touches it: a subscriber is the program's code, which may block or panic.
    stop: Arc<Mutex<tracing::Span>>,
}

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One line, for a log.
    Event,
    /// As many lines as it takes, for a person at stderr.
    Lines,
}

enum Destination {
    Tracing,
    #[cfg(feature = "log")]
    Logger,
    Stderr,
    Nowhere,
}

/// Writes a message, as an event with these fields, or as a line on stderr:
/// `say!(log, warn, { server = name }, "{name}: cannot accept")`.
///
/// The fields and the text are evaluated by the caller and written by the log thread.
macro_rules! say {
    ($log:expr, $level:ident, { $($field:ident = $value:expr),* $(,)? }, $($text:tt)+) => {{
        let line = format!($($text)+);
        $(let $field = $value;)*
        $log.write($crate::log::level!($level), line, Box::new(move |line: &str| {
            tracing::$level!(target: "graceful", $($field,)* "{line}");
        }));
    }};
}

/// Maps a name to the `tracing::Level`.
macro_rules! level {
    (error) => {
        tracing::Level::ERROR
    };
    (warn) => {
        tracing::Level::WARN
    };
    (info) => {
        tracing::Level::INFO
    };
    (debug) => {
        tracing::Level::DEBUG
    };
}

pub(crate) use {level, say};

/// Returns whether there is a subscriber for the whole program. One that is set for another thread
/// only would not receive events of the log thread.
fn is_traced() -> bool {
    tracing::dispatcher::has_been_set()
        && tracing::dispatcher::get_default(|it| !it.is::<tracing::subscriber::NoSubscriber>())
}

/// Returns whether the program has installed a logger of the crate `log`. One that is switched off
/// cannot be told from none.
fn is_logged() -> bool {
    #[cfg(feature = "log")]
    return log::max_level() != log::LevelFilter::Off;
    #[cfg(not(feature = "log"))]
    false
}

/// Returns whether the subscriber wants events of this target at this level.
///
/// Not cached: `enabled!` has the subscriber's filters look at this event, whatever they decided
/// for earlier ones (per-layer filters of `tracing_subscriber` keep their last decision).
fn is_wanted(level: Level) -> bool {
    match level {
        Level::ERROR => tracing::enabled!(target: "graceful", Level::ERROR),
        // The event macro filters these itself.
        _ => true,
    }
}

#[cfg(feature = "log")]
fn log_level(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

/// Converts a duration to the milliseconds of a field.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Log {
    /// Starts the log thread. `stderr` is whether this crate may write to stderr; `quiet` is
    /// whether only errors are written.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be spawned.
    pub(crate) fn start(stderr: bool, quiet: bool) -> io::Result<Self> {
        let stop = Arc::new(Mutex::new(tracing::Span::none()));
        Ok(Self { writer: Writer::start()?, stderr, quiet, stop })
    }

    /// Creates a log that has nothing to write and needs no thread.
    #[cfg(test)]
    pub(crate) fn closed() -> Self {
        let stop = Arc::new(Mutex::new(tracing::Span::none()));
        Self { writer: Writer::closed(), stderr: false, quiet: false, stop }
    }

    /// Returns a log that is never quiet, for output that was explicitly requested.
    pub(crate) fn asked(&self) -> Self {
        Self { quiet: false, ..self.clone() }
    }

    /// Resolves once all messages are written. Later messages are still written.
    pub(crate) fn close(&self) -> impl Future<Output = ()> + use<> {
        self.writer.close()
    }

    /// Waits until all messages are written, unless one of them takes longer than `limit`, or all
    /// of them longer than [`STARVED`](crate::util::threads::STARVED).
    pub(crate) fn flush(&self, limit: Duration) {
        self.writer.flush(limit);
    }

    /// Returns whether messages other than errors go anywhere.
    pub(crate) fn is_heard(&self) -> bool {
        !self.quiet && (self.stderr || is_traced() || is_logged())
    }

    /// Returns whether messages go to stderr, where a live line may stand between them.
    pub(crate) fn is_live(&self) -> bool {
        self.stderr && !self.quiet && !is_traced() && !is_logged()
    }

    /// Returns whether events of the level `debug` go anywhere. On stderr, they would be noise.
    #[cfg(feature = "net")]
    pub(crate) fn is_debugged(&self) -> bool {
        !self.quiet && (is_traced() || is_logged())
    }

    /// The function behind `say!`. The closure is boxed there, so that this is compiled once and
    /// not for each message.
    pub(crate) fn write(&self, level: Level, line: String, event: Box<dyn FnOnce(&str) + Send>) {
        self.write_by(level, Box::new(|_| line), event);
    }

    /// Like `write`, for a text that the log thread formats in the form that fits its destination.
    pub(crate) fn write_by(
        &self,
        level: Level,
        text: Box<dyn FnOnce(Form) -> String + Send>,
        event: Box<dyn FnOnce(&str) + Send>,
    ) {
        if self.quiet && level != Level::ERROR {
            return;
        }
        let log = (self.stderr, self.stop.clone());
        self.writer.push(Box::new(move || {
            let (stderr_is_ours, stop) = log;
            // Filters may depend on the span.
            let in_stop = is_traced().then(|| lock_std(&stop).clone().entered());
            match destination(level, in_stop.is_some(), stderr_is_ours) {
                Destination::Tracing => event(&text(Form::Event)),
                #[cfg(feature = "log")]
                Destination::Logger => {
                    log::log!(target: "graceful", log_level(level), "{}", text(Form::Event));
                }
                Destination::Stderr => writer::write(&text(Form::Lines)),
                Destination::Nowhere => {}
            }
        }));
    }

    /// Opens the span of the stop for all events that follow.
    pub(crate) fn begin_stop(&self, cause: String) {
        let stop = self.stop.clone();
        self.writer.push(Box::new(move || {
            if is_traced() {
                *lock_std(&stop) = tracing::info_span!(target: "graceful", "stop", cause);
            }
        }));
    }

    /// Closes the span of the stop.
    pub(crate) fn end_stop(&self) {
        let stop = self.stop.clone();
        self.writer.push(Box::new(move || *lock_std(&stop) = tracing::Span::none()));
    }

    /// Rewrites the live line of a terminal; an empty line wipes it.
    pub(crate) fn live(&self, line: String) {
        self.writer.push(Box::new(move || writer::write_live(&line)));
    }

    /// Notes that a key has sent a signal and that the terminal has echoed it (`^C`): the next line
    /// replaces the echo.
    pub(crate) fn key_pressed(&self) {
        if self.stderr {
            self.writer.push(Box::new(writer::key_echoed));
        }
    }
}

fn destination(level: Level, is_traced: bool, stderr_is_ours: bool) -> Destination {
    let fallback = match level {
        _ if !stderr_is_ours => Destination::Nowhere,
        Level::ERROR => Destination::Stderr,
        _ if is_traced || is_logged() => Destination::Nowhere,
        Level::WARN | Level::INFO => Destination::Stderr,
        _ => Destination::Nowhere,
    };
    if is_traced && is_wanted(level) {
        return Destination::Tracing;
    }
    #[cfg(feature = "log")]
    if !is_traced && log::log_enabled!(target: "graceful", log_level(level)) {
        return Destination::Logger;
    }
    fallback
}
