//! Prints what four servers cost, as ratios to a bare hyper loop: all of them in one run, taking
//! turns, with the clients in this process on bare sockets.
//!
//! `cargo run --release -p graceful-bench`; with the argument `quick`, a run of a few minutes. Any
//! other argument is a part of the names of the figures that are wanted, but for `gate`
//! (instructions alone, and a failure where they have risen) and `exits [FOLDER]` (from SIGTERM to
//! the end, by the number of connections: a table and a plot).

mod callgrind;
mod client;
mod exits;
mod figures;
mod http2;
mod measures;
mod plot;
mod process;
mod tls;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use figures::{FIGURES, Figure, Reading, Scale};
use process::{Build, Subject};

/// The servers, the yardstick first.
const SERVERS: [&str; 4] = ["bare", "hyper-util", "axum", "graceful"];

fn main() -> ExitCode {
    let (quick, wanted): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|arg| arg == "quick");
    let scale = if quick.is_empty() { Scale::FULL } else { Scale::QUICK };
    if wanted == ["gate"] {
        return gate(&scale);
    }
    if let ["exits", folder @ ..] = &wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        process::build_servers(FIGURES.iter().find(|figure| figure.kind == "http"));
        process::raise_file_limit();
        exits::run(folder.first().copied());
        return ExitCode::SUCCESS;
    }
    // To build the servers in other ways takes longer than all else in a quick run.
    let is_wanted = |figure: &&Figure| match &wanted[..] {
        [] => quick.is_empty() || figure.build == Build::Release,
        parts => parts.iter().any(|part| figure.name.contains(part.as_str())),
    };
    let figures: Vec<_> = FIGURES.iter().filter(is_wanted).collect();
    process::build_servers(figures.iter().copied());
    process::raise_file_limit();
    println!("| figure | {} |", SERVERS.join(" | "));
    println!("|---|{}", "---|".repeat(SERVERS.len()));
    let mut failures = Vec::new();
    for figure in figures {
        let mut rows = [const { Vec::new() }; SERVERS.len()];
        // In turns, each time another first: what else the machine does falls on all of them.
        for round in 0..if figure.exact { 1 } else { scale.rounds } {
            for turn in 0..SERVERS.len() {
                let number = (round + turn) % SERVERS.len();
                match measured(figure, SERVERS[number], &scale) {
                    Ok(value) => rows[number].push(value),
                    // One that has crashed, or has failed a client, has no figure at all.
                    Err(failure) => {
                        rows[number].push(Some(f64::NAN.into()));
                        failures.push(format!("{}, {}: {failure}", SERVERS[number], figure.name));
                    }
                }
            }
        }
        let rows = rows.map(|values| Values::of(values.into_iter().flatten().collect()));
        println!("| {} | {} |", figure.name, cells(figure, &rows).join(" | "));
    }
    for failure in &failures {
        println!("\nFAILED: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One round. Whatever goes wrong in it panics, here or in the thread of a client.
fn measured(
    figure: &Figure,
    server: &'static str,
    scale: &Scale,
) -> Result<Option<Reading>, String> {
    let subject = Subject { server, kind: figure.kind, build: figure.build };
    let measure = AssertUnwindSafe(|| (figure.measure)(subject, scale));
    catch_unwind(measure).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        text.unwrap_or_default()
    })
}

/// How much a ratio may rise.
const TOLERANCE: f64 = 1.01;

/// The figures that repeat, as a check: a change that makes every request dearer is seen.
fn gate(scale: &Scale) -> ExitCode {
    let gated = || FIGURES.iter().filter_map(|figure| Some((figure, figure.gate?)));
    process::build_servers(gated().map(|(figure, _)| figure));
    let mut has_risen = false;
    for (figure, gate) in gated() {
        let [bare, ours] = ["bare", "graceful"]
            .map(|server| measured(figure, server, scale).ok()??.without_allocator);
        let (Some(bare), Some(ours)) = (bare, ours) else {
            println!("{}: there are no counts: is valgrind installed?", figure.name);
            return ExitCode::FAILURE;
        };
        let (ratio, most) = (ours / bare, gate * TOLERANCE);
        println!("{}: {bare:.0}, ours {ours:.0}: ×{ratio:.3}, at most ×{most:.3}", figure.name);
        has_risen |= ratio > most;
    }
    if has_risen { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the rounds of one server have shown.
enum Values {
    /// There is no such figure of it.
    None,
    Failed,
    Some {
        median: Reading,
        most: f64,
    },
}

impl Values {
    fn of(mut values: Vec<Reading>) -> Self {
        values.sort_by(|a, b| a.value.total_cmp(&b.value));
        match values.last() {
            None => Self::None,
            Some(most) if most.value.is_nan() => Self::Failed,
            Some(most) => Self::Some { median: values[values.len() / 2], most: most.value },
        }
    }
}

/// The yardstick in units, the others as ratios or, where that says more, in units, too; in
/// brackets the instructions outside of the allocator, or the worst round.
fn cells(figure: &Figure, rows: &[Values]) -> Vec<String> {
    let cell = |(number, values): (usize, &Values)| match (values, &rows[0]) {
        (Values::None, _) => "-".to_owned(),
        (Values::Failed, _) => "failed".to_owned(),
        (Values::Some { median, .. }, Values::Some { median: bare, .. })
            if number > 0 && figure.ratio =>
        {
            let ratio = format!("×{:.3}", median.value / bare.value);
            match (median.without_allocator, bare.without_allocator) {
                (Some(ours), Some(bare)) => format!("{ratio} (×{:.3})", ours / bare),
                _ => ratio,
            }
        }
        (Values::Some { median, most }, _) => {
            let (digits, value) = (figure.digits, median.value);
            let beside = match median.without_allocator {
                Some(count) => format!(" ({count:.0})"),
                None if figure.worst => format!(" (at most {most:.digits$})"),
                None => String::new(),
            };
            format!("{value:.digits$} {}{beside}", figure.unit).trim().to_owned()
        }
    };
    rows.iter().enumerate().map(cell).collect()
}
