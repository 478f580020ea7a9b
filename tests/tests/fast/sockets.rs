//! Listening sockets at the drain: other people's, Unix ones, those of a process without
//! descriptors.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt, FdMapping};
use graceful::{Config, Server, SocketSharing};
use graceful_tests::{Client, Process, Signal, app::router, fixture, in_time};

async fn fetch(addr: SocketAddr) -> io::Result<String> {
    let fetch = move || Client::try_connect(addr).map(|mut client| client.fetch("/").text());
    tokio::task::spawn_blocking(fetch).await.unwrap()
}

async fn serve_once(server: Server, addr: SocketAddr) {
    let running = Config::new().start(server).await.unwrap();
    assert_eq!(fetch(addr).await.unwrap(), "fine");
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test]
async fn a_listener_that_was_handed_in_can_be_served_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    for _ in 0..3 {
        serve_once(graceful::serve(listener.try_clone().unwrap(), router()), addr).await;
    }
    // As long as somebody holds it, clients wait in its queue.
    let _waits = Client::connect(addr);
    // Nobody else holds it, says the program: then it turns clients away, for everybody.
    serve_once(
        graceful::serve(listener.try_clone().unwrap(), router())
            .socket_sharing(SocketSharing::Exclusive),
        addr,
    )
    .await;
    assert_eq!(fetch(addr).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

/// Starts `inherited` with `listener` as descriptor 3, as a parent does that keeps it; `LISTEN_PID`
/// is left out, as by some, or is the program's.
fn inherit(listener: &TcpListener, script: &'static str) -> Process {
    let fd = OwnedFd::from(listener.try_clone().unwrap());
    fixture!("inherited").spawn_by(|program| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(program);
        command.fd_mappings(vec![FdMapping { parent_fd: fd, child_fd: 9 }]).unwrap();
        command
    })
}

#[test]
fn a_socket_of_the_parent_survives_restarts() {
    for script in [
        "exec 3<&9 9<&-; LISTEN_FDS=1 exec \"$0\" \"$@\"",
        "exec 3<&9 9<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            let mut process = inherit(&listener, script);
            let addr = process.addr();
            assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
            process.signal(Signal::TERM);
            let _ = process.wait().expect(0);
        }
    }
}

#[test]
fn the_port_is_free_as_soon_as_nobody_is_on_the_way() {
    let (mut old, addr) = fixture!("web").serve();
    let mut held = Client::connect(addr);
    held.get("/hold");
    old.line("hold begins");
    old.signal(Signal::TERM);
    let refused = Instant::now() + graceful_tests::PATIENCE;
    while Client::try_connect(addr).is_ok() {
        assert!(Instant::now() < refused);
    }
    // Refused, and a moment later free for the next one, while the old one still drains. By a
    // socket of this process: to start another takes a busy machine longer than what is asked for
    // here.
    let since = Instant::now();
    while let Err(error) = TcpListener::bind(addr) {
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(since.elapsed() < graceful_tests::PATIENCE, "the port is still bound");
        thread::sleep(Duration::from_millis(1));
    }
    println!("free after {:?}", since.elapsed());
    let web = fixture!("web").env("ADDR", &addr.to_string());
    let (mut new, at) = web.serve();
    assert_eq!(Client::connect(at).fetch("/").text(), "fine");
    old.release();
    assert_eq!(held.response().text(), "held");
    let _ = old.wait().expect(0);
    new.signal(Signal::TERM);
    let _ = new.wait().expect(0);
}

/// The application with so few descriptors.
fn with_descriptors(count: usize, linger: &str) -> (Process, SocketAddr) {
    let mut process = fixture!("web").env("LINGER", linger).spawn_by(|program| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {count}; exec \"$0\" \"$@\"")).arg(program);
        command
    });
    let addr = process.addr();
    (process, addr)
}

/// How many descriptors a process has.
fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count()
}

#[test]
fn a_stop_without_descriptors_ends_as_it_should() {
    const LIMIT: usize = 40;
    for waiting in [0, 5] {
        // The clients have their turns one after the other, however long that takes.
        let (mut process, addr) = with_descriptors(LIMIT, "20s");
        // As many as it has descriptors for, and not one more.
        let free = LIMIT - descriptors(&process);
        let mut clients: Vec<_> = (0..free).map(|_| Client::connect(addr)).collect();
        let until = Instant::now() + graceful_tests::PATIENCE;
        while descriptors(&process) < LIMIT {
            assert!(Instant::now() < until);
        }
        let mut late: Vec<_> = (0..waiting).map(|_| Client::connect(addr)).collect();
        for client in &mut late {
            client.get("/");
        }
        let start = Instant::now();
        process.signal(Signal::TERM);
        process.line("SIGTERM received");
        for client in &mut clients {
            assert_eq!(client.fetch("/").text(), "fine");
        }
        // Descriptors come free as these go; then the others have their turn.
        clients.clear();
        for client in &mut late {
            assert_eq!(client.response().text(), "fine");
        }
        drop(late);
        let ended = process.wait().expect(0);
        assert!(ended.after(start) < Duration::from_secs(3), "{:?}", ended.after(start));
    }
}

