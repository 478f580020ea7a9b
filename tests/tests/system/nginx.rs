//! Behind a real nginx, which keeps its connections to the servers and tries nothing a second time.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use graceful_tests::{
    Client, Generations, Process, Signal,
    balanced::{Clients, free_addrs, wait_for},
    fixture,
    load::Style,
};
use rustix::process::{Pid, kill_process};

const ROUNDS: usize = 3;

/// A rolling restart as it is done with nginx: what is about to stop is taken out of the
/// configuration first. The workers with the old one have connections to it that they go on using.
#[test]
fn a_rolling_restart_behind_nginx_fails_no_request() {
    let has_it = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
    if !graceful_tests::can("a restart behind nginx (Debian: apt-get install nginx)", has_it) {
        return;
    }
    let [front, a, b] = free_addrs();
    let mut instances = [start(a), start(b)];
    let mut proxy = Proxy::start(front, [a, b]);
    let clients = Clients::start(front, Style::ConnectionEach, 32);
    for _ in 0..ROUNDS {
        for (i, addr) in [a, b].into_iter().enumerate() {
            proxy.reload(&[[b, a][i]]);
            instances[i].signal(Signal::TERM);
            let _ = instances[i].wait().expect(0);
            instances[i] = start(addr);
            proxy.reload(&[a, b]);
        }
    }
    clients.all_was_well("6 restarts behind nginx");
}

/// An upgrade is nothing that nginx sees: it goes on with the connections that it has.
#[test]
fn an_upgrade_behind_nginx_opens_no_connection() {
    let has_it = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
    if !graceful_tests::can("an upgrade behind nginx (Debian: apt-get install nginx)", has_it) {
        return;
    }
    let [front, server, _] = free_addrs();
    let mut generations = Generations::new(fixture!("upgraded").env("ADDR", &server.to_string()));
    let _proxy = Proxy::start(front, [server, server]);
    let clients = Clients::start(front, Style::KeepAlive, 16);
    generations.while_connections_stay(front, 5);
    clients.all_was_well("5 upgrades behind nginx");
}

fn start(addr: SocketAddr) -> Process {
    let web = fixture!("web");
    web.env("ADDR", &addr.to_string()).env("DELAY", "500ms").serve().0
}

struct Proxy {
    child: Child,
    folder: PathBuf,
    front: SocketAddr,
    generation: u32,
}

impl Proxy {
    fn start(front: SocketAddr, servers: [SocketAddr; 2]) -> Self {
        let folder = std::env::temp_dir().join(format!("graceful-nginx-{}", front.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        command.arg("-e").arg(folder.join("error.log")).stdin(Stdio::null());
        configure(&folder, front, &servers, 0);
        let child = command.spawn().unwrap();
        let this = Self { child, folder, front, generation: 0 };
        // Until it answers: it listens before it handles signals, so that an early SIGHUP kills it.
        wait_for("nginx answers", || {
            Client::try_connect(front).is_ok_and(|mut client| {
                client.get("/generation");
                client.try_response().is_ok()
            })
        });
        this
    }

    /// Returns once the new workers answer, and only they.
    fn reload(&mut self, servers: &[SocketAddr]) {
        self.generation += 1;
        configure(&self.folder, self.front, servers, self.generation);
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
        let mut in_a_row = 0;
        wait_for("the new configuration", || {
            let now = Client::connect(self.front).fetch("/generation").text();
            in_a_row = if now == self.generation.to_string() { in_a_row + 1 } else { 0 };
            in_a_row == 10
        });
    }
}

fn configure(folder: &std::path::Path, front: SocketAddr, servers: &[SocketAddr], number: u32) {
    let servers: Vec<_> = servers.iter().map(|server| format!("server {server};")).collect();
    let folders: Vec<_> = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()))
        .collect();
    // It closes a connection that has had a thousand requests, unless it is told otherwise.
    let config = format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {folder}/nginx.pid;\n\
         error_log {folder}/error.log;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  {folders}\n  \
         upstream back {{ {servers} keepalive 64; keepalive_requests 1000000; }}\n  server {{\n    listen {front} backlog=1024;\n    \
         location = /generation {{ return 200 \"{number}\"; }}\n    location / {{\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_next_upstream off;\n      proxy_pass http://back;\n    }}\n  }}\n}}\n",
        folder = folder.display(),
        folders = folders.join("\n  "),
        servers = servers.join(" "),
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
