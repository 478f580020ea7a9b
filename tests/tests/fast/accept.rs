//! Accepting: bursts, exhaustion, listeners that are handed in.

use std::{
    io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt, FdMapping};
use graceful::Config;
use graceful_tests::{Client, Signal, app::router, fixture, in_time};

#[test]
fn running_out_of_descriptors_is_said_once_and_passes() {
    let web = fixture!("web");
    let mut process = web.spawn_by(|program| {
        let mut command = Command::new("sh");
        command.arg("-c").arg("ulimit -n 40; exec \"$0\" \"$@\"").arg(program);
        command
    });
    let addr = process.addr();
    // More than it has descriptors for: the kernel accepts them all.
    let mut clients: Vec<_> = (0..60).map(|_| Client::connect(addr)).collect();
    let too_many = graceful_tests::in_words(graceful_tests::Errno::MFILE);
    process.line(&format!("cannot accept: {too_many}"));
    clients.drain(..50);
    process.line("accepting again after");
    assert_eq!(clients.last_mut().unwrap().fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    let said = ended.lines.iter().filter(|line| line.contains("cannot accept")).count();
    assert!(said <= 2, "said {said} times: {ended:#?}");
}

#[test]
fn a_burst_of_connections_is_let_in_at_once() {
    let (mut process, addr) = fixture!("web").serve();
    let most: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
        .map_or(128, |text| text.trim().parse().unwrap());
    // The server sleeps: what is let in is in its queue.
    process.signal(Signal::STOP);
    let count = most.min(400);
    let start = Instant::now();
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(addr)).collect();
    // A SYN that finds the queue full is sent again after a second.
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    process.signal(Signal::CONT);
    assert_eq!(clients.last_mut().unwrap().fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

#[test]
fn a_client_without_a_head_is_closed_at_the_header_timeout() {
    let web = fixture!("web").env("HEADER_TIMEOUT_MS", "150");
    let (_process, addr) = web.serve();
    for bytes in ["", "GET / HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n"] {
        let start = Instant::now();
        let mut client = Client::connect(addr);
        client.send(bytes);
        client.closed();
        let after = start.elapsed();
        assert!(after > Duration::from_millis(135) && after < Duration::from_secs(2), "{after:?}");
    }
    // A quiet keep-alive connection is not what this is for; a later head is.
    let mut client = Client::connect(addr);
    assert_eq!(client.fetch("/").text(), "fine");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.fetch("/").text(), "fine");
    let start = Instant::now();
    client.send("GET / HT");
    client.closed();
    let after = start.elapsed();
    // Counted by the kernel's clock, which ticks each 1 to 10 ms.
    assert!(after > Duration::from_millis(135) && after < Duration::from_secs(2), "{after:?}");
}

#[tokio::test]
async fn listeners_can_be_handed_in() {
    let std = TcpListener::bind("127.0.0.1:0").unwrap();
    let tokio = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = (graceful::serve(std, router()), graceful::serve(tokio, router()));
    let running = Config::new().start(servers).await.unwrap();
    let addrs: Vec<_> = running.local_addrs().collect();
    assert_eq!(addrs.len(), 2);
    tokio::task::spawn_blocking(move || {
        for addr in addrs {
            assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        }
    })
    .await
    .unwrap();
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test]
async fn addresses_come_in_many_forms() {
    let app = router;
    let servers = vec![
        graceful::serve("127.0.0.1:0", app()),
        graceful::serve(String::from("localhost:0"), app()),
        graceful::serve(("127.0.0.1", 0), app()),
        graceful::serve((std::net::Ipv4Addr::LOCALHOST, 0), app()),
        graceful::serve([std::net::SocketAddr::from(([127, 0, 0, 1], 0))], app()),
    ];
    let running = Config::new().start(servers).await.unwrap();
    assert_eq!(running.local_addrs().count(), 5);
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test]
async fn a_unix_socket_is_unlinked_at_the_drain_and_only_by_its_owner() {
    use std::io::{Read, Write};
    let path = std::env::temp_dir().join(format!("graceful-test-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let running = Config::new().start(graceful::serve(listener, router())).await.unwrap();
    let at = path.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(at).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.await.unwrap().ends_with("fine"));
    assert!(in_time(running.stop()).await.is_clean());
    assert!(!path.exists());

    // A successor has bound its own socket at the path by the time of the drain.
    let listener = UnixListener::bind(&path).unwrap();
    let running = Config::new().start(graceful::serve(listener, router())).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    assert!(in_time(running.stop()).await.is_clean());
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn plain_http_over_a_reset_does_no_harm() {
    let (mut process, addr) = fixture!("web").serve();
    for _ in 0..20 {
        let client = Client::connect(addr);
        socket2_reset(&client).unwrap();
    }
    assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}

/// Makes the close of this socket a reset.
fn socket2_reset(client: &Client) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client.stream(), Some(Duration::ZERO))?;
    Ok(())
}

#[test]
fn a_socket_that_another_process_holds_is_only_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let fd = OwnedFd::from(listener.try_clone().unwrap());
    let inherited = fixture!("inherited");
    let mut process = inherited.spawn_by(|program| {
        let mut command = Command::new("sh");
        // The shell becomes the program, so its process id is the one that systemd would write.
        command
            .arg("-c")
            .arg("exec 3<&9 9<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"")
            .arg(program);
        command.fd_mappings(vec![FdMapping { parent_fd: fd, child_fd: 9 }]).unwrap();
        command
    });
    assert_eq!(process.addr(), addr);
    let mut client = Client::connect(addr);
    client.get("/hold");
    process.line("hold begins");
    process.signal(Signal::TERM);
    process.line("SIGTERM received");
    process.release();
    assert_eq!(client.response().text(), "held");
    let _ = process.wait().expect(0);
    // Whoever comes now is still let in, by whoever holds the socket next.
    let late = Client::connect(addr);
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, late.stream().local_addr().unwrap());
}
