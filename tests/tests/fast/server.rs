//! What can be set of a server, and which services it takes.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Extension, Router, body::Body, extract, http::Request, response::Response, routing};
use graceful::{Config, ConnectInfo, Running, Server};
use graceful_tests::{Client, Http2, http2::kind::GOAWAY, in_time};
use tower::util::BoxCloneService;

async fn start(server: Server) -> (Running, SocketAddr) {
    let running = Config::new().start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    (running, addr)
}

/// Runs what blocks beside the server.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    in_time(tokio::task::spawn_blocking(f)).await.unwrap()
}

/// What `/` answers, and from which address it was asked.
async fn ask(addr: SocketAddr) -> (String, SocketAddr) {
    blocking(move || {
        let mut client = Client::connect(addr);
        let from = client.stream().local_addr().unwrap();
        (client.fetch("/").text(), from)
    })
    .await
}

async fn by_axum(extract::ConnectInfo(peer): extract::ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

async fn by_extension(Extension(info): Extension<ConnectInfo>) -> String {
    assert!(info.local_addr().is_some() && info.peer_credentials().is_none());
    info.peer_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_learns_who_asks_in_every_way() {
    let axum = || Router::new().route("/", routing::get(by_axum));
    let extension = Router::new().route("/", routing::get(by_extension));
    let hyper = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
        let info = request.extensions().get::<ConnectInfo>().unwrap();
        Ok::<_, Infallible>(Response::new(info.peer_addr().unwrap().to_string()))
    });
    let make = tower::service_fn(|info: ConnectInfo| async move {
        let peer = info.peer_addr().unwrap().to_string();
        Ok::<_, Infallible>(Router::new().route("/", routing::get(|| async { peer })))
    });
    let bind = "127.0.0.1:0";
    let servers = [
        graceful::serve(bind, axum()).connect_info(),
        graceful::serve(bind, axum().into_make_service_with_connect_info::<SocketAddr>()),
        graceful::serve(bind, extension).connect_info(),
        graceful::serve(bind, hyper).connect_info(),
        graceful::serve(bind, make),
    ];
    for (number, server) in servers.into_iter().enumerate() {
        let (running, addr) = start(server).await;
        let (said, from) = ask(addr).await;
        assert_eq!(said, from.to_string(), "server {number}");
        assert!(in_time(running.stop()).await.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_unix_socket_shows_its_credentials() {
    let path = std::env::temp_dir().join(format!("graceful-cred-{}.sock", std::process::id()));
    let app = Router::new().route(
        "/",
        routing::get(|Extension(info): Extension<ConnectInfo>| async move {
            format!("{:?} {:?}", info.peer_addr(), info.peer_credentials().unwrap().pid())
        }),
    );
    let server = graceful::serve(format!("unix:{}", path.display()), app).connect_info();
    let running = Config::new().start(server).await.unwrap();
    let answer = blocking(move || {
        let mut client = std::os::unix::net::UnixStream::connect(path).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    })
    .await;
    let pid = std::process::id();
    assert!(answer.ends_with(&format!("None Some({pid})")), "{answer}");
    assert!(in_time(running.stop()).await.is_clean());
}

/// Panics when it is cloned for the second connection, or when it is made ready there.
struct Fragile {
    clones: Arc<AtomicUsize>,
    in_clone: bool,
    mine: usize,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        let mine = self.clones.fetch_add(1, Ordering::SeqCst);
        assert!(!self.in_clone || mine != 2, "fragile clone");
        Self { clones: self.clones.clone(), in_clone: self.in_clone, mine }
    }
}

impl tower::Service<Request<hyper::body::Incoming>> for Fragile {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        assert!(self.in_clone || self.mine != 3, "fragile poll_ready");
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<hyper::body::Incoming>) -> Self::Future {
        std::future::ready(Ok(Response::new(Body::from("fine"))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_service_costs_its_connection() {
    for in_clone in [true, false] {
        let service = Fragile { clones: Arc::default(), in_clone, mine: 0 };
        let (running, addr) = start(graceful::serve("127.0.0.1:0", service)).await;
        // A clone for the connection and one for the request: the second connection is hit.
        let answers = blocking(move || {
            [1, 2, 3].map(|_| {
                let mut client = Client::connect(addr);
                client.get("/");
                let mut answer = Vec::new();
                // A reset, where the request had not been read.
                let _ = client.stream().try_clone().unwrap().read(&mut [0; 12]).map(|length| {
                    answer.resize(length, 0);
                });
                !answer.is_empty()
            })
        })
        .await;
        assert_eq!(answers, [true, false, true], "in_clone: {in_clone}");
        let report = in_time(running.stop()).await;
        assert!(report.is_clean(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_a_box_and_shared_ones_are_served() {
    let fine = || {
        tower::service_fn(|_: Request<hyper::body::Incoming>| async {
            Ok::<_, Infallible>(Response::new(Body::from("fine")))
        })
    };
    let boxed = BoxCloneService::new(fine());
    let shared = tower::make::Shared::new(fine());
    let into_make = Router::<()>::new().route("/", routing::get(|| async { "fine" }));
    for server in [
        graceful::serve("127.0.0.1:0", boxed),
        graceful::serve("127.0.0.1:0", shared),
        graceful::serve("127.0.0.1:0", into_make.into_make_service()),
    ] {
        let (running, addr) = start(server).await;
        assert_eq!(ask(addr).await.0, "fine");
        assert!(in_time(running.stop()).await.is_clean());
    }
}

/// A make-service that never makes one holds the drain for a second, and is named where the limit
/// is nearer.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_never_made_is_bounded_and_named() {
    for (timeout, cut) in [(20_000, 0), (300, 1)] {
        let make = tower::service_fn(|_: ConnectInfo| {
            std::future::pending::<Result<Router, Infallible>>()
        });
        let server = graceful::serve("127.0.0.1:0", make);
        let config = Config::new().timeout(Duration::from_millis(timeout));
        let running = config.start(server).await.unwrap();
        let addr = running.local_addr().unwrap();
        let handle = running.handle().clone();
        let client = blocking(move || {
            let client = Client::connect(addr);
            while !handle.in_flight().iter().any(|it| it.to_string().contains("handshake")) {
                std::thread::yield_now();
            }
            client
        })
        .await;
        let report = in_time(running.stop()).await;
        assert_eq!(report.cut().len(), cut, "{report}");
        drop(client);
    }
}

/// A client that never says who it is for. Nobody waits for it, and neither does who waits for the
/// end of the service; nor does it keep the last place from one that waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_completes_keeps_neither_service_nor_place() {
    let (to_worker, mut jobs) = tokio::sync::mpsc::channel::<()>(1);
    let service = tower::service_fn(move |_: Request<hyper::body::Incoming>| {
        let _worker = to_worker.clone();
        async { Ok::<_, Infallible>(Response::new(Body::from("fine"))) }
    });
    let server = graceful::serve("127.0.0.1:0", service).proxy_protocol().max_connections(1);
    let (running, addr) = start(server).await;
    let worker = running.handle().spawn(async move { while jobs.recv().await.is_some() {} });
    let handle = running.handle().clone();
    let silent = blocking(move || {
        let silent = Client::connect(addr);
        while !handle.in_flight().iter().any(|it| it.to_string().contains("handshake")) {
            std::thread::yield_now();
        }
        silent
    })
    .await;
    let mut waits = Client::connect(addr);
    waits.send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let start = Instant::now();
    let stopped = tokio::spawn(running.stop());
    blocking(move || assert_eq!(waits.response().text(), "fine")).await;
    let report = in_time(stopped).await.unwrap();
    assert!(report.is_clean() && report.tasks() == 1, "{report}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    worker.await.unwrap();
    drop(silent);
}

/// A handler that has seen `idle_shutdown` and goes on: the cut ends its read all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_cut_ends_a_read_that_goes_on_after_idle_shutdown() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (to_test, ended) = std::sync::mpsc::channel();
    let server = graceful::listen("127.0.0.1:0", move |mut connection: graceful::Connection| {
        let to_test = to_test.clone();
        async move {
            let idle = connection.idle_shutdown();
            let mut byte = [0];
            tokio::select! {
                () = idle => {}
                read = connection.read(&mut byte) => panic!("{read:?}"),
            }
            connection.write_all(b"bye").await.unwrap();
            to_test.send(connection.read(&mut byte).await.unwrap_err().to_string()).unwrap();
        }
    });
    let config = Config::new().timeout(Duration::from_millis(900));
    let running = config.start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    let client = blocking(move || Client::connect(addr)).await;
    let report = in_time(running.stop()).await;
    assert_eq!(report.cut().len(), 1, "{report}");
    let error = blocking(move || ended.recv_timeout(graceful_tests::PATIENCE)).await;
    assert_eq!(error.as_deref(), Ok("cut off by the graceful shutdown"));
    drop(client);
}

/// As gRPC answers: the trailers are the last that is written.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_http2_that_ends_with_trailers_is_drained() {
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    let (begun, seen) = std::sync::mpsc::channel();
    let (go, goes) = tokio::sync::watch::channel(false);
    let service = tower::service_fn(move |_: Request<hyper::body::Incoming>| {
        begun.send(()).unwrap();
        let mut goes = goes.clone();
        async move {
            goes.wait_for(|goes| *goes).await.unwrap();
            let trailers = axum::http::HeaderMap::from_iter([(
                axum::http::HeaderName::from_static("grpc-status"),
                axum::http::HeaderValue::from_static("0"),
            )]);
            let frames = [Frame::data(bytes::Bytes::from("fine")), Frame::trailers(trailers)];
            let frames = frames.map(Ok::<_, Infallible>);
            Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
        }
    });
    let (running, addr) = start(graceful::serve("127.0.0.1:0", service)).await;
    let mut client = blocking(move || {
        let mut client = Http2::connect(addr);
        client.get(1, "/");
        seen.recv_timeout(graceful_tests::PATIENCE).unwrap();
        client
    })
    .await;
    let stopped = tokio::spawn(running.stop());
    blocking(move || {
        assert_eq!(client.frame().unwrap().kind, GOAWAY);
        go.send(true).unwrap();
        while !client.frame().unwrap().ends_stream() {}
        client.rest();
    })
    .await;
    let report = in_time(stopped).await.unwrap();
    assert!(report.is_clean() && report.requests() == 1, "{report}");
}

fn app() -> Router {
    graceful_tests::app::router()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_maximum_wait() {
    let (running, addr) = start(graceful::serve("127.0.0.1:0", app()).max_connections(2)).await;
    blocking(move || {
        let mut first = Client::connect(addr);
        let mut second = Client::connect(addr);
        assert_eq!(
            (first.fetch("/").text(), second.fetch("/").text()),
            ("fine".into(), "fine".into())
        );
        let mut third = Client::connect(addr);
        third.get("/");
        third.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let waits = third.stream().try_clone().unwrap().read(&mut [0]).unwrap_err();
        assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
        third.stream().set_read_timeout(Some(graceful_tests::PATIENCE)).unwrap();
        drop(first);
        assert_eq!(third.response().text(), "fine");
    })
    .await;
    assert!(in_time(running.stop()).await.is_clean());
}

/// At the drain those that wait in the queue are let in as others end: nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slot_is_served_in_the_drain() {
    let (running, addr) = start(graceful::serve("127.0.0.1:0", app()).max_connections(1)).await;
    let (mut first, second) = blocking(move || {
        let mut first = Client::connect(addr);
        assert_eq!(first.fetch("/").text(), "fine");
        let mut second = Client::connect(addr);
        second.get("/");
        (first, second)
    })
    .await;
    let stopped = tokio::spawn(running.stop());
    blocking(move || {
        let mut second = second;
        assert_eq!(second.response().text(), "fine");
        first.closed();
    })
    .await;
    assert!(in_time(stopped).await.unwrap().is_clean());
}

/// What the limit cuts in the queue is counted, over TCP and Unix sockets.
#[tokio::test(flavor = "multi_thread")]
async fn those_that_wait_when_the_limit_comes_are_counted() {
    let path = std::env::temp_dir().join(format!("graceful-waiting-{}.sock", std::process::id()));
    let listen = ["127.0.0.1:0".to_owned(), format!("unix:{}", path.display())];
    for unix in [false, true] {
        // One place for the whole server, which the first client has.
        let server = graceful::serve(&listen[..], app()).max_connections(1);
        let config = graceful::Config::new().timeout(Duration::from_millis(200));
        let running = config.start(server).await.unwrap();
        let addr = running.local_addr().unwrap();
        let path = path.clone();
        let (_first, _tcp, _unix) = blocking(move || {
            let mut first = Client::connect(addr);
            assert_eq!(first.fetch("/").text(), "fine");
            first.get("/hold");
            let tcp: Vec<_> = (0..7).filter(|_| !unix).map(|_| Client::connect(addr)).collect();
            let connect = |_| std::os::unix::net::UnixStream::connect(&path).unwrap();
            let unix: Vec<_> = (0..7).filter(|_| unix).map(connect).collect();
            (first, tcp, unix)
        })
        .await;
        let report = in_time(running.stop()).await;
        let text = report.to_string();
        // An accept loop that waits for a place may have taken one of them before.
        let counted = ["7", "6"]
            .iter()
            .any(|count| text.contains(&format!(", {count} connections waiting, never accepted")));
        assert!(counted && text.contains("GET /hold from"), "unix: {unix}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_the_keep_alive_timeout() {
    let limit = Duration::from_millis(300);
    let (running, addr) =
        start(graceful::serve("127.0.0.1:0", app()).keep_alive_timeout(limit)).await;
    blocking(move || {
        let mut client = Client::connect(addr);
        assert_eq!(client.fetch("/").text(), "fine");
        let answered = Instant::now();
        client.closed();
        let after = answered.elapsed();
        // The clock of connections may be late by a tick.
        assert!(after >= limit.saturating_sub(Duration::from_millis(15)), "{after:?}");
    })
    .await;
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_told_to_close() {
    let age = Duration::from_millis(300);
    let server = graceful::serve("127.0.0.1:0", app()).max_connection_age(age);
    let (running, addr) = start(server).await;
    blocking(move || {
        let start = Instant::now();
        let mut client = Client::connect(addr);
        loop {
            let response = client.fetch("/");
            assert_eq!(response.text(), "fine");
            if response.closes() {
                break;
            }
            assert!(start.elapsed() < graceful_tests::PATIENCE, "it is never told");
        }
        assert!(start.elapsed() >= age.mul_f64(0.9).saturating_sub(Duration::from_millis(15)));
        client.closed();
        // Another, which is idle by then: closed without a word.
        let mut idle = Client::connect(addr);
        assert_eq!(idle.fetch("/").text(), "fine");
        idle.closed();
    })
    .await;
    let report = in_time(running.stop()).await;
    assert!(report.is_clean(), "{report}");
}

/// Over HTTP/2 a connection that is old, or idle for long, is told so as in the drain: nothing that
/// is on its way is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_or_idle_connection_of_http2_is_told_to_go_away() {
    let limit = Duration::from_millis(300);
    for server in [
        graceful::serve("127.0.0.1:0", app()).max_connection_age(limit),
        graceful::serve("127.0.0.1:0", app()).keep_alive_timeout(limit),
    ] {
        let (running, addr) = start(server).await;
        blocking(move || {
            let start = Instant::now();
            let mut client = Http2::connect(addr);
            client.get(1, "/");
            while !client.frame().unwrap().ends_stream() {}
            let kinds: Vec<_> = client.rest().iter().map(|frame| frame.kind).collect();
            assert_eq!(kinds, [GOAWAY, GOAWAY]);
            assert!(
                start.elapsed() >= limit.mul_f64(0.9).saturating_sub(Duration::from_millis(15))
            );
        })
        .await;
        let report = in_time(running.stop()).await;
        assert!(report.is_clean(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_times_out_by_a_layer() {
    let (to_test, ended) = std::sync::mpsc::channel();
    let read = routing::post(move |body: Body| {
        let to_test = to_test.clone();
        async move {
            let error = axum::body::to_bytes(body, 1 << 20).await.unwrap_err();
            to_test.send(error.to_string()).unwrap();
        }
    });
    let limit = Duration::from_millis(300);
    let layer = tower_http::timeout::RequestBodyTimeoutLayer::new(limit);
    let app = Router::new().route("/read", read).layer(layer);
    let (running, addr) = start(graceful::serve("127.0.0.1:0", app)).await;
    blocking(move || {
        let mut client = Client::connect(addr);
        client.send("POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc");
        let start = Instant::now();
        let error = ended.recv_timeout(graceful_tests::PATIENCE).unwrap();
        assert!(error.contains("not received"), "{error}");
        assert!(start.elapsed() >= limit.saturating_sub(Duration::from_millis(30)));
    })
    .await;
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn hypers_own_options_apply() {
    static HTTP2: AtomicUsize = AtomicUsize::new(0);
    let server = graceful::serve("127.0.0.1:0", app())
        .http1(|http1| {
            http1.max_headers(2).header_read_timeout(Duration::from_nanos(1));
        })
        .http2(|http2| {
            http2.max_concurrent_streams(7);
            HTTP2.fetch_add(1, Ordering::SeqCst);
        });
    let (running, addr) = start(server).await;
    blocking(move || {
        // The header timeout is this crate's: not a nanosecond.
        assert_eq!(Client::connect(addr).fetch("/").status, 200);
        let mut client = Client::connect(addr);
        client.send("GET / HTTP/1.1\r\nhost: x\r\na: b\r\nc: d\r\n\r\n");
        assert_eq!(client.response().status, 431);
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--http2-prior-knowledge", &format!("http://{addr}/")]);
        assert_eq!(curl.output().unwrap().stdout, b"fine");
    })
    .await;
    assert_eq!(HTTP2.load(Ordering::SeqCst), 1);
    assert!(in_time(running.stop()).await.is_clean());
}

/// A tunnel that begins with one byte, as in the documentation.
struct Knock;

impl graceful::Acceptor for Knock {
    type Stream = graceful::Transport;

    async fn accept(&self, mut transport: graceful::Transport) -> std::io::Result<Self::Stream> {
        use tokio::io::AsyncReadExt;
        match transport.read_u8().await? {
            b'!' => Ok(transport),
            _ => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }

    fn transport(stream: &Self::Stream) -> &graceful::Transport {
        stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_of_ones_own_is_spoken_over() {
    let (running, addr) = start(graceful::serve("127.0.0.1:0", app()).acceptor(Knock)).await;
    blocking(move || {
        let mut client = Client::connect(addr);
        client.send("!");
        assert_eq!(client.fetch("/").text(), "fine");
        let mut stranger = Client::connect(addr);
        stranger.send("?");
        stranger.closed();
    })
    .await;
    assert!(in_time(running.stop()).await.is_clean());
}
