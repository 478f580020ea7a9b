//! The steps before a server's protocol: the PROXY header, then TLS or another layer.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    acceptor::AnyAcceptor, clock::Timer, conn::ConnCore, stream::Stream, stream::Transport,
};
use crate::{
    stop::{Phase, Shared},
    util::race,
};

/// How long a handshake holds the drain.
const GRACE: Duration = Duration::from_secs(1);

/// How often to check whether clients are still being served while a handshake is late.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs a step before the protocol, within `limit` of the accept. The drain waits one second for
/// it; after that, it may continue as long as other clients are being served. Returns `None` if the
/// connection is to be dropped.
pub(crate) async fn before_protocol<T>(
    core: &ConnCore,
    limit: Option<Duration>,
    shaking: impl Future<Output = Option<T>>,
) -> Option<T> {
    core.set_in_handshake(true);
    let mut shaking = pin!(shaking);
    let mut timer = Timer::default();
    let mut not_awaited = None;
    let shaken = poll_fn(|cx| {
        // Register before looking, so that no change slips in between.
        core.register(cx.waker());
        if core.phase() >= Phase::Cut {
            return Poll::Ready(None);
        }
        if let Poll::Ready(shaken) = shaking.as_mut().poll(cx) {
            return Poll::Ready(shaken);
        }
        let accepted = core.accepted_at();
        let draining = core.shared().drain_started.get();
        let grace = draining.map(|&draining: &Instant| draining.max(accepted) + GRACE);
        if not_awaited.is_none() && grace.is_some_and(|grace| timer.has_passed(grace, cx)) {
            core.set_late(true);
            not_awaited = Some((core.shared().work.not_awaited(), core.shared().on_leave()));
            watch_late(core.shared());
        }
        if not_awaited.is_some() && core.shared().work.has_ended_late() {
            return Poll::Ready(None);
        }
        match limit.map(|limit| accepted + limit) {
            Some(deadline) if timer.has_passed(deadline, cx) => Poll::Ready(None),
            Some(_) | None => Poll::Pending,
        }
    })
    .await;
    core.set_in_handshake(false);
    if not_awaited.take().is_some() {
        if core.phase() >= Phase::Cleanup {
            return None;
        }
        core.set_late(false);
    }
    shaken
}

/// Ends late handshakes once nobody is being served. They hold the service, so anyone waiting for
/// it to be dropped, such as the receiver of a channel whose sender it owns, would otherwise wait
/// for a client that may never come.
fn watch_late(shared: &Arc<Shared>) {
    if !shared.work.begins_to_be_late() {
        return;
    }
    let watched = shared.clone();
    shared.spawn_quietly(async move {
        race(watched.phase.reached(Phase::Cut), nobody_is_served(&watched)).await;
        watched.work.end_late();
    });
}

/// Resolves when only late connections are left.
pub(super) async fn nobody_is_served(shared: &Shared) {
    while shared.work.is_serving() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The steps that every connection of a server begins with.
#[derive(Clone, Default)]
pub(crate) struct Preamble {
    #[cfg(feature = "proxy-protocol")]
    pub(crate) proxy_protocol: bool,
    pub(crate) acceptor: Option<Arc<dyn AnyAcceptor>>,
}

impl Preamble {
    /// Whether there are no such steps.
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "proxy-protocol")]
        if self.proxy_protocol {
            return false;
        }
        self.acceptor.is_none()
    }

    /// Performs the handshake within the bounds of `before_protocol`. Returns `None` if the
    /// connection is to be dropped.
    pub(crate) async fn handshake(
        &self,
        core: &ConnCore,
        stream: Stream,
        limit: Option<Duration>,
    ) -> Option<Stream> {
        let transport = match stream {
            Stream::Tcp(_) | Stream::Unix(_) if !self.is_empty() => Transport::new(stream),
            stream => return Some(stream),
        };
        before_protocol(core, limit, self.shake_unbounded(core, transport)).await
    }

    #[cfg_attr(not(feature = "proxy-protocol"), allow(unused_mut, unused_variables))]
    async fn shake_unbounded(&self, core: &ConnCore, mut transport: Transport) -> Option<Stream> {
        #[cfg(feature = "proxy-protocol")]
        if self.proxy_protocol
            && let Some(ends) = super::proxy_header::read(&mut transport).await.ok()?
        {
            core.set_proxied(ends);
        }
        match &self.acceptor {
            None => Some(transport.into_socket()),
            // Handshake errors are the client's problem: port scanners, old browsers.
            Some(acceptor) => acceptor.clone().accept(transport).await.ok().map(Stream::Layered),
        }
    }
}

impl std::fmt::Debug for Preamble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preamble")
            .field("acceptor", &self.acceptor.is_some())
            .finish_non_exhaustive()
    }
}
