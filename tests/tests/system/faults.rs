//! System calls that fail although nothing is wrong: by strace, each with errors of its man page,
//! in service or in the drain. strace counts the calls of each thread for itself.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Process, fixture};

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
    // `/proc`, and what is loaded late.
    Fault { call: "openat", errors: &["EMFILE", "ENFILE", "EACCES"], when: "12..14", lost: 0 },
    // A connection's own.
    Fault { call: "recvfrom", errors: &["ECONNRESET", "ENOMEM"], when: "3", lost: 3 },
    Fault { call: "writev", errors: &["EPIPE", "ENOBUFS"], when: "3", lost: 3 },
];

/// What strace writes goes to `log`.
fn serve_with(fault: &str, log: &Path) -> (Process, SocketAddr) {
    let call = fault.split(':').next().unwrap().to_owned();
    let fixture = fixture!("web").env("ADDR", "127.0.0.1:0").env("TIMEOUT", "5s");
    let mut process = fixture.spawn_by(|program| {
        let mut strace = Command::new("strace");
        // `-D`: the program stays this process's child.
        strace.args(["-D", "-f", "-qq", "-o"]).arg(log).arg("-e").arg(format!("trace={call}"));
        strace.arg("-e").arg(format!("inject={fault}")).arg(program);
        strace
    });
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
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    if !graceful_tests::can("system calls that fail (Debian: apt-get install strace)", has_it) {
        return;
    }
    let log = std::env::temp_dir().join(format!("graceful-faults-{}", std::process::id()));
    for Fault { call, errors, when, lost } in FAULTS {
        for error in *errors {
            let fault = format!("{call}:error={error}:when={when}");
            let (mut process, addr) = serve_with(&fault, &log);
            let gone = requests(addr);
            assert!(gone <= *lost, "{fault}: {gone} connections lost");
            // Of these, any may be the one that it hits.
            let held = (*lost == 0).then(|| process.hold(addr));
            let mut idle: Vec<_> = (0..3).map(|_| Client::connect(addr)).collect();
            process.term();
            let start = Instant::now();
            process.release();
            if let Some(mut held) = held {
                assert_eq!(held.response().text(), "held", "{fault}");
            }
            let ended = process.wait().expect(0);
            // Well within the limit, on a busy machine as well.
            assert!(ended.after(start) < Duration::from_secs(4), "{fault}: {ended:#?}");
            let hits = std::fs::read_to_string(&log).unwrap().matches("(INJECTED)").count();
            assert!(hits > 0, "{fault} has hit nothing");
            if *lost == 0 {
                idle.iter_mut().for_each(Client::closed);
            }
        }
    }
    std::fs::remove_file(&log).unwrap();
}
