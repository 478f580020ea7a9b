//! A new version in the place of the old one, beside what people do instead: connections closed,
//! requests lost, clients refused.
//!
//! 64 clients on loopback, half of them on one connection and half with one for each request, pause
//! for up to 3 ms between two requests and never send one again; 20 times the server is replaced by
//! its next version under them:
//!
//! - this crate's upgrade, by the example `upgrade`;
//! - axum, by a second process that listens at the same port (`SO_REUSEPORT`), and then SIGTERM to
//!   the first;
//! - nginx, by its binary upgrade (SIGUSR2, then SIGQUIT to the old master process).
//!
//! `cargo run --release -p graceful-bench --bin upgrades [FOLDER]` prints a table in half a minute,
//! and draws `upgrades.svg` and `upgrades-dark.svg` into the folder. Needs nginx for its row.

#[path = "../bars.rs"]
mod bars;
#[path = "../peer.rs"]
mod peer;

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const CLIENTS: u32 = 64;
const UPGRADES: u32 = 20;
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let server = std::env::current_exe().expect("this program has a path");
    let server = server.with_file_name("graceful-bench-server");
    println!("| | answered | lost | refused | connections closed |\n|---|---|---|---|---|");
    let rows = [
        ("graceful", measure("graceful", &mut Graceful::start())),
        ("axum", measure("axum, SO_REUSEPORT", &mut Axum::start(&server))),
        ("nginx", measure("nginx, binary upgrade", &mut Nginx::start())),
    ];
    if let Some(folder) = std::env::args().nth(1) {
        let title = format!(
            "Connections closed in {UPGRADES} upgrades under {} clients on one each",
            CLIENTS / 2
        );
        bars::draw(&folder, "upgrades", &title, &rows);
    }
}

/// A server that can be replaced by its next version.
trait Upgrades {
    fn addr(&self) -> SocketAddr;

    /// Returns when the old version has ended.
    fn upgrade(&mut self);
}

#[derive(Default)]
struct Tally {
    answered: AtomicU32,
    lost: AtomicU32,
    refused: AtomicU32,
    closed: AtomicU32,
}

/// Prints the row, and returns how many connections were closed.
fn measure(name: &str, server: &mut dyn Upgrades) -> u32 {
    let (tally, over) = (Tally::default(), AtomicBool::new(false));
    let addr = server.addr();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tally, over) = (&tally, &over);
            scope.spawn(move || client(addr, number, tally, over));
        }
        for upgrade in 0..UPGRADES {
            thread::sleep(Duration::from_millis(150 + u64::from(upgrade) * 7));
            server.upgrade();
        }
        over.store(true, Ordering::Relaxed);
    });
    let Tally { answered, lost, refused, closed } = tally;
    let [answered, lost, refused, closed] =
        [answered, lost, refused, closed].map(AtomicU32::into_inner);
    println!("| {name} | {answered} | {lost} | {refused} | {closed} |");
    closed
}

fn client(addr: SocketAddr, number: u32, tally: &Tally, over: &AtomicBool) {
    let count = |counter: &AtomicU32| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let keeps = number.is_multiple_of(2);
    let mut kept: Option<TcpStream> = None;
    for request in 0_u32.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let reused = kept.is_some();
        let Ok(mut stream) = kept.take().map_or_else(|| TcpStream::connect(addr), Ok) else {
            count(&tally.refused);
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        if reused && has_ended(&stream) {
            // As a pool does: it is not used again.
            count(&tally.closed);
            continue;
        }
        let answer = peer::ask(&mut stream, keeps);
        count(if answer.is_some() { &tally.answered } else { &tally.lost });
        // Without an answer there is no connection either.
        let closes = answer.unwrap_or(true);
        if keeps && closes {
            count(&tally.closed);
        }
        kept = (keeps && !closes).then_some(stream);
        thread::sleep(Duration::from_micros(u64::from((number * 977 + request * 613) % 3_000)));
    }
}

fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let nothing =
        matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("a socket");
    !nothing
}

