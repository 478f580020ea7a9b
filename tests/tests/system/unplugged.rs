//! Clients whose link has gone: what they were owed before they went counts, and our goodbye to
//! them does not.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use graceful_tests::{Fixture, PATIENCE, Process, Signal, far, fixture};

/// A network namespace of its own, with a client in it.
struct Unplugged {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    here: String,
}

impl Unplugged {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // Four addresses for each, of a net that this process has to itself.
        let (process, number) = (std::process::id(), NEXT.fetch_add(4, Ordering::Relaxed));
        let net = format!("10.98.{}", process % 250);
        let (here, there) = (format!("{net}.{}", number + 1), format!("{net}.{}", number + 2));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/net/unplugged.py");
        let mut child = Command::new("python3")
            .args([script, &here, &there])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut this = Self { child, stdin, stdout, here };
        this.hears("ready");
        this
    }

    fn hears(&mut self, what: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it says so");
        assert_eq!(line.trim(), what);
    }

    fn say(&mut self, line: &str, answer: &str) {
        let stdin = self.stdin.as_mut().expect("not dropped");
        writeln!(stdin, "{line}").expect("it listens");
        self.hears(answer);
    }

    fn fixture(&self, tls: bool) -> Fixture {
        let fixture = fixture!("opened");
        let fixture = fixture.env("LISTEN", &format!("{}:0", self.here)).env("TIMEOUT", "10s");
        if !tls {
            return fixture;
        }
        let folder = std::env::temp_dir().join(format!("graceful-unplugged-{}", self.here));
        std::fs::create_dir_all(&folder).unwrap();
        let [key, certificate] = ["key.pem", "cert.pem"].map(|name| folder.join(name));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        fixture.env("CERTIFICATE", certificate.to_str().unwrap()).env("KEY", key.to_str().unwrap())
    }
}

impl Drop for Unplugged {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It takes the namespace with it.
        let _ = self.child.wait();
        let folder = std::env::temp_dir().join(format!("graceful-unplugged-{}", self.here));
        let _ = std::fs::remove_dir_all(folder);
    }
}

const KINDS: [&str; 5] = ["silent", "idle", "tls-silent", "tls-idle", "http2"];

/// The client asks, has everything, and is idle when its link goes.
fn idle_when_the_link_goes(
    kind: &str,
    set: impl FnOnce(Fixture) -> Fixture,
) -> (Process, Unplugged) {
    let mut client = Unplugged::new();
    let (process, addr) = set(client.fixture(kind.starts_with("tls"))).serve();
    client.say(&format!("connect {} {kind}", addr.port()), "connected");
    // What the client has just been sent is acknowledged: its system may wait with that for 40 ms.
    std::thread::sleep(Duration::from_millis(150));
    client.say("unplug", "unplugged");
    (process, client)
}

#[test]
fn an_idle_client_without_a_link_does_not_hold_the_stop() {
    if !far::can("a link that goes") {
        return;
    }
    for kind in KINDS {
        let (mut process, _client) = idle_when_the_link_goes(kind, |fixture| fixture);
        let start = Instant::now();
        process.term();
        let ended = process.wait().expect(0);
        // The limit is 10 s; our goodbye has one.
        assert!(ended.after(start) < Duration::from_secs(5), "{kind}: {ended:#?}");
        assert!(!ended.said("cut off"), "{kind}: {ended:#?}");
    }
}

#[test]
fn in_service_the_keep_alive_timeout_lets_it_go_and_frees_its_place() {
    if !far::can("a link that goes, in service") {
        return;
    }
    for kind in ["idle", "tls-idle", "http2"] {
        let (mut process, _client) =
            idle_when_the_link_goes(kind, |fixture| fixture.env("KEEP_ALIVE_MS", "300"));
        let start = Instant::now();
        loop {
            process.signal(Signal::USR1);
            let line = process.line("SIGUSR1 received, in flight: ");
            if !line.contains("1 connection") {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{kind}: {line}");
            std::thread::sleep(Duration::from_millis(100));
        }
        process.term();
        let _ = process.wait().expect(0);
    }
}
