//! Fixture programs as real processes.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, PipeWriter, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Once,
        atomic::AtomicBool,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Client, PATIENCE};

/// A program that is about to be started.
#[derive(Debug)]
pub struct Fixture {
    program: PathBuf,
    name: Option<&'static str>,
    env: HashMap<String, String>,
    stderr: Option<PipeWriter>,
}

/// A program that runs, and is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    /// Those that no wait has passed yet.
    ahead: Vec<Line>,
    seen: Vec<String>,
    ended: Receiver<(Instant, ExitStatus)>,
    status: Option<(Instant, ExitStatus)>,
}

impl Fixture {
    /// A program that is no fixture.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        take_back_ignored_signals();
        // These tests may run in a container, whose engine would kill sooner than some of them
        // stop.
        let env = [("ADDR", "127.0.0.1:0"), ("GRACEFUL_GRACE_PERIOD", "none")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { program: program.into(), name: None, env, stderr: None }
    }

    /// The fixture of this name. `fixtures` is the path of their one program: see `fixture!`.
    #[must_use]
    pub fn new(fixtures: &str, name: &'static str) -> Self {
        Self { name: Some(name), ..Self::program(fixtures) }
    }

    /// The example of this name, built now: what lies beside the fixtures may be of an earlier day.
    #[must_use]
    pub fn example(fixtures: &str, name: &str) -> Self {
        static BUILT: Once = Once::new();
        let profile = Path::new(fixtures).parent().expect("in a folder");
        BUILT.call_once(|| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            cargo.args([
                "build",
                "--quiet",
                "--workspace",
                "--examples",
                "--features",
                "sqlite",
                "--target-dir",
            ]);
            cargo.arg(profile.parent().expect("in the target folder"));
            cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().expect("cargo runs").success(), "the examples build");
        });
        Self::program(profile.join("examples").join(name))
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Has it write its messages into this pipe.
    #[must_use]
    pub fn stderr(mut self, writer: &PipeWriter) -> Self {
        self.stderr = Some(writer.try_clone().expect("a descriptor"));
        self
    }

    /// Starts the program.
    #[must_use]
    pub fn spawn(self) -> Process {
        self.spawn_by(Command::new)
    }

    /// Starts the program by a command that runs it in another way. The command passes on the
    /// argument that follows: the name of the fixture.
    pub fn spawn_by(self, command: impl FnOnce(PathBuf) -> Command) -> Process {
        let child = command(self.program)
            .args(self.name)
            .envs(self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.stderr.map_or_else(Stdio::piped, Stdio::from))
            .spawn()
            .expect("the fixture starts");
        Process::watch(child)
    }

    /// Starts the program where the kernel lacks something: what, `net/without.py` knows.
    #[must_use]
    pub fn spawn_without(self, what: &str) -> Process {
        self.spawn_by(|program| {
            let mut command = Command::new("python3");
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/net/without.py")).arg(what);
            command.arg(program);
            command
        })
    }

    /// Starts the program and waits until it listens.
    #[must_use]
    pub fn serve(self) -> (Process, SocketAddr) {
        let mut process = self.spawn();
        let addr = process.addr();
        (process, addr)
    }
}

impl Process {
    fn watch(mut child: Child) -> Self {
        let (to_lines, lines) = channel();
        let stdout = child.stdout.take().map(|pipe| read(pipe, Pipe::Stdout, to_lines.clone()));
        let stderr = child.stderr.take().map(|pipe| read(pipe, Pipe::Stderr, to_lines));
        let (to_ended, ended) = channel();
        let pid = Pid::from_child(&child);
        let stdin = child.stdin.take();
        thread::spawn(move || {
            let status = child.wait().expect("the child can be waited for");
            let at = Instant::now();
            // All it said is there before its end is.
            for reader in stdout.into_iter().chain(stderr) {
                reader.join().expect("reading what it says");
            }
            // The test may be over.
            let _ = to_ended.send((at, status));
        });
        Self { pid, stdin, lines, ahead: Vec::new(), seen: Vec::new(), ended, status: None }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process is there");
    }

