//! Requests that are lost in 20 restarts, beside what people would use instead: drawn for the
//! README.
//!
//! 64 clients on loopback, half of them with a connection for as long as it is kept, half with one
//! for each request, pause for up to 3 ms between two requests and never retry. A request is lost
//! when it has been sent and its answer does not come, whole.
//!
//! `cargo run --release -p graceful-bench --bin restarts [FOLDER]` prints a table in a minute, and
//! draws `restarts.svg` and `restarts-dark.svg` into the folder. Build the bench first; needs Go
//! for its row.

#[path = "../bars.rs"]
mod bars;
#[path = "../peer.rs"]
mod peer;

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

const CLIENTS: u32 = 64;
const RESTARTS: u32 = 20;
/// No answer takes so long.
const PATIENCE: Duration = Duration::from_secs(5);

struct Row {
    name: &'static str,
    answered: u32,
    lost: u32,
}

fn main() -> ExitCode {
    let own = std::env::current_exe().expect("this program has a path");
    let server = own.with_file_name("graceful-bench-server");
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let ours = |name: &'static str| {
        let mut command = Command::new(&server);
        command.args([name, "http"]);
        command
    };
    let mut rows = Vec::new();
    for (name, command) in [
        ("Go", go(&peers).map(Command::new)),
        ("actix-web", actix(&peers).map(Command::new)),
        ("axum", Some(ours("axum"))),
        ("hyper-util", Some(ours("hyper-util"))),
        ("graceful", Some(ours("graceful"))),
    ] {
        let Some(mut command) = command else {
            eprintln!("{name} could not be built");
            return ExitCode::FAILURE;
        };
        let row = measure(name, &mut command);
        println!("{name}: {} lost of {}", row.lost, row.lost + row.answered);
        rows.push(row);
    }
    if let Some(folder) = std::env::args().nth(1) {
        let title = format!(
            "Requests lost in {RESTARTS} restarts under {CLIENTS} clients that never retry"
        );
        let rows: Vec<_> = rows.iter().map(|row| (row.name, row.lost)).collect();
        bars::draw(&folder, "restarts", &title, &rows);
    }
    ExitCode::SUCCESS
}

fn go(peers: &Path) -> Option<PathBuf> {
    let out = std::env::temp_dir().join(format!("graceful-peer-go-{}", std::process::id()));
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&out).arg("main.go").current_dir(peers.join("go"));
    build.status().is_ok_and(|status| status.success()).then_some(out)
}

fn actix(peers: &Path) -> Option<PathBuf> {
    let target = std::env::temp_dir().join("graceful-peer-actix");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--release", "--target-dir"]).arg(&target);
    build.current_dir(peers.join("actix"));
    build.status().is_ok_and(|status| status.success()).then(|| target.join("release/peer-actix"))
}

fn measure(name: &'static str, command: &mut Command) -> Row {
    let (answered, lost) = (AtomicU32::new(0), AtomicU32::new(0));
    for restart in 0..RESTARTS {
        let (mut child, addr) = start(command);
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (answered, lost) = (&answered, &lost);
                scope.spawn(move || client(addr, number, answered, lost));
            }
            // Somewhere in the middle of what they do.
            thread::sleep(Duration::from_millis(150 + u64::from(restart) * 7));
            kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        });
        child.wait().expect("it ends");
    }
    Row { name, answered: answered.into_inner(), lost: lost.into_inner() }
}

fn start(command: &mut Command) -> (Child, SocketAddr) {
    let (child, lines) = peer::start(command);
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("it listens");
        if let Some((_, addr)) = line.split_once("listening on http://") {
            return (child, addr.trim().parse().expect("an address"));
        }
    }
}

/// Asks until nobody listens any more.
fn client(addr: SocketAddr, number: u32, answered: &AtomicU32, lost: &AtomicU32) {
    let keeps = number.is_multiple_of(2);
    let mut kept: Option<TcpStream> = None;
    for request in 0_u32.. {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(addr) {
                Ok(stream) => stream,
                Err(_) => return,
            },
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        match peer::ask(&mut stream, true) {
            Some(closes) => {
                answered.fetch_add(1, Ordering::Relaxed);
                kept = (keeps && !closes).then_some(stream);
            }
            None => _ = lost.fetch_add(1, Ordering::Relaxed),
        }
        // Up to 3 ms, another for each.
        thread::sleep(Duration::from_micros(u64::from((number * 977 + request * 613) % 3_000)));
    }
}
