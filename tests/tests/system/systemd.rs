//! Under a real systemd: a user manager that each test starts for itself.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use graceful_tests::{
    Client, Signal,
    balanced::Clients,
    load::{Style, Tally},
    systemd::{Manager, free_addr},
};
use rustix::process::{Pid, kill_process, test_kill_process};

const MANAGED: &str = concat!(env!("CARGO_BIN_EXE_fixtures"), " managed");

/// The application as `web.service`, started. Returns its address. A unit that has ended well is
/// forgotten: that it is `inactive`, and not `failed`, is all that is left of it.
fn web(manager: &Manager, environment: &[(&str, &str)], lines: &str) -> SocketAddr {
    let addr = free_addr();
    let listen = addr.to_string();
    let mut all = vec![("LISTEN", listen.as_str())];
    all.extend(environment);
    manager.service("web", MANAGED, &all, lines);
    manager.done(&["start", "web"]);
    addr
}

fn hold(manager: &Manager, addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.get("/hold");
    manager.line("web", "hold begins");
    client
}

fn main_pid(manager: &Manager) -> Pid {
    Pid::from_raw(manager.property("web", "MainPID").parse().unwrap()).unwrap()
}

#[test]
fn the_unit_is_started_when_the_program_listens_and_says_what_it_does() {
    let Some(manager) = Manager::start() else { return };
    let addr = web(&manager, &[("TIMEOUT", "30s")], "TimeoutStopSec=60");
    // `systemctl start` has returned: it listens.
    assert_eq!(manager.property("web", "StatusText"), format!("serving on http://{addr}"));
    let mut client = hold(&manager, addr);
    manager.done(&["stop", "--no-block", "web"]);
    manager.wait_for("web", "StatusText", |text| {
        text.starts_with("draining: 1 request, 1 connection; oldest: GET /hold from 127.0.0.1, ")
    });
    assert_eq!(manager.property("web", "ActiveState"), "deactivating");
    manager.release("web");
    assert_eq!(client.response().text(), "held");
    manager.wait_for("web", "ActiveState", |state| state == "inactive");
}

#[test]
fn a_program_that_cannot_start_fails_at_once_and_says_why() {
    let Some(manager) = Manager::start() else { return };
    manager.service("web", MANAGED, &[("LISTEN", "192.0.2.1:80")], "");
    assert!(!manager.systemctl(&["start", "web"]).status.success());
    assert_eq!(manager.property("web", "ExecMainStatus"), "1");
    let status = manager.property("web", "StatusText");
    assert!(status.contains("cannot listen on 192.0.2.1:80"), "{status}");
}

/// A unit that allows a second for a stop that takes three: with our word for it, and, to be sure
/// that this is what does it, without.
#[test]
fn a_drain_outlives_timeout_stop_sec() {
    let Some(manager) = Manager::start() else { return };
    for (heard, state) in [(true, "inactive"), (false, "failed")] {
        let access = if heard { "main" } else { "none\nType=simple" };
        let lines = format!("TimeoutStopSec=1\nNotifyAccess={access}");
        let addr = web(&manager, &[("TIMEOUT", "30s")], &lines);
        if !heard {
            // Nobody says when it listens.
            manager.line("web", "listening on");
        }
        let mut client = hold(&manager, addr);
        let start = Instant::now();
        manager.done(&["stop", "--no-block", "web"]);
        manager.line("web", "SIGTERM received");
        std::thread::sleep(Duration::from_secs(3).saturating_sub(start.elapsed()));
        if heard {
            manager.release("web");
            assert_eq!(client.response().text(), "held");
        }
        manager.wait_for("web", "ActiveState", |it| it == state);
        let _ = std::fs::remove_file(manager.log("web"));
        manager.done(&["reset-failed"]);
    }
}

