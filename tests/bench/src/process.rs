//! The server's process, and what it has used.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::{figures::Figure, tls};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) server: &'static str,
    /// What it speaks.
    pub(crate) kind: &'static str,
    pub(crate) build: Build,
}

/// How the servers are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// In one unit, without LTO: what is inlined hangs on as little as can be.
    Release,
    /// As cargo does it when nothing is said.
    Defaults,
    /// Thin LTO, one unit.
    Thin,
}

impl Build {
    fn profile(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Defaults => "defaults",
            Self::Thin => "thin",
        }
    }

    /// The folder in which cargo has a folder for each profile: this program is in one of them.
    fn target() -> PathBuf {
        let this = std::env::current_exe().expect("this program has a path");
        this.ancestors().nth(2).expect("in a profile's folder").to_owned()
    }
}

impl Subject {
    fn program(self) -> PathBuf {
        let program = match self.kind {
            // Each in a crate of its own.
            "service" => format!("graceful-bench-service-{}", self.server),
            _ => "graceful-bench-server".to_owned(),
        };
        Build::target().join(self.build.profile()).join(program)
    }
}

pub(crate) struct Server {
    subject: Subject,
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    pub(crate) fn start(subject: Subject) -> Self {
        Self::start_by(Command::new(subject.program()), subject)
    }

    /// One thread.
    pub(crate) fn start_single(subject: Subject) -> Self {
        let mut command = Command::new(subject.program());
        command.env("ONE_WORKER", "1");
        Self::start_by(command, subject)
    }

    /// One thread, under valgrind, which writes its counts to `out`.
    pub(crate) fn start_counted(subject: Subject, out: &str) -> Self {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--quiet", &format!("--callgrind-out-file={out}")])
            .arg(subject.program())
            .env("ONE_WORKER", "1");
        Self::start_by(command, subject)
    }

    fn start_by(mut command: Command, subject: Subject) -> Self {
        if subject.kind == "tls" {
            command.env("CERTIFICATE", tls::CERTIFICATE.as_os_str());
        }
        let mut child = command
            .args([subject.server, subject.kind])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        // graceful says it on stderr, the others on stdout.
        let pipe: Box<dyn std::io::Read> = if subject.server == "graceful" {
            Box::new(child.stderr.take().expect("a pipe"))
        } else {
            Box::new(child.stdout.take().expect("a pipe"))
        };
        let mut lines = BufReader::new(pipe).lines();
        let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains("listening on"));
        let line = line.expect("it listens");
        let addr =
            line.split_once("://").expect("an address").1.trim().parse().expect("an address");
        // Kept open: a server must not meet a closed pipe.
        std::mem::forget(lines);
        Self { subject, child, addr }
    }

    /// Nanoseconds of CPU time, of all threads that there are (none of these servers ends one while
    /// it serves).
    pub(crate) fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten();
        // The first of three numbers is the time on a processor (proc_schedstat, sched-stats.rst).
        let time = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<f64>().ok()
        };
        tasks.flatten().filter_map(time).sum()
    }

    /// Resident bytes.
    pub(crate) fn resident(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|it| it.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) * 1024.0
    }

    pub(crate) fn terminate(&self) -> Instant {
        let now = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        now
    }

    /// Runs `f` while the process is stopped for its first 300 ms.
    pub(crate) fn asleep<T>(&self, f: impl FnOnce() -> T) -> T {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("it runs");
        let alarm = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            kill_process(pid, Signal::CONT).expect("it runs");
        });
        let result = f();
        alarm.join().expect("it sleeps and wakes another");
        result
    }

    /// Waits for the end, which is a good one: a server that has crashed, or was cut, has no
    /// figures. The one without any shutdown code dies of the signal.
    pub(crate) fn gone(mut self) -> Instant {
        let status = self.child.wait().expect("it ends");
        let now = Instant::now();
        let by_signal = status.signal() == Some(Signal::TERM.as_raw());
        let is_bare = self.subject.server == "bare";
        assert!(status.success() || is_bare && by_signal, "the server has ended with {status}");
        now
    }

    /// From SIGTERM to the end, in milliseconds.
    pub(crate) fn stop(self) -> f64 {
        let start = self.terminate();
        millis(self.gone() - start)
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Without it there are no counts.
pub(crate) fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// Builds the servers, as they are now: `cargo run` builds this program alone.
pub(crate) fn build_servers<'a>(figures: impl IntoIterator<Item = &'a Figure>) {
    // Set by cargo; by hand, what lies beside this program is taken.
    let Some(cargo) = std::env::var_os("CARGO") else {
        return;
    };
    let mut built = Vec::new();
    for figure in figures {
        let what: &[&str] = match figure.kind {
            "service" => &["--package", "graceful-bench-service"],
            _ => &["--package", "graceful-bench", "--bin", "graceful-bench-server"],
        };
        if built.contains(&(figure.build, what)) {
            continue;
        }
        built.push((figure.build, what));
        let status = Command::new(&cargo)
            .args(["build", "--quiet", "--profile", figure.build.profile()])
            .args(what)
            .args(["--target-dir".as_ref(), Build::target().as_os_str()])
            .status();
        assert!(status.expect("cargo runs").success(), "the servers build");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where a measure has failed it is still there; else this finds nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ten thousand connections need as many descriptors.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if setrlimit(Resource::Nofile, raised).is_err() {
        println!(
            "the limit of open files cannot be raised: figures with many connections may fail"
        );
    }
}
