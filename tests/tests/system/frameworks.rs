//! axum and tonic through `serve`: requests and streams across a drain, HTTP and gRPC on one port.

use std::{net::SocketAddr, process::Command};

use futures_util::{StreamExt, stream};
use graceful_tests::{Client, Fixture, Process, fixture, grpc::Text, in_time};
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

fn serve() -> (Process, SocketAddr) {
    fixture!("frameworks").serve()
}

async fn connect(addr: SocketAddr) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let mut grpc = Grpc::new(endpoint.connect().await.unwrap());
    grpc.ready().await.unwrap();
    grpc
}

fn method(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(name)
}

/// The same with a client of another make.
#[test]
fn a_client_in_python_has_every_call_answered_across_the_drain() {
    // Debian's, which has the package beside it.
    const PYTHON: &str = "/usr/bin/python3";
    let has_it = Command::new(PYTHON).args(["-c", "import grpc"]).status();
    let what = "gRPC by Python's client (Debian: apt-get install python3-grpcio)";
    if !graceful_tests::can(what, has_it.is_ok_and(|it| it.success())) {
        return;
    }
    let (mut server, addr) = serve();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/net/grpc_client.py");
    let mut client = Fixture::program(script).spawn_by(|script| {
        let mut python = Command::new(PYTHON);
        python.arg(script).arg(addr.to_string());
        python
    });
    client.line("under way");
    server.line("unary begins");
    server.line("client stream begins");
    server.term();
    server.line("health: not serving");
    client.release();
    client.line("streams are over");
    server.release();
    client.line("all over");
    let _ = client.wait().expect(0);
    let ended = server.wait().expect(0);
    assert!(ended.said("drained 4 requests"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_goes_on_across_the_drain() {
    let (mut process, addr) = serve();
    let request = |text: &str| Request::new(text.to_owned());
    let mut unary = connect(addr).await;
    let unary =
        tokio::spawn(
            async move { unary.unary(request("one"), method("/test.Echo/Unary"), Text).await },
        );
    let mut streaming = connect(addr).await;
    let path = method("/test.Echo/ServerStream");
    let mut from_server =
        streaming.server_streaming(request("two"), path, Text).await.unwrap().into_inner();
    let (to_server, texts) = tokio::sync::mpsc::channel::<String>(8);
    let texts = stream::unfold(texts, |mut texts| async { Some((texts.recv().await?, texts)) });
    let mut sending = connect(addr).await;
    let sent = tokio::spawn(async move {
        let path = method("/test.Echo/ClientStream");
        sending.client_streaming(Request::new(texts), path, Text).await
    });
    let (to_echo, echoed) = tokio::sync::mpsc::channel::<String>(8);
    let echoed = stream::unfold(echoed, |mut texts| async { Some((texts.recv().await?, texts)) });
    let mut both = connect(addr).await;
    let path = method("/test.Echo/Bidirectional");
    to_echo.send("before".into()).await.unwrap();
    let mut echo = both.streaming(Request::new(echoed), path, Text).await.unwrap().into_inner();
    assert_eq!(in_time(echo.next()).await.unwrap().unwrap(), "before");
    assert_eq!(in_time(from_server.next()).await.unwrap().unwrap(), "two 1");
    to_server.send("a".into()).await.unwrap();
    let mut process = tokio::task::spawn_blocking(move || {
        process.line("unary begins");
        process.line("client stream begins");
        process.term();
        process.line("health: not serving");
        process
    })
    .await
    .unwrap();
    // All four are under way, and the drain has begun.
    to_echo.send("after".into()).await.unwrap();
    assert_eq!(in_time(echo.next()).await.unwrap().unwrap(), "after");
    to_server.send("b".into()).await.unwrap();
    drop((to_echo, to_server));
    assert!(in_time(echo.next()).await.is_none());
    assert_eq!(in_time(sent).await.unwrap().unwrap().into_inner(), "a b");
    process.release();
    assert_eq!(in_time(from_server.next()).await.unwrap().unwrap(), "two 2");
    assert!(in_time(from_server.next()).await.is_none());
    let answer = in_time(unary).await.unwrap().unwrap().into_inner();
    assert!(answer.starts_with("one from Some(127.0.0.1:"), "{answer}");
    let ended = tokio::task::spawn_blocking(move || process.wait().expect(0)).await.unwrap();
    assert!(ended.said("drained 4 requests"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_is_flipped_at_the_signal() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let (mut process, addr) = serve();
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let request = || HealthCheckRequest { service: "test.Echo".to_owned() };
    let serving = health.check(request()).await.unwrap().into_inner().status();
    assert_eq!(serving, ServingStatus::Serving);
    // A stream of it is told, too; it ends with its client.
    let mut watched = health.watch(request()).await.unwrap().into_inner();
    let first = in_time(watched.message()).await.unwrap().unwrap().status();
    assert_eq!(first, ServingStatus::Serving);
    process.term();
    let second = in_time(watched.message()).await.unwrap().unwrap().status();
    assert_eq!(second, ServingStatus::NotServing);
    drop((watched, health));
    let _ = tokio::task::spawn_blocking(move || process.wait().expect(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_grpc_share_a_port() {
    let (mut process, addr) = serve();
    let mut grpc = connect(addr).await;
    let missing: Result<tonic::Response<String>, Status> =
        grpc.unary(Request::new(String::new()), method("/test.Echo/None"), Text).await;
    assert_eq!(missing.unwrap_err().code(), tonic::Code::Unimplemented);
    drop(grpc);
    tokio::task::spawn_blocking(move || {
        assert_eq!(Client::connect(addr).fetch("/").text(), "fine");
        process.term();
        let _ = process.wait().expect(0);
    })
    .await
    .unwrap();
}

/// 200 MB, of which a part has come when the signal does.
#[test]
fn an_upload_under_way_is_taken_to_its_end() {
    const LENGTH: usize = 200 << 20;
    let (mut process, addr) = serve();
    let mut client = Client::connect(addr);
    client.send(format!(
        "POST /upload-counted HTTP/1.1\r\nhost: x\r\ncontent-length: {LENGTH}\r\n\r\n"
    ));
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..50 {
        client.send(&chunk);
    }
    process.line("upload begins");
    process.term();
    for _ in 50..200 {
        client.send(&chunk);
    }
    let response = client.response();
    assert_eq!((response.text(), response.closes()), (LENGTH.to_string(), true));
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 request"), "{ended:#?}");
}

/// A download of a file, compressed, by curl: under way at the signal, and complete.
#[test]
fn files_are_served_to_their_end() {
    let folder = std::env::temp_dir().join(format!("graceful-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let numbers: Vec<_> = (0..2_000_000).map(|number: u32| number.to_string()).collect();
    let content = numbers.join("\n");
    std::fs::write(folder.join("numbers.txt"), &content).unwrap();
    let fixture = fixture!("frameworks");
    let (mut process, addr) = fixture.env("FILES", folder.to_str().unwrap()).serve();
    let url = format!("http://{addr}/files/numbers.txt");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--compressed", "--limit-rate", "4M", &url]);
    let curl = curl.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // It has connected, and asked, when the process has a request.
    while !Client::connect(addr).fetch("/in-flight").text().contains("/files/numbers.txt") {
        std::thread::yield_now();
    }
    process.term();
    let output = curl.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == content.as_bytes(), "{} bytes", output.stdout.len());
    let _ = process.wait().expect(0);
    std::fs::remove_dir_all(folder).unwrap();
}
