//! The endpoint race of Kubernetes, simulated with real processes on loopback.
//!
//! Two instances of a server stand behind 16 nodes, each of which sends them requests in turn, a
//! connection each. One instance is told to stop; the nodes hear of that between 0 and 5 s later,
//! evenly spread, and then send it nothing more. How many requests are lost, by how long the
//! instance goes on accepting: by `delay`; and axum by a `preStop` that sleeps for as long, and
//! without one.
//!
//! `cargo run --release -p graceful-bench --bin endpoint-race [FILE.svg]`: prints a table in a
//! minute or two, and draws it.

#[path = "../plot.rs"]
mod plot;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use plot::{LIGHT, Line, Panel, plot};

/// How many nodes there are, and when the last of them hears of the stop.
const NODES: u32 = 16;
const LAST: Duration = Duration::from_secs(5);
/// Between two requests of a node.
const EVERY: Duration = Duration::from_millis(50);
/// How long the instance goes on accepting.
const DELAYS: [u64; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Graceful,
    /// With a `preStop` in the place of `delay`.
    Axum,
}

struct Instance {
    child: Child,
    addr: SocketAddr,
}

impl Instance {
    fn start(server: Server, delay: Duration) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let name = if server == Server::Graceful { "graceful" } else { "axum" };
        let mut child = Command::new(program.with_file_name("graceful-bench-server"))
            .args([name, "http"])
            .env("DELAY", format!("{}ms", delay.as_millis()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts: `cargo build --release -p graceful-bench`");
        let out = child.stdout.take().expect("it is a pipe");
        let err = child.stderr.take().expect("it is a pipe");
        let line = first_address(out, err);
        Self { child, addr: line }
    }
}

/// From whichever of the two pipes it is said in.
fn first_address(out: impl Read + Send + 'static, err: impl Read + Send + 'static) -> SocketAddr {
    let (found, addr) = std::sync::mpsc::channel();
    let pipes: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(err)];
    for pipe in pipes {
        let found = found.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let word = line.split_whitespace().last().unwrap_or_default();
                if let Ok(addr) = word.trim_start_matches("http://").parse() {
                    // Only the first is waited for.
                    let _ = found.send(addr);
                }
            }
        });
    }
    addr.recv_timeout(Duration::from_secs(20)).expect("it says where it listens")
}

/// How many requests are lost where the instance accepts for `delay` longer than it has to.
fn lost(server: Server, delay: Duration) -> u32 {
    let mut stopping = Instance::start(server, delay);
    let mut staying = Instance::start(server, Duration::ZERO);
    let both = [stopping.addr, staying.addr];
    let start = Instant::now();
    let nodes: Vec<_> = (0..NODES)
        .map(|node| {
            let hears = start + LAST * node / (NODES - 1);
            thread::spawn(move || requests(both, hears, start + LAST + Duration::from_secs(1)))
        })
        .collect();
    let pid = Pid::from_child(&stopping.child);
    if server == Server::Axum {
        // `preStop` comes before the signal.
        thread::sleep(delay);
    }
    kill_process(pid, Signal::TERM).expect("it runs");
    let lost = nodes.into_iter().map(|node| node.join().expect("a node")).sum();
    for instance in [&mut stopping, &mut staying] {
        // It may be gone, which is as good.
        let _ = instance.child.kill();
        let _ = instance.child.wait();
    }
    lost
}

fn requests(both: [SocketAddr; 2], hears: Instant, end: Instant) -> u32 {
    let mut lost = 0;
    for number in 0.. {
        let now = Instant::now();
        if now >= end {
            break;
        }
        let addr = if now < hears { both[number % 2] } else { both[1] };
        lost += u32::from(request(addr).is_err());
        thread::sleep(EVERY.saturating_sub(now.elapsed()));
    }
    lost
}

fn request(addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

fn main() -> ExitCode {
    let mut all: Vec<[u32; 2]> = Vec::new();
    // A few at a time: each is some 300 requests a second.
    for delays in DELAYS.chunks(4) {
        let runs: Vec<_> = delays
            .iter()
            .map(|&delay| {
                let delay = Duration::from_secs(delay);
                [Server::Graceful, Server::Axum]
                    .map(|server| thread::spawn(move || lost(server, delay)))
            })
            .collect();
        let row = |run: [thread::JoinHandle<u32>; 2]| run.map(|it| it.join().expect("a run"));
        all.extend(runs.into_iter().map(row));
    }
    let mut table = String::from(
        "| seconds | graceful, `delay` | axum, `preStop` | axum alone |\n|---|---|---|---|\n",
    );
    let alone = all[0][1];
    for (delay, [graceful, axum]) in DELAYS.iter().zip(&all) {
        // A `String` takes everything.
        let _ = writeln!(table, "| {delay} | {graceful} | {axum} | {alone} |");
    }
    print!("{table}");
    if let Some(file) = std::env::args().nth(1) {
        let line = |name, color, value: &dyn Fn(&[u32; 2]) -> u32| Line {
            name,
            color,
            values: all.iter().map(value).collect(),
        };
        let lines = [
            line("axum alone", "#b44", &|_| alone),
            line("axum, preStop: sleep", "#c80", &|row| row[1]),
            line("graceful, delay", "#27b", &|row| row[0]),
        ];
        let panel = Panel {
            title: "Requests lost",
            x_title: "seconds for which the instance goes on accepting",
            x: &DELAYS,
            lines: &lines,
        };
        if let Err(error) = std::fs::write(&file, plot(&[panel], &LIGHT)) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
