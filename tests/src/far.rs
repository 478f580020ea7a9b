//! A network that is a round trip away, and clients in it.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use crate::load::{Habits, Style, Tally};

/// Whether one can be made: by root, with `/dev/net/tun`, ip(8) and python3.
#[must_use]
pub fn can(what: &str) -> bool {
    let root = rustix::process::getuid().is_root();
    let has = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        let run = command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let tun = Path::new("/dev/net/tun").exists();
    crate::can(what, root && tun && has("ip", "-V") && has("python3", "-V"))
}

/// A network namespace that is so far away. It goes when this is dropped.
#[derive(Debug)]
pub struct Far {
    relay: Child,
    /// Its end is how the relay is told.
    stdin: Option<ChildStdin>,
    namespace: String,
    /// The addresses on this side: IPv4, IPv6.
    pub here: [IpAddr; 2],
    /// Those on the other.
    pub there: [IpAddr; 2],
}

impl Far {
    /// Makes one.
    #[must_use]
    pub fn new(round_trip: Duration) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/net/far.py");
        let mut relay = Command::new("python3")
            .arg(script)
            .arg(round_trip.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdin = relay.stdin.take();
        let mut line = String::new();
        let stdout = relay.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the relay says where it is");
        let words: Vec<_> = line.split_whitespace().collect();
        let [namespace, v4, v6, there4, there6] = words[..] else {
            panic!("the relay failed: {line:?}")
        };
        let here = [v4, v6].map(|addr| addr.parse().expect("an address"));
        let there = [there4, there6].map(|addr| addr.parse().expect("an address"));
        Self { relay, stdin, namespace: namespace.to_owned(), here, there }
    }

    /// Runs a program there to its end.
    pub fn run(&self, words: &[&str]) {
        let mut ip = Command::new("ip");
        let run = ip.args(["netns", "exec", &self.namespace]).args(words).status();
        assert!(run.expect("ip runs").success(), "{words:?}");
    }

    /// Runs `count` clients (the fixture `far_clients`) there, against `addr`. Calls `enough` when
    /// they have had so many answers; returns what became of their requests.
    pub fn clients(
        &self,
        fixtures: &str,
        addr: SocketAddr,
        (habits, count): (Habits, u64),
        seed: u64,
        (answers, enough): (usize, impl FnOnce()),
    ) -> Tally {
        let style = match habits.style {
            Style::KeepAlive => "keep-alive",
            Style::ConnectionEach => "connection-each",
            Style::OneConnection => "one-connection",
        };
        let mut child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                fixtures,
                "far_clients",
                &addr.to_string(),
                style,
            ])
            .args([habits.pause, habits.hesitation].map(|it| it.as_micros().to_string()))
            .args([seed.to_string(), answers.to_string(), count.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut enough = Some(enough);
        let mut tally = Tally::default();
        while let Some(Ok(line)) = lines.next() {
            match line.split_once(' ') {
                Some(("enough", _)) => enough.take().into_iter().for_each(|enough| enough()),
                Some(("answered", count)) => tally.answered = count.parse().expect("a number"),
                Some(("refused", count)) => tally.refused = count.parse().expect("a number"),
                Some(("closed", count)) => tally.closed = count.parse().expect("a number"),
                Some(("late", count)) => tally.late = count.parse().expect("a number"),
                Some(("lost", how)) => tally.lost.push(how.to_owned()),
                _ => panic!("{line:?}"),
            }
        }
        assert!(child.wait().expect("it ends").success());
        tally
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It takes the namespace with it.
        let _ = self.relay.wait();
    }
}