    /// Sends a signal to a process that may have ended by itself.
    pub fn signal_if_there(&self, signal: Signal) {
        match kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("{signal:?}: {error}"),
        }
    }

    /// Sends SIGTERM and waits until the process has heard it.
    pub fn term(&mut self) {
        self.signal(Signal::TERM);
        self.line("SIGTERM received");
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for a line that contains `text`, among those that no wait has passed yet.
    pub fn line(&mut self, text: &str) -> String {
        self.line_at(text).1
    }

    /// Waits for a line that contains `text`, unless one has come, which a wait may have passed:
    /// that of another process in the same pipe.
    pub fn line_of_any(&mut self, text: &str) {
        if !self.seen.iter().any(|line| line.contains(text)) {
            self.line(text);
        }
    }

    /// Whether a line with `text` has come by now.
    pub fn line_if(&mut self, text: &str) -> bool {
        let lines: Vec<_> = self.lines.try_iter().collect();
        self.seen.extend(lines.iter().map(|line| line.text.clone()));
        self.ahead.extend(lines);
        self.ahead.iter().any(|line| line.text.contains(text))
    }

    /// As `line`, and then waits for as long as a second signal would count as one with the first.
    pub fn line_before_second(&mut self, text: &str) {
        let (first, _) = self.line_at(text);
        thread::sleep(Duration::from_millis(250).saturating_sub(first.elapsed()));
    }

    /// As `line`, with the moment at which it came.
    pub fn line_at(&mut self, text: &str) -> (Instant, String) {
        self.any_line_at(&[text])
    }

    /// Waits for a line that contains one of `texts`.
    pub fn any_line(&mut self, texts: &[&str]) -> String {
        self.any_line_at(texts).1
    }

    fn any_line_at(&mut self, texts: &[&str]) -> (Instant, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            let is_it = |line: &Line| texts.iter().any(|text| line.text.contains(text));
            if let Some(at) = self.ahead.iter().position(is_it) {
                let found = self.ahead.remove(at);
                // Passed are those before it in its own pipe: which of two pipes is read first is
                // up to chance.
                let mut number = 0;
                self.ahead.retain(|line| {
                    number += 1;
                    number > at || line.pipe != found.pipe
                });
                return (found.at, found.text);
            }
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with any of {texts:?}; all lines: {:#?}", self.seen);
            };
            self.seen.push(line.text.clone());
            self.ahead.push(line);
        }
    }

    /// The address that it says it listens on.
    pub fn addr(&mut self) -> SocketAddr {
        let line = self.line("://");
        let (_, addr) = line.split_once("://").expect("an address of TCP");
        addr.trim().parse().expect("an address")
    }

    /// Asks for what is answered once the test says so, and waits until that has begun.
    #[must_use = "the request lasts as long as its connection"]
    pub fn hold(&mut self, addr: SocketAddr) -> Client {
        let mut client = Client::connect(addr);
        client.get("/hold");
        self.line("hold begins");
        client
    }

    /// Blocks all of its workers, by a request on this connection.
    #[must_use = "the request lasts as long as its connection"]
    pub fn block_every_worker(&mut self, addr: SocketAddr) -> Client {
        let mut client = Client::connect(addr);
        client.get("/block-all");
        self.line("every worker is blocked");
        client
    }

    /// Lets go whatever waits for a line on stdin.
    pub fn release(&mut self) {
        let stdin = self.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(b"release\n").expect("the fixture reads its stdin");
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.status = self.status.take().or_else(|| self.ended.try_recv().ok());
        self.status.is_some()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Ended {
        let status = self.status.take();
        let (at, status) = status.unwrap_or_else(|| {
            self.ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                self.seen.extend(self.lines.try_iter().map(|line| line.text));
                panic!("still running; all lines: {:#?}", self.seen)
            })
        });
        self.status = Some((at, status));
        self.seen.extend(self.lines.try_iter().map(|line| line.text));
        Ended { at, status, lines: self.seen.clone() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_over() {
            // Gone in this moment is as good.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// What it has said, and when.
#[derive(Debug)]
struct Line {
    pipe: Pipe,
    at: Instant,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pipe {
    Stdout,
    Stderr,
}

/// How a process has ended.
#[derive(Debug)]
pub struct Ended {
    /// When.
    pub at: Instant,
    /// Its exit status.
    pub status: ExitStatus,
    /// All it has printed.
    pub lines: Vec<String>,
}

impl Ended {
    /// Its exit code.
    #[track_caller]
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("killed: {self:#?}"))
    }

    /// Checks the exit code.
    #[track_caller]
    #[must_use = "or `let _ =`"]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:#?}");
        self
    }

    /// Whether a line contains `text`.
    #[must_use]
    pub fn said(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    /// How long after `start` it was gone.
    #[must_use]
    pub fn after(&self, start: Instant) -> Duration {
        self.at.saturating_duration_since(start)
    }
}

/// Tests that run in the background of a script ignore SIGINT and SIGQUIT, and hand that on to
/// their children, which respect it. A signal with a handler has its default action in a child
/// (execve(2)), and here by what the handler does.
fn take_back_ignored_signals() {
    static ONCE: Once = Once::new();
    static ALWAYS: AtomicBool = AtomicBool::new(true);
    ONCE.call_once(|| {
        for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
            signal_hook::flag::register_conditional_default(signal.as_raw(), &ALWAYS)
                .expect("a handler");
        }
    });
}

fn read(
    from: impl Read + Send + 'static,
    pipe: Pipe,
    lines: Sender<Line>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for text in BufReader::new(from).lines() {
            let Ok(text) = text else { return };
            // The test may be over.
            let _ = lines.send(Line { pipe, at: Instant::now(), text });
        }
    })
}
