//! When a connection of `listen` may go: the drain has begun, and the client has nothing on its way.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use super::{
    clock::Timer,
    closing::TICK,
    conn::GuardedConn,
    connection::RawConn,
    delivery::{ConnDrain, KernelView},
};
use crate::{
    context::{Handle, Shutdown},
    stop::Phase,
};

/// How long the rest of a record may take, of which a part has been read.
const PARTIAL_GRACE: Duration = Duration::from_secs(1);

/// A future that resolves once the drain has started and the client has been silent for the `linger`;
/// made by [`Connection::idle_shutdown`](crate::Connection::idle_shutdown).
///
/// It is `'static` and `Unpin`, and may be polled again after it has resolved.
///
/// # Cancel safety
///
/// Cancel safe: it holds nothing but its wait.
#[must_use = "futures do nothing unless polled"]
pub struct IdleShutdown {
    conn: Arc<RawConn>,
    /// The local address, by which the kernel is asked about the connection.
    local: Option<SocketAddr>,
    shutdown: Shutdown,
    drain: Option<ConnDrain>,
    timer: Timer,
    /// Since when the reader has been asked to look once more, and what the latest activity was then.
    last_look: Option<(Instant, Instant)>,
}

impl IdleShutdown {
    pub(super) fn new(conn: Arc<RawConn>, local: Option<SocketAddr>) -> Self {
        let shutdown = Handle::of(conn.core().shared()).shutdown();
        Self { conn, local, shutdown, drain: None, timer: Timer::default(), last_look: None }
    }

    /// What the kernel knows of the connection.
    fn view(&mut self, active: Instant, now: Instant) -> KernelView {
        let (core, local) = (self.conn.core(), self.local);
        let drain = self.drain.get_or_insert_with(|| ConnDrain::new(now));
        match drain.view {
            Some(view) => view,
            None => drain.ask(core, active, false, || local),
        }
    }

    /// The next answer is about this connection alone, and as of then.
    fn forget_view(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.closes(self.local);
        }
    }

    /// When the client will have been silent for long enough, as it sees it.
    fn deadline(&self, active: Instant, view: &KernelView) -> Instant {
        let linger = self.conn.core().shared().limits.linger;
        let silent = if self.conn.has_read() {
            let seen = [Some(active + view.round_trip), view.last_ack, view.last_unread];
            seen.into_iter().flatten().max().unwrap_or(active) + linger
        } else {
            // As many round trips more as a TLS handshake takes.
            active + linger + 2 * view.round_trip
        };
        let partial = self.conn.core().partial_since().map(|since| since + PARTIAL_GRACE);
        partial.map_or(silent, |partial| partial.max(silent))
    }
}

impl Future for IdleShutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(Pin::new(&mut self.shutdown).poll(cx));
        let this = &mut *self;
        let mut has_asked = false;
        loop {
            if this.conn.core().phase() >= Phase::Cut {
                return Poll::Ready(());
            }
            let (active, now) = (this.conn.active(), Instant::now());
            let view = this.view(active, now);
            let deadline = if view.is_open() || view.unread {
                view.at + view.round_trip.max(TICK)
            } else {
                this.deadline(active, &view)
            };
            if !this.timer.has_passed(deadline, cx) {
                return Poll::Pending;
            }
            // Something may have come, or have been acknowledged, since the kernel was asked. Once: a
            // clock that is paused (`tokio::time::pause`) goes ahead of the kernel's.
            if view.at < deadline && !has_asked {
                has_asked = true;
                this.forget_view();
                continue;
            }
            // The kernel does not say of every socket whether something has come: the reader finds out.
            match this.last_look {
                Some((asked, before)) if before == active => {
                    if this.timer.has_passed(asked + TICK, cx) {
                        return Poll::Ready(());
                    }
                }
                Some(_) | None => {
                    this.last_look = Some((now, active));
                    has_asked = false;
                    this.forget_view();
                    this.conn.core().wake_all();
                    if this.timer.has_passed(now + TICK, cx) {
                        continue;
                    }
                }
            }
            return Poll::Pending;
        }
    }
}

impl Clone for IdleShutdown {
    fn clone(&self) -> Self {
        Self::new(self.conn.clone(), self.local)
    }
}

impl fmt::Debug for IdleShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleShutdown").field("shutdown", &self.shutdown).finish_non_exhaustive()
    }
}
