//! Each program from outside, as its users see it: a request of a second across SIGTERM is
//! answered, a new connection is refused, the exit code is 0; and at the limit it is 124, with what
//! was cut by name.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(program: &str, addr: SocketAddr, timeout: &str) -> Self {
        Self::start_with(program, addr, timeout, None)
    }

    fn start_with(program: &str, addr: SocketAddr, timeout: &str, folder: Option<&Path>) -> Self {
        let mut command = Command::new(program);
        command.envs(folder.map(|folder| ("FOLDER", folder)));
        command.env("ADDR", addr.to_string()).env("TIMEOUT", timeout);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to_lines, lines) = channel();
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let to_lines = to_lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    // A test that has failed does not read on.
                    let _ = to_lines.send(line);
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    fn line(&mut self, text: &str) {
        while !self.seen.iter().any(|line| line.contains(text)) {
            let line = self.lines.recv_timeout(PATIENCE);
            self.seen.push(line.unwrap_or_else(|_| panic!("no `{text}` in {:#?}", self.seen)));
        }
    }

    /// Waits for its end: when, and with which code.
    fn end(&mut self) -> (Instant, Option<i32>) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let now = Instant::now();
                self.seen.extend(self.lines.iter());
                return (now, status.code());
            }
            assert!(start.elapsed() < PATIENCE, "still running: {:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where the test has failed it may still be there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects as soon as it listens.
fn connect(server: &mut Server, addr: SocketAddr) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(addr) {
            Ok(client) => return client,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}: {:#?}", server.seen),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for `/slow` as soon as it listens.
fn ask(server: &mut Server, addr: SocketAddr) -> TcpStream {
    let mut client = connect(server, addr);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    server.line("slow begins");
    client
}

fn answer(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"slow") && !answer.ends_with(b"slow\r\n0\r\n\r\n") {
        let mut some = [0; 1024];
        match client.read(&mut some).unwrap() {
            0 => break,
            length => answer.extend(&some[..length]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// An address that nobody listens on in this moment.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `exits`: how long after the last byte the process may be there.
fn check(name: &str, program: &str, names: &str, exits: Duration) {
    let addr = free();
    let mut server = Server::start(program, addr, "20s");
    let mut client = ask(&mut server, addr);
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    server.line("SIGTERM received");
    let start = Instant::now();
    while TcpStream::connect(addr).is_ok() {
        assert!(start.elapsed() < Duration::from_millis(800), "{name} goes on accepting");
    }
    let said = answer(&mut client);
    let answered = Instant::now();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("slow"), "{name}: {said}");
    let (gone, code) = server.end();
    assert_eq!(code, Some(0), "{name}: {:#?}", server.seen);
    let after = gone.saturating_duration_since(answered);
    println!("{name}: gone {after:?} after the last byte");
    assert!(after < exits, "{name}: {after:?}");

    // With nothing to do.
    let mut server = Server::start(program, addr, "20s");
    connect(&mut server, addr);
    let start = Instant::now();
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    let (gone, code) = server.end();
    assert_eq!(code, Some(0), "{name}: {:#?}", server.seen);
    println!("{name}: gone {:?} after SIGTERM, with nothing to do", gone - start);

    let mut server = Server::start(program, addr, "200ms");
    let _client = ask(&mut server, addr);
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    let (_, code) = server.end();
    let report = server.seen.iter().find(|line| line.starts_with("limit of 200ms reached"));
    let report = report.unwrap_or_else(|| panic!("{name}: {:#?}", server.seen));
    assert!(
        code == Some(124) && server.seen.iter().any(|line| line.contains(names)),
        "{name}: {report}"
    );
}

/// What a guard flushes at the end has the report in it, also that of a cut.
#[test]
fn what_is_told_of_a_stop_reaches_the_log_that_is_kept() {
    for (name, program, clean) in [
        ("log_file", env!("CARGO_BIN_EXE_log_file"), true),
        ("opentelemetry", env!("CARGO_BIN_EXE_opentelemetry"), true),
        // It takes errors alone.
        ("sentry", env!("CARGO_BIN_EXE_sentry"), false),
    ] {
        let folder = std::env::temp_dir().join(format!("kept-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = |timeout: &str| {
            let addr = free();
            let mut server = Server::start_with(program, addr, timeout, Some(&folder));
            let _client = ask(&mut server, addr);
            kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
            let (_, code) = server.end();
            let log = std::fs::read_to_string(folder.join("log"));
            (code, log.unwrap_or_else(|error| panic!("{name}: {error}: {:#?}", server.seen)))
        };
        if clean {
            let (code, log) = log("20s");
            assert_eq!(code, Some(0), "{name}: {log}");
            assert!(log.contains("drained 1 request, 1 connection in "), "{name}: {log}");
        }
        let (code, log) = log("200ms");
        assert_eq!(code, Some(124), "{name}: {log}");
        assert!(log.contains("limit of 200ms reached, cut off: GET /slow from "), "{name}: {log}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// A WebSocket of a framework that `serve` serves: it holds the stop, and is named at the limit.
#[test]
fn a_websocket_of_warp_is_waited_for() {
    let open = |timeout: &str| {
        let addr = free();
        let mut server = Server::start(env!("CARGO_BIN_EXE_warp"), addr, timeout);
        let mut client = connect(&mut server, addr);
        let head = b"GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.write_all(head).unwrap();
        server.line("socket begins");
        kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
        server.line("SIGTERM received");
        (server, client)
    };
    let (mut server, client) = open("20s");
    server.line("waiting for 1 connection; oldest: upgraded /ws from 127.0.0.1");
    drop(client);
    assert_eq!(server.end().1, Some(0), "{:#?}", server.seen);
    let (mut server, _client) = open("200ms");
    assert_eq!(server.end().1, Some(124), "{:#?}", server.seen);
    let named =
        server.seen.iter().any(|line| line.contains("cut off: upgraded connection /ws from"));
    assert!(named, "{:#?}", server.seen);
}

/// On a loaded machine a process may take longer than the milliseconds that it needs.
const SOON: Duration = Duration::from_secs(1);

macro_rules! frameworks {
    ($($name:ident: $names:literal, $exits:expr;)*) => {$(
        #[test]
        fn $name() {
            let program = env!(concat!("CARGO_BIN_EXE_", stringify!($name)));
            check(stringify!($name), program, $names, $exits);
        }
    )*};
}

// With `graceful::serve` each request has a name; else the server has.
frameworks! {
    axum: "GET /slow from 127.0.0.1:", SOON;
    hyper: "GET /slow from 127.0.0.1:", SOON;
    unix_socket: "GET /slow from 127.0.0.1:", SOON;
    tonic: "GET /slow from 127.0.0.1:", SOON;
    warp: "GET /slow from 127.0.0.1:", SOON;
    axum_serve: "server axum on 127.0.0.1:", SOON;
    poem: "server poem on 127.0.0.1:", SOON;
    salvo: "server salvo on 127.0.0.1:", SOON;
    actix: "server actix on 127.0.0.1:", SOON;
    rocket: "server rocket, ", SOON;
}
