//! The same answer from four servers: the first argument chooses one, the second what it speaks.

use std::{convert::Infallible, env::args, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{http::HeaderValue, routing};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tower::make::Shared;

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
    let listener = match std::env::var("SHARED").map(|addr| addr.parse()) {
        // Beside another process at the same port.
        Ok(Ok(addr)) => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(addr)?;
            socket.listen(4096)?
        }
        _ => TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?,
    };
    println!("listening on http://{}", listener.local_addr()?);
    Ok(listener)
}

/// A loop with no shutdown code at all: the limit of what can be reached.
async fn bare(kind: &str) -> io::Result<()> {
    let (listener, builder) = (listen().await?, http1::Builder::new());
    let http2 = http2::Builder::new(TokioExecutor::new());
    let tls = (kind == "tls").then(|| TlsAcceptor::from(tls_config()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (plain, builder) = (|stream| TokioIo::new(stream), builder.clone());
        match (kind, tls.clone()) {
            ("echo", _) => drop(tokio::spawn(echo(stream))),
            ("h2", _) => {
                drop(tokio::spawn(http2.serve_connection(plain(stream), service_fn(slow))));
            }
            ("upgrade", _) => {
                let connection = builder.serve_connection(plain(stream), service_fn(upgrade));
                tokio::spawn(connection.with_upgrades());
            }
            ("router", _) => {
                let service = TowerToHyperService::new(router());
                let connection = builder.serve_connection(plain(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
            (_, Some(tls)) => drop(tokio::spawn(async move {
                let stream = TokioIo::new(tls.accept(stream).await?);
                let connection = builder.serve_connection(stream, service_fn(slow));
                connection.with_upgrades().await.map_err(io::Error::other)
            })),
            _ => {
                let connection = builder.serve_connection(plain(stream), service_fn(slow));
                tokio::spawn(connection.with_upgrades());
            }
        }
    }
}

/// Of openssl's making, in a folder that the environment names.
fn tls_config() -> Arc<ServerConfig> {
    let folder = std::path::PathBuf::from(std::env::var_os("CERTIFICATE").expect("a folder"));
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).expect("read");
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("read");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    Arc::new(config.expect("a configuration"))
}

/// Leaves HTTP for the echo.
async fn upgrade(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.map_err(io::Error::other)?;
        echo(TokioIo::new(upgraded)).await
    });
    Ok(switching())
}

fn switching() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response
}

/// As `slow`, by axum.
fn router() -> axum::Router {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        "Hello world!"
    };
    let hello = routing::get(|| async { "Hello world!" });
    axum::Router::new().route("/", hello).route("/slow", routing::get(slow))
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
async fn hyper_util(kind: &str) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let listener = listen().await?;
    let builder = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    let tls = (kind == "tls").then(|| TlsAcceptor::from(tls_config()));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                if let Some(tls) = tls.clone() {
                    let (builder, watcher) = (builder.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        let stream = TokioIo::new(tls.accept(stream).await?);
                        let connection =
                            builder.serve_connection_with_upgrades(stream, service_fn(slow));
                        watcher.watch(connection).await.map_err(io::Error::other)
                    });
                    continue;
                }
                let stream = TokioIo::new(stream);
                match kind {
                    "upgrade" => {
                        let service = service_fn(upgrade);
                        let connection = builder.serve_connection_with_upgrades(stream, service);
                        tokio::spawn(graceful.watch(connection.into_owned()));
                    }
                    "router" => {
                        let service = TowerToHyperService::new(router());
                        let connection = builder.serve_connection_with_upgrades(stream, service);
                        tokio::spawn(graceful.watch(connection.into_owned()));
                    }
                    _ => {
                        let service = service_fn(slow);
                        let connection = builder.serve_connection_with_upgrades(stream, service);
                        tokio::spawn(graceful.watch(connection.into_owned()));
                    }
                }
            }
            _ = term.recv() => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// `axum::serve` with its graceful shutdown; axum-server over TLS.
async fn axum(kind: &str) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    if kind == "tls" {
        let handle = axum_server::Handle::new();
        let stopping = handle.clone();
        tokio::spawn(async move {
            term.recv().await;
            stopping.graceful_shutdown(None);
        });
        let listener = listen().await?.into_std()?;
        let config = axum_server::tls_rustls::RustlsConfig::from_config(tls_config());
        let server = axum_server::from_tcp_rustls(listener, config)?;
        return server.handle(handle).serve(router().into_make_service()).await;
    }
    let stop = async move {
        term.recv().await;
    };
    let listener = listen().await?;
    if kind == "router" {
        return axum::serve(listener, router()).with_graceful_shutdown(stop).await;
    }
    // The same service as the others have, with the only body that axum takes.
    let service = tower::service_fn(move |request: Request<axum::body::Body>| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok::<_, Infallible>(hello().map(axum::body::Body::new))
    });
    let upgrading = tower::service_fn(move |request: Request<axum::body::Body>| async move {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.map_err(io::Error::other)?;
            echo(TokioIo::new(upgraded)).await
        });
        Ok::<_, Infallible>(switching().map(axum::body::Body::new))
    });
    if kind == "upgrade" {
        return axum::serve(listener, Shared::new(upgrading)).with_graceful_shutdown(stop).await;
    }
    axum::serve(listener, Shared::new(service)).with_graceful_shutdown(stop).await
}

fn graceful(kind: &str) -> graceful::Exit {
    // For the endpoint race.
    let mut config = graceful::Config::new().delay(graceful::env("DELAY", Duration::ZERO));
    if one_worker() {
        config = config.worker_threads(1);
    }
    // Bound by the library, with its backlog; the others bind as tokio does.
    let addr = "127.0.0.1:0";
    match kind {
        "echo" => config.run(async || graceful::listen(addr, echo)),
        "router" => config.run(async || graceful::serve(addr, router())),
        "upgrade" => config.run(async || graceful::serve(addr, service_fn(upgrade))),
        "tls" => config.run(async || graceful::serve(addr, service_fn(slow)).tls(tls_config())),
        _ => config.run(async || graceful::serve(addr, service_fn(slow))),
    }
}

/// Instructions repeat when nobody steals work. Still a process of several threads, as every server
/// is that people run: glibc takes shorter ways through `recv` and `malloc` in a process of one.
fn one_worker() -> bool {
    std::env::var_os("ONE_WORKER").is_some()
}

fn main() -> std::process::ExitCode {
    let server = args().nth(1).unwrap_or_default();
    let kind = args().nth(2).unwrap_or_default();
    if server == "graceful" {
        return graceful(&kind).into();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if one_worker() {
        builder.worker_threads(1);
    }
    let serve = async move {
        match &*server {
            "bare" => bare(&kind).await,
            "hyper-util" => hyper_util(&kind).await,
            "axum" => axum(&kind).await,
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
