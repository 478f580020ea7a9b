//! Clients that never retry, and know what became of each request.

use std::{
    io,
    net::SocketAddr,
    ops::{AddAssign, ControlFlow},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{PATIENCE, client::find};

/// How a client uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One for as long as the server keeps it.
    KeepAlive,
    /// One for each request.
    ConnectionEach,
    /// One, and never another: its end is counted.
    OneConnection,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How it uses connections.
    pub style: Style,
    /// The longest pause between an answer and the next request.
    pub pause: Duration,
    /// How long a new connection waits before its first byte: as long as a TLS handshake takes.
    pub hesitation: Duration,
}

impl From<Style> for Habits {
    fn from(style: Style) -> Self {
        Self { style, pause: Duration::from_millis(3), hesitation: Duration::ZERO }
    }
}

/// The default linger.
const LINGER: Duration = Duration::from_millis(250);

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered, to the last byte.
    pub answered: usize,
    /// The connection was refused: nothing was sent.
    pub refused: usize,
    /// Neither: how it went.
    pub lost: Vec<String>,
    /// Neither, after a pause that was longer than the linger of 250 ms, whatever it was meant to
    /// be: the machine was elsewhere. That is no loss: the connection was idle for too long.
    pub late: usize,
    /// One connection, which the server has closed, or has said that it will.
    pub closed: usize,
    /// Over HTTP/2: the server had gone away before the request began, and says that it has not
    /// processed it (RFC 9113, section 6.8). Sent again on the next connection, as clients do.
    pub turned_away: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.lost.extend(other.lost);
        self.late += other.late;
        self.closed += other.closed;
        self.turned_away += other.turned_away;
    }
}

/// Sends requests from `count` clients at once, each until it is refused or `answered`, which is
/// called for every answer, says that it is enough.
pub async fn run(
    addr: SocketAddr,
    habits: impl Into<Habits>,
    count: u64,
    seed: u64,
    answered: impl Fn() -> ControlFlow<()> + Clone + Send + 'static,
) -> Tally {
    let habits = habits.into();
    let mut clients = JoinSet::new();
    for i in 0..count {
        let random = Random(seed.wrapping_mul(1_000).wrapping_add(i));
        let client = Client { addr, habits, random, connection: None };
        clients.spawn(client.run(answered.clone()));
    }
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all += tally.unwrap_or_else(|error| panic!("a client failed: {error}"));
    }
    all
}

struct Client {
    addr: SocketAddr,
    habits: Habits,
    random: Random,
    connection: Option<TcpStream>,
}

impl Client {
    async fn run(mut self, answered: impl Fn() -> ControlFlow<()>) -> Tally {
        let mut tally = Tally::default();
        let mut answered_at = Instant::now();
        let mut is_first = true;
        loop {
            let pause = u64::try_from(self.habits.pause.as_micros()).unwrap_or(u64::MAX);
            sleep(Duration::from_micros(self.random.below(pause))).await;
            let Some((mut connection, reused)) = self.connect(&mut tally).await else {
                return tally;
            };
            if self.habits.style == Style::OneConnection
                && !reused
                && !std::mem::replace(&mut is_first, false)
            {
                tally.closed += 1;
                return tally;
            }
            let paused = answered_at.elapsed();
            let outcome = timeout(PATIENCE, self.exchange(&mut connection)).await;
            answered_at = Instant::now();
            match outcome {
                Ok(Ok(keep)) => {
                    tally.answered += 1;
                    if answered().is_break() {
                        return tally;
                    }
                    self.connection = keep.then_some(connection);
                }
                Ok(Err(_)) if reused && paused >= LINGER => tally.late += 1,
                Ok(Err(error)) => tally.lost.push(format!("{error}, after a pause of {paused:?}")),
                Err(_) => tally.lost.push("no answer".to_owned()),
            }
        }
    }

    /// The connection for the next request, and whether it has had one before; `None`: refused.
    async fn connect(&mut self, tally: &mut Tally) -> Option<(TcpStream, bool)> {
        loop {
            if let Some(connection) = self.connection.take() {
                // As a pool does: a connection that has been closed is not used again.
                let closed = !matches!(connection.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                if !closed {
                    return Some((connection, true));
                }
            }
            match timeout(PATIENCE, TcpStream::connect(self.addr)).await {
                Ok(Ok(connection)) => {
                    // Without it, small packets wait for each other.
                    let _ = connection.set_nodelay(true);
                    sleep(self.habits.hesitation).await;
                    return Some((connection, false));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tally.refused += 1;
                    return None;
                }
                Ok(Err(error)) => tally.lost.push(format!("connecting: {error}")),
                Err(_) => tally.lost.push("connecting: no answer".to_owned()),
            }
        }
    }

    /// One request; whether the connection can be used again.
    async fn exchange(&mut self, connection: &mut TcpStream) -> io::Result<bool> {
        let close = match self.habits.style {
            Style::KeepAlive | Style::OneConnection => "",
            Style::ConnectionEach => "connection: close\r\n",
        };
        let (request, expected) = if self.random.below(2) == 0 {
            (format!("GET / HTTP/1.1\r\nhost: test\r\n{close}\r\n"), "fine".to_owned())
        } else {
            let size = 1 + self.random.below(2_000);
            let body = "x".repeat(usize::try_from(size).unwrap_or(1));
            let head =
                format!("POST / HTTP/1.1\r\nhost: test\r\n{close}content-length: {size}\r\n\r\n");
            (head + &body, size.to_string())
        };
        connection.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        loop {
            if connection.read_buf(&mut bytes).await? == 0 {
                let error = format!("closed after {} bytes of the answer", bytes.len());
                return Err(io::Error::other(error));
            }
            let Some(end) = find(&bytes, b"\r\n\r\n").map(|at| at + 4) else {
                continue;
            };
            if bytes.len() >= end + expected.len() {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let right =
                    head.starts_with("http/1.1 200") && bytes[end..] == *expected.as_bytes();
                if !right {
                    return Err(io::Error::other(format!("a wrong answer: {head}")));
                }
                let keeps = self.habits.style != Style::ConnectionEach;
                return Ok(keeps && !head.contains("connection: close"));
            }
        }
    }
}

/// A small generator (Knuth's MMIX constants), so that a run can be repeated.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
