//! The same answer from four servers, one of them chosen by the first argument.

use std::{convert::Infallible, env::args, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

fn hello() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"Hello world!")))
}

/// Answers when the test lets it: 200 ms after it was asked.
async fn slow(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(hello())
}

async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

/// A loop with no shutdown code at all: the limit of what can be reached.
async fn bare() -> io::Result<()> {
    let listener = listen().await?;
    match std::env::var("KIND").as_deref() {
        Ok("h2") => return bare_http2(&listener).await,
        Ok("echo") => return bare_echo(&listener).await,
        _ => {}
    }
    let builder = http1::Builder::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = builder.serve_connection(TokioIo::new(stream), service_fn(slow));
        tokio::spawn(connection.with_upgrades());
    }
}

async fn bare_http2(listener: &TcpListener) -> io::Result<()> {
    let builder = http2::Builder::new(TokioExecutor::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(slow)));
    }
}

async fn bare_echo(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

/// hyper-util's `auto` connection with its `GracefulShutdown`.
async fn hyper_util() -> io::Result<()> {
    let listener = listen().await?;
    let builder = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    let mut term = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let connection =
                    builder.serve_connection_with_upgrades(TokioIo::new(stream), service_fn(slow));
                tokio::spawn(graceful.watch(connection.into_owned()));
            }
            _ = term.recv() => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// `axum::serve` with its graceful shutdown.
async fn axum() -> io::Result<()> {
    use axum::{Router, routing::get};
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        "Hello world!"
    };
    let app = Router::new().route("/", get(|| async { "Hello world!" })).route("/slow", get(slow));
    let mut term = signal(SignalKind::terminate())?;
    let stop = async move {
        term.recv().await;
    };
    axum::serve(listen().await?, app).with_graceful_shutdown(stop).await
}

fn graceful() -> graceful::Exit {
    let mut config = graceful::Config::new();
    if one_worker() {
        config = config.worker_threads(1);
    }
    if std::env::var("KIND").as_deref() == Ok("echo") {
        return config.run(async || graceful::listen("127.0.0.1:0", echo));
    }
    // Bound by the library, with its backlog; the others bind as tokio does.
    config.run(async || graceful::serve("127.0.0.1:0", service_fn(slow)))
}

/// Instructions repeat when nobody steals work. Still a process of several threads, as every server
/// is that people run: glibc takes shorter ways through `recv` and `malloc` in a process of one.
fn one_worker() -> bool {
    std::env::var_os("ONE_WORKER").is_some()
}

fn main() -> std::process::ExitCode {
    let server = args().nth(1).unwrap_or_default();
    if server == "graceful" {
        return graceful().into();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if one_worker() {
        builder.worker_threads(1);
    }
    let serve = async move {
        match &*server {
            "bare" => bare().await,
            "hyper-util" => hyper_util().await,
            "axum" => axum().await,
            _ => Err(io::Error::other("which server?")),
        }
    };
    // All accept on a worker thread, as ours does: a connection then need not change threads.
    let result = builder
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(async { tokio::spawn(serve).await? }));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
