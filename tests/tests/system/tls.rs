//! TLS and the PROXY protocol, against clients that were not written here: curl, openssl, rustls.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use graceful_tests::{
    Certificates, Fixture, Generations, PATIENCE, Process, Signal, certificates, fixture, held,
    in_time,
    load::{Random, Tally},
};
use rustls::{
    ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject},
};

fn opened(files: &Certificates) -> Fixture {
    files.of(fixture!("opened"))
}

fn serve(files: &Certificates) -> (Process, SocketAddr) {
    opened(files).env("LISTEN", "127.0.0.1:0").serve()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn curl(certificate: &Path, words: &[&str]) -> String {
    let mut curl = Command::new("curl");
    let output = curl.args(["-sS", "--cacert"]).arg(certificate).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_speaks_both_versions_and_the_handler_knows() {
    let files = Certificates::new("curl");
    let (mut process, addr) = serve(&files);
    let url = format!("https://localhost:{}/who", addr.port());
    for (option, alpn) in [("--http2", "h2"), ("--http1.1", "http/1.1")] {
        let words = ["--resolve", &format!("localhost:{}:127.0.0.1", addr.port()), option, &url];
        let said = curl(&files.path("cert.pem"), &words);
        assert!(said.contains(alpn), "{said}");
        assert!(said.contains("TLSv1_3") && said.contains("localhost"), "{said}");
        assert!(said.starts_with("Some(127.0.0.1:"), "{said}");
    }
    process.term();
    let _ = process.wait().expect(0);
}

/// Read to its end by a client that tells a close from a cut: rustls says `UnexpectedEof` where the
/// `close_notify` is missing.
#[test]
fn the_end_of_a_connection_is_said() {
    let files = Certificates::new("close");
    let (mut process, addr) = serve(&files);
    let mut asked = files.connect(addr);
    asked.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    asked.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("fine"), "{answer}");
    // Idle, and closed by the drain; and one that has not asked for anything yet.
    let mut idle = files.connect(addr);
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut silent = files.connect(addr);
    silent.conn.complete_io(&mut silent.sock).unwrap();
    process.term();
    for mut stream in [idle, silent] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    let _ = process.wait().expect(0);
}

#[test]
fn a_handshake_under_way_at_the_signal_completes_and_is_answered() {
    let files = Certificates::new("under-way");
    let (mut process, addr) = serve(&files);
    let mut holder = files.connect(addr);
    holder.write_all(b"GET /hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    process.line("hold begins");
    let (mut client, mut socket) = (files.client(), connect(addr));
    // The hello is out, and the server's answer not read.
    assert!(client.write_tls(&mut socket).unwrap() > 0);
    socket.peek(&mut [0]).unwrap();
    process.term();
    let mut stream = StreamOwned::new(client, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("fine"), "{answer}");
    process.release();
    let mut held = String::new();
    holder.read_to_string(&mut held).unwrap();
    assert!(held.ends_with("held"), "{held}");
    let _ = process.wait().expect(0);
}

/// A client that stalls in the middle of its handshake does not hold the exit, and is named where
/// the limit is nearer than its second.
#[test]
fn a_stalled_handshake_is_bounded_and_named() {
    let files = Certificates::new("stalled");
    for (timeout, code) in [("20s", 0), ("300ms", 124)] {
        let fixture = opened(&files).env("LISTEN", "127.0.0.1:0").env("TIMEOUT", timeout);
        let (mut process, addr) = fixture.serve();
        let mut socket = connect(addr);
        socket.write_all(&[22, 3, 1]).unwrap();
        process.term();
        let ended = process.wait().expect(code);
        assert_eq!(ended.said("the handshake not complete"), code == 124, "{ended:#?}");
    }
}

/// What a client sends, as far as the bytes of its record.
fn record(client: &mut ClientConnection, text: &str) -> Vec<u8> {
    client.writer().write_all(text.as_bytes()).unwrap();
    let mut record = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut record).unwrap();
    }
    record
}

