//! Very many connections, half of them with a request in flight: a stop answers all of these, an
//! upgrade keeps all of them, and the report adds up.
//!
//! `GRACEFUL_MANY=18000 cargo test --release -p graceful-tests --test load many -- --nocapture` has
//! as many; 10,000 by default, and no more than the limit of descriptors allows for on either side.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful_tests::{Client, Generations, Process, Signal, client::find, fixture};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::alone;

/// How long the requests take that are in flight: longer than it takes to send them all, on two
/// busy cores.
const SLOW: &str = "/slow/6000";

/// How many connections there are. Raises the limit of descriptors, which the fixtures inherit.
fn connections() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: hard, maximum: hard };
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
    let most = hard.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let wanted = std::env::var("GRACEFUL_MANY").map_or(10_000, |text| text.parse().unwrap());
    assert!(most > 2_000, "no more than {most} descriptors");
    // In pairs.
    wanted.min(most - 500) / 2 * 2
}

async fn request(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await
}

/// The whole answer; `None`: the connection has ended within it or before.
async fn answer(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = find(&bytes, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            let length = text.split("content-length: ").nth(1)?.split("\r\n").next()?;
            if bytes.len() == head + 4 + length.parse::<usize>().ok()? {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Connections that have had an answer, and as many again with a request in flight.
struct Many {
    idle: Vec<TcpStream>,
    busy: Vec<TcpStream>,
}

impl Many {
    async fn connect(addr: SocketAddr, count: usize) -> Self {
        let mut many = Self { idle: Vec::new(), busy: Vec::new() };
        for at in 0..count {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            request(&mut stream, "/").await.unwrap();
            assert!(answer(&mut stream).await.expect("an answer").ends_with("fine"));
            (if at % 2 == 0 { &mut many.idle } else { &mut many.busy }).push(stream);
        }
        for stream in &mut many.busy {
            request(stream, SLOW).await.unwrap();
        }
        many
    }
}

/// One answer for each, and how many connections have ended without one.
async fn answers(streams: Vec<TcpStream>) -> (Vec<(TcpStream, String)>, usize) {
    let count = streams.len();
    let mut all = JoinSet::new();
    for mut stream in streams {
        all.spawn(async move {
            let answer = answer(&mut stream).await;
            answer.map(|answer| (stream, answer))
        });
    }
    let mut answered = Vec::with_capacity(count);
    while let Some(it) = all.join_next().await {
        answered.extend(it.unwrap());
    }
    let lost = count - answered.len();
    (answered, lost)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until the server has come so far: most of the requests have begun by then.
fn settle(addr: SocketAddr) {
    let mut client = Client::connect(addr);
    client.stream().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(client.fetch("/").text(), "fine");
}

#[test]
fn a_stop_answers_all_that_is_in_flight() {
    let _alone = alone();
    let count = connections();
    let (mut process, addr): (Process, _) = fixture!("upgraded").serve();
    runtime().block_on(async {
        let many = Many::connect(addr, count).await;
        settle(addr);
        let started = Instant::now();
        process.term();
        let (answered, lost) = answers(many.busy).await;
        println!(
            "a stop with {count} connections: {} requests answered, {lost} lost, in {:.1?}",
            answered.len(),
            started.elapsed()
        );
        assert_eq!((answered.len(), lost), (count / 2, 0));
        assert!(answered.iter().all(|(_, answer)| answer.contains("connection: close")));
        for mut stream in many.idle {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed, and not reset");
        }
    });
    let ended = process.wait().expect(0);
    let report = format!("drained {} requests, ", count / 2);
    // The others are idle for less than their linger, or not: they count either way.
    assert!(ended.said(&report), "{ended:#?}");
    let drained = ended.lines.iter().find_map(|line| line.strip_prefix(&report));
    let drained = drained.and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(drained.is_some_and(|it| (count / 2..=count + 1).contains(&it)), "{ended:#?}");
}

#[test]
fn an_upgrade_keeps_all_of_them() {
    let _alone = alone();
    let count = connections();
    let mut generations = Generations::new(fixture!("upgraded"));
    let addr = generations.addr;
    runtime().block_on(async {
        let many = Many::connect(addr, count).await;
        settle(addr);
        let started = Instant::now();
        let old = generations.upgrade();
        let (answered, lost) = answers(many.busy).await;
        assert_eq!((answered.len(), lost), (count / 2, 0));
        let by_old = answered.iter().filter(|(_, it)| it.ends_with(&old.to_string())).count();
        // Whoever has begun with a request answers it; the others go on with their connections.
        assert!(by_old > count / 4, "{by_old} of {count} by the old one");
        generations.gone(old);
        // All of them go on in the next process.
        let mut all: Vec<_> = answered.into_iter().map(|(stream, _)| stream).collect();
        all.extend(many.idle);
        for stream in &mut all {
            request(stream, "/process").await.unwrap();
        }
        let (answered, lost) = answers(all).await;
        println!(
            "an upgrade with {count} connections: {} go on, {lost} lost, in {:.1?}",
            answered.len(),
            started.elapsed()
        );
        assert_eq!((answered.len(), lost), (count, 0));
        let next = generations.pid.to_string();
        assert!(answered.iter().all(|(_, answer)| answer.ends_with(&next)));
    });
    generations.signal(Signal::TERM);
    let ended = generations.first.wait();
    let handed_over = ended.lines.iter().find_map(|line| line.strip_prefix("handed over "));
    let handed_over = handed_over.and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    // The client that settled may have gone before.
    assert!(handed_over.is_some_and(|it| (count..=count + 1).contains(&it)), "{ended:#?}");
    std::io::stdout().flush().unwrap();
}
