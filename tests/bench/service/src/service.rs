//! A handler as most are: it looks at the path, and needs its request again after it has waited.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode};
use tokio::{net::TcpListener, runtime::Builder};

pub(crate) async fn handle<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match look_up(request.uri().path()).await {
        Some(text) => (StatusCode::OK, text),
        None => (StatusCode::NOT_FOUND, "not found"),
    };
    let body = if request.method() == Method::HEAD { "" } else { text };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    Ok(response)
}

async fn look_up(path: &str) -> Option<&'static str> {
    if path == "/slow" {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    matches!(path, "/" | "/slow").then_some("Hello world!")
}

/// The port that the others listen on, as tokio opens it.
#[allow(dead_code, reason = "ours opens its own")]
pub(crate) async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

/// Runs the others: as ours, they accept on a worker, of which there is one where instructions are
/// counted.
#[allow(dead_code, reason = "ours brings its own runtime")]
pub(crate) fn run<F>(server: F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut builder = Builder::new_multi_thread();
    if std::env::var_os("ONE_WORKER").is_some() {
        builder.worker_threads(1);
    }
    builder.enable_all().build()?.block_on(async { tokio::spawn(server).await? })
}
