//! When the clients of a server that stops come back to another: 1,000 WebSockets and 1,000 HTTP/2
//! connections, each of which reconnects as soon as it is told to go, with and without `spread`.
//!
//! `cargo run --release -p graceful-bench --bin goodbyes [FOLDER]` prints reconnects per 100 ms in
//! half a minute, and draws `goodbyes.svg` and `goodbyes-dark.svg` into the folder.

#[path = "../plot.rs"]
mod plot;

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitCode, Stdio, Termination as _},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use plot::{DARK, LIGHT, Line, Panel, plot};

/// Of each kind.
const CONNECTIONS: usize = 1_000;
/// What is compared with no spread.
const SPREAD: &str = "2s";
/// In milliseconds.
const BIN: u64 = 100;
const BINS: u64 = 24;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => return serve().report(),
        folder => measure(folder),
    }
    ExitCode::SUCCESS
}

// The server.

#[graceful::main(spread = env("SPREAD", "0s"), timeout = "30s", quiet = true)]
async fn serve() -> impl graceful::Serve {
    graceful::on_ready(async |listening| println!("{}", listening.local_addr().expect("TCP")));
    graceful::serve("127.0.0.1:0", service_fn(answer))
}

/// Switches to WebSocket if it is asked to. The client does not check the key.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    if request.headers().contains_key(header::UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgraded.await {
                websocket(TokioIo::new(upgraded)).await;
            }
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    }
    Ok(response)
}

/// Waits for the drain, and says goodbye: a close frame with the code 1012 (RFC 6455, section 5.2).
async fn websocket(mut stream: TokioIo<hyper::upgrade::Upgraded>) {
    let shutdown = graceful::shutdown();
    tokio::select! {
        _ = stream.read_u8() => return,
        () = shutdown => {}
    }
    // The client goes when it has read this.
    let _ = stream.write_all(&[0x88, 2, 0x03, 0xf4]).await;
    let _ = stream.flush().await;
    let _ = stream.read_u8().await;
}

struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(spread: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg("serve")
            .env("SPREAD", spread)
            .env("GRACEFUL_GRACE_PERIOD", "none")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("its address");
        Self { addr: line.trim().parse().expect("an address"), child }
    }

    fn term(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is there");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// The clients.

#[derive(Clone, Copy)]
enum Kind {
    WebSocket,
    Http2,
}

impl Kind {
    /// Connects, and waits until the server has answered.
    async fn connect(self, addr: SocketAddr) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        match self {
            Self::WebSocket => {
                let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
            }
            Self::Http2 => {
                // Also empty SETTINGS, and the acknowledgement of the server's.
                let preface =
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
                stream.write_all(preface).await?;
                while frame(&mut stream).await?.0 != 4 {}
            }
        }
        Ok(stream)
    }

    /// Waits for the goodbye.
    async fn told(self, stream: &mut TcpStream) -> std::io::Result<()> {
        match self {
            Self::WebSocket => drop(stream.read_u8().await?),
            Self::Http2 => while frame(stream).await?.0 != 7 {},
        }
        Ok(())
    }
}

/// The type and the payload of a frame (RFC 9113, section 4.1).
async fn frame(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    Ok((head[3], payload))
}

/// Returns how many clients came back in each 100 ms after the signal.
async fn reconnects(spread: &str) -> Vec<u32> {
    let (old, new) = (Server::start(spread), Server::start("0s"));
    let (addr, next) = (old.addr, new.addr);
    let mut clients = JoinSet::new();
    for n in 0..2 * CONNECTIONS {
        let kind = if n % 2 == 0 { Kind::WebSocket } else { Kind::Http2 };
        let mut stream = kind.connect(addr).await.expect("it serves");
        clients.spawn(async move {
            kind.told(&mut stream).await.expect("a goodbye");
            drop(stream);
            let again = kind.connect(next).await.expect("the other one serves");
            (Instant::now(), again)
        });
    }
    let start = Instant::now();
    old.term();
    let back = tokio::time::timeout(PATIENCE, clients.join_all()).await.expect("in time");
    let mut bins = vec![0; usize::try_from(BINS).expect("a few")];
    for (at, _again) in &back {
        let bin = usize::try_from((*at - start).as_millis() / u128::from(BIN)).expect("a few");
        // What comes later than all of the picture is in its last place.
        let bin = bin.min(bins.len() - 1);
        bins[bin] += 1;
    }
    bins
}

fn measure(folder: Option<&str>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let without = runtime.block_on(reconnects("0s"));
    let with = runtime.block_on(reconnects(SPREAD));
    println!("| after SIGTERM | without `spread` | `spread = \"{SPREAD}\"` |\n|---|---|---|");
    for (bin, (without, with)) in (0..BINS).zip(without.iter().zip(&with)) {
        println!("| {} ms | {without} | {with} |", bin * BIN);
    }
    let Some(folder) = folder else { return };
    let x: Vec<u64> = (0..BINS).map(|bin| bin * BIN).collect();
    let lines = [
        Line { name: "all at once", color: "#b44", values: without },
        Line { name: "spread = \"2s\"", color: "#2da44e", values: with },
    ];
    let title = "Reconnects in each 100 ms: 1,000 WebSockets and 1,000 HTTP/2 clients";
    let panel = Panel { title, x_title: "milliseconds after SIGTERM", x: &x, lines: &lines };
    for (file, scheme) in [("goodbyes.svg", &LIGHT), ("goodbyes-dark.svg", &DARK)] {
        let svg = plot(std::slice::from_ref(&panel), scheme);
        std::fs::write(Path::new(folder).join(file), svg).expect("it is written");
    }
}
