//! What can be set of sockets, asked of the kernel.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use graceful::{Config, Running, Server};
use graceful_tests::{Client, in_time};
use rustix::{
    net::sockopt,
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

fn serve(addr: impl graceful::Listen) -> Server {
    graceful::serve(addr, graceful_tests::app::router())
}

async fn start(server: Server) -> (Running, SocketAddr) {
    let running = Config::new().start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    (running, addr)
}

/// All sockets of this process, the server's among them, by descriptors of our own.
fn sockets() -> impl Iterator<Item = OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|it| it.unwrap().file_name());
    let numbers: Vec<i32> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    // The one of the folder is closed by now.
    let fds = numbers.into_iter().map(move |fd| pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()));
    fds.flatten().filter(|fd| sockopt::socket_type(fd).is_ok())
}

/// The server's end of this client's connection.
fn accepted(client: &TcpStream) -> TcpStream {
    let is_it = |stream: &TcpStream| stream.peer_addr().ok() == client.local_addr().ok();
    sockets().map(TcpStream::from).find(is_it).expect("it has been accepted")
}

async fn check(server: Server, nodelay: bool, keepalive: Option<u64>) {
    let (running, addr) = start(server).await;
    let look = move || {
        let mut client = Client::connect(addr);
        assert_eq!(client.fetch("/").text(), "fine");
        let stream = accepted(client.stream());
        assert_eq!(stream.nodelay().unwrap(), nodelay);
        let idle = sockopt::tcp_keepidle(&stream).unwrap().as_secs();
        let asks = sockopt::socket_keepalive(&stream).unwrap();
        assert_eq!(asks.then_some(idle), keepalive);
    };
    tokio::task::spawn_blocking(look).await.unwrap();
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_sockets_have_the_options_that_were_set() {
    check(serve("127.0.0.1:0"), true, Some(15)).await;
    let other = serve("127.0.0.1:0").nodelay(false).tcp_keepalive(Duration::from_secs(77));
    check(other, false, Some(77)).await;
    check(serve("127.0.0.1:0").tcp_keepalive(None), true, None).await;
}

/// What the kernel says of the queue of the socket that listens here.
fn backlog(addr: SocketAddr) -> u32 {
    let filter = format!("sport = :{}", addr.port());
    let ss = std::process::Command::new("ss").args(["-ltnH", &filter]).output().unwrap();
    let line = String::from_utf8(ss.stdout).unwrap();
    // State, bytes received, and for one that listens the size of its queue (ss(8)).
    line.split_whitespace().nth(2).unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_as_long_as_was_said() {
    let max = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let max: u32 = max.trim().parse().unwrap();
    for (server, expected) in
        [(serve("127.0.0.1:0"), max), (serve("127.0.0.1:0").backlog(7), max.min(7))]
    {
        let (running, addr) = start(server).await;
        let asked = tokio::task::spawn_blocking(move || backlog(addr)).await.unwrap();
        assert_eq!(asked, expected);
        assert!(in_time(running.stop()).await.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_shared_only_where_both_say_so() {
    let (first, addr) = start(serve("127.0.0.1:0").reuse_port(true)).await;
    let refused = Config::new().start(serve(addr)).await;
    assert!(refused.is_err_and(|failure| failure.to_string().contains("in use")));
    let (second, _) = start(serve(addr).reuse_port(true)).await;
    assert!(in_time(first.stop()).await.is_clean());
    // All that come are the second one's now.
    let ask = move || assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
    tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(in_time(second.stop()).await.is_clean());
    assert!(TcpListener::bind(addr).is_ok());
}

/// Three requests at once, of which the second takes its time: the first answer is not kept back
/// for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_kept_back_for_the_next_request() {
    let server = serve("127.0.0.1:0").http1(|http1| {
        http1.pipeline_flush(true);
    });
    let running = Config::new().timeout(Duration::from_millis(1)).start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    let first = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(addr);
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        client.send(get("/") + &get("/hold") + &get("/"));
        client.response().text()
    });
    assert_eq!(in_time(first).await.unwrap(), "fine");
    drop(in_time(running.stop()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("graceful-path-{}.sock", std::process::id()));
    let running = Config::new().start(serve(path.clone())).await.unwrap();
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert!(in_time(running.stop()).await.is_clean());
    assert!(!path.exists());
    let running = Config::new().start(serve(&*path)).await.unwrap();
    assert!(in_time(running.stop()).await.is_clean());
}
