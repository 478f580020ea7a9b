//! What is said, and where: to `tracing` where the program has installed a subscriber, else to
//! stderr, one line each.

use std::{
    fmt::Display,
    io::{self, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    failure::Failure,
    in_flight::Age,
    report::{Cause, Report},
    signal::Signal,
    work::Counts,
    writer::Writer,
};

/// Who hears the messages of a context.
#[derive(Debug)]
pub(crate) struct Log {
    writer: Writer,
    /// Whether stderr is ours: under `Config::run` it is, in somebody else's process it is not.
    stderr: bool,
    /// The span of the stop: entered for each event, closed with the last. Touched by the writer alone:
    /// a subscriber is somebody else's code, which may block or panic.
    stop: Arc<Mutex<tracing::Span>>,
}

/// Calls one of `tracing`'s event macros, or writes the line to stderr: on the writer's thread. The
/// arguments are evaluated here.
macro_rules! say {
    ($log:expr, $level:ident, { $($field:ident = $value:expr),* $(,)? }, $($text:tt)+) => {{
        let line = format!($($text)+);
        let stderr_is_ours = $log.stderr;
        let stop = $log.stop.clone();
        $(let $field = $value;)*
        $log.writer.push(move || {
            if is_traced() {
                let _in_stop = lock(&stop).clone().entered();
                tracing::$level!(target: "graceful", $($field,)* "{line}");
            } else if stderr_is_ours {
                stderr(&line);
            }
        });
    }};
}

/// Whether this thread has a subscriber: one for the whole program. A scoped one of another thread
/// would not hear what is said here.
fn is_traced() -> bool {
    tracing::dispatcher::has_been_set()
        && tracing::dispatcher::get_default(|it| !it.is::<tracing::subscriber::NoSubscriber>())
}

fn lock(stop: &Mutex<tracing::Span>) -> MutexGuard<'_, tracing::Span> {
    stop.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a live line stands on the terminal.
static LIVE: AtomicBool = AtomicBool::new(false);

/// To the first column, and "erase in line" (ECMA-48, section 8.3.41).
const WIPE: &str = "\r\x1b[2K";

/// In one write, as far as the system takes it: what the program prints does not come in between.
fn stderr(line: &str) {
    let wipe = if LIVE.swap(false, Ordering::Relaxed) { WIPE } else { "" };
    // There is nowhere left to report that stderr is gone.
    let _ = io::stderr().write_all(format!("{wipe}{line}\n").as_bytes());
}

fn millis(duration: Duration) -> u64 {
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

    /// Whether anybody hears what is said.
    pub(crate) fn is_heard(&self) -> bool {
        self.stderr || is_traced()
    }

    /// Whether messages go to stderr, where a live line may stand between them.
    pub(crate) fn is_live(&self) -> bool {
        self.stderr && !is_traced()
    }

    pub(crate) fn listening(&self, addr: &impl Display) {
        say!(self, info, { addr = addr.to_string() }, "listening on {addr}");
    }

    /// The first stop signal, or what stands for it.
    pub(crate) fn stopping(&self, cause: &Cause, delay: Duration, limit: Option<Duration>) {
        let (stop, what) = (self.stop.clone(), cause.to_string());
        self.writer.push(move || {
            if is_traced() {
                *lock(&stop) = tracing::info_span!(target: "graceful", "stop", cause = what);
            }
        });
        let delay_text = match delay {
            Duration::ZERO => String::new(),
            delay => format!("still accepting for {}, then ", Age(delay)),
        };
        let (limit_text, draining) = match limit {
            None => ("none".to_owned(), "draining without a limit".to_owned()),
            Some(limit) => {
                let limit = Age(limit).to_string();
                let text = format!("draining for at most {limit}");
                (limit, text)
            }
        };
        let (name, again) = match cause {
            Cause::Signal(signal) => (signal.to_string(), " (signal again to stop at once)"),
            _ => (String::new(), ""),
        };
        say!(
            self, info, { signal = name, limit = limit_text, delay_ms = millis(delay) },
            "{cause}, {delay_text}{draining}{again}"
        );
    }

    /// A first signal while the program is already stopping by itself.
    pub(crate) fn already_stopping(&self, signal: Signal) {
        say!(
            self,
            info,
            { signal = signal.to_string() },
            "{signal} received, already stopping (signal again to stop at once)"
        );
    }

    pub(crate) fn progress(&self, left: Counts, time_left: Option<Duration>) {
        let time_left = match time_left {
            Some(time) => format!("{} left", Age(Duration::from_secs(time.as_secs()))),
            None => "no limit".to_owned(),
        };
        say!(
            self, info, { requests = left.requests, connections = left.connections, tasks = left.tasks },
            "waiting for {left}, {time_left}"
        );
    }

    /// Rewrites the live line of a terminal; an empty one wipes it.
    pub(crate) fn live(&self, line: String) {
        self.writer.push(move || {
            // Without a line break at the right margin (DECAWM), so that one line is all there is to wipe.
            let text = match &*line {
                "" => String::new(),
                line => format!("\x1b[?7l{line}\x1b[?7h"),
            };
            let was_live = LIVE.swap(!line.is_empty(), Ordering::Relaxed);
            if was_live || !line.is_empty() {
                let mut stderr = io::stderr().lock();
                // A terminal that is gone shows nothing.
                let _ = write!(stderr, "{WIPE}{text}").and_then(|()| stderr.flush());
            }
        });
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        say!(self, error, { error = failure.to_string() }, "error: {failure}");
    }

    pub(crate) fn task_panicked(&self, task: &str, message: &str) {
        say!(
            self, error, { task = task.to_owned(), panic = message.to_owned() },
            "task {task} panicked: {message}"
        );
    }

    pub(crate) fn hook_panicked(&self, hook: &str, message: &str) {
        say!(
            self, error, { hook = hook.to_owned(), panic = message.to_owned() },
            "hook {hook} panicked: {message}"
        );
    }

    pub(crate) fn cleanup_impossible(&self, error: &io::Error) {
        say!(
            self,
            error,
            { error = error.to_string() },
            "error: no thread to run the cleanup hooks on: {error}"
        );
    }

    #[cfg(feature = "http")]
    pub(crate) fn accept_failed(&self, server: &str, error: &io::Error) {
        say!(
            self, warn, { server = server.to_owned(), error = error.to_string() },
            "{server}: cannot accept: {error}; trying again until it works"
        );
    }

    #[cfg(feature = "http")]
    pub(crate) fn accepting_again(&self, server: &str, after: Duration) {
        say!(
            self, info, { server = server.to_owned(), elapsed_ms = millis(after) },
            "{server}: accepting again after {}", Age(after)
        );
    }

    /// A server that was made and never returned.
    pub(crate) fn not_served(&self, server: &str) {
        say!(
            self,
            warn,
            { server = server.to_owned() },
            "nothing to serve: the server for {server} was dropped; return it from `main`"
        );
    }

    pub(crate) fn start_up_dropped(&self) {
        say!(self, info, {}, "`main` had not returned its server yet, and was dropped");
    }

    pub(crate) fn nothing_to_serve(&self) {
        say!(self, warn, {}, "nothing to serve: `main` has returned no server");
    }

    /// The program is over, and tasks are left that nobody waits for.
    pub(crate) fn tasks_left(&self, left: usize) {
        let what = if left == 1 { "a task" } else { "tasks" };
        say!(
            self,
            warn,
            { tasks = left },
            "`main` has returned and ended {what} of `tokio::spawn`; `graceful::spawn` is waited for"
        );
    }

    /// A hook was cut while nothing ran on the program's own runtime.
    pub(crate) fn program_blocked(&self) {
        say!(
            self,
            error,
            {},
            "error: the threads of the runtime are blocked: a hook cannot use what belongs to it, \
             such as the sockets of a connection pool"
        );
    }

    /// The end: the report.
    pub(crate) fn ended(&self, report: &Report) {
        // A field of an event is one line.
        let text = if is_traced() { report.line() } else { report.to_string() };
        if report.cut.is_empty() {
            say!(
                self, info,
                { elapsed_ms = millis(report.elapsed), connections = report.connections(),
                  requests = report.requests(), tasks = report.tasks(), cut = 0_usize },
                "{text}"
            );
        } else {
            say!(
                self, error,
                { elapsed_ms = millis(report.elapsed), connections = report.connections(),
                  requests = report.requests(), tasks = report.tasks(), cut = report.cut.len() },
                "{text}"
            );
        }
        let stop = self.stop.clone();
        self.writer.push(move || *lock(&stop) = tracing::Span::none());
    }
}