/// What is stuck is ended when its own limits and a second are over: 3 s, 0 s and 1 s.
#[test]
fn a_stop_that_is_stuck_gets_no_more_time_than_its_limits() {
    let Some(manager) = Manager::start() else { return };
    let addr = web(&manager, &[("TIMEOUT", "3s"), ("CLEANUP", "0s")], "TimeoutStopSec=1");
    let _client = hold(&manager, addr);
    let pid = main_pid(&manager);
    let start = Instant::now();
    manager.done(&["stop", "--no-block", "web"]);
    // In one message with the time that it asks for.
    manager.wait_for("web", "StatusText", |text| !text.starts_with("serving"));
    kill_process(pid, Signal::STOP).unwrap();
    manager.wait_for("web", "ActiveState", |state| state == "failed");
    let took = start.elapsed();
    assert!(took > Duration::from_millis(3_500) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(manager.property("web", "Result"), "timeout");
}

#[test]
fn the_watchdog_ends_a_program_that_is_blocked_and_spares_a_busy_one() {
    let Some(manager) = Manager::start() else { return };
    let addr = web(&manager, &[], "WatchdogSec=2\nRestart=on-failure\nRestartSec=100ms");
    Client::connect(addr).fetch("/busy");
    manager.line("web", "busy begins");
    // More than twice the time.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(manager.property("web", "NRestarts"), "0");
    let mut client = Client::connect(addr);
    client.get("/block-all");
    manager.line("web", "every worker is blocked");
    manager.wait_for("web", "NRestarts", |count| count == "1");
    // The new one serves.
    manager.wait_for("web", "SubState", |state| state == "running");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
}

#[test]
fn a_hangup_behind_the_first_signal_is_no_second_one() {
    let Some(manager) = Manager::start() else { return };
    let addr = web(&manager, &[], "SendSIGHUP=yes");
    let mut client = hold(&manager, addr);
    manager.done(&["stop", "--no-block", "web"]);
    // Whichever of the two is seen first.
    manager.line("web", " received, draining");
    manager.release("web");
    assert_eq!(client.response().text(), "held");
    manager.wait_for("web", "ActiveState", |state| state == "inactive");
}

#[test]
fn with_kill_mode_mixed_the_children_live_as_long_as_the_drain() {
    let Some(manager) = Manager::start() else { return };
    let addr = web(&manager, &[], "KillMode=mixed");
    let child: i32 = Client::connect(addr).fetch("/child").text().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    let mut client = hold(&manager, addr);
    manager.done(&["stop", "--no-block", "web"]);
    manager.line("web", "SIGTERM received");
    assert!(test_kill_process(child).is_ok(), "killed with the first signal");
    manager.release("web");
    assert_eq!(client.response().text(), "held");
    manager.wait_for("web", "ActiveState", |state| state == "inactive");
    assert!(test_kill_process(child).is_err(), "left behind");
}

/// The exit codes as units use them.
#[test]
fn a_limit_that_was_reached_is_a_success_where_the_unit_says_so() {
    let Some(manager) = Manager::start() else { return };
    for (lines, state) in [("", "failed"), ("SuccessExitStatus=124", "inactive")] {
        let addr = web(&manager, &[("TIMEOUT", "100ms")], lines);
        let _client = hold(&manager, addr);
        manager.done(&["stop", "web"]);
        assert!(manager.said("web").contains("limit of 100ms reached"));
        assert_eq!(manager.property("web", "ActiveState"), state);
        let _ = std::fs::remove_file(manager.log("web"));
        manager.done(&["reset-failed"]);
    }
    // What cannot be mended by a new start is not started again.
    let lines = "Restart=always\nRestartSec=0\nRestartPreventExitStatus=1";
    manager.service("web", MANAGED, &[("LISTEN", "nonsense")], lines);
    assert!(!manager.systemctl(&["start", "web"]).status.success());
    assert_eq!(manager.property("web", "NRestarts"), "0");
    assert_eq!(manager.property("web", "ActiveState"), "failed");
}

/// `systemctl restart` under load, with the socket in the hands of systemd: nobody is refused, and
/// nothing is lost.
fn restarts(style: Style) -> Tally {
    const CLIENTS: u64 = 64;
    const RESTARTS: usize = 20;
    let Some(manager) = Manager::start() else { return Tally::default() };
    let addr = free_addr();
    manager.unit("web.socket", &format!("[Socket]\nListenStream={addr}\n"));
    // By its address: the program need not know who has bound it.
    manager.service("web", MANAGED, &[("LISTEN", &addr.to_string())], "");
    manager.done(&["start", "web.socket"]);
    let clients = Clients::start(addr, style, CLIENTS);
    // The first client has started it.
    manager.wait_for("web", "SubState", |state| state == "running");
    for _ in 0..RESTARTS {
        manager.done(&["restart", "web"]);
    }
    let tally = clients.stop();
    let said = manager.said("web");
    assert_eq!(said.matches("SIGTERM received").count(), RESTARTS);
    println!("{style:?}: {RESTARTS} restarts, {} answered, {:?}", tally.answered, tally.lost);
    assert!(tally.answered >= 1_000, "too few requests to tell: {}", tally.answered);
    tally
}

#[test]
fn restarts_under_load_lose_no_request_of_keep_alive_clients() {
    let tally = restarts(Style::KeepAlive);
    assert_eq!((tally.lost.as_slice(), tally.refused), ([].as_slice(), 0));
}

#[test]
fn restarts_under_load_lose_no_request_of_new_connections() {
    let tally = restarts(Style::ConnectionEach);
    assert_eq!((tally.lost.as_slice(), tally.refused), ([].as_slice(), 0));
}

/// The units of the example: nothing in them is misspelt, and what they allow is little.
#[test]
fn the_units_of_the_example_are_clean_and_hardened() {
    let Some(manager) = Manager::start() else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd");
    for name in ["web.socket", "web.service"] {
        let unit = std::fs::read_to_string(examples.join(name)).unwrap();
        // That program is installed by hand.
        manager.unit(name, &unit.replace("/usr/local/bin/web", MANAGED));
    }
    let units = manager.units();
    let mut verify = manager.command("systemd-analyze");
    verify.args(["--user", "verify"]).args([units.join("web.socket"), units.join("web.service")]);
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    let mut security = manager.command("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=15", "--no-pager"]);
    let output = security.arg(units.join("web.service")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

const UPGRADED: &str = concat!(env!("CARGO_BIN_EXE_fixtures"), " upgraded");

/// The program that can be upgraded as `web.service`, started.
fn upgraded(manager: &Manager, lines: &str) -> SocketAddr {
    let addr = free_addr();
    manager.service("web", UPGRADED, &[("ADDR", &addr.to_string())], lines);
    manager.done(&["start", "web"]);
    addr
}

#[test]
fn a_reload_is_an_upgrade_and_the_unit_follows_it() {
    let Some(manager) = Manager::start() else { return };
    let lines =
        "NotifyAccess=all\nExecReload=/bin/kill -USR2 $MAINPID\nWatchdogSec=2\nTimeoutStopSec=20";
    let addr = upgraded(&manager, lines);
    let mut kept = Client::connect(addr);
    let first = main_pid(&manager);
    assert_eq!(kept.fetch("/process").text(), first.as_raw_nonzero().to_string());
    for _ in 0..2 {
        let old = main_pid(&manager);
        manager.done(&["reload", "web"]);
        let number = |pid: Pid| pid.as_raw_nonzero().to_string();
        manager.wait_for("web", "MainPID", |pid| pid != number(old) && pid != "0");
        let new = main_pid(&manager);
        assert_eq!(kept.fetch("/process").text(), number(new));
        manager.wait_for("web", "StatusText", |text| text.starts_with("serving on"));
    }
    // Longer than the watchdog allows: the new one feeds it.
    std::thread::sleep(Duration::from_millis(4_500));
    assert_eq!(manager.property("web", "ActiveState"), "active");
    assert_eq!(manager.property("web", "NRestarts"), "0");
    assert_eq!(kept.fetch("/").text(), "fine");
    // Not by `systemctl stop`: where control groups are those of version 1, in a container, systemd
    // waits for no main process whose parent was another when it was named, and kills it at once.
    kill_process(main_pid(&manager), Signal::TERM).unwrap();
    manager.wait_for("web", "ActiveState", |state| state == "inactive");
    assert!(manager.said("web").contains("drained 1 connection"), "{}", manager.said("web"));
}

/// `systemctl restart`, and not one client sees it: neither those that keep one connection, nor
/// those with a new one each.
#[test]
fn a_restart_with_the_descriptor_store_closes_no_connection() {
    let Some(manager) = Manager::start() else { return };
    let lines = "FileDescriptorStoreMax=16\nEnvironment=GRACEFUL_FDSTORE=1\nNotifyAccess=main";
    let addr = upgraded(&manager, lines);
    let mut half = Client::connect(addr);
    half.send("GET /process HTTP/1.1\r\nho");
    let kept = Clients::start(addr, Style::OneConnection, 64);
    let each = Clients::start(addr, Style::ConnectionEach, 32);
    let mut longest = Duration::ZERO;
    let restarts = std::env::var("GRACEFUL_RESTARTS").map_or(5, |text| text.parse().unwrap());
    for _ in 0..restarts {
        std::thread::sleep(Duration::from_millis(100));
        let old = main_pid(&manager);
        let start = Instant::now();
        manager.done(&["restart", "web"]);
        longest = longest.max(start.elapsed());
        assert_ne!(main_pid(&manager), old);
    }
    half.send("st: x\r\n\r\n");
    assert_eq!(half.response().text(), main_pid(&manager).as_raw_nonzero().to_string());
    for (what, clients) in [("one connection", kept), ("a connection each", each)] {
        let Tally { answered, refused, lost, closed, late, .. } = clients.stop();
        println!(
            "{restarts} restarts with the store, {what}: {answered} answered, {refused} refused, {} lost, {closed} closed; the longest took {longest:.0?}",
            lost.len()
        );
        assert!(lost.is_empty(), "{lost:?}");
        assert_eq!((refused, closed, late), (0, 0, 0), "{what}");
    }
    // The store is empty once its contents are taken: what is in it now would be taken twice.
    manager.wait_for("web", "NFileDescriptorStore", |count| count == "0");
    manager.done(&["stop", "web"]);
    let said = manager.said("web");
    assert!(!said.contains("no more:") && !said.contains("cut off"), "{said}");
}

/// The service with a descriptor store, and the file that says what is different in its next
/// version.
fn stored(manager: &Manager, lines: &str) -> (SocketAddr, PathBuf) {
    let next = manager.units().join("next");
    std::fs::write(&next, "").unwrap();
    let lines = format!(
        "FileDescriptorStoreMax=16\nEnvironment=GRACEFUL_FDSTORE=1\nNotifyAccess=main\n\
         Environment=FAIL={}\n{lines}",
        next.display()
    );
    (upgraded(manager, &lines), next)
}

/// A listener that is kept and that nobody takes is not in the way of one at another address.
#[test]
fn a_restart_at_another_address_of_the_port_serves_at_once() {
    let Some(manager) = Manager::start() else { return };
    let (addr, next) = stored(&manager, "");
    let first = Client::connect(addr).fetch("/process").text();
    std::fs::write(&next, format!("listens on 0.0.0.0:{}", addr.port())).unwrap();
    manager.done(&["restart", "web"]);
    let second = main_pid(&manager).as_raw_nonzero().to_string();
    assert_ne!(second, first);
    assert_eq!(Client::connect(addr).fetch("/process").text(), second);
    manager.wait_for("web", "NFileDescriptorStore", |count| count == "0");
}

/// What is in the store stays there until the next process serves: neither one that fails, nor one
/// that is stopped before, nor one that is killed, takes it along.
#[test]
fn a_start_that_fails_leaves_the_next_one_what_the_store_keeps() {
    let Some(manager) = Manager::start() else { return };
    let lines = "Restart=always\nRestartSec=50ms\nTimeoutStartSec=60s";
    let (addr, fails) = stored(&manager, lines);
    let mut kept = Client::connect(addr);
    let mut half = Client::connect(addr);
    let first = main_pid(&manager);
    assert_eq!(kept.fetch("/process").text(), first.as_raw_nonzero().to_string());
    half.send("GET /process HTTP/1.1\r\nho");
    // Beside them, one that waits in the queue of the listener.
    let wait_for_next = |old: Pid| {
        manager.wait_for("web", "MainPID", |pid| {
            pid != "0" && pid != old.as_raw_nonzero().to_string()
        });
        main_pid(&manager)
    };
    std::fs::write(&fails, "hangs").unwrap();
    manager.done(&["restart", "--no-block", "web"]);
    let mut hanging = wait_for_next(first);
    let mut waiting = Client::connect(addr);
    waiting.get("/process");
    for signal in [Signal::TERM, Signal::KILL] {
        manager.wait_for("web", "NFileDescriptorStore", |count| count != "0");
        kill_process(hanging, signal).unwrap();
        hanging = wait_for_next(hanging);
    }
    std::fs::write(&fails, "fails").unwrap();
    kill_process(hanging, Signal::KILL).unwrap();
    manager.line("web", "the next version fails");
    std::fs::write(&fails, "").unwrap();
    manager.wait_for("web", "ActiveState", |state| state == "active");
    half.send("st: x\r\n\r\n");
    kept.get("/process");
    let last = main_pid(&manager).as_raw_nonzero().to_string();
    for client in [&mut kept, &mut half, &mut waiting] {
        assert_eq!(client.response().text(), last);
    }
    assert_eq!(Client::connect(addr).fetch("/process").text(), last);
    manager.wait_for("web", "NFileDescriptorStore", |count| count == "0");
}