/// The first packet of a record comes before the signal, the rest of it after the linger: rustls
/// has the first, and nothing has come out of it. On a connection that was asked before, and on a
/// new one.
#[test]
fn half_a_record_is_half_a_request() {
    let files = Certificates::new("half");
    for is_fresh in [false, true] {
        let (mut process, addr) = serve(&files);
        let mut stream = files.connect(addr);
        if is_fresh {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        } else {
            stream.write_all(b"GET /bytes/7 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"xxxxxxx") {
                let mut part = [0; 512];
                let read = stream.read(&mut part).unwrap();
                answer.extend(&part[..read]);
            }
        }
        let filler = "x".repeat(4_000);
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\nfiller: {filler}\r\n\r\n");
        let record = record(&mut stream.conn, &request);
        let (first, rest) = record.split_at(1_460);
        stream.sock.write_all(first).unwrap();
        // Answered behind it: by then the server has read it.
        let mut other = files.connect(addr);
        other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        other.read_to_end(&mut Vec::new()).unwrap();
        process.term();
        std::thread::sleep(Duration::from_millis(600));
        stream.sock.write_all(rest).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("fine"), "{answer}");
        let _ = process.wait().expect(0);
    }
}

/// Half a frame of HTTP/2 in a record of its own: of the record nothing is missing.
#[test]
fn half_a_frame_over_tls_is_half_a_request() {
    let files = Certificates::new("half-frame");
    let (mut process, addr) = serve(&files);
    let mut stream = files.connect(addr);
    // The preface, SETTINGS, and a request: `GET / https x`.
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let head = |stream: u8| {
        let mut head = b"\0\0\x06\x01\x05\0\0\0".to_vec();
        head.push(stream);
        head.extend(b"\x82\x87\x84\x01\x01x");
        head
    };
    opening.extend(head(1));
    stream.write_all(&opening).unwrap();
    let mut said = Vec::new();
    let hears =
        |stream: &mut StreamOwned<ClientConnection, TcpStream>, said: &mut Vec<u8>, what| {
            let mut part = [0; 512];
            while !said.windows(4).any(|it| it == what) {
                let read = stream.read(&mut part).unwrap();
                assert!(read > 0, "closed before {what:?}: {said:?}");
                said.extend(&part[..read]);
            }
            said.clear();
        };
    hears(&mut stream, &mut said, b"fine");
    process.term();
    // Late, so that a second from the signal would not do.
    std::thread::sleep(Duration::from_millis(700));
    let request = head(3);
    stream.write_all(&request[..12]).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    stream.write_all(&request[12..]).unwrap();
    hears(&mut stream, &mut said, b"fine");
    drop(stream);
    let _ = process.wait().expect(0);
}

/// A handshake that takes longer than its second holds nothing, and completes where something else
/// holds the drain.
#[test]
fn a_slow_handshake_completes_while_the_drain_lasts_anyway() {
    let files = Certificates::new("slow");
    let (mut process, addr) = serve(&files);
    let mut holder = files.connect(addr);
    holder.write_all(b"GET /hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    process.line("hold begins");
    let (mut client, mut socket) = (files.client(), connect(addr));
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    socket.write_all(&hello[..20]).unwrap();
    process.term();
    std::thread::sleep(Duration::from_millis(1_500));
    socket.write_all(&hello[20..]).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("fine"), "{answer}");
    process.release();
    let mut held = String::new();
    holder.read_to_string(&mut held).unwrap();
    let _ = process.wait().expect(0);
}

#[test]
fn a_websocket_over_tls_is_waited_for() {
    let files = Certificates::new("websocket");
    let (mut process, addr) = serve(&files);
    let url = format!("ws://localhost:{}/ws", addr.port());
    let (mut socket, _) = tungstenite::client(url, files.connect(addr)).unwrap();
    socket.send("one".into()).unwrap();
    assert!(socket.read().unwrap().is_text());
    process.term();
    socket.send("two".into()).unwrap();
    assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "two");
    socket.close(None).unwrap();
    // The handler ends with that, without a frame of its own. That the stream has ended is said all
    // the same: without the `close_notify` rustls would make it an error of the socket.
    let end = loop {
        match socket.read() {
            Ok(message) => assert!(message.is_close()),
            Err(end) => break end,
        }
    };
    assert!(!matches!(end, tungstenite::Error::Io(_)), "{end}");
    let _ = process.wait().expect(0);
}

