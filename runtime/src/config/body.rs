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
    context::as_main,
    serve::BodyKind,
    stop::{Phase, Shared},
    util::poll_catching_panics,
    work::{InFlight, Key, WorkItem, WorkKind},
};

/// Holds the drain until it is dropped: the body runs, or what it has returned is being started.
pub(super) struct BodyGuard {
    shared: Arc<Shared>,
    body: Arc<Body>,
    key: Key,
}

/// The body, as the table of work sees it.
struct Body {
    kind: BodyKind,
    shared: Arc<Shared>,
    started: Instant,
    ended: AtomicBool,
}

impl Body {
    /// Whether it has ever asked for a `Shutdown`, from which it learns of the stop by itself.
    fn has_asked(&self) -> bool {
        self.shared.main_has_asked()
    }
}

impl WorkItem for Body {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        let age = now.saturating_duration_since(self.started);
        let asked = self.kind == BodyKind::StartUp || self.has_asked();
        out.push(InFlight::Main { age, asked });
    }

    fn oldest(&self) -> Option<Instant> {
        Some(self.started)
    }

    fn kind(&self) -> WorkKind {
        WorkKind::Main
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl BodyGuard {
    pub(super) fn new(shared: &Arc<Shared>, kind: BodyKind) -> Self {
        let (started, ended) = (Instant::now(), AtomicBool::new(false));
        let body = Arc::new(Body { kind, shared: shared.clone(), started, ended });
        let key = shared.work.add(body.clone());
        Self { shared: shared.clone(), body, key }
    }

    /// Polls the body to its end. `None`: the stop has dropped it.
    pub(super) async fn run<M: Future>(&self, main: M) -> Option<Result<M::Output, Panic>> {
        let phase = &self.shared.phase;
        let mut main = Box::pin(main);
        let mut changes = pin!(async {
            phase.reached(Phase::Draining).await;
            phase.reached(Phase::Cut).await;
            pending::<()>().await;
        });
        let mut is_ready = self.body.kind == BodyKind::StartUp;
        let returned = poll_fn(|cx| {
            // Before the look: what changes after it wakes this.
            let _ = changes.as_mut().poll(cx);
            if self.is_dropped(phase.now()) {
                return Poll::Ready(None);
            }
            let polled = poll_catching_panics(|| as_main(|| main.as_mut().poll(cx)));
            if polled.is_pending() && !std::mem::replace(&mut is_ready, true) {
                // A program that serves nothing is ready once it runs.
                self.shared.tell_ready("running");
            }
            polled.map(Some)
        })
        .await;
        self.body.ended.store(returned.is_some(), Ordering::Release);
        // What `main` holds may panic when it is dropped, as `main` itself may.
        match catch_unwind(AssertUnwindSafe(|| as_main(|| drop(main)))) {
            Err(panic) if returned.is_none() => Some(Err(panic)),
            _ => returned,
        }
    }

    fn is_dropped(&self, phase: Phase) -> bool {
        let is_told = self.body.kind == BodyKind::Work || self.body.has_asked();
        phase >= if is_told { Phase::Cut } else { Phase::Draining }
    }
}

/// What a panic left.
type Panic = Box<dyn Any + Send>;

impl Drop for BodyGuard {
    fn drop(&mut self) {
        self.shared.work.finished(self.key);
    }
}
