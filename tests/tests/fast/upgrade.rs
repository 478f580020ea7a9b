//! A next version takes over, or does not: then it is as if nothing had happened.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use graceful_tests::{
    Client, Fixture, Folder, Generations, Process, Signal, balanced::free_addrs, fixture,
    generations::has_ended,
};

fn upgraded() -> Fixture {
    fixture!("upgraded")
}

fn process(client: &mut Client) -> u32 {
    client.fetch("/process").text().parse().unwrap()
}

#[test]
fn connections_go_on_in_the_next_process() {
    let mut generations = Generations::new(upgraded());
    let addr = generations.addr;
    let mut idle = Client::connect(addr);
    let first = generations.pid;
    assert_eq!(process(&mut idle), first);
    let who = idle.fetch("/who").text();
    // Busy: it moves when it has been answered.
    let mut busy = Client::connect(addr);
    busy.get("/slow/600");
    // Half a head, in two ways: before hyper is there, and in the middle of it.
    let mut half = Client::connect(addr);
    half.send("G");
    let mut more = Client::connect(addr);
    more.send("GET /process HTTP/1.1\r\nho");
    // Nothing at all.
    let mut silent = Client::connect(addr);
    // What is behind an answer, and no message.
    let mut blank = Client::connect(addr);
    blank.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi\r\n\r\n");
    assert_eq!(blank.response().text(), "2");
    // All of this has been read.
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    thread::sleep(Duration::from_millis(100));

    let old = generations.upgrade();
    assert_eq!(old, first);
    let second = generations.pid;
    // New ones are the next process's, at once.
    assert_eq!(process(&mut Client::connect(addr)), second);
    let response = busy.response();
    assert_eq!((response.text(), response.closes()), (first.to_string(), false));
    generations.gone(first);
    half.send("ET /process HTTP/1.1\r\nhost: x\r\n\r\n");
    more.send("st: x\r\n\r\n");
    for mut client in [half, more] {
        assert_eq!(client.response().text(), second.to_string());
        assert_eq!(process(&mut client), second);
    }
    for client in [&mut busy, &mut silent, &mut blank, &mut idle] {
        assert_eq!(process(client), second);
    }
    assert_eq!(idle.fetch("/who").text(), who);
    // And once more.
    generations.upgrade();
    generations.gone(second);
    assert_eq!(process(&mut idle), generations.pid);
    generations.signal(Signal::TERM);
    let ended = generations.first.wait();
    assert!(!ended.said("cut off"), "{ended:#?}");
    for line in ["handed over 6 connections, drained 1 request in", "took over 6 connections from"]
    {
        assert!(ended.said(line), "{ended:#?}");
    }
}