#[test]
fn a_stop_ends_where_no_descriptor_ever_comes_free() {
    let (mut process, addr) = with_descriptors(40, "250ms");
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/exhaust").status, 200);
    let start = Instant::now();
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.after(start) < Duration::from_secs(1), "{:?}", ended.after(start));
}

/// A path or an abstract name for a Unix socket, and how to bind and connect it.
struct Name(UnixAddr, Option<PathBuf>);

impl Name {
    fn path(what: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("graceful-{what}-{}.sock", std::process::id()));
        // Of an earlier run that was killed.
        let _ = std::fs::remove_file(&path);
        Self(UnixAddr::from_pathname(&path).unwrap(), Some(path))
    }

    fn abstract_name(what: &str) -> Self {
        let name = format!("graceful-{what}-{}", std::process::id());
        Self(UnixAddr::from_abstract_name(name).unwrap(), None)
    }
}

/// What became of clients that connect as fast as they can, across a stop.
#[derive(Debug, Default)]
struct Hammered {
    answered: usize,
    lost: Vec<io::Error>,
}

/// One request on a connection of its own.
fn ask(addr: &UnixAddr) -> io::Result<bool> {
    let mut stream = match UnixStream::connect_addr(addr) {
        Ok(stream) => stream,
        Err(error) => {
            use io::ErrorKind as Kind;
            return match error.kind() {
                Kind::ConnectionRefused | Kind::NotFound => Ok(false),
                _ => Err(error),
            };
        }
    };
    stream.set_read_timeout(Some(graceful_tests::PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.ends_with("fine") { Ok(true) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Serves on `name`, lets four clients connect in loops until they are refused, and stops in the
/// middle.
async fn hammer(name: &Name, serve: impl Fn(UnixListener) -> Server) -> Hammered {
    let listener = UnixListener::bind_addr(&name.0).unwrap();
    let running = Config::new().start(serve(listener)).await.unwrap();
    let answers = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (addr, answers) = (name.0.clone(), answers.clone());
            thread::spawn(move || {
                let mut all = Hammered::default();
                loop {
                    match ask(&addr) {
                        Ok(true) => {
                            all.answered += 1;
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(false) => return all,
                        Err(error) => all.lost.push(error),
                    }
                }
            })
        })
        .collect();
    while answers.load(Ordering::Relaxed) < 100 {
        tokio::task::yield_now().await;
    }
    let report = in_time(running.stop()).await;
    assert!(report.is_clean(), "{report}");
    let mut all = Hammered::default();
    for client in clients {
        let one = client.join().unwrap();
        all.answered += one.answered;
        all.lost.extend(one.lost);
    }
    all
}

/// Whoever connects is answered, also between the unlink and the close, under a path and under an
/// abstract name: the socket itself turns clients away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_of_its_own_loses_nobody() {
    for round in 0..30 {
        for name in [Name::path("own"), Name::abstract_name("own")] {
            let all = hammer(&name, |it| {
                graceful::serve(it, router()).socket_sharing(SocketSharing::Exclusive)
            })
            .await;
            assert!(all.lost.is_empty(), "round {round}: {all:?}");
            assert!(name.1.is_none_or(|path| !path.exists()));
        }
    }
}

/// One that was handed in is only emptied: who connects after that and before the close is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_that_was_handed_in_loses_a_few_at_the_most() {
    for (what, name) in [("path", Name::path("given")), ("abstract", Name::abstract_name("given"))]
    {
        let (mut answered, mut lost) = (0, 0);
        for _ in 0..30 {
            let all = hammer(&name, |listener| graceful::serve(listener, router())).await;
            answered += all.answered;
            lost += all.lost.len();
        }
        println!("{what}: {answered} answered, {lost} lost in 30 stops");
        // Each of the four clients is in that gap once in a stop, at the very most.
        assert!(lost <= 4 * 30, "{what}: {lost} lost");
    }
}

#[tokio::test]
async fn a_path_that_somebody_else_has_bound_meanwhile_is_left_alone() {
    let name = Name::path("stale");
    let path = name.1.unwrap();
    // What a killed process leaves behind: nobody listens there, and it is in the way of nobody but
    // `bind`.
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    std::fs::remove_file(&path).unwrap();
    for exclusive in [false, true] {
        let listener = UnixListener::bind(&path).unwrap();
        let server = graceful::serve(listener, router());
        let server =
            if exclusive { server.socket_sharing(SocketSharing::Exclusive) } else { server };
        let running = Config::new().start(server).await.unwrap();
        // Replaced in one step, as a careful successor does.
        let next = path.with_extension("next");
        let successor = UnixListener::bind(&next).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert!(in_time(running.stop()).await.is_clean());
        let client = UnixStream::connect(&path).unwrap();
        let _ = successor.accept().unwrap();
        drop(client);
        std::fs::remove_file(&path).unwrap();
    }
}