fn subject(addr: SocketAddr) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &addr.to_string(), "-servername", "localhost"]);
    let output = openssl.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("subject="));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart() {
    let files = Certificates::new("renewed");
    let (mut process, addr) = serve(&files);
    assert!(subject(addr).contains("localhost"));
    files.make("renewed");
    let start = Instant::now();
    until_subject(addr, "renewed");
    process.line("read the certificate");
    // Broken on the way: the one from before stays, and that is said.
    fs::write(files.path("cert.pem"), "no certificate").unwrap();
    while !process.line_if("going on with the certificate from before") {
        assert!(subject(addr).contains("renewed"));
        assert!(start.elapsed() < PATIENCE, "it is never said");
    }
    process.term();
    let _ = process.wait().expect(0);
}

/// Has handshakes until one is answered with this certificate.
fn until_subject(addr: SocketAddr, name: &str) {
    let start = Instant::now();
    while !subject(addr).contains(name) {
        assert!(start.elapsed() < PATIENCE, "`{name}` is never served");
    }
}

/// A copy that keeps the time of its original is a change all the same (`cp -p`).
#[test]
fn a_certificate_with_the_time_of_the_one_before_is_read() {
    let files = Certificates::new("same-time");
    let (mut process, addr) = serve(&files);
    let paths = ["cert.pem", "key.pem"].map(|name| files.path(name));
    let times = paths.clone().map(|path| fs::metadata(path).unwrap().modified().unwrap());
    files.make("renewed");
    for (path, time) in paths.iter().zip(times) {
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    until_subject(addr, "renewed");
    process.term();
    let _ = process.wait().expect(0);
}

/// There is no descriptor to open them with when they are looked at; nothing changes about the
/// files after that.
#[test]
fn a_certificate_that_could_not_be_read_once_is_read_later() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let files = Certificates::new("later");
    let (mut process, addr) = serve(&files);
    let mut asked = files.connect(addr);
    let mut reload = || {
        asked.write_all(b"GET /reload HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = [0; 512];
        let read = asked.read(&mut answer).unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    };
    reload();
    process.line("read the certificate");
    files.make("renewed");
    let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(3), ..before };
    prlimit(pid, Resource::Nofile, none).unwrap();
    reload();
    let line = process.line("going on with the certificate from before");
    assert!(line.contains("Too many open files"), "{line}");
    // Said once, however often it is tried.
    reload();
    prlimit(pid, Resource::Nofile, before).unwrap();
    until_subject(addr, "renewed");
    process.term();
    let ended = process.wait().expect(0);
    let said = ended.lines.iter().filter(|line| line.contains("going on with")).count();
    assert_eq!(said, 1, "{ended:#?}");
}

/// One that would never be read to its end stops no handshake, and not what comes in its place.
#[test]
fn a_fifo_in_the_place_of_a_certificate_stops_nothing() {
    let files = Certificates::new("fifo");
    let (mut process, addr) = serve(&files);
    fs::remove_file(files.path("cert.pem")).unwrap();
    let made = Command::new("mkfifo").arg(files.path("cert.pem")).status().unwrap();
    assert!(made.success());
    let start = Instant::now();
    while !process.line_if("cert.pem is not a regular file; going on") {
        assert!(subject(addr).contains("localhost"));
        assert!(start.elapsed() < PATIENCE, "it is never said");
    }
    // What comes after it is read.
    fs::remove_file(files.path("cert.pem")).unwrap();
    files.make("after");
    until_subject(addr, "after");
    process.term();
    let _ = process.wait().expect(0);
}

/// At once, where a change is else looked for once in a second.
#[tokio::test(flavor = "multi_thread")]
async fn reload_tls_has_the_files_read() {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files = Certificates::new("reload");
    let server = graceful::serve("127.0.0.1:0", graceful_tests::app::router())
        .tls_files(files.path("cert.pem"), files.path("key.pem"));
    let running = graceful::Config::new().start(server).await.unwrap();
    let (addr, handle) = (running.local_addr().unwrap(), running.handle().clone());
    let rounds = move || {
        for round in 0..5 {
            let name = format!("round{round}");
            files.make(&name);
            handle.reload_tls();
            until_subject(addr, &name);
        }
    };
    tokio::task::spawn_blocking(rounds).await.unwrap();
    assert!(in_time(running.stop()).await.is_clean());
}

