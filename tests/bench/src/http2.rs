//! A client of HTTP/2: hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};

/// `count` requests in all on one connection, so many of them at a time.
pub(crate) fn requests(addr: SocketAddr, count: usize, at_a_time: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = TcpStream::connect(addr).await.expect("connects");
        stream.set_nodelay(true).expect("an option");
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        for _ in 0..count / at_a_time {
            let mut answers = JoinSet::new();
            for _ in 0..at_a_time {
                let mut sender = sender.clone();
                answers.spawn(async move {
                    let uri = format!("http://{addr}/");
                    let request = Request::get(uri).body(Empty::<Bytes>::new());
                    let answer = sender.send_request(request.expect("a request")).await;
                    let body = answer.expect("an answer").into_body().collect().await;
                    assert_eq!(body.expect("to its end").to_bytes(), "Hello world!");
                });
            }
            while let Some(answer) = answers.join_next().await {
                answer.expect("an answer");
            }
        }
    });
}
