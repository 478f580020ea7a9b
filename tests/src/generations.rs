//! A program that is upgraded, generation by generation. All of them write into the pipes of the
//! first.

use std::{collections::BTreeSet, fs, net::SocketAddr, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Client, Fixture, PATIENCE, Process};

/// The generations of a program. The last one is killed when this is dropped.
#[derive(Debug)]
pub struct Generations {
    /// The first, which is also where the lines of all of them come out.
    pub first: Process,
    /// The one that serves.
    pub pid: u32,
    /// Where.
    pub addr: SocketAddr,
}

impl Generations {
    /// Starts the first.
    #[must_use]
    pub fn new(fixture: Fixture) -> Self {
        let (first, addr) = fixture.serve();
        let pid = first.pid();
        Self { first, pid, addr }
    }

    /// Sends a signal to the one that serves.
    pub fn signal(&self, signal: Signal) {
        kill_process(number(self.pid), signal).expect("the process is there");
    }

    /// Upgrades, and waits until the next generation has taken over. Returns the number of the one
    /// before.
    pub fn upgrade(&mut self) -> u32 {
        self.signal(Signal::USR2);
        self.taken_over()
    }

    /// Waits until the next generation has taken over. Returns the number of the one before.
    pub fn taken_over(&mut self) -> u32 {
        let line = self.first.any_line(&["has taken over", "failed, this process goes on"]);
        let next = line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        let next = next.unwrap_or_else(|| panic!("{line}"));
        std::mem::replace(&mut self.pid, next)
    }

    /// Upgrades so often, beside clients of the load balancer at `front`, which opens no connection
    /// anew.
    pub fn while_connections_stay(&mut self, front: SocketAddr, upgrades: usize) {
        // More at once than there will be again: it has all that it needs from then on.
        let mut clients: Vec<_> = (0..60).map(|_| Client::connect(front)).collect();
        for client in &mut clients {
            client.get("/slow/400");
        }
        for client in &mut clients {
            client.response();
        }
        drop(clients);
        let before = connections_to(self.addr);
        for _ in 0..upgrades {
            let old = self.upgrade();
            self.gone(old);
            thread::sleep(Duration::from_millis(200));
        }
        let new: Vec<_> = connections_to(self.addr).difference(&before).copied().collect();
        assert!(new.is_empty(), "{} opened anew, {} before", new.len(), before.len());
    }

    /// Waits until the process with this number has ended.
    pub fn gone(&self, pid: u32) {
        let started = std::time::Instant::now();
        while !has_ended(pid) {
            assert!(started.elapsed() < PATIENCE, "process {pid} has not ended");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        // Gone in this moment is as good.
        let _ = kill_process(number(self.pid), Signal::KILL);
    }
}

/// Whether a process has ended, if perhaps nobody has waited for it yet.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn number(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("the number of a process")
}

/// The ends of the connections to `addr` that are open, as whoever has opened them: what is behind
/// a load balancer opens none anew as long as they stay.
#[must_use]
pub fn connections_to(addr: SocketAddr) -> BTreeSet<u16> {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").expect("there is a /proc");
    let port = |end: &str| u16::from_str_radix(end.rsplit(':').next()?, 16).ok();
    let of_line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == ESTABLISHED && port(remote)? == addr.port()).then(|| port(local))?
    };
    table.lines().filter_map(of_line).collect()
}
