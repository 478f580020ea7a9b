//! What a service manager is told, word for word (`sd_notify(3)`), by a socket that listens in its
//! place.

use std::{
    os::unix::net::{SocketAddr, UnixDatagram},
    path::PathBuf,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, PATIENCE, Signal, fixture};

/// The manager's end.
struct Told {
    socket: UnixDatagram,
    path: Option<PathBuf>,
    name: String,
}

impl Told {
    fn by_path(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("graceful-{test}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        let name = path.to_str().unwrap().to_owned();
        Self { socket, path: Some(path), name }
    }

    fn by_name(test: &str) -> Self {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("graceful-{test}-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&addr).unwrap();
        Self { socket, path: None, name: format!("@{name}") }
    }

    fn managed(&self) -> Fixture {
        let fixture = fixture!("managed").env("LISTEN", "127.0.0.1:0");
        fixture.env("NOTIFY_SOCKET", &self.name)
    }

    /// The next message.
    fn next(&self) -> String {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message in time");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next message with this line, and all that came before it.
    fn until(&self, line: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            all.push(self.next());
            if all.last().unwrap().lines().any(|it| it.starts_with(line)) {
                return all;
            }
        }
    }

    /// What has come, and is not read.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let mut all = Vec::new();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            all.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        all
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[test]
fn a_whole_life_in_messages() {
    for told in [Told::by_path("life"), Told::by_name("life")] {
        let fixture = told.managed().env("TIMEOUT", "30s").env("CLEANUP", "4s").env("HOOK", "yes");
        let fixture = fixture.env("DELAY", "100ms");
        let (mut process, addr) = fixture.serve();
        if told.path.is_some() {
            assert_eq!(told.next(), "STATUS=starting\n");
        }
        assert_eq!(told.next(), format!("READY=1\nSTATUS=serving on http://{addr}\n"));
        let mut client = process.hold(addr);
        process.term();
        // The limits, the delay among them, and a second for the last steps.
        let stopping = "STOPPING=1\nSTATUS=SIGTERM received\nEXTEND_TIMEOUT_USEC=35100000\n";
        assert_eq!(told.next(), stopping);
        let status = told.next();
        let begins = "STATUS=draining: 1 request, 1 connection; oldest: GET /hold from 127.0.0.1, ";
        assert!(status.starts_with(begins) && status.ends_with(" left\n"), "{status}");
        process.release();
        assert_eq!(client.response().text(), "held");
        told.until("STATUS=cleaning up");
        assert!(told.next().starts_with("STATUS=drained 1 request, 1 connection in "));
        let _ = process.wait().expect(0);
        assert_eq!(told.rest(), [""; 0]);
    }
}

/// Without a limit the manager is asked for more time as long as it takes.
#[test]
fn a_stop_without_a_limit_asks_for_time_again_and_again() {
    let told = Told::by_path("endless");
    let (mut process, addr) = told.managed().env("TIMEOUT", "none").serve();
    let mut client = process.hold(addr);
    process.term();
    told.until("STOPPING=1");
    for _ in 0..2 {
        told.until("EXTEND_TIMEOUT_USEC=10000000");
    }
    process.release();
    assert_eq!(client.response().text(), "held");
    let _ = process.wait().expect(0);
}

#[test]
fn a_program_that_serves_nothing_is_ready_once_it_runs() {
    let told = Told::by_path("work");
    let fixture = fixture!("managed_work");
    let mut process = fixture.env("NOTIFY_SOCKET", &told.name).spawn();
    assert_eq!(told.next(), "STATUS=starting\n");
    assert_eq!(told.next(), "READY=1\nSTATUS=running\n");
    // It had come to its first `await` by then.
    process.line("working");
    process.term();
    told.until("STOPPING=1");
    let _ = process.wait().expect(0);
}

#[test]
fn a_failure_to_start_is_no_readiness() {
    let told = Told::by_path("failure");
    let _ = told.managed().env("LISTEN", "192.0.2.1:80").spawn().wait().expect(1);
    let all = told.rest();
    assert!(!all.iter().any(|message| message.contains("READY=1")), "{all:#?}");
    assert!(all.iter().any(|it| it.contains("STATUS=") && it.contains("192.0.2.1:80")), "{all:#?}");
}

#[test]
fn a_reload_of_certificates_is_said() {
    let told = Told::by_path("reload");
    let (mut process, addr) = told.managed().serve();
    told.until("READY=1");
    Client::connect(addr).fetch("/reload");
    let reloading = told.next();
    let mut lines = reloading.lines();
    assert_eq!(lines.next(), Some("RELOADING=1"));
    let at = lines.next().unwrap().strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(at.parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(told.next(), "READY=1\n");
    process.term();
    let _ = process.wait().expect(0);
}

/// The watchdog is fed in half of its time, as long as the runtime turns.
#[test]
fn the_watchdog_is_fed_while_the_runtime_turns() {
    let told = Told::by_path("watchdog");
    let fixture = told.managed().env("WATCHDOG_USEC", "200000").env("TIMEOUT", "100ms");
    let (mut process, addr) = fixture.serve();
    for _ in 0..3 {
        told.until("WATCHDOG=1");
    }
    let _client = process.block_every_worker(addr);
    // What was on its way: another at the most, within half of the time.
    std::thread::sleep(Duration::from_millis(500));
    told.rest();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(told.rest(), [""; 0], "nothing turns");
    // In a stop it is the limits that see to that.
    told.socket.set_nonblocking(false).unwrap();
    process.signal(Signal::TERM);
    told.until("STOPPING=1");
    let _ = process.wait().expect(124);
}

/// For another process, and in no child's environment.
#[test]
fn the_variables_are_for_this_process_alone() {
    let told = Told::by_path("environment");
    let fixture = told.managed().env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let (mut process, addr) = fixture.serve();
    told.until("READY=1");
    // Long enough for six, if they were meant for this one.
    std::thread::sleep(Duration::from_millis(300));
    let environment = Client::connect(addr).fetch("/environment").text();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_"] {
        assert!(!environment.contains(name), "{environment}");
    }
    process.term();
    let _ = process.wait().expect(0);
    let all = told.rest();
    assert!(!all.iter().any(|message| message.contains("WATCHDOG=1")), "{all:#?}");
}

/// A manager that has gone, or that reads nothing, holds nothing up.
#[test]
fn a_manager_that_does_not_listen_holds_nothing_up() {
    let gone = Told::by_path("gone").name.clone();
    let fixture = fixture!("managed").env("LISTEN", "127.0.0.1:0");
    let (mut process, _) = fixture.env("NOTIFY_SOCKET", &gone).serve();
    process.term();
    let _ = process.wait().expect(0);

    let told = Told::by_path("full");
    let filler = UnixDatagram::unbound().unwrap();
    filler.connect(told.path.as_ref().unwrap()).unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send(b"STATUS=filler\n").is_ok() {}
    let (mut process, addr) = told.managed().serve();
    let mut client = process.hold(addr);
    process.term();
    process.release();
    assert_eq!(client.response().text(), "held");
    let start = Instant::now();
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_secs(1), "{:?}", ended.after(start));
}

/// And what it is told meanwhile is not lost: it is ready, whenever the manager looks.
#[test]
fn a_manager_that_is_slow_hears_that_the_program_is_ready() {
    let told = Told::by_path("slow");
    let filler = UnixDatagram::unbound().unwrap();
    filler.connect(told.path.as_ref().unwrap()).unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send(b"STATUS=filler\n").is_ok() {}
    let (mut process, _) = told.managed().serve();
    std::thread::sleep(Duration::from_millis(200));
    told.until("READY=1");
    process.term();
    told.until("STOPPING=1");
    let _ = process.wait().expect(0);
}

/// The program may have something to do first: then it says so.
#[test]
fn what_is_not_ready_is_not_said_to_be() {
    let told = Told::by_path("not-ready");
    let (mut process, addr) = told.managed().env("COLD", "the cache is cold").serve();
    assert_eq!(told.next(), "STATUS=starting\n");
    assert_eq!(told.next(), "STATUS=the cache is cold\n");
    Client::connect(addr).fetch("/warm");
    assert_eq!(told.next(), format!("READY=1\nSTATUS=serving on http://{addr}\n"));
    process.term();
    told.until("STOPPING=1");
    let _ = process.wait().expect(0);
}

/// What `systemctl status` shows of a server that has failed in service.
#[test]
fn a_failure_in_service_is_the_last_status() {
    let told = Told::by_path("fails");
    let (mut process, addr) = told.managed().serve();
    told.until("READY=1");
    Client::connect(addr).fetch("/fail");
    let _ = process.wait().expect(1);
    let statuses: Vec<_> = told.rest().into_iter().filter(|it| it.contains("STATUS=")).collect();
    assert!(statuses.last().unwrap().contains("no more orders"), "{statuses:#?}");
}
