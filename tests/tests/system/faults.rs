//! System calls that fail although nothing is wrong: by strace, each with errors of its man page,
//! in service or in the drain. strace counts the calls of each thread for itself.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, Folder, Generations, Process, Signal, fixture};

/// A system call, and what a failure of it may cost.
struct Fault {
    call: &'static str,
    errors: &'static [&'static str],
    /// Which calls of a thread fail.
    when: &'static str,
    /// How many connections may be lost with it: those whose own call it was.
    lost: usize,
}

const FAULTS: &[Fault] = &[
    // accept(2): a connection that is gone, or the lack of something, which passes.
    Fault {
        call: "accept4",
        errors: &[
            "ECONNABORTED",
            "EMFILE",
            "ENFILE",
            "ENOBUFS",
            "ENOMEM",
            "EPROTO",
            "EPERM",
            "EINTR",
        ],
        when: "2..4",
        lost: 0,
    },
    Fault { call: "shutdown", errors: &["ENOTCONN", "ENOBUFS"], when: "2..4", lost: 0 },
    // The first is the listener's, the second asks the kernel about its clients.
    Fault {
        call: "socket",
        errors: &["EMFILE", "ENOMEM", "EAFNOSUPPORT", "EPERM"],
        when: "2",
        lost: 0,
    },
    // Not the first: that is how the handler of a signal wakes the runtime.
    Fault { call: "sendto", errors: &["ENOBUFS", "ENOMEM", "EPERM"], when: "2..4", lost: 0 },
    // `/proc`, and what is loaded late: behind what the linker opens.
    Fault { call: "openat", errors: &["EMFILE", "ENFILE", "EACCES"], when: "6..9", lost: 0 },
    // A connection's own.
    Fault { call: "recvfrom", errors: &["ECONNRESET", "ENOMEM"], when: "3", lost: 3 },
    Fault { call: "writev", errors: &["EPIPE", "ENOBUFS"], when: "3", lost: 3 },
];

/// What strace writes goes to `log`.
fn spawn_with(fixture: Fixture, fault: &str, log: &Path) -> Process {
    let call = fault.split(':').next().unwrap().to_owned();
    // cargo has the linker look in more places, which counts.
    let fixture = fixture.env("ADDR", "127.0.0.1:0").env("LD_LIBRARY_PATH", "");
    fixture.spawn_by(|program| {
        let mut strace = Command::new("strace");
        // `-D`: the program stays this process's child.
        strace.args(["-D", "-f", "-qq", "-o"]).arg(log).arg("-e").arg(format!("trace={call}"));
        strace.arg("-e").arg(format!("inject={fault}")).arg(program);
        strace
    })
}

fn serve_with(fixture: Fixture, fault: &str, log: &Path) -> (Process, SocketAddr) {
    let mut process = spawn_with(fixture, fault, log);
    let addr = process.addr();
    (process, addr)
}

/// Returns how many of the connections are lost.
fn requests(addr: SocketAddr) -> usize {
    let is_answered = |_: &usize| {
        let Ok(mut client) = Client::try_connect(addr) else { return false };
        (0..2).all(|_| {
            client.get("/");
            client.try_response().is_ok_and(|response| response.text() == "fine")
        })
    };
    12 - (0..12).filter(is_answered).count()
}

#[test]
fn what_fails_once_costs_nothing_but_its_own() {
    if !has_strace() {
        return;
    }
    let folder = Folder::new("faults");
    let log = &folder.file("log");
    for fault in FAULTS {
        for error in fault.errors {
            // Which thread makes how many calls is up to the scheduler.
            let has_hit = (0..5).any(|_| fails_once(fault, error, log) > 0);
            assert!(has_hit, "{}:error={error}:when={} has hit nothing", fault.call, fault.when);
        }
    }
}

/// Serves and stops with a fault. Returns how often that has hit.
fn fails_once(&Fault { call, when, lost, .. }: &Fault, error: &str, log: &Path) -> usize {
    let fault = format!("{call}:error={error}:when={when}");
    let (mut process, addr) = serve_with(fixture!("web"), &fault, log);
    let gone = requests(addr);
    assert!(gone <= lost, "{fault}: {gone} connections lost");
    // Of these, any may be the one that it hits.
    let held = (lost == 0).then(|| process.hold(addr));
    let mut idle: Vec<_> = (0..3).map(|_| Client::connect(addr)).collect();
    process.term();
    let start = Instant::now();
    process.release();
    if let Some(mut held) = held {
        assert_eq!(held.response().text(), "held", "{fault}");
    }
    let ended = process.wait().expect(0);
    // Well within the limit of 20 s. Where netlink cannot be had, `/proc` is read the less often
    // the busier the machine is.
    assert!(ended.after(start) < Duration::from_secs(12), "{fault}: {ended:#?}");
    if lost == 0 {
        idle.iter_mut().for_each(Client::closed);
    }
    hits(log)
}

fn has_strace() -> bool {
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    graceful_tests::can("system calls that fail (Debian: apt-get install strace)", has_it)
}

/// The write by which the handler of a signal wakes the runtime takes longer than the stop: the
/// handler, which goes on then, must not take its signal for a second one.
#[test]
fn a_handler_that_is_preempted_does_not_force_the_end() {
    if !has_strace() {
        return;
    }
    let folder = Folder::new("preempted");
    let log = &folder.file("log");
    let fault = "sendto:delay_exit=500000:when=1";
    let (mut process, _) = serve_with(fixture!("web"), fault, log);
    process.term();
    let _ = process.wait().expect(0);
    assert!(std::fs::read_to_string(log).unwrap().contains("(DELAYED)"), "{fault} has hit nothing");
}

