//! Clients of HTTP/2 that never retry: hyper's, one connection each.

use std::{io, net::SocketAddr, ops::ControlFlow, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    PATIENCE,
    load::{Random, Tally},
};

type Sender = http2::SendRequest<Full<Bytes>>;

/// As [`load::run`](crate::load::run), over HTTP/2.
pub async fn run(
    addr: SocketAddr,
    count: u64,
    seed: u64,
    answered: impl Fn() -> ControlFlow<()> + Clone + Send + 'static,
) -> Tally {
    let mut clients = JoinSet::new();
    for i in 0..count {
        let random = Random(seed.wrapping_mul(1_000).wrapping_add(i));
        clients.spawn(client(addr, random, answered.clone()));
    }
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all += tally.unwrap_or_else(|error| panic!("a client failed: {error}"));
    }
    all
}

async fn client(
    addr: SocketAddr,
    mut random: Random,
    answered: impl Fn() -> ControlFlow<()>,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        let mut sender = match connect(addr).await {
            Ok(sender) => sender,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tally.refused += 1;
                return tally;
            }
            Err(error) => {
                tally.lost.push(format!("connecting: {error}"));
                continue;
            }
        };
        loop {
            sleep(Duration::from_micros(random.below(3_000))).await;
            match timeout(PATIENCE, exchange(&mut sender, addr, random.below(2_000))).await {
                Ok(Ok(Outcome::Answered)) => {
                    tally.answered += 1;
                    if answered().is_break() {
                        return tally;
                    }
                }
                Ok(Ok(Outcome::TurnedAway)) => {
                    tally.turned_away += 1;
                    break;
                }
                Ok(Ok(Outcome::NotSent)) => break,
                Ok(Err(error)) => {
                    tally.lost.push(error);
                    break;
                }
                Err(_) => {
                    tally.lost.push("no answer".to_owned());
                    break;
                }
            }
        }
    }
}

async fn connect(addr: SocketAddr) -> io::Result<Sender> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(io::Error::other)?;
    // How it ends is seen by its requests.
    tokio::spawn(connection);
    Ok(sender)
}

enum Outcome {
    Answered,
    /// The connection had ended before.
    NotSent,
    TurnedAway,
}

/// One request.
async fn exchange(sender: &mut Sender, addr: SocketAddr, size: u64) -> Result<Outcome, String> {
    if sender.ready().await.is_err() {
        return Ok(Outcome::NotSent);
    }
    let body = "x".repeat(usize::try_from(size).unwrap_or(1));
    let request = Request::post(format!("http://{addr}/")).body(Full::from(body));
    let response = match sender.try_send_request(request.map_err(|it| it.to_string())?).await {
        Ok(response) => response,
        Err(error) if error.message().is_some() => return Ok(Outcome::NotSent),
        Err(error) => {
            let error = format!("{:?}", error.into_error());
            // hyper says this of requests that were not sent any more, and of those above the last
            // id of the GOAWAY.
            let is_away = error.contains("GoAway(b\"\", NO_ERROR, Remote)");
            return if is_away { Ok(Outcome::TurnedAway) } else { Err(error) };
        }
    };
    let body = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
    let right = body.to_bytes() == size.to_string();
    if right { Ok(Outcome::Answered) } else { Err("a wrong answer".to_owned()) }
}
