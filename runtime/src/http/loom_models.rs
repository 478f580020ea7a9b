//! The life of a connection against drain and cut, in every order, on the real types.
//!
//! loom remembers only the last access to each atomic: if a thread reads one and then writes it, a
//! look from another thread is considered independent of the write. Such a model needs
//! `thread::yield_now()` between its steps, and has to check that it has seen the case it is about.

use loom::{future::block_on, thread};
use std::{future::poll_fn, sync::Arc, task::Poll, time::Instant};

use super::{
    conn::HttpConn,
    framing::Framing,
    state::{Behind, ConnEvent, ConnState},
};
use crate::{
    context::Handle,
    net::{ConnGuard, GuardedConn},
    stop::{Limits, Phase},
    util::Peer,
    work::{ConnectionState, InFlight, WorkItem, WorkKind},
};

fn handle() -> Handle {
    Handle::for_test(Limits::NONE)
}

fn accepted(handle: &Handle) -> ConnGuard<HttpConn> {
    HttpConn::accepted(handle.shared(), Peer::Unix, None, None, None)
}

/// Stands in for a connection's task: ends when it sees `last`.
fn run_until(last: Phase, guard: ConnGuard<HttpConn>) {
    let conn = guard.conn().clone();
    block_on(poll_fn(|cx| {
        conn.core().register(cx.waker());
        if conn.phase() >= last { Poll::Ready(()) } else { Poll::Pending }
    }));
    drop(guard);
    assert_eq!(conn.state(), ConnState::Closed);
}

/// The accept loop, as far as the table is concerned.
struct Accepting;

impl WorkItem for Accepting {
    fn describe(&self, _: std::time::Instant, _: &mut Vec<InFlight>) {}
    fn oldest(&self) -> Option<Instant> {
        None
    }

    fn kind(&self) -> WorkKind {
        WorkKind::Server
    }
    fn has_ended(&self) -> bool {
        false
    }
}

/// A connection is accepted while the drain starts, and ends as soon as it notices; so does the
/// accept loop. The drain is over when both have ended, in either order.
#[test]
fn loom_accept_and_finish_against_drain_start() {
    loom::model(|| {
        let handle = handle();
        let accept_loop = handle.shared().work.add(Arc::new(Accepting));
        let accept = {
            let handle = handle.clone();
            thread::spawn(move || {
                let guard = accepted(&handle);
                let task = thread::spawn(move || run_until(Phase::Draining, guard));
                handle.shared().work.finished(accept_loop);
                task.join().unwrap();
            })
        };
        let shared = handle.shared();
        shared.phase.advance(Phase::Draining);
        shared.work.wake();
        block_on(shared.work.none());
        accept.join().unwrap();
        assert!(shared.work.is_none());
    });
}

/// A connection is accepted at any point of drain and cut, and would never end by itself; the cut
/// ends it.
#[test]
fn loom_accept_against_drain_and_cut() {
    loom::model(|| {
        let handle = handle();
        let task = {
            let handle = handle.clone();
            thread::spawn(move || run_until(Phase::Cut, accepted(&handle)))
        };
        let shared = handle.shared();
        shared.phase.advance(Phase::Draining);
        shared.work.wake();
        shared.phase.advance(Phase::Cut);
        shared.work.cut();
        task.join().unwrap();
        assert!(shared.work.is_none());
    });
}

/// The report is made while a request begins on a connection that has answered one before.
#[test]
fn loom_a_request_is_never_called_by_the_name_of_the_one_before() {
    // From std, because it counts over all orders.
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    loom::model(|| {
        let handle = handle();
        let guard = accepted(&handle);
        let mut framing = Framing::new();
        let mut read = move |guard: &ConnGuard<HttpConn>, bytes: &[u8]| {
            let summary = framing.read(bytes, guard.conn().calls());
            guard.conn().bytes_read(summary, bytes);
        };
        read(&guard, b"GET /a HTTP/1.1\r\n\r\n");
        assert!(guard.conn().request_begins());
        guard.conn().on(ConnEvent::ResponseEnds);
        guard.conn().on(ConnEvent::Flushed(Behind::Nothing));
        let task = thread::spawn(move || {
            read(&guard, b"GET /b HTTP/1.1\r\n\r\n");
            thread::yield_now();
            assert!(guard.conn().request_begins());
            guard
        });
        // Without the yields, loom would consider each look independent of what follows: see the
        // module's comment.
        for _ in 0..3 {
            match &handle.in_flight()[..] {
                [InFlight::Request { path, .. }] => {
                    assert_eq!(path, "/b");
                    SEEN.fetch_add(1, Ordering::Relaxed);
                }
                // The request has not begun.
                [
                    InFlight::Connection {
                        state: ConnectionState::Nothing | ConnectionState::ReadingHead,
                        ..
                    },
                ] => {}
                other => panic!("{other:?}"),
            }
            thread::yield_now();
        }
        drop(task.join().unwrap());
    });
    assert!(SEEN.load(Ordering::Relaxed) > 0, "in no order was the request under way");
}

/// hyper takes over a connection while the last sweep passes it: either that sweep sees it, or
/// another one is due.
#[test]
fn loom_a_connection_that_begins_to_speak_is_swept() {
    loom::model(|| {
        let handle = handle();
        let guard = accepted(&handle);
        let work = handle.shared().work.clone();
        // A sweep is under way.
        work.begin_sweep();
        let speaking = thread::spawn(move || {
            guard.conn().speaks();
            guard
        });
        let seen = work.sweep_once(|_| false);
        let guard = speaking.join().unwrap();
        assert!(seen || work.is_sweep_due(), "it is never parked");
        drop(guard);
    });
}

/// The stream and an HTTP/2 task both hold a connection; either may be the last, even while the
/// table is walked. The connection is removed once, and is not closed before.
#[test]
fn loom_the_last_of_several_holders_takes_it_off() {
    loom::model(|| {
        let handle = handle();
        let guard = accepted(&handle);
        let other = guard.clone();
        let holders = [guard, other].map(|guard| {
            thread::spawn(move || {
                guard.conn().on(ConnEvent::SpeaksHttp2);
                assert_ne!(guard.conn().state(), ConnState::Closed);
            })
        });
        handle.shared().work.wake();
        holders.into_iter().for_each(|holder| holder.join().unwrap());
        assert!(handle.shared().work.is_none());
        assert_eq!(handle.shared().work.counts().connections(), 0);
    });
}
