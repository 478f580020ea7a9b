//! Tasks that the drain waits for.

use std::{
    any::Any,
    borrow::Cow,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::task::{AbortHandle, JoinHandle};

use crate::{
    context::{self, InContext},
    handle::Handle,
    in_flight::InFlight,
    phase::Phase,
    registry::Key,
    sync::{Mutex, lock},
    work::{Kind, Piece},
};

/// What a task is called in messages and reports.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// The caller's line: kept as it is, made text only when somebody reads it.
    Line(&'static Location<'static>),
    Text(Cow<'static, str>),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(location) => location.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What kind of future this is the table's entry of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Task,
    Server,
    Main,
}

/// A tracked future, as the table of work sees it.
struct Task {
    name: Name,
    role: Role,
    started: Instant,
    /// Set right after the spawn. `None` for what cannot be aborted: `main`, blocking closures.
    abort: Mutex<Option<AbortHandle>>,
}

impl Piece for Task {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        let age = now.saturating_duration_since(self.started);
        let name = self.name.to_string();
        out.push(match self.role {
            Role::Task => InFlight::Task { name, age },
            Role::Server => InFlight::Server { name, age },
            Role::Main => InFlight::Main { age },
        });
    }

    fn kind(&self) -> Kind {
        match self.role {
            Role::Task => Kind::Task,
            Role::Server | Role::Main => Kind::Other,
        }
    }

    fn cut(&self) {
        if let Some(abort) = &*lock(&self.abort) {
            abort.abort();
        }
    }
}

/// Holds the drain until it is dropped.
pub(crate) struct TaskGuard {
    handle: Handle,
    task: Arc<Task>,
    key: Key,
}

impl TaskGuard {
    pub(crate) fn new(handle: &Handle, role: Role, name: Name) -> Self {
        let task = Arc::new(Task { name, role, started: Instant::now(), abort: Mutex::new(None) });
        let key = handle.shared().work.add(task.clone());
        Self { handle: handle.clone(), task, key }
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let kind = self.task.kind();
        self.handle.shared().finished(self.key, kind);
    }
}

/// Spawns `future` so that the drain waits for it and the cut aborts it.
pub(crate) fn spawn<F>(handle: &Handle, role: Role, name: Name, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let guard = TaskGuard::new(handle, role, name);
    let task = guard.task.clone();
    let join = handle.runtime().spawn(InContext::new(handle, Tracked { future, guard }));
    *lock(&task.abort) = Some(join.abort_handle());
    // The cut walks the table once. Either it finds the abort handle, or its walk took this lock
    // first, and then the phase is visible here.
    if handle.shared().phase.now() >= Phase::Cut {
        join.abort();
    }
    join
}

/// Runs `f` on a blocking thread; the drain waits for it, nothing can abort it.
pub(crate) fn spawn_blocking<F, T>(handle: &Handle, name: Name, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let guard = TaskGuard::new(handle, Role::Task, name);
    let join = handle.runtime().spawn_blocking(move || {
        let _entered = context::enter(guard.handle.clone());
        catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
            guard.log_panic(&*panic);
            resume_unwind(panic)
        })
    });
    if handle.shared().phase.now() >= Phase::Cut {
        // In time, if it has not begun yet.
        join.abort();
    }
    join
}

impl TaskGuard {
    fn log_panic(&self, panic: &(dyn Any + Send)) {
        if self.task.role == Role::Task {
            let name = self.task.name.to_string();
            self.handle.shared().log.task_panicked(&name, &message_of(panic));
        }
    }
}

pin_project! {
    struct Tracked<F> {
        // Dropped before the guard: what the future owns is gone when the drain stops waiting.
        #[pin]
        future: F,
        guard: TaskGuard,
    }
}

impl<F: Future> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))).unwrap_or_else(|panic| {
            // Said here, because nobody may ever await the handle; and passed on to whoever does.
            this.guard.log_panic(&*panic);
            resume_unwind(panic)
        })
    }
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
