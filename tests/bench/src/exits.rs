//! From SIGTERM to the end of the process, by how many connections there are.

use std::{
    io::{Read, Write},
    path::Path,
    time::Duration,
};

use crate::{
    SERVERS,
    client::{ask_slow, connect, requests},
    plot::{DARK, LIGHT, Line, Panel, plot},
    process::{Build, Server, Subject},
    tls,
};

/// More of them need more than one address of the client, and more descriptors than most have.
const CONNECTIONS: [u64; 4] = [1_000, 2_000, 5_000, 10_000];
/// Each of these has a handshake.
const OVER_TLS: [u64; 3] = [500, 1_000, 2_000];
const ROUNDS: usize = 3;
/// Longer than any linger: quiet for good.
const QUIET: Duration = Duration::from_millis(400);

/// Prints a table and, if there is a folder, draws `exit.svg` and `exit-dark.svg` into it.
pub(crate) fn run(folder: Option<&str>) {
    let idle = measure("idle", "http", &CONNECTIONS, &SERVERS, |server, count| {
        let mut streams: Vec<_> = (0..count).map(|_| connect(server.addr)).collect();
        requests(&mut streams, count);
        quiet_stop(server, streams)
    });
    let busy = measure("busy", "http", &CONNECTIONS[..3], &SERVERS, |server, count| {
        let streams: Vec<_> = (0..count).map(|_| ask_slow(server.addr)).collect();
        let taken = server.stop();
        drop(streams);
        taken
    });
    let over_tls = measure("TLS", "tls", &OVER_TLS, &["bare", "graceful"], |server, count| {
        let mut streams: Vec<_> = (0..count).map(|_| tls::connect(server.addr)).collect();
        requests(&mut streams, count);
        quiet_stop(server, streams)
    });
    let Some(folder) = folder else { return };
    let panel = |title, x, lines| Panel { title, x_title: "connections", x, lines };
    let panels = [
        panel("Milliseconds from SIGTERM to exit: idle connections", &CONNECTIONS[..], &idle),
        panel("A request of 200 ms on each", &CONNECTIONS[..3], &busy),
        panel("Idle over TLS", &OVER_TLS[..], &over_tls),
    ];
    for (file, scheme) in [("exit.svg", &LIGHT), ("exit-dark.svg", &DARK)] {
        std::fs::write(Path::new(folder).join(file), plot(&panels, scheme)).expect("it is written");
    }
}

fn quiet_stop(server: Server, streams: Vec<impl Read + Write>) -> f64 {
    std::thread::sleep(QUIET);
    let taken = server.stop();
    drop(streams);
    taken
}

/// Medians, a line for each server.
fn measure(
    name: &str,
    kind: &'static str,
    places: &[u64],
    servers: &[&'static str],
    stop: impl Fn(Server, usize) -> f64,
) -> Vec<Line> {
    println!("\n| {name} | {} |\n|---|{}", servers.join(" | "), "---|".repeat(servers.len()));
    let colors = ["#8b949e", "#c80", "#b44", "#2da44e"];
    let name = |server| if server == "bare" { "dies" } else { server };
    let mut lines: Vec<Line> = servers
        .iter()
        .map(|&server| {
            let place = SERVERS.iter().position(|it| *it == server).unwrap_or(0);
            Line { name: name(server), color: colors[place], values: Vec::new() }
        })
        .collect();
    for &count in places {
        let mut rounds = vec![Vec::new(); servers.len()];
        // In turns: what else the machine does falls on all of them.
        for _ in 0..ROUNDS {
            for (&server, taken) in servers.iter().zip(&mut rounds) {
                let subject = Subject { server, kind, build: Build::Release };
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                taken.push(stop(Server::start(subject), count));
            }
        }
        print!("| {count} |");
        for (taken, line) in rounds.iter_mut().zip(&mut lines) {
            taken.sort_by(f64::total_cmp);
            let median = taken[ROUNDS / 2];
            print!(" {median:.1} ms |");
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ms")]
            line.values.push(median.round() as u32);
        }
        println!();
    }
    lines
}