/// With a configuration of the program's own, which asks clients for a certificate: the handler
/// sees it, and who has none gets no connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_certificate_is_seen_by_the_handler() {
    let (files, client) = (Certificates::new("mutual"), Certificates::new("client"));
    let read =
        |files: &Certificates| CertificateDer::from_pem_file(files.path("cert.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(read(&client)).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(files.path("key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![read(&files)], key)
        .unwrap();
    let expected = read(&client);
    let who = move |axum::Extension(info): axum::Extension<graceful::ConnectInfo>| async move {
        let seen = info.tls().unwrap().peer_certificates() == [expected];
        format!("seen: {seen}")
    };
    let app = axum::Router::new().route("/", axum::routing::get(who));
    let server = graceful::serve("127.0.0.1:0", app).tls(Arc::new(config)).connect_info();
    let running = graceful::Config::new().start(server).await.unwrap();
    let port = running.local_addr().unwrap().port();
    let ask = move || {
        let resolve = format!("localhost:{port}:127.0.0.1");
        let words = ["--resolve", &resolve, &format!("https://localhost:{port}/")];
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert"]).arg(files.path("cert.pem")).args(words);
        assert!(!curl.output().unwrap().status.success(), "without a certificate");
        curl.arg("--cert").arg(client.path("cert.pem")).arg("--key").arg(client.path("key.pem"));
        let output = curl.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "seen: true");
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(in_time(running.stop()).await.is_clean());
}