#[test]
fn a_unix_socket_keeps_its_path_and_its_connections() {
    use std::io::{Read as _, Write as _};
    let folder = Folder::new("unix");
    let path = folder.file("app.sock");
    let mut first = upgraded().env("ADDR", &format!("unix:{}", path.display())).spawn();
    first.line("listening on unix:");
    let ask = |stream: &mut UnixStream| {
        stream.write_all(b"GET /process HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut bytes = [0; 1_000];
        let length = stream.read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        text.rsplit("\r\n").next().unwrap().parse::<u32>().unwrap()
    };
    let mut kept = UnixStream::connect(&path).unwrap();
    let pid = first.pid();
    assert_eq!(ask(&mut kept), pid);
    let addr = "127.0.0.1:1".parse().unwrap();
    let mut generations = Generations { first, pid, addr };
    generations.upgrade();
    generations.gone(pid);
    assert_eq!(ask(&mut kept), generations.pid);
    assert_eq!(ask(&mut UnixStream::connect(&path).unwrap()), generations.pid);
    generations.signal(Signal::TERM);
    let _ = generations.first.wait();
    assert!(!path.exists(), "the last one removes it");
}

/// Upgrades to something that is wrong, and checks that nothing has happened.
fn fails(fixture: Fixture, wrong: impl FnOnce(), why: &str) -> Process {
    let (mut first, addr) = fixture.serve();
    let mut kept = Client::connect(addr);
    let pid = first.pid();
    assert_eq!(process(&mut kept), pid);
    wrong();
    first.signal(Signal::USR2);
    let line = first.line("upgrade failed, this process goes on");
    assert!(line.contains(why), "{line}");
    let response = kept.fetch("/process");
    assert_eq!((response.text(), response.closes()), (pid.to_string(), false));
    assert_eq!(process(&mut Client::connect(addr)), pid);
    first
}

#[test]
fn an_upgrade_that_fails_costs_nothing() {
    let folder = Folder::new("fails");
    for (wrong, why) in [
        ("exits", "the new process ended (exit status: 3) before it was ready"),
        ("panics", "the new process ended (exit status: 101) before it was ready"),
        ("fails", "the new process ended (exit status: 1) before it was ready"),
        ("hangs", "the new process was not ready within 2s"),
        ("dies when ready", "the new process ended"),
        // An address that is another process's.
        ("listens on 127.0.0.1:1", "the new process ended"),
        ("listens on 127.0.0.2:0", "it serves none of the addresses of this process"),
    ] {
        let fail = folder.file("wrong");
        let _ = fs::remove_file(&fail);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wrong = wrong.replace("127.0.0.1:1", &taken.local_addr().unwrap().to_string());
        let fixture = upgraded()
            .env("FAIL", &fail.display().to_string())
            .env("UPGRADE_TIMEOUT", if wrong == "hangs" { "2s" } else { "20s" });
        let write = || fs::write(&fail, &wrong).unwrap();
        let mut first = fails(fixture, write, why);
        // The next one that is right takes over all the same.
        fs::remove_file(&fail).unwrap();
        first.signal(Signal::USR2);
        let line = first.line("has taken over");
        let next = line.split_whitespace().nth(1).unwrap().parse::<i32>().unwrap();
        let next = rustix::process::Pid::from_raw(next).unwrap();
        rustix::process::kill_process(next, Signal::TERM).unwrap();
        let ended = first.wait();
        assert!(ended.status.success(), "{ended:#?}");
    }
}

/// Copies by another process: what this one has open for writing, a child that another test starts
/// in this moment would have open as well, and it could not be run (execve(2), `ETXTBSY`).
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_file(to);
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// A copy of the program, which can be replaced.
fn copied(folder: &Folder) -> (Fixture, PathBuf) {
    let program = folder.file("program");
    copy(env!("CARGO_BIN_EXE_fixtures").as_ref(), &program);
    (Fixture::new(program.to_str().unwrap(), "upgraded"), program)
}

#[test]
fn the_file_at_the_path_is_what_is_run() {
    let replace = |program: &Path, bytes: &[u8], mode: u32| {
        // A program that runs cannot be written to; its path can be another's.
        let new = program.with_extension("new");
        fs::write(program.with_extension("source"), bytes).unwrap();
        copy(&program.with_extension("source"), &new);
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(new, program).unwrap();
    };
    let folder = Folder::new("file");
    // An ELF header of a machine that this is not (elf(5), `EM_S390`).
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([0, 2, 0, 22, 0, 0, 0, 1]);
    elf.resize(120, 0);
    let script = b"#!/bin/sh\nexit 7\n";
    for (what, bytes, mode, why) in [
        ("another machine's", &elf[..], 0o755, "cannot run"),
        ("not executable", &script[..], 0o644, "Permission denied"),
        ("a version that knows no hand-over", &script[..], 0o755, "(exit status: 7)"),
    ] {
        let (fixture, program) = copied(&folder);
        let mut first = fails(fixture, || replace(&program, bytes, mode), why);
        // And one that is right, at last.
        let new = fs::read(env!("CARGO_BIN_EXE_fixtures")).unwrap();
        replace(&program, &new, 0o755);
        first.signal(Signal::USR2);
        let line = first.any_line(&["has taken over", "failed"]);
        assert!(line.contains("has taken over"), "{what}: {line}");
        end_next(&line);
        assert!(first.wait().status.success());
    }
    let (fixture, program) = copied(&folder);
    drop(fails(fixture, || fs::remove_file(&program).unwrap(), "No such file"));
}

/// Ends the process that a line says has taken over.
fn end_next(line: &str) {
    let next = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let next = rustix::process::Pid::from_raw(next).unwrap();
    rustix::process::kill_process(next, Signal::TERM).unwrap();
}

#[test]
fn a_stop_in_the_middle_of_an_upgrade_ends_the_new_process_and_then_stops() {
    let folder = Folder::new("stop");
    let fail = folder.file("wrong");
    let (mut first, addr) = upgraded().env("FAIL", &fail.display().to_string()).serve();
    let mut kept = Client::connect(addr);
    assert_eq!(kept.fetch("/").text(), "fine");
    fs::write(&fail, "hangs").unwrap();
    first.signal(Signal::USR2);
    first.line("SIGUSR2 received, starting");
    let next = child_of(first.pid());
    first.term();
    first.line("drained 1 connection in");
    let ended = first.wait();
    assert!(ended.status.success() && !ended.said("has taken over"), "{ended:#?}");
    assert!(has_ended(next), "the new process goes on");
}

/// Waits for a child of the process.
fn child_of(pid: u32) -> u32 {
    let started = Instant::now();
    loop {
        let all = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let children = threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .chain(all)
            .find_map(|text| text.split_whitespace().next()?.parse().ok());
        if let Some(child) = children {
            return child;
        }
        assert!(started.elapsed() < graceful_tests::PATIENCE, "no child");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_upgrade_during_a_stop_is_refused_with_a_word() {
    let (mut first, addr) = upgraded().serve();
    let mut busy = Client::connect(addr);
    busy.get("/slow/1500");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    first.term();
    first.signal(Signal::USR2);
    first.line("SIGUSR2 received: no upgrade, the program stops");
    assert_eq!(busy.response().text(), first.pid().to_string());
    assert!(first.wait().status.success());
}

#[test]
fn the_program_can_ask_for_its_upgrade() {
    let mut generations = Generations::new(upgraded());
    let answer = Client::connect(generations.addr).fetch("/upgrade").text();
    let old = generations.taken_over();
    assert_eq!(answer, format!("upgraded to {}", generations.pid));
    generations.gone(old);
    generations.signal(Signal::TERM);
    let _ = generations.first.wait();
}

#[test]
fn a_second_upgrade_while_a_generation_drains() {
    let mut generations = Generations::new(upgraded());
    let addr = generations.addr;
    let mut kept = Client::connect(addr);
    let mut busy = Client::connect(addr);
    busy.get("/slow/2500");
    assert_eq!(process(&mut kept), generations.pid);
    let first = generations.upgrade();
    let second = generations.upgrade();
    assert!(!has_ended(first) && !has_ended(second), "there is a request to answer");
    assert_eq!(busy.response().text(), first.to_string());
    // From the first to the second, which waits for it, and on to the third.
    generations.gone(first);
    generations.gone(second);
    assert_eq!(process(&mut busy), generations.pid);
    assert_eq!(process(&mut kept), generations.pid);
    generations.signal(Signal::TERM);
    let _ = generations.first.wait();
}

/// As Ctrl-C at a terminal, which all processes of the group get: each ends well.
#[test]
fn a_signal_to_all_generations_ends_each_of_them_well() {
    let mut generations = Generations::new(upgraded());
    let addr = generations.addr;
    let mut busy = Client::connect(addr);
    busy.get("/slow/1500");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    let first = generations.upgrade();
    for pid in [first, generations.pid] {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, Signal::INT).unwrap();
    }
    assert_eq!(busy.response().text(), first.to_string());
    generations.gone(first);
    generations.gone(generations.pid);
    let ended = generations.first.wait();
    assert!(ended.status.success() && !ended.said("cut off"), "{ended:#?}");
    assert!(ended.said("SIGINT received, draining"), "{ended:#?}");
}

#[test]
fn listeners_that_the_next_version_does_not_want_are_closed_and_new_ones_bound() {
    let folder = Folder::new("wanted");
    let fail = folder.file("version");
    let [kept, dropped, new] = free_addrs();
    let mut first = upgraded()
        .env("ADDR", &format!("{kept},{dropped}"))
        .env("FAIL", &fail.display().to_string())
        .spawn();
    first.line(&format!("listening on http://{dropped}"));
    let pid = first.pid();
    let mut there = Client::connect(dropped);
    assert_eq!(there.fetch("/").text(), "fine");
    fs::write(&fail, format!("listens on {kept},{new}")).unwrap();
    let mut generations = Generations { first, pid, addr: kept };
    generations.upgrade();
    generations.gone(pid);
    assert_eq!(process(&mut Client::connect(kept)), generations.pid);
    assert_eq!(process(&mut Client::connect(new)), generations.pid);
    let refused = Client::try_connect(dropped).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    there.closed();
    generations.signal(Signal::TERM);
    let _ = generations.first.wait();
}

#[test]
fn the_age_of_a_connection_and_the_limit_of_them_go_along() {
    let fixture = upgraded().env("KEEP_ALIVE_MS", "2500").env("MAX_CONNECTIONS", "3");
    let mut generations = Generations::new(fixture);
    let addr = generations.addr;
    let mut idle = Client::connect(addr);
    assert_eq!(idle.fetch("/").text(), "fine");
    let since = Instant::now();
    let (mut one, mut two) = (Client::connect(addr), Client::connect(addr));
    for client in [&mut one, &mut two] {
        assert_eq!(client.fetch("/").text(), "fine");
    }
    thread::sleep(Duration::from_millis(1_500));
    let old = generations.upgrade();
    generations.gone(old);
    // One that came later would be let in beside a fourth.
    generations.first.line_of_any("took over 3 connections");
    assert_eq!(process(&mut one), generations.pid);
    // The three are all that there may be.
    let mut fourth = Client::connect(addr);
    fourth.get("/process");
    idle.closed();
    let after = since.elapsed();
    assert!((2_400..3_400).contains(&after.as_millis()), "{after:?}: it has begun anew");
    assert_eq!(fourth.response().text(), generations.pid.to_string());
    generations.signal(Signal::TERM);
    let ended = generations.first.wait();
    // Of either process: which line comes first is up to their pipe.
    let reached = "connection limit reached (max_connections = 3)";
    assert_eq!(ended.lines.iter().filter(|line| line.contains(reached)).count(), 2, "{ended:#?}");
}

#[test]
fn a_handler_of_another_protocol_hands_its_connection_over_with_its_state() {
    use std::io::{BufRead, BufReader, Write};
    let mut generations = Generations::new(fixture!("upgraded_lines"));
    let client = std::net::TcpStream::connect(generations.addr).unwrap();
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
    let mut ask = |text: &str| {
        (&client).write_all(text.as_bytes()).unwrap();
        lines.next().unwrap().unwrap()
    };
    let first = generations.pid;
    assert_eq!(ask("a\n"), format!("{first} 1 a"));
    // Half a line has been read by the old process.
    assert_eq!(ask("b\nha"), format!("{first} 2 b"));
    thread::sleep(Duration::from_millis(50));
    generations.upgrade();
    generations.gone(first);
    let second = generations.pid;
    assert_eq!(ask("lf\n"), format!("{second} 3 half"));
    // A stop is a stop: there is nobody to hand over to.
    generations.signal(Signal::TERM);
    assert_eq!(lines.next().unwrap().unwrap(), "bye");
    let ended = generations.first.wait();
    assert!(ended.said("handed over 1 connection in"), "{ended:#?}");
}

#[test]
fn a_server_of_another_framework_gets_its_listener() {
    let [addr, ..] = free_addrs();
    let mut first = fixture!("upgraded_axum").env("ADDR", &addr.to_string()).spawn();
    first.line(&format!("listening on axum on {addr}"));
    let pid = first.pid();
    let mut generations = Generations { first, pid, addr };
    for _ in 0..3 {
        let old = generations.pid;
        assert_eq!(process(&mut Client::connect(addr)), old);
        generations.upgrade();
        assert_ne!(generations.pid, old);
        generations.gone(old);
        assert_eq!(process(&mut Client::connect(addr)), generations.pid);
    }
    generations.signal(Signal::TERM);
    let _ = generations.first.wait();
    assert!(Client::try_connect(addr).is_err());
}

/// A client of tungstenite, and its raw stream.
fn websocket(addr: SocketAddr) -> tungstenite::WebSocket<TcpStream> {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(graceful_tests::PATIENCE)).unwrap();
    tungstenite::client(format!("ws://{addr}/count"), stream).unwrap().0
}

fn said(socket: &mut tungstenite::WebSocket<TcpStream>) -> String {
    loop {
        let message = socket.read().unwrap();
        if message.is_text() {
            return message.to_text().unwrap().to_owned();
        }
    }
}

#[test]
fn a_websocket_goes_on_in_the_next_process_and_the_one_after_that() {
    use std::io::Write as _;
    let mut generations = Generations::new(upgraded());
    let addr = generations.addr;
    let mut sockets: Vec<_> = (0..8).map(|_| websocket(addr)).collect();
    let mut count = 0;
    for round in 0..4 {
        let pid = generations.pid;
        count += 1;
        for socket in &mut sockets {
            socket.send(tungstenite::Message::text("hello")).unwrap();
            assert_eq!(said(socket), format!("{pid} {count} hello"), "{round}");
        }
        // In the middle of a message: a part of a frame; a fragment and a ping behind it; the
        // header of a frame, in two pieces.
        let parts: [&[u8]; 3] = [
            &[0x81, 0x85, 0, 0, 0, 0, b'h'],
            &[0x01, 0x82, 0, 0, 0, 0, b'h', b'e', 0x89, 0x80, 0, 0, 0, 0],
            &[0x81],
        ];
        let rests: [&[u8]; 3] =
            [b"ello", &[0x80, 0x83, 0, 0, 0, 0, b'l', b'l', b'o'], b"\x85\0\0\0\0hello"];
        for (i, socket) in sockets.iter_mut().enumerate() {
            socket.get_mut().write_all(parts[i % 3]).unwrap();
        }
        // All of it has been read.
        assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        thread::sleep(Duration::from_millis(50));
        generations.upgrade();
        generations.gone(pid);
        count += 1;
        for (i, socket) in sockets.iter_mut().enumerate() {
            socket.get_mut().write_all(rests[i % 3]).unwrap();
            assert_eq!(said(socket), format!("{} {count} hello", generations.pid), "{round}, {i}");
        }
    }
    generations.signal(Signal::TERM);
    for socket in &mut sockets {
        assert!(socket.read().unwrap().is_close(), "a stop says goodbye");
    }
    drop(sockets);
    let ended = generations.first.wait();
    assert!(!ended.said("cut off") && ended.said("handed over 8 connections"), "{ended:#?}");
}

// By a path.

#[test]
fn whoever_starts_the_next_process_it_takes_over_at_the_path() {
    let folder = Folder::new("path");
    let path = folder.file("handover.sock").display().to_string();
    let (mut first, addr) = upgraded().env("HANDOVER", &path).serve();
    let mut kept = Client::connect(addr);
    assert_eq!(process(&mut kept), first.pid());
    for _ in 0..2 {
        let mut next = upgraded().env("HANDOVER", &path).spawn();
        assert_eq!(next.addr(), addr);
        first.line(&format!("process {} has taken over", next.pid()));
        assert!(first.wait().status.success());
        next.line("took over 1 connection from process");
        assert_eq!(process(&mut kept), next.pid());
        first = next;
    }
    first.term();
    assert!(first.wait().status.success());
    assert!(!Path::new(&path).exists());
}

/// The one that asks and is not let in time, or whose counterpart stops, ends: it would go on with
/// listeners that the other turns clients away from.
#[test]
fn the_one_that_asks_ends_if_it_may_not_begin() {
    let folder = Folder::new("refused");
    let path = folder.file("handover.sock").display().to_string();
    let fail = folder.file("wrong");
    for limit in ["700ms", "20s"] {
        let fixture = || {
            upgraded()
                .env("HANDOVER", &path)
                .env("FAIL", &fail.display().to_string())
                .env("UPGRADE_TIMEOUT", limit)
        };
        let (mut first, addr) = fixture().serve();
        assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        fs::write(&fail, "hangs").unwrap();
        let mut next = fixture().spawn();
        if limit == "20s" {
            // It has what it asked for.
            graceful_tests::balanced::wait_for("the listener is shared", || {
                let open = fs::read_dir(format!("/proc/{}/fd", next.pid())).unwrap().flatten();
                open.filter_map(|fd| fs::read_link(fd.path()).ok())
                    .filter(|to| to.to_string_lossy().starts_with("socket:"))
                    .count()
                    > 1
            });
            first.term();
        }
        let ended = next.wait();
        assert_eq!(ended.code(), 1, "{ended:#?}");
        assert!(ended.said("goes on by itself"), "{ended:#?}");
        if limit == "700ms" {
            first.line("the new process was not ready within 700ms");
            assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
            first.term();
        }
        assert!(first.wait().status.success());
        fs::remove_file(&fail).unwrap();
    }
}

/// One that is refused in the last moment leaves the path as it is: the next one that asks there
/// takes over.
#[test]
fn the_path_stays_with_whoever_goes_on() {
    let folder = Folder::new("late");
    let path = folder.file("handover.sock").display().to_string();
    let fixture = || upgraded().env("HANDOVER", &path).env("UPGRADE_TIMEOUT", "400ms");
    let mut refused = 0;
    for _ in 0..5 {
        let (mut first, addr) = fixture().serve();
        let mut next = fixture().spawn();
        next.line("listening on");
        // Behind its word that it is ready, or before.
        next.signal(Signal::STOP);
        let line = first.any_line(&["has taken over", "was not ready within 400ms"]);
        next.signal(Signal::CONT);
        let mut serves = if line.contains("has taken over") {
            next
        } else {
            refused += 1;
            let ended = next.wait();
            assert_eq!(ended.code(), 1, "{ended:#?}");
            let third = fixture().spawn();
            first.line(&format!("process {} has taken over", third.pid()));
            third
        };
        assert!(first.wait().status.success());
        assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        serves.term();
        assert!(serves.wait().status.success());
        assert!(!Path::new(&path).exists());
    }
    assert!(refused > 0, "it was always too late to refuse");
}

/// Of another user: neither the one that asks gets anything, nor does it harm.
#[test]
fn another_user_gets_nothing() {
    if !graceful_tests::can("another user", rustix::process::getuid().is_root()) {
        return;
    }
    let folder = Folder::new("another");
    let path = folder.file("handover.sock");
    let (mut first, addr) = upgraded().env("HANDOVER", path.to_str().unwrap()).serve();
    // As if somebody had opened it later.
    for (path, mode) in [(folder.path(), 0o755), (path.as_path(), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  sys.exit(len(s.recv(100)))";
    let asked = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", script])
        .arg(&path)
        .status()
        .unwrap();
    assert_eq!(asked.code(), Some(0), "it was told something");
    first.line("no take-over: another user asks for it");
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    first.term();
    assert!(first.wait().status.success());
}

/// A process that is out of descriptors cannot pass its listeners on, and goes on with them.
#[test]
fn an_upgrade_without_descriptors_costs_nothing() {
    let (mut first, addr) = upgraded().serve();
    let mut kept = Client::connect(addr);
    assert_eq!(process(&mut kept), first.pid());
    let limit = |most: &str| {
        let pid = first.pid().to_string();
        let set = Command::new("prlimit").args(["--pid", &pid, most]).status().unwrap();
        assert!(set.success());
    };
    let open = fs::read_dir(format!("/proc/{}/fd", first.pid())).unwrap().count();
    limit(&format!("--nofile={open}:"));
    first.signal(Signal::USR2);
    let line = first.line("upgrade failed, this process goes on");
    assert!(line.contains("Too many open files") || line.contains("os error 24"), "{line}");
    assert_eq!(process(&mut kept), first.pid());
    let pid = first.pid().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, "--nofile=1000:"]).status().unwrap();
    assert!(set.success());
    first.signal(Signal::USR2);
    let line = first.any_line(&["has taken over", "failed"]);
    assert!(line.contains("has taken over"), "{line}");
    end_next(&line);
    assert!(first.wait().status.success());
}

#[test]
fn a_take_over_that_fails_costs_nothing() {
    let folder = Folder::new("path-fails");
    let path = folder.file("handover.sock").display().to_string();
    let fail = folder.file("wrong");
    let fixture = || upgraded().env("HANDOVER", &path).env("FAIL", &fail.display().to_string());
    let (mut first, addr) = fixture().serve();
    let mut kept = Client::connect(addr);
    assert_eq!(process(&mut kept), first.pid());
    for (wrong, code) in [("exits", 3), ("fails", 1), ("panics", 101), ("dies when ready", 4)] {
        fs::write(&fail, wrong).unwrap();
        assert_eq!(fixture().spawn().wait().code(), code, "{wrong}");
        first.line("take-over failed, this process goes on: the new process");
        assert_eq!(process(&mut kept), first.pid());
        // The path still leads to the one that goes on.
        fs::remove_file(&fail).unwrap();
        let mut next = fixture().spawn();
        first.line(&format!("process {} has taken over", next.pid()));
        assert!(first.wait().status.success());
        next.line("took over 1 connection");
        first = next;
    }
    // While one of another kind cannot be: the folder is open to others.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = fixture().spawn().wait();
    assert_eq!(refused.code(), 1);
    assert!(refused.said("others can enter"), "{refused:#?}");
    first.term();
    assert!(first.wait().status.success());
}
