//! Who holds a connection, and the drain with it.

use std::sync::Arc;

use super::{conn::Conn, state::Event};
use crate::{registry::Key, sync::Ordering, work::Kind};

/// Holds the drain for a connection: goes wherever its stream goes, also out of HTTP. The last one to be
/// dropped takes the connection off the table.
#[derive(Debug)]
pub(crate) struct Held {
    conn: Arc<Conn>,
    key: Key,
}

impl Held {
    /// The first one.
    pub(crate) fn new(conn: Arc<Conn>, key: Key) -> Self {
        Self { conn, key }
    }

    #[inline]
    pub(crate) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Whether nobody else holds the connection.
    pub(crate) fn is_last(&self) -> bool {
        self.conn.holds.load(Ordering::Acquire) == 1
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        // Relaxed, as in `Arc::clone`: whoever clones holds it, too.
        self.conn.holds.fetch_add(1, Ordering::Relaxed);
        Self { conn: self.conn.clone(), key: self.key }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // As in `Arc`: what the others did comes before what the last one does.
        if self.conn.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.conn.on(Event::Gone);
            self.conn.handle.shared().finished(self.key, Kind::Connection);
        }
    }
}

#[cfg(all(test, graceful_loom))]
mod loom_models {
    use loom::{future::block_on, thread};
    use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

    use super::Held;
    use crate::{
        handle::Handle,
        http::{
            conn::Conn,
            framing::Framing,
            state::{Behind, Event, State},
        },
        in_flight::{Doing, InFlight},
        limits::Limits,
        net::listener::Peer,
        phase::Phase,
        work::{Kind, Piece},
    };

    fn handle() -> Handle {
        let limits =
            Limits { timeout: None, delay: Duration::ZERO, linger: Duration::ZERO, cleanup: None };
        Handle::for_test(limits)
    }

    /// What the task of a connection does about the phases: it ends when it sees `last`.
    fn run_until(last: Phase, held: Held) {
        let conn = held.conn().clone();
        block_on(poll_fn(|cx| {
            conn.register(cx.waker());
            if conn.phase() >= last { Poll::Ready(()) } else { Poll::Pending }
        }));
        drop(held);
        assert_eq!(conn.state(), State::Closed);
    }

    /// The accept loop, as far as the table is concerned.
    struct Door;

    impl Piece for Door {
        fn describe(&self, _: std::time::Instant, _: &mut Vec<InFlight>) {}
        fn kind(&self) -> Kind {
            Kind::Server
        }
        fn has_ended(&self) -> bool {
            false
        }
    }

    /// One is accepted while the drain starts, and ends as soon as it hears of it; the door closes.
    /// The drain is over when both are, whoever is last.
    #[test]
    fn loom_accept_and_finish_against_drain_start() {
        loom::model(|| {
            let handle = handle();
            let door = handle.shared().work.add(Arc::new(Door));
            let accept = {
                let handle = handle.clone();
                thread::spawn(move || {
                    let held = Conn::accepted(&handle, Peer::Unix, None);
                    let task = thread::spawn(move || run_until(Phase::Draining, held));
                    handle.shared().finished(door, Kind::Server);
                    task.join().unwrap();
                })
            };
            let shared = handle.shared();
            shared.phase.advance(Phase::Draining);
            shared.work.drain();
            block_on(shared.work.none());
            accept.join().unwrap();
            assert!(shared.work.is_none());
        });
    }

    /// One is accepted at any point of drain and cut, and would go on for good: the cut ends it.
    #[test]
    fn loom_accept_against_drain_and_cut() {
        loom::model(|| {
            let handle = handle();
            let task = {
                let handle = handle.clone();
                thread::spawn(move || {
                    run_until(Phase::Cut, Conn::accepted(&handle, Peer::Unix, None))
                })
            };
            let shared = handle.shared();
            shared.phase.advance(Phase::Draining);
            shared.work.drain();
            shared.phase.advance(Phase::Cut);
            shared.work.cut();
            task.join().unwrap();
            assert!(shared.work.is_none());
        });
    }

    /// The report is made while a request begins on a connection that has answered one before.
    #[test]
    fn loom_a_request_is_never_called_by_the_name_of_the_one_before() {
        // Of std: it counts over all orders.
        use std::sync::atomic::{AtomicUsize, Ordering};
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        loom::model(|| {
            let handle = handle();
            let held = Conn::accepted(&handle, Peer::Unix, None);
            let mut framing = Framing::new();
            let mut read = move |held: &Held, bytes: &[u8]| {
                let brought = framing.read(bytes, held.conn().calls());
                held.conn().bytes_read(brought, bytes);
            };
            read(&held, b"GET /a HTTP/1.1\r\n\r\n");
            assert!(held.conn().request_begins());
            held.conn().on(Event::ResponseEnds);
            held.conn().on(Event::Flushed(Behind::Nothing));
            let task = thread::spawn(move || {
                read(&held, b"GET /b HTTP/1.1\r\n\r\n");
                thread::yield_now();
                assert!(held.conn().request_begins());
                held
            });
            // loom remembers the last access to each atomic alone, and the connection's task reads its state before
            // it writes it: without the yields it would take each look for independent of what follows.
            for _ in 0..3 {
                match &handle.in_flight()[..] {
                    // Or it was being written.
                    [InFlight::Request { path, .. }] => {
                        assert!(path == "/b" || path == "?", "{path}");
                        SEEN.fetch_add(1, Ordering::Relaxed);
                    }
                    // It has not begun.
                    [InFlight::Connection { doing: Doing::Nothing | Doing::ReadingHead, .. }] => {}
                    other => panic!("{other:?}"),
                }
                thread::yield_now();
            }
            drop(task.join().unwrap());
        });
        assert!(SEEN.load(Ordering::Relaxed) > 0, "in no order was the request under way");
    }

    /// The stream and a task of HTTP/2 hold a connection; each may be the last, also while the table is
    /// walked. It is taken off once, and is not closed before.
    #[test]
    fn loom_the_last_of_several_holders_takes_it_off() {
        loom::model(|| {
            let handle = handle();
            let held = Conn::accepted(&handle, Peer::Unix, None);
            let other = held.clone();
            let holders = [held, other].map(|held| {
                thread::spawn(move || {
                    held.conn().on(Event::SpeaksHttp2);
                    assert_ne!(held.conn().state(), State::Closed);
                })
            });
            handle.shared().work.drain();
            holders.into_iter().for_each(|holder| holder.join().unwrap());
            assert!(handle.shared().work.is_none());
            assert_eq!(handle.shared().work.counts().connections, 0);
        });
    }
}
