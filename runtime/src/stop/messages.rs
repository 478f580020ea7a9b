//! Messages about a stop.

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use super::{
    hooks::Left,
    report::{Cause, Report, write_list},
    shared::Shared,
};
use crate::{
    log::{Form, Log, level, millis, say},
    signal::Signal,
    util::{Failure, HumanDuration},
    work::{Brief, Counts, InFlight, Oldest},
};

/// Logs the first stop signal, or whatever else has started the stop.
pub(super) fn stopping(log: &Log, cause: &Cause, delay: Duration, limit: Option<Duration>) {
    log.begin_stop(cause.to_string());
    if let Cause::Signal(signal) = cause {
        note_key(log, *signal);
    }
    let delay_text = match delay {
        Duration::ZERO => String::new(),
        delay => format!("still accepting for {}, then ", HumanDuration(delay)),
    };
    let (limit_text, draining) = match limit {
        None => ("none".to_owned(), "draining without a limit".to_owned()),
        Some(limit) => {
            let limit = HumanDuration(limit).to_string();
            let text = format!("draining for at most {limit}");
            (limit, text)
        }
    };
    let (name, again) = match cause {
        Cause::Signal(signal) => (signal.to_string(), " (signal again to stop at once)"),
        _ => (String::new(), ""),
    };
    say!(
        log, info, { signal = name, limit = limit_text, delay_ms = millis(delay) },
        "{cause}, {delay_text}{draining}{again}"
    );
}

/// Notes a signal that a key sends: `^C` and `^\\`, which the terminal echoes (termios(3),
/// `ECHOCTL`).
pub(super) fn note_key(log: &Log, signal: Signal) {
    if matches!(signal, Signal::SIGINT | Signal::SIGQUIT) {
        log.key_pressed();
    }
}

/// Logs a first signal that arrives while the program is already stopping by itself.
pub(super) fn already_stopping(log: &Log, signal: Signal) {
    note_key(log, signal);
    say!(
        log,
        info,
        { signal = signal.to_string() },
        "{signal} received, already stopping (signal again to stop at once)"
    );
}

/// Logs that the program stays until its last figures have been read.
pub(super) fn awaits_scrape(log: &Log, limit: Duration) {
    let limit = HumanDuration(limit).to_string();
    say!(
        log,
        info,
        { limit = limit.clone() },
        "drained, waiting for the last figures to be read, for at most {limit}"
    );
}

/// Logs what the drain still waits for.
pub(super) fn progress(
    log: &Log,
    left: Counts,
    oldest: Option<&InFlight>,
    time_left: Option<Duration>,
) {
    let time_left = match time_left {
        Some(time) => format!("{} left", HumanDuration(Duration::from_secs(time.as_secs()))),
        None => "no limit".to_owned(),
    };
    say!(
        log, info,
        { requests = left.requests(), connections = left.connections(), tasks = left.tasks(),
          oldest = oldest.map(|it| Brief(it).to_string()) },
        "waiting for {left}{}; {time_left}", Oldest(oldest)
    );
}

/// Logs what is in flight. The log thread formats it: there may be a lot of it, and the sentinel
/// has limits to keep.
pub(super) fn in_flight(shared: &Arc<Shared>, signal: Signal) {
    let (told, counted) = (shared.clone(), shared.work.counts());
    let line = move |form| {
        let mut all = told.in_flight();
        all.retain(|work| !work.is_idle());
        let mut text = format!("{signal} received, in flight: ");
        // Hooks are not counted.
        if counted != Counts::default() || all.is_empty() {
            let _ = write!(text, "{counted}");
        }
        let mut text = text.trim_end().to_owned();
        let (first, between) = match form {
            Form::Event => (": ", "; "),
            Form::Lines => ("\n  ", "\n  "),
        };
        // Writing to a `String` cannot fail.
        let _ = write_list(&mut text, &all, first, between);
        text
    };
    let (requests, connections, tasks) =
        (counted.requests(), counted.connections(), counted.tasks());
    // Even if the program is quiet.
    shared.log.asked().write_by(
        level!(info),
        Box::new(line),
        Box::new(move |line: &str| {
            let signal = signal.to_string();
            tracing::info!(target: "graceful", signal, requests, connections, tasks, "{line}");
        }),
    );
}

pub(super) fn cleanup_impossible(log: &Log, error: &io::Error) {
    say!(
        log,
        error,
        { error = error.to_string() },
        "error: no thread to run the cleanup hooks on: {error}"
    );
}

/// Logs that a hook was cut while nothing ran on the program's own runtime.
pub(super) fn program_blocked(log: &Log) {
    say!(
        log,
        error,
        {},
        "error: the threads of the runtime are blocked: a hook cannot use what belongs to it, such \
         as the sockets of a connection pool"
    );
}

/// Logs the values of `keep` that have not been dropped when the process ends.
pub(super) fn left_behind(log: &Log, left: &Left) {
    let dropping = left.dropping.map(|it| format!("{it} is still being dropped"));
    let waiting =
        (!left.waiting.is_empty()).then(|| format!("never dropped: {}", left.waiting.join(", ")));
    let text = dropping.into_iter().chain(waiting).collect::<Vec<_>>().join("; ");
    if text.is_empty() {
        return;
    }
    let types: Vec<_> = left.dropping.iter().chain(&left.waiting).copied().collect();
    say!(log, error, { kept = types.join(", ") }, "error: kept values are left behind: {text}");
}

/// Logs the report.
pub(super) fn ended(log: &Log, report: &Report) {
    let (line, lines) = (report.line(), report.to_string());
    let text = Box::new(move |form| match form {
        Form::Event => line,
        Form::Lines => lines,
    });
    let (elapsed_ms, connections) = (millis(report.elapsed()), report.connections());
    let (requests, tasks, cut) = (report.requests(), report.tasks(), report.cut().len());
    /// The level of an event is part of its callsite, so each level needs its own.
    macro_rules! ended {
        ($level:ident) => {
            log.write_by(
                level!($level),
                text,
                Box::new(move |line: &str| {
                    tracing::$level!(
                        target: "graceful", elapsed_ms, connections, requests, tasks, cut, "{line}"
                    );
                }),
            )
        };
    }
    if report.cut().is_empty() {
        ended!(info);
    } else {
        ended!(error);
    }
    log.end_stop();
}

impl Log {
    /// Logs a failure of `main`, of a server, or of the start of the process.
    pub(crate) fn failed(&self, failure: &Failure) {
        let (line, report) = (failure.to_string(), failure.report());
        let error = line.clone();
        let event_report = report.clone();
        self.write_by(
            level!(error),
            Box::new(move |form| match (form, report) {
                (Form::Lines, Some(report)) => format!("error: {report}"),
                (Form::Event | Form::Lines, _) => format!("error: {line}"),
            }),
            Box::new(move |line: &str| {
                let report = event_report.map(tracing::field::display);
                tracing::error!(target: "graceful", error, report, "{line}");
            }),
        );
    }
}
