//! The problem: a server without graceful shutdown cuts off the requests it is answering.
//!
//! 1. `cargo run --example hard_stop`
//! 2. In a second terminal, `curl http://127.0.0.1:8080`: the answer takes 5 seconds.
//! 3. Within these, press Ctrl-C in the first: the program is gone at once, and curl says
//!    "Empty reply from server".

use std::{convert::Infallible, time::Duration};

use graceful_examples::addr;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, time::sleep};

async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    println!("a request has come: its answer takes 5 seconds");
    sleep(Duration::from_secs(5)).await;
    Ok(Response::new("Hello world!\n".to_owned()))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(addr()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
        tokio::spawn(async {
            if let Err(error) = connection.await {
                println!("connection failed: {error}");
            }
        });
    }
}
