//! A rolling restart behind a real HAProxy: nobody gets anything but 200.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use graceful_tests::{
    Client, Generations, Process, Signal,
    balanced::{Clients, free_addrs, wait_for},
    fixture,
    load::Style,
};

const ROUNDS: usize = 5;

#[test]
fn a_rolling_restart_behind_haproxy_fails_no_request() {
    rolling("http1", "");
}

/// HAProxy keeps its connections to the servers, and sends several requests at once over each.
#[test]
fn a_rolling_restart_behind_haproxy_over_http2_fails_no_request() {
    rolling("http2", "proto h2");
}

/// `speaks`: what HAProxy speaks with the servers.
fn rolling(name: &str, speaks: &str) {
    if !has_haproxy("a rolling restart") {
        return;
    }
    let addrs @ [front, a, b] = free_addrs();
    let mut instances = [start(a), start(b)];
    let check = "option httpchk GET /readyz\n  http-check expect status 200\n  \
                 default-server check inter 100ms fall 2 rise 1";
    let backend =
        format!("balance roundrobin\n  {check}\n  server a {a} {speaks}\n  server b {b} {speaks}");
    let proxy = Proxy::start(name, front, &backend);
    proxy.wait_up("a");
    proxy.wait_up("b");

    let clients = Clients::start(front, Style::KeepAlive, 32);
    for _ in 0..ROUNDS {
        for (i, name) in ["a", "b"].into_iter().enumerate() {
            instances[i].signal(Signal::TERM);
            let _ = instances[i].wait().expect(0);
            instances[i] = start(addrs[i + 1]);
            proxy.wait_up(name);
        }
    }
    clients.all_was_well(&format!("{} restarts behind HAProxy, {name}", ROUNDS * 2));
}

/// The client that the handler sees is HAProxy's, by the header of the PROXY protocol, also of a
/// connection that HAProxy has made for another client.
#[test]
fn the_client_of_haproxy_is_the_one_that_is_seen() {
    if !has_haproxy("the PROXY protocol") {
        return;
    }
    for (name, version) in [("v1", "send-proxy"), ("v2", "send-proxy-v2")] {
        let [front, server, _] = free_addrs();
        let fixture = fixture!("opened").env("PROXY", "1");
        let (mut process, _) = fixture.env("LISTEN", &server.to_string()).serve();
        let _proxy = Proxy::start(name, front, &format!("server a {server} {version}"));
        for _ in 0..3 {
            let mut client = Client::connect(front);
            let from = client.stream().local_addr().unwrap();
            let said = client.fetch("/who").text();
            assert!(said.starts_with(&format!("Some({from}) Some({front})")), "{from}: {said}");
        }
        process.term();
        let _ = process.wait().expect(0);
    }
}

/// An upgrade is nothing that HAProxy sees: it goes on with the connections that it has.
#[test]
fn an_upgrade_behind_haproxy_opens_no_connection() {
    if !has_haproxy("an upgrade") {
        return;
    }
    let [front, server, _] = free_addrs();
    let mut generations = Generations::new(fixture!("upgraded").env("ADDR", &server.to_string()));
    // It closes those that it has had no use for in a while: not within this test.
    let backend =
        format!("http-reuse always\n  default-server pool-purge-delay 1h\n  server a {server}");
    let _proxy = Proxy::start("upgrade", front, &backend);
    let clients = Clients::start(front, Style::KeepAlive, 32);
    generations.while_connections_stay(front, ROUNDS);
    clients.all_was_well(&format!("{ROUNDS} upgrades behind HAProxy"));
}

fn has_haproxy(what: &str) -> bool {
    let has_it = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok();
    let what = format!("{what} behind HAProxy (Debian: apt-get install haproxy)");
    graceful_tests::can(&what, has_it)
}

fn start(addr: SocketAddr) -> Process {
    let web = fixture!("web");
    web.env("ADDR", &addr.to_string()).env("DELAY", "1s").serve().0
}

/// An HAProxy with its defaults as far as they matter: `http-reuse safe`, three retries of a
/// connect.
struct Proxy {
    child: Child,
    folder: PathBuf,
}

impl Proxy {
    fn start(name: &str, front: SocketAddr, backend: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("graceful-haproxy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("stats.sock");
        let config = format!(
            "global\n  stats socket {} mode 600 level admin\n\
             defaults\n  mode http\n  timeout connect 2s\n  timeout check 2s\n  timeout client 30s\n  timeout server 30s\n\
             frontend front\n  bind {front}\n  default_backend back\n\
             backend back\n  {backend}\n",
            socket.display()
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        let child = command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).spawn().unwrap();
        let this = Self { child, folder };
        wait_for("HAProxy listens", || Client::try_connect(front).is_ok());
        this
    }

    /// Waits until HAProxy sends requests to this server.
    fn wait_up(&self, server: &str) {
        let socket = self.folder.join("stats.sock");
        wait_for("the server is up", || {
            let stats = ask(&socket, "show stat\n").unwrap_or_default();
            let line = stats.lines().find(|line| line.starts_with(&format!("back,{server},")));
            line.is_some_and(|line| line.split(',').any(|field| field == "UP"))
        });
    }
}

fn ask(socket: &Path, question: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(question.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its end is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
