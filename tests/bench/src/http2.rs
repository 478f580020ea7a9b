//! A client of HTTP/2: hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::JoinSet,
};

/// Connections that have been served once.
pub(crate) struct Connections {
    /// Drives them.
    _runtime: Runtime,
    _senders: Vec<SendRequest<Empty<Bytes>>>,
}

impl Connections {
    pub(crate) fn open(addr: SocketAddr, count: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let senders = runtime.block_on(async {
            let mut senders = Vec::new();
            for _ in 0..count {
                let mut sender = connect(addr).await;
                ask(&mut sender, addr).await;
                senders.push(sender);
            }
            senders
        });
        Self { _runtime: runtime, _senders: senders }
    }
}

async fn connect(addr: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(addr).await.expect("connects");
    stream.set_nodelay(true).expect("an option");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, addr: SocketAddr) {
    let request = Request::get(format!("http://{addr}/")).body(Empty::new());
    let answer = sender.send_request(request.expect("a request")).await;
    let body = answer.expect("an answer").into_body().collect().await;
    assert_eq!(body.expect("to its end").to_bytes(), "Hello world!");
}

/// `count` requests in all on one connection, so many of them at a time.
pub(crate) fn requests(addr: SocketAddr, count: usize, at_a_time: usize) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sender = connect(addr).await;
        for _ in 0..count / at_a_time {
            let mut answers = JoinSet::new();
            for _ in 0..at_a_time {
                let mut sender = sender.clone();
                answers.spawn(async move { ask(&mut sender, addr).await });
            }
            while let Some(answer) = answers.join_next().await {
                answer.expect("an answer");
            }
        }
    });
}
