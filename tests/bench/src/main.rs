//! Prints what four servers cost, as ratios to a bare hyper loop: all of them in one run, taking
//! turns, with the clients in this process on bare sockets.
//!
//! `cargo run --release -p graceful-bench`; with the argument `quick`, a run of a minute. Any other
//! argument is a part of the names of the figures that are wanted, but for `gate`: instructions alone,
//! and a failure where they have risen.

mod client;
mod figures;
mod http2;
mod process;

use std::process::ExitCode;

use figures::{FIGURES, Figure, Scale};

/// The servers, the yardstick first.
const SERVERS: [&str; 4] = ["bare", "hyper-util", "axum", "graceful"];

fn main() -> ExitCode {
    let (quick, wanted): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|arg| arg == "quick");
    let scale = if quick.is_empty() { Scale::FULL } else { Scale::QUICK };
    let is_wanted = |figure: &&Figure| {
        wanted.is_empty() || wanted.iter().any(|part| figure.name.contains(part.as_str()))
    };
    process::build_servers();
    if wanted == ["gate"] {
        return gate(&scale);
    }
    process::raise_file_limit();
    println!("| figure | {} |", SERVERS.join(" | "));
    println!("|---|{}", "---|".repeat(SERVERS.len()));
    for figure in FIGURES.iter().filter(is_wanted) {
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); SERVERS.len()];
        // In turns, each time another first: what else the machine does falls on all of them.
        for round in 0..if figure.exact { 1 } else { scale.rounds } {
            for turn in 0..SERVERS.len() {
                let server = (round + turn) % SERVERS.len();
                values[server].extend((figure.measure)(SERVERS[server], &scale));
            }
        }
        let medians: Vec<_> = values.into_iter().map(median).collect();
        println!("| {} | {} |", figure.name, cells(figure, &medians).join(" | "));
    }
    ExitCode::SUCCESS
}

/// What the instructions per request may be, as a ratio to the bare loop's: as they were when this was
/// written, and 3 % more.
const GATE: f64 = 1.10 * 1.03;

/// The one figure that repeats, as a check: a change that makes every request dearer is seen.
fn gate(scale: &Scale) -> ExitCode {
    let [bare, ours] = ["bare", "graceful"].map(|server| figures::instructions(server, scale));
    let (Some(bare), Some(ours)) = (bare, ours) else {
        println!("there are no counts: is valgrind installed?");
        return ExitCode::FAILURE;
    };
    let ratio = ours / bare;
    println!(
        "instructions per request: {bare:.0}, ours {ours:.0}: ×{ratio:.3}, at most ×{GATE:.3}"
    );
    if ratio > GATE { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The yardstick in units, the others as ratios or, where that says more, in units, too.
fn cells(figure: &Figure, medians: &[Option<f64>]) -> Vec<String> {
    let bare = medians[0];
    let cell = |(i, value): (usize, &Option<f64>)| match (value, bare) {
        (None, _) => "-".to_owned(),
        (Some(value), Some(bare)) if i > 0 && figure.ratio => format!("×{:.3}", value / bare),
        (Some(value), _) => format!("{value:.*} {}", figure.digits, figure.unit).trim().to_owned(),
    };
    medians.iter().enumerate().map(cell).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