/// A process that is killed with this, and its lines.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let (child, lines) = peer::start(command);
        Self { child, lines }
    }

    fn line(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the server says so");
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone in this moment is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("the number of a process")
}

fn gone(number: u32) {
    let started = Instant::now();
    let is_there = || {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z')
    };
    while is_there() {
        assert!(started.elapsed() < PATIENCE, "process {number} has not ended");
        thread::sleep(Duration::from_millis(1));
    }
}

struct Graceful {
    /// Of which the pipes are those of all.
    first: Running,
    now: u32,
    addr: SocketAddr,
}

impl Graceful {
    fn start() -> Self {
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "--release", "-p", "graceful-examples"]);
        build.args(["--example", "upgrade"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().is_ok_and(|status| status.success()), "the example is built");
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(own.with_file_name("examples").join("upgrade"));
        let first = Running::start(command.env("ADDR", "127.0.0.1:0"));
        let line = first.line("listening on http://");
        let addr = line.rsplit("//").next().and_then(|addr| addr.parse().ok());
        Self { now: first.child.id(), first, addr: addr.expect("an address") }
    }
}

impl Upgrades for Graceful {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn upgrade(&mut self) {
        kill_process(pid(self.now), Signal::USR2).expect("it runs");
        let line = self.first.line("has taken over");
        let next = line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        gone(std::mem::replace(&mut self.now, next.expect("the number of a process")));
    }
}

impl Drop for Graceful {
    fn drop(&mut self) {
        let _ = kill_process(pid(self.now), Signal::KILL);
    }
}

struct Axum {
    server: PathBuf,
    addr: SocketAddr,
    now: Running,
}

impl Axum {
    fn start(server: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let addr = free.expect("a free port");
        let now = Self::run(server, addr);
        Self { server: server.to_owned(), addr, now }
    }

    fn run(server: &Path, addr: SocketAddr) -> Running {
        let mut command = Command::new(server);
        let running =
            Running::start(command.args(["axum", "http"]).env("SHARED", addr.to_string()));
        running.line("listening on http://");
        running
    }
}

impl Upgrades for Axum {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn upgrade(&mut self) {
        let next = Self::run(&self.server, self.addr);
        let mut old = std::mem::replace(&mut self.now, next);
        kill_process(pid(old.child.id()), Signal::TERM).expect("it runs");
        old.child.wait().expect("it ends");
    }
}

struct Nginx {
    folder: PathBuf,
    addr: SocketAddr,
}

impl Nginx {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let addr = free.expect("a free port");
        let folder = std::env::temp_dir().join(format!("graceful-upgrades-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let config = format!(
            "worker_processes 2;\npid {0}/pid;\nerror_log {0}/log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  \
             server {{\n    listen {addr};\n    keepalive_requests 1000000;\n    \
             location / {{ return 200 \"Hello world!\"; }}\n  }}\n}}\n",
            folder.display()
        );
        fs::write(folder.join("conf"), config).expect("it is written");
        // By its whole path: it runs itself again. As a daemon: as a child of the process that it
        // was started by it would take the signal for one to its new version.
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("conf"));
        command.arg("-e").arg(folder.join("log"));
        assert!(command.status().is_ok_and(|status| status.success()), "nginx starts");
        let this = Self { folder, addr };
        until(|| TcpStream::connect(addr).is_ok() && this.pid("pid").is_some());
        this
    }

    fn pid(&self, file: &str) -> Option<u32> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "nginx does not come so far");
        thread::sleep(Duration::from_millis(2));
    }
}

impl Upgrades for Nginx {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn upgrade(&mut self) {
        let old = self.pid("pid").expect("nginx has a pid file");
        kill_process(pid(old), Signal::USR2).expect("it runs");
        until(|| self.pid("pid").is_some_and(|now| now != old));
        // Its workers are there a moment later, which nothing says.
        thread::sleep(Duration::from_millis(100));
        kill_process(pid(old), Signal::QUIT).expect("it runs");
        gone(old);
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(now) = self.pid("pid") {
            let _ = kill_process(pid(now), Signal::TERM);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
