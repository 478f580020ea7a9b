//! A stop, by Ctrl-C at a terminal: the same everywhere.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use graceful_tests::{Client, PATIENCE, terminal::Tmux};

use crate::{AARCH64, MUSL, Target};

/// The program at a terminal.
pub(super) struct Running {
    tmux: Tmux,
    addr: SocketAddr,
    /// Of `listen`.
    echo: SocketAddr,
}

impl Running {
    pub(super) fn start(tmux: &str, command: &str) -> Option<Self> {
        let tmux = Tmux::start(tmux)?;
        let command = format!("{command}; echo exit $?; sleep 60");
        tmux.run(&["new-session", "-d", "-x", "150", "-y", "40", &command]);
        let screen = tmux.wait_for("listening on tcp://");
        let addr = |scheme: &str| {
            let rest = screen.split_once(scheme).unwrap().1;
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        Some(Self { addr: addr("http://"), echo: addr("tcp://"), tmux })
    }

    fn ctrl_c(&self) {
        self.tmux.run(&["send-keys", "C-c"]);
    }

    /// Returns the last screen.
    fn ends_with(&self, code: i32) -> String {
        self.tmux.wait_for(&format!("exit {code}\n"))
    }
}

#[track_caller]
fn refused(addr: SocketAddr) {
    let start = Instant::now();
    while Client::try_connect(addr).is_ok() {
        assert!(start.elapsed() < PATIENCE, "clients are still let in");
    }
}

/// What a stop has to do. `tmux` is the end of its terminals' names.
pub(super) fn everything(tmux: &str, command: &str) {
    let start = |name: &str, settings: &str| {
        Running::start(&format!("{name}-{tmux}"), &format!("{settings} {command}"))
    };

    // A request in flight is answered, new clients are refused, the rest has its turn.
    let Some(running) = start("drain", "") else { return };
    let mut client = Client::connect(running.addr);
    client.get("/slow");
    running.tmux.wait_for("slow begins");
    let mut echo = Client::connect(running.echo);
    echo.send("a");
    assert_eq!(echo.read_until(|bytes| (!bytes.is_empty()).then_some(1)).unwrap(), 1);
    running.ctrl_c();
    running.tmux.wait_for("SIGINT received, draining for at most 5s");
    refused(running.addr);
    let response = client.response();
    assert_eq!((response.text().as_str(), response.closes()), ("slow", true));
    let screen = running.ends_with(0);
    for line in ["task is told", "hook runs", "drained 1 request, "] {
        assert!(screen.contains(line), "{line} is missing in:\n{screen}");
    }

    // The limit cuts and names, also where no worker turns.
    for (path, named) in [("/endless", "GET /endless from 127.0.0.1"), ("/block", "GET /block")] {
        let Some(running) = start("limit", "TIMEOUT=1s") else { return };
        // More than there are workers, here.
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(running.addr)).collect();
        for client in &mut clients {
            client.get(path);
        }
        if path == "/endless" {
            running.tmux.wait_for("endless begins");
        } else {
            // Nothing is said by a worker that blocks.
            std::thread::sleep(Duration::from_millis(500));
        }
        running.ctrl_c();
        running.tmux.wait_for("SIGINT received");
        let begins = Instant::now();
        let screen = running.ends_with(124);
        assert!(screen.contains("limit of 1s reached, cut off:"), "{screen}");
        assert!(screen.contains(named), "{screen}");
        // Timeout and cleanup, and a busy machine.
        assert!(begins.elapsed() < Duration::from_secs(3 + 3), "{:?}", begins.elapsed());
    }

    // The second one ends it at once.
    let Some(running) = start("second", "") else { return };
    let mut client = Client::connect(running.addr);
    client.get("/endless");
    running.tmux.wait_for("endless begins");
    running.ctrl_c();
    running.tmux.wait_for("SIGINT received, draining");
    // Within 200 ms it would count as the first.
    std::thread::sleep(Duration::from_millis(300));
    running.ctrl_c();
    let screen = running.ends_with(128 + 2);
    assert!(screen.contains("stopped at once"), "{screen}");

    // And from code.
    let Some(running) = start("code", "") else { return };
    assert_eq!(Client::connect(running.addr).fetch("/stop").status, 200);
    let screen = running.ends_with(0);
    assert!(screen.contains("stop requested"), "{screen}");
}

fn on(target: Target) {
    if target.can() {
        let program = target.build("graceful-anywhere", "tests/anywhere");
        everything(target.name, &command(target, &program));
    }
}

/// As a shell takes it.
pub(super) fn command(target: Target, program: &Path) -> String {
    format!("{} {}", target.runner.join(" "), program.display())
}

#[test]
fn with_musl() {
    on(MUSL);
}

#[test]
fn on_aarch64() {
    on(AARCH64);
}