#[test]
fn a_bad_certificate_is_one_line_and_exit_1() {
    let (files, other, old) =
        (Certificates::new("bad"), Certificates::new("other"), Certificates::new("old"));
    old.expire();
    fs::write(files.path("text.pem"), "nothing in here").unwrap();
    let name = |files: &Certificates, name: &str| files.path(name).to_str().unwrap().to_owned();
    for (certificate, key, said) in [
        (name(&files, "cert.pem"), name(&other, "key.pem"), "does not belong to the certificate"),
        (name(&files, "none.pem"), name(&files, "key.pem"), "cannot read the certificate"),
        (name(&files, "cert.pem"), name(&files, "none.pem"), "cannot read the private key"),
        (name(&files, "text.pem"), name(&files, "key.pem"), "has no certificate in it"),
        (name(&files, "cert.pem"), name(&files, "text.pem"), "has no private key in it"),
        (name(&old, "cert.pem"), name(&old, "key.pem"), "has expired: renew it"),
    ] {
        let fixture = opened(&files).env("CERTIFICATE", &certificate).env("KEY", &key);
        let ended = fixture.env("LISTEN", "127.0.0.1:0").spawn().wait().expect(1);
        let lines: Vec<_> = ended.lines.iter().filter(|it| it.starts_with("error: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(said), "{said}: {:#?}", ended.lines);
        assert!(!ended.said("listening on"), "{:#?}", ended.lines);
    }
}

#[test]
fn the_peer_is_the_one_behind_the_balancer() {
    let fixture = fixture!("opened").env("PROXY", "1");
    let (mut process, addr) = fixture.env("LISTEN", "127.0.0.1:0").serve();
    // Version 1, by curl.
    let url = format!("http://{addr}/who");
    let said = curl(Path::new("/dev/null"), &["--haproxy-protocol", &url]);
    assert!(said.starts_with("Some(127.0.0.1:"), "{said}");
    // Version 2, with a client elsewhere; in pieces, and with the request right behind it.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 80]);
    header.extend(b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut stream = connect(addr);
    stream.set_nodelay(true).unwrap();
    for piece in header.chunks(9) {
        stream.write_all(piece).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Some(192.0.2.7:12345) Some(198.51.100.1:80)"), "{answer}");
    // Without a header: closed, and nothing is answered.
    let mut stream = connect(addr);
    stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A close, or a reset: what it has sent was never read.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
    process.term();
    let _ = process.wait().expect(0);
}

/// Sends requests until it is refused; never sends one a second time.
fn client(files: &Certificates, addr: SocketAddr, keep: bool, mut random: Random) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<StreamOwned<ClientConnection, TcpStream>> = None;
    let mut answered = Instant::now();
    loop {
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        let reused = kept.is_some();
        let mut stream =
            match kept.take().map_or_else(|| TcpStream::connect(addr).map(Err), |it| Ok(Ok(it))) {
                Ok(Ok(stream)) => stream,
                Ok(Err(socket)) => {
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    StreamOwned::new(files.client(), socket)
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    tally.refused += 1;
                    return tally;
                }
                Err(error) => {
                    tally.lost.push(format!("connecting: {error}"));
                    return tally;
                }
            };
        let paused = answered.elapsed();
        match certificates::exchange(&mut stream) {
            Ok(keeps) => {
                tally.answered += 1;
                kept = (keep && keeps).then_some(stream);
            }
            // The machine was elsewhere for longer than the linger.
            Err(_) if reused && paused > Duration::from_millis(250) => tally.late += 1,
            Err(error) => tally.lost.push(format!("reused: {reused}, {paused:?}: {error}")),
        }
        answered = Instant::now();
    }
}

/// As `loss.rs`, over TLS: most of the stops fall into handshakes.
#[test]
fn restarts_lose_no_request_over_tls() {
    let restarts: u64 = std::env::var("GRACEFUL_RESTARTS").map_or(20, |text| text.parse().unwrap());
    let files = Certificates::new("loss");
    for keep in [true, false] {
        let mut all = Tally::default();
        for round in 0..restarts {
            let (mut process, addr) = serve(&files);
            let tallies = std::thread::scope(|scope| {
                let clients: Vec<_> = (0..32)
                    .map(|i| {
                        let (files, random) = (&files, Random(round * 1_000 + i + 1));
                        scope.spawn(move || client(files, addr, keep, random))
                    })
                    .collect();
                std::thread::sleep(Duration::from_micros(60_000 + Random(round + 1).below(40_000)));
                process.signal(Signal::TERM);
                let _ = process.wait().expect(0);
                clients.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
            });
            for tally in tallies {
                all += tally;
            }
        }
        println!(
            "TLS, keep-alive {keep}: {restarts} restarts, {} answered, {} late, {} lost",
            all.answered,
            all.late,
            all.lost.len()
        );
        assert!(all.answered > 500, "too few to tell: {}", all.answered);
        assert!(all.lost.is_empty(), "{} of {}: {:#?}", all.lost.len(), all.answered, all.lost);
    }
}

/// Connections of TLS do not move: they end as in any drain, and the next process has the listener.
#[test]
fn upgrades_lose_no_request_over_tls() {
    let files = Certificates::new("upgrade");
    for keep in [true, false] {
        let fixture = fixture!("upgraded")
            .env("CERTIFICATE", files.path("cert.pem").to_str().unwrap())
            .env("KEY", files.path("key.pem").to_str().unwrap());
        let mut generations = Generations::new(fixture);
        let addr = generations.addr;
        let mut all = Tally::default();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..16)
                .map(|i| {
                    let files = &files;
                    scope.spawn(move || client(files, addr, keep, Random(i + 1)))
                })
                .collect();
            for round in 0..5 {
                std::thread::sleep(Duration::from_micros(60_000 + Random(round + 1).below(40_000)));
                let old = generations.upgrade();
                generations.gone(old);
            }
            generations.signal(Signal::TERM);
            for client in clients {
                all += client.join().unwrap();
            }
        });
        let _ = generations.first.wait();
        println!(
            "TLS, keep-alive {keep}: 5 upgrades, {} answered, {} late, {} lost",
            all.answered,
            all.late,
            all.lost.len()
        );
        assert!(all.answered > 100, "too few to tell: {}", all.answered);
        assert!(all.lost.is_empty(), "{} of {}: {:#?}", all.lost.len(), all.answered, all.lost);
    }
}

/// Sixteen bytes that declare more than anybody ever sends cost no more than they are.
#[test]
fn a_proxy_header_takes_memory_as_its_bytes_come() {
    let fixture = fixture!("opened").env("PROXY", "1");
    let (mut process, addr) = fixture.env("LISTEN", "127.0.0.1:0").env("TIMEOUT", "1s").serve();
    let before = held::resident(process.pid());
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    let count = 400;
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let mut client = connect(addr);
            client.write_all(header).unwrap();
            client
        })
        .collect();
    // The one that comes last is answered: all others have been read.
    let mut last = connect(addr);
    last.write_all(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    last.read_exact(&mut [0; 12]).unwrap();
    let each = (held::resident(process.pid()) - before) * 1024 / count;
    assert!(each < 30_000, "{each} bytes for each client");
    drop(clients);
    process.signal(Signal::TERM);
    let _ = process.wait();
}