fn hits(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap().matches("(INJECTED)").count()
}

/// The calls of a start, with errors of their man pages. Which thread makes the first of them is
/// not known, and nothing may hang.
const OF_A_START: &[(&str, &[&str])] = &[
    ("socket", &["EMFILE", "EACCES", "ENOBUFS"]),
    ("setsockopt", &["ENOPROTOOPT", "ENOMEM"]),
    ("bind", &["EADDRINUSE", "EADDRNOTAVAIL", "ENOMEM"]),
    ("listen", &["EADDRINUSE", "EOPNOTSUPP"]),
    ("getsockname", &["ENOBUFS"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("eventfd2", &["EMFILE", "ENOMEM"]),
    ("socketpair", &["EMFILE", "ENFILE"]),
    ("fcntl", &["EMFILE"]),
    ("rt_sigprocmask", &["EINVAL"]),
    ("openat", &["EMFILE", "EACCES"]),
    ("accept4", &["EMFILE", "ENOMEM"]),
];

#[test]
fn a_start_in_which_something_fails_serves_or_says_why_not() {
    if !has_strace() {
        return;
    }
    let folder = Folder::new("start-faults");
    let log = &folder.file("log");
    let (mut served, mut refused) = (0, 0);
    for (call, errors) in OF_A_START {
        // Of `openat` the first four are the linker's, whose own errors these are.
        let first = if *call == "openat" { 5 } else { 1 };
        for (error, when) in errors.iter().flat_map(|it| (first..first + 3).map(move |at| (it, at)))
        {
            let fault = format!("{call}:error={error}:when={when}");
            let mut process = spawn_with(fixture!("web"), &fault, log);
            if process.any_line(&["listening on", "error:"]).contains("listening on") {
                served += 1;
                process.signal(Signal::TERM);
                let ended = process.wait();
                assert!(ended.status.success(), "{fault}: {ended:#?}");
            } else {
                refused += 1;
                let ended = process.wait();
                assert_eq!(ended.code(), 1, "{fault}: {ended:#?}");
                assert!(!ended.said("panicked"), "{fault}: {ended:#?}");
            }
        }
    }
    println!("{served} starts served, {refused} said why not");
    assert!(served > 0 && refused > 0, "{served} {refused}");
}

/// The calls of an upgrade, with errors of their man pages, and which of them fail, in either
/// process. It succeeds, or it fails: nobody notices either.
const OF_AN_UPGRADE: &[(&str, &[&str], std::ops::RangeInclusive<u32>)] = &[
    ("mkdir", &["EACCES", "ENOSPC"], 1..=1),
    ("connect", &["EACCES", "EAGAIN"], 1..=1),
    ("accept4", &["EMFILE", "ECONNABORTED"], 1..=1),
    ("sendmsg", &["EPIPE", "ENOBUFS", "ECONNRESET"], 1..=4),
    ("recvmsg", &["ECONNRESET", "ENOMEM"], 1..=4),
    ("getsockopt", &["ENOBUFS"], 1..=1),
    ("prlimit64", &["EPERM"], 1..=2),
    ("waitid", &["EINTR"], 1..=1),
];

#[test]
fn an_upgrade_in_which_something_fails_costs_nothing() {
    if !has_strace() {
        return;
    }
    let folder = Folder::new("upgrade-faults");
    let log = &folder.file("log");
    let (mut upgraded, mut failed, mut missed) = (0, 0, Vec::new());
    for (call, errors, which) in OF_AN_UPGRADE {
        for (error, when) in errors.iter().flat_map(|it| which.clone().map(move |when| (it, when)))
        {
            let fault = format!("{call}:error={error}:when={when}");
            // A connection that could not move is closed after its linger: no client is so late.
            let fixture = fixture!("upgraded").env("LINGER", "20s");
            let (first, addr) = serve_with(fixture, &fault, log);
            let pid = first.pid();
            let mut generations = Generations { first, pid, addr };
            let fine = |client: &mut Client, when: &str| {
                client.get("/");
                let response = client.try_response().map(|response| response.text());
                assert!(matches!(response.as_deref(), Ok("fine")), "{fault}, {when}: {response:?}");
            };
            let mut kept = Client::connect(addr);
            fine(&mut kept, "before");
            let mut busy = Client::connect(addr);
            busy.get("/slow/300");
            fine(&mut kept, "before");
            generations.signal(Signal::USR2);
            let words = ["has taken over", "failed, this process goes on"];
            let line = generations.first.any_line(&words);
            if let Some(next) = line.strip_prefix("process ") {
                upgraded += 1;
                generations.pid = next.split(' ').next().unwrap().parse().unwrap();
            } else {
                failed += 1;
            }
            fine(&mut kept, &line);
            fine(&mut Client::connect(addr), &line);
            // By either, as it has begun or not.
            assert!(busy.response().text().parse::<u32>().is_ok(), "{fault}: {line}");
            drop((kept, busy));
            if hits(log) == 0 {
                missed.push(fault.clone());
            }
            generations.signal(Signal::TERM);
            let ended = generations.first.wait().expect(0);
            assert!(!ended.said("cut off"), "{fault}: {ended:#?}");
        }
    }
    println!("{upgraded} upgrades succeeded, {failed} failed; nothing hit: {missed:?}");
    assert!(upgraded > 0 && failed > 0 && missed.is_empty(), "{upgraded} {failed} {missed:?}");
}
