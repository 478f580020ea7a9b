//! The body of `main`: what a stop does to it follows from what it returns.

use std::{
    any::Any,
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Instant,
};

use crate::{
    caught::poll_caught,
    context,
    handle::Handle,
    in_flight::InFlight,
    phase::Phase,
    registry::Key,
    work::{Kind, Piece},
};

/// What the body of `main` is, by its type.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyIs {
    /// A server comes out of it: a stop that comes before drops it.
    StartUp,
    /// It is the program: waited for like any other work.
    Work,
}

/// Holds the drain until it is dropped: the body runs, or what it has returned is being started.
pub(crate) struct BodyGuard {
    handle: Handle,
    body: Arc<Body>,
    key: Key,
}

/// The body, as the table of work sees it.
struct Body {
    is: BodyIs,
    handle: Handle,
    started: Instant,
    ended: AtomicBool,
}

impl Body {
    /// Whether it has ever asked for a `Shutdown`, from which it learns of the stop by itself.
    fn has_asked(&self) -> bool {
        self.handle.shared().main_has_asked()
    }
}

impl Piece for Body {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        let age = now.saturating_duration_since(self.started);
        let asked = self.is == BodyIs::StartUp || self.has_asked();
        out.push(InFlight::Main { age, asked });
    }

    fn kind(&self) -> Kind {
        Kind::Main
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl BodyGuard {
    pub(crate) fn new(handle: &Handle, is: BodyIs) -> Self {
        let (started, ended) = (Instant::now(), AtomicBool::new(false));
        let body = Arc::new(Body { is, handle: handle.clone(), started, ended });
        let key = handle.shared().work.add(body.clone());
        Self { handle: handle.clone(), body, key }
    }

    /// Polls the body to its end. `None`: the stop has dropped it.
    pub(crate) async fn run<M: Future>(&self, main: M) -> Option<Result<M::Output, Panic>> {
        let phase = &self.handle.shared().phase;
        let mut main = Box::pin(main);
        let mut changes = pin!(async {
            phase.reached(Phase::Draining).await;
            phase.reached(Phase::Cut).await;
            pending::<()>().await;
        });
        let returned = poll_fn(|cx| {
            // Before the look: what changes after it wakes this.
            let _ = changes.as_mut().poll(cx);
            if self.is_dropped(phase.now()) {
                return Poll::Ready(None);
            }
            poll_caught(|| context::as_main(|| main.as_mut().poll(cx))).map(Some)
        })
        .await;
        self.body.ended.store(returned.is_some(), Ordering::Release);
        // What `main` holds may panic when it is dropped, as `main` itself may.
        match catch_unwind(AssertUnwindSafe(|| context::as_main(|| drop(main)))) {
            Err(panic) if returned.is_none() => Some(Err(panic)),
            _ => returned,
        }
    }

    fn is_dropped(&self, phase: Phase) -> bool {
        let is_told = self.body.is == BodyIs::Work || self.body.has_asked();
        phase >= if is_told { Phase::Cut } else { Phase::Draining }
    }
}

/// What a panic left.
type Panic = Box<dyn Any + Send>;

impl Drop for BodyGuard {
    fn drop(&mut self) {
        self.handle.shared().finished(self.key, Kind::Main);
    }
}
