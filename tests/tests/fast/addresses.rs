//! Addresses as they are written, and what is said of those that cannot be listened on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt, unix::net::UnixListener},
    path::PathBuf,
    process::Command,
};

use command_fds::{CommandFdExt, FdMapping};
use graceful::{Config, Failure, Listen};
use graceful_tests::{Client, Errno, Process, fixture, in_time, in_words};

fn app() -> axum::Router {
    graceful_tests::app::router()
}

/// The addresses that are listened on; each answers.
async fn listens(addr: impl Listen) -> Vec<SocketAddr> {
    try_listens(addr).await.unwrap()
}

async fn try_listens(addr: impl Listen) -> Result<Vec<SocketAddr>, Failure> {
    let running = Config::new().start(graceful::serve(addr, app())).await?;
    let addrs: Vec<_> = running.local_addrs().collect();
    for addr in addrs.clone() {
        let fetch = move || Client::connect(addr).fetch("/").text();
        assert_eq!(in_time(tokio::task::spawn_blocking(fetch)).await.unwrap(), "fine", "{addr}");
    }
    assert!(in_time(running.stop()).await.is_clean());
    Ok(addrs)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_listened_on() {
    let [any] = listens(":0").await[..] else { panic!("one socket") };
    assert!(any.ip().is_unspecified() && any.is_ipv6(), "{any}");
    let local = listens("localhost:0").await;
    assert!(local.iter().all(|addr| addr.ip().is_loopback()), "{local:?}");
    assert!(local.iter().all(|addr| addr.port() == local[0].port()), "{local:?}");
    let resolved = std::net::ToSocketAddrs::to_socket_addrs("localhost:0").unwrap();
    let resolved: std::collections::BTreeSet<_> = resolved.map(|addr| addr.ip()).collect();
    assert_eq!(local.len(), resolved.len(), "{local:?} of {resolved:?}");
    // Once they are free, the ports may be another test's.
    let mut tries = 0..10;
    let (several, again) = loop {
        let several = listens(["127.0.0.1:0", "[::1]:0"]).await;
        let again = try_listens(vec![several[0], several[1]]).await;
        if again.is_ok() || tries.next().is_none() {
            break (several, again);
        }
    };
    assert!(several[0].is_ipv4() && several[1].is_ipv6(), "{several:?}");
    assert_eq!(again.unwrap(), several);
    assert_eq!(listens(("127.0.0.1", 0)).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dual_stack_socket_takes_both_unless_told_otherwise() {
    for only_v6 in [false, true] {
        let server = graceful::serve("[::]:0", app()).only_v6(only_v6);
        let running = Config::new().start(server).await.unwrap();
        let port = running.local_addr().unwrap().port();
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), !only_v6);
        assert!(TcpStream::connect(("::1", port)).is_ok());
        assert!(in_time(running.stop()).await.is_clean());
    }
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("graceful-{name}-{}.sock", std::process::id()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_replaces_a_stale_file_alone() {
    let path = socket_path("stale");
    let addr = format!("unix:{}", path.display());
    // One whose process has ended without removing it.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = graceful::serve(&addr, app()).unix_mode(0o620);
    let running = Config::new().start(server).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o620);
    // One on which a process listens: this one.
    let second = Config::new().start(graceful::serve(&addr, app())).await.unwrap_err();
    let text = second.to_string();
    let in_use = in_words(Errno::ADDRINUSE);
    assert!(text.contains(&in_use) && text.contains("another process"), "{text}");
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    assert!(in_time(running.stop()).await.is_clean());
    assert!(!path.exists());
    // A file that is no socket is never touched.
    std::fs::write(&path, "precious").unwrap();
    Config::new().start(graceful::serve(&addr, app())).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abstract_unix_socket_is_served() {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    let name = format!("graceful-{}", std::process::id());
    let server = graceful::serve(format!("unix:@{name}"), app());
    let running = Config::new().start(server).await.unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let addr = SocketAddr::from_abstract_name(name).unwrap();
        let mut client = std::os::unix::net::UnixStream::connect_addr(&addr).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(in_time(answer).await.unwrap().ends_with("fine"));
    assert!(in_time(running.stop()).await.is_clean());
}

/// The fixture with a socket that it inherits as descriptor 3, whose address is `ADDR` in `listen`,
/// and whose port is `PORT`.
fn inherits(listen: &str, name: Option<&str>) -> (Process, SocketAddr) {
    inherits_at("127.0.0.1:0", listen, name)
}

fn inherits_at(bound: &str, listen: &str, name: Option<&str>) -> (Process, SocketAddr) {
    let socket = TcpListener::bind(bound).unwrap();
    let addr = socket.local_addr().unwrap();
    let listen = listen.replace("ADDR", &addr.to_string());
    let listen = listen.replace("PORT", &addr.port().to_string());
    (inherits_fd(OwnedFd::from(socket), &listen, name), addr)
}

fn inherits_fd(parent_fd: OwnedFd, listen: &str, name: Option<&str>) -> Process {
    let fixture = fixture!("opened").env("LISTEN", listen);
    let name = name.map(str::to_owned);
    fixture.spawn_by(move |program| {
        let mut command = Command::new("sh");
        // Socket activation says who the sockets are for: the process after `exec`.
        let passes = name.map_or(String::new(), |name| {
            format!("export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}; ")
        });
        command.arg("-c").arg(format!("{passes}exec \"$0\" \"$@\"")).arg(program);
        command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
        command
    })
}

#[test]
fn an_inherited_socket_is_served_by_number_and_by_name() {
    for (listen, name) in [("fd:3", None), ("fd:3", Some("web")), ("systemd:web", Some("web"))] {
        let (mut process, addr) = inherits(listen, name);
        assert_eq!(process.addr(), addr, "{listen}");
        assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        process.term();
        let _ = process.wait().expect(0);
    }
}

/// The program says where it listens, and systemd may have bound that already. That it does not
/// bind itself is told by the socket: this process holds it, and a second bind would fail.
#[test]
fn an_inherited_socket_is_served_by_its_address() {
    let cases = [
        ("127.0.0.1:0", "ADDR"),
        ("127.0.0.1:0", "localhost:PORT"),
        ("0.0.0.0:0", ":PORT"),
        ("[::]:0", ":PORT"),
        // `ListenStream=8080` is a socket of both families.
        ("[::]:0", "0.0.0.0:PORT"),
    ];
    for (bound, listen) in cases {
        let (mut process, addr) = inherits_at(bound, listen, Some("web"));
        let port = addr.port();
        let client = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(process.addr().port(), port, "{listen}");
        assert_eq!(Client::connect(client).fetch("/").text(), "fine");
        process.term();
        let _ = process.wait().expect(0);
    }
}

#[test]
fn an_inherited_unix_socket_is_served_by_its_path() {
    let path = socket_path("inherited");
    let socket = UnixListener::bind(&path).unwrap();
    let listen = format!("unix:{}", path.display());
    let mut process = inherits_fd(OwnedFd::from(socket), &listen, Some("web"));
    process.line("listening on");
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("fine"), "{answer}");
    process.term();
    let _ = process.wait().expect(0);
    // It is systemd's: the path is left.
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

/// What is no listener is somebody else's: a connection that systemd keeps for the program stays
/// open.
#[test]
fn a_connection_that_was_passed_is_left_open() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut process = inherits_fd(OwnedFd::from(ours), "127.0.0.1:0", Some("kept"));
    process.addr();
    theirs.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    let read = theirs.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock));
    process.term();
    let _ = process.wait().expect(0);
}

