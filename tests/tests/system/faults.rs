//! System calls that fail although nothing is wrong: by strace, each with errors of its man page,
//! in service or in the drain. strace counts the calls of each thread for itself.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Fixture, Folder, Generations, PATIENCE, Process, Signal, fixture};

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
    Fault {
        call: "recvfrom",
        errors: &["ECONNRESET", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH"],
        when: "3",
        lost: 3,
    },
    Fault {
        call: "writev",
        errors: &["EPIPE", "ENOBUFS", "ECONNRESET", "ENOMEM"],
        when: "3",
        lost: 3,
    },
];

/// What strace writes goes to `log`.
fn spawn_with(fixture: Fixture, fault: &str, log: &Path) -> Process {
    spawn_behind(&[], fixture, fault, log)
}

/// The same with a program by which the fixture is run.
fn spawn_behind(command: &[&str], fixture: Fixture, fault: &str, log: &Path) -> Process {
    let call = fault.split(':').next().unwrap().to_owned();
    // cargo has the linker look in more places, which counts.
    let fixture = fixture.env("ADDR", "127.0.0.1:0").env("LD_LIBRARY_PATH", "");
    fixture.spawn_by(|program| {
        let mut strace = Command::new("strace");
        // `-D`: the program stays this process's child.
        strace.args(["-D", "-f", "-qq", "-o"]).arg(log).arg("-e").arg(format!("trace={call}"));
        strace.arg("-e").arg(format!("inject={fault}")).args(command).arg(program);
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

/// It stops the program, or ends it as it would without a handler, in each of the moments in which
/// there is a handler for the kernel and none yet for the process.
#[test]
fn a_signal_while_its_handler_is_made_is_not_lost() {
    at_each_call_of_a_start("rt_sigaction", 8);
}

/// The same while it binds, and while it starts its threads.
#[test]
fn a_signal_while_the_program_starts_is_not_lost() {
    for call in ["socket", "bind", "listen"] {
        at_each_call_of_a_start(call, 0);
    }
    at_each_call_of_a_start("clone3", 2);
}

/// Sends SIGTERM at each of these calls of the first thread, of which there are more than `least`.
fn at_each_call_of_a_start(call: &str, least: usize) {
    if !has_strace() {
        return;
    }
    let folder = Folder::new(&format!("at-{call}"));
    let log = &folder.file("log");
    let mut ended = 0;
    for when in 1.. {
        let fault = format!("{call}:signal=SIGTERM:when={when}");
        let mut process = spawn_with(fixture!("web"), &fault, log);
        let has_come = || std::fs::read_to_string(log).is_ok_and(|log| log.contains("--- SIGTERM"));
        while !has_come() && !process.is_over() && !process.line_if("listening on") {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !has_come() {
            // So many calls there are not.
            process.term();
            let _ = process.wait().expect(0);
            break;
        }
        let status = process.wait().status;
        let was_killed = status.signal() == Some(Signal::TERM.as_raw());
        assert!(was_killed || status.success(), "{fault}: {status}");
        ended += 1;
        assert!(std::fs::remove_file(log).is_ok());
    }
    println!("{ended} calls of {call}");
    assert!(ended > least, "{ended} calls of {call}");
}

/// The kernel shields process 1 of a container from what it does not handle, and aborting is all
/// that the default action of a handler can do there.
#[test]
fn a_signal_while_process_1_starts_ends_it() {
    let is_root = rustix::process::geteuid().is_root();
    if !has_strace() || !graceful_tests::can("process 1 of a container (as root)", is_root) {
        return;
    }
    let folder = Folder::new("process-1");
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    // The first thread comes behind the handlers.
    let fault = "clone3:signal=SIGTERM:when=1";
    let mut process = spawn_behind(&unshare, fixture!("web"), fault, &folder.file("log"));
    let _ = process.wait().expect(128 + Signal::TERM.as_raw());
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
    ("clone3", &["EAGAIN"]),
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
    ("sendmsg", &["EPIPE", "ENOBUFS", "ECONNRESET", "ETOOMANYREFS", "EINTR"], 1..=4),
    ("recvmsg", &["ECONNRESET", "ENOMEM", "EINTR"], 1..=4),
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
            generations.signal(Signal::TERM);
            let ended = generations.first.wait().expect(0);
            if hits(log) == 0 {
                missed.push(fault.clone());
            }
            assert!(!ended.said("cut off"), "{fault}: {ended:#?}");
        }
    }
    println!("{upgraded} upgrades succeeded, {failed} failed; nothing hit: {missed:?}");
    assert!(upgraded > 0 && failed > 0 && missed.is_empty(), "{upgraded} {failed} {missed:?}");
}

/// A take-over in which the old process gets a signal at one of its calls.
struct TakeOver {
    folder: Folder,
    old: Process,
    addr: SocketAddr,
}

impl TakeOver {
    fn new(folder: &str, linger: &str, fault: &str) -> Self {
        let folder = Folder::new(folder);
        let old = Self::fixture(&folder).env("LINGER", linger);
        let (old, addr) = serve_with(old, fault, &folder.file("log"));
        Self { folder, old, addr }
    }

    fn fixture(folder: &Folder) -> Fixture {
        fixture!("upgraded").env("HANDOVER", &folder.file("app.sock").display().to_string())
    }

    fn next(&self) -> Process {
        Self::fixture(&self.folder).env("ADDR", &self.addr.to_string()).spawn()
    }

    /// Waits until the old process hangs, or has ended. Returns whether it hangs.
    fn hangs(&mut self) -> bool {
        let log = self.folder.file("log");
        let start = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().contains("stopped by SIGSTOP") {
            if self.old.is_over() {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "it neither hangs nor ends");
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// Runs `case` with the old process getting `signal` at each call by which the two processes talk,
/// until it returns that the call was not made.
fn at_each_call(signal: &str, mut case: impl FnMut(&str) -> bool) {
    for call in ["sendmsg", "recvmsg"] {
        let mut when = 1;
        while case(&format!("{call}:signal={signal}:when={when}")) {
            when += 1;
        }
        assert!(when > 2, "{call}: only {} was hit", when - 1);
    }
}

fn answers(addr: SocketAddr) -> String {
    Client::connect(addr).fetch("/process").text()
}

/// It dies: the next one serves.
#[test]
fn an_old_process_that_dies_in_a_take_over_leaves_the_next_one_free() {
    if !has_strace() {
        return;
    }
    at_each_call("SIGKILL", |fault| {
        let mut take_over = TakeOver::new("dies", "0s", fault);
        let mut next = take_over.next();
        next.line("listening on");
        let old = take_over.old.wait();
        if old.status.success() {
            return false;
        }
        assert_eq!(old.status.signal(), Some(Signal::KILL.as_raw()), "{fault}: {old:#?}");
        assert_eq!(answers(take_over.addr), next.pid().to_string(), "{fault}");
        next.term();
        let _ = next.wait().expect(0);
        true
    });
}

/// The next one dies: the old one goes on, unless it had let go.
#[test]
fn a_next_process_that_dies_in_a_take_over_leaves_the_old_one_as_it_was() {
    if !has_strace() {
        return;
    }
    let (mut stays, mut let_go) = (0, 0);
    at_each_call("SIGKILL", |fault| {
        let folder = Folder::new("next-dies");
        let (mut old, addr) = TakeOver::fixture(&folder).serve();
        let mut kept = Client::connect(addr);
        let pid = old.pid().to_string();
        assert_eq!(kept.fetch("/process").text(), pid, "{fault}");
        let mut next = spawn_with(TakeOver::fixture(&folder), fault, &folder.file("log"));
        let line = old.any_line(&["this process goes on", "has taken over"]);
        if line.contains("goes on") {
            stays += 1;
            assert_eq!(next.wait().status.signal(), Some(Signal::KILL.as_raw()), "{fault}");
            for client in [&mut kept, &mut Client::connect(addr)] {
                assert_eq!(client.fetch("/process").text(), pid, "{fault}");
            }
            old.term();
        } else {
            let_go += 1;
            next.signal_if_there(Signal::TERM);
        }
        drop(kept);
        let _ = old.wait().expect(0);
        next.wait().status.signal() == Some(Signal::KILL.as_raw())
    });
    println!("{stays} stayed, {let_go} had let go");
    assert!(stays > 2, "{stays} {let_go}");
}

/// It hangs, and goes on: nobody notices.
#[test]
fn an_old_process_that_hangs_in_a_take_over_for_a_while_costs_nothing() {
    if !has_strace() {
        return;
    }
    at_each_call("SIGSTOP", |fault| {
        let mut take_over = TakeOver::new("hangs", "20s", fault);
        let mut kept = Client::connect(take_over.addr);
        let old = kept.fetch("/process").text();
        let mut next = take_over.next();
        let hangs = take_over.hangs();
        let mut waiting = Client::connect(take_over.addr);
        waiting.get("/process");
        if hangs {
            take_over.old.signal(Signal::CONT);
            next.line("took over ");
        }
        let next_pid = next.pid().to_string();
        assert_eq!(kept.fetch("/process").text(), next_pid, "{fault}, from {old}");
        assert!([&old, &next_pid].contains(&&waiting.response().text()), "{fault}");
        assert_eq!(answers(take_over.addr), next_pid, "{fault}");
        drop((kept, waiting));
        let _ = take_over.old.wait().expect(0);
        next.term();
        let _ = next.wait().expect(0);
        hangs
    });
}

/// It hangs, and the next one is told to stop meanwhile: that ends in time, and a client that waits
/// is answered by either. The old one goes on, unless it had let go.
#[test]
fn a_stop_of_the_next_process_while_the_old_one_hangs() {
    if !has_strace() {
        return;
    }
    let (mut stays, mut let_go) = (0, 0);
    at_each_call("SIGSTOP", |fault| {
        let mut take_over = TakeOver::new("stopped", "250ms", fault);
        let mut next = take_over.next();
        if !take_over.hangs() {
            return false;
        }
        let mut waiting = Client::connect(take_over.addr);
        waiting.get("/process");
        let start = Instant::now();
        next.signal(Signal::TERM);
        let ended = next.wait();
        // It waits for an answer of the old one for two seconds. Before it serves, it handles
        // no signal.
        assert!(ended.after(start) < Duration::from_secs(5 + 3), "{fault}: {ended:#?}");
        let was_killed = ended.status.signal() == Some(Signal::TERM.as_raw());
        assert!(was_killed || matches!(ended.code(), 0 | 1), "{fault}: {ended:#?}");
        take_over.old.signal(Signal::CONT);
        let by = waiting.response().text();
        let old = take_over.old.pid().to_string();
        assert!(by == old || by == next.pid().to_string(), "{fault}: {by}");
        let line = take_over.old.any_line(&["this process goes on", "has taken over"]);
        drop(waiting);
        if line.contains("goes on") {
            stays += 1;
            assert_eq!(answers(take_over.addr), old, "{fault}");
            take_over.old.term();
        } else {
            let_go += 1;
        }
        let _ = take_over.old.wait().expect(0);
        true
    });
    println!("{stays} stayed, {let_go} had let go");
    assert!(stays > 0 && let_go > 0, "{stays} {let_go}");
}
