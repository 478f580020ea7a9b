//! Two instances behind a load balancer, and clients in front of it.

use std::{
    net::{SocketAddr, TcpListener},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    PATIENCE,
    load::{self, Style, Tally},
};

/// Addresses that nobody listens on in this moment: the balancer's and those of two instances.
#[must_use]
pub fn free_addrs() -> [SocketAddr; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Somebody else's program offers no event to wait for.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Clients that go on until they are told.
#[derive(Debug)]
pub struct Clients {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

impl Clients {
    /// Starts so many.
    #[must_use]
    pub fn start(addr: SocketAddr, style: Style, count: u64) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let is_enough = enough.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(load::run(addr, style, count, 1, move || {
                if is_enough.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }))
        });
        Self { enough, thread }
    }

    /// Ends them.
    #[must_use]
    pub fn stop(self) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }

    /// Ends them: every request was answered, and with 200.
    pub fn all_was_well(self, what: &str) {
        let tally = self.stop();
        println!("{what}: {} answered with 200, {} not", tally.answered, tally.lost.len());
        assert!(tally.answered > 1_000, "too few requests to tell: {}", tally.answered);
        assert!(tally.lost.is_empty() && tally.refused == 0, "{tally:#?}");
    }
}