#[test]
fn a_socket_that_no_address_asks_for_is_said() {
    let (mut process, _) = inherits("127.0.0.1:0", Some("admin"));
    process.line("systemd has passed the socket `admin`, and no address asks for it");
    process.term();
    let _ = process.wait().expect(0);
}

#[test]
fn a_datagram_socket_is_no_listener() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ended = inherits_fd(OwnedFd::from(socket), "fd:3", Some("udp")).wait().expect(1);
    let said = "is not a listening stream socket";
    assert!(ended.lines.iter().any(|it| it.contains(said)), "{:#?}", ended.lines);
    // The port of another protocol is free, unless somebody else has it for this one, such as
    // another test.
    loop {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listen = socket.local_addr().unwrap().to_string();
        let mut process = inherits_fd(OwnedFd::from(socket), &listen, Some("udp"));
        if process.any_line(&["://", "another process listens there"]).contains("another") {
            continue;
        }
        process.term();
        let _ = process.wait().expect(0);
        break;
    }
}

#[test]
fn what_was_not_passed_is_said() {
    for (listen, name, said) in [
        ("systemd:web", None, "systemd has passed no sockets"),
        ("systemd:web", Some("admin"), "systemd has passed `admin`, and no `web`"),
        ("fd:200", None, "the process was started without it"),
        ("fd:3,fd:3", Some("web"), "has been taken already"),
    ] {
        let ended = inherits(listen, name).0.wait().expect(1);
        let lines: Vec<_> = ended.lines.iter().filter(|it| it.starts_with("error: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(said), "{listen}: {:#?}", ended.lines);
    }
}

/// Nothing stays half-started: the address before the bad one is free again.
#[test]
fn a_bad_address_is_one_line_and_exit_1() {
    // This very process has it.
    let in_use = format!("(process {})", std::process::id());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = listener.local_addr().unwrap().to_string();
    let path = socket_path("half");
    let half = format!("unix:{},127.0.0.1:0,192.0.2.1:0", path.display());
    for (listen, said) in [
        (half.as_str(), "192.0.2.1:0"),
        (used.as_str(), in_use.as_str()),
        ("192.0.2.1:0", "this machine does not have that address"),
        ("8080", "write `:8080`"),
        ("", "an empty address"),
        ("http://127.0.0.1:80", "write `127.0.0.1:80`"),
        ("name.invalid:80", "cannot listen on name.invalid:80"),
        ("unix:/nowhere/at/all.sock", "No such file or directory"),
    ] {
        let fixture = fixture!("opened").env("LISTEN", listen);
        let ended = fixture.spawn().wait().expect(1);
        let lines: Vec<_> = ended.lines.iter().filter(|it| it.starts_with("error: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(said), "{listen}: {:#?}", ended.lines);
        assert!(!ended.said("listening on"), "{listen}: {:#?}", ended.lines);
    }
    assert!(!path.exists(), "a Unix socket before the bad address is left behind");
}
