//! Tasks that the drain waits for.

use std::{
    any::Any,
    borrow::Cow,
    future::Future,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;
use tokio::task::{AbortHandle, JoinHandle};

use crate::{
    context::{self, InContext, Place},
    handle::Handle,
    in_flight::InFlight,
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
}

/// A tracked future, as the table of work sees it.
struct Task {
    name: Name,
    role: Role,
    started: Instant,
    /// Whether it came to its end by itself.
    ended: AtomicBool,
    /// Set right after the spawn. `None` for what cannot be aborted: blocking closures.
    abort: Mutex<Option<AbortHandle>>,
}

impl Piece for Task {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        let age = now.saturating_duration_since(self.started);
        let name = self.name.to_string();
        out.push(match self.role {
            Role::Task => InFlight::Task { name, age },
            Role::Server => InFlight::Server { name, age },
        });
    }

    fn kind(&self) -> Kind {
        match self.role {
            Role::Task => Kind::Task,
            Role::Server => Kind::Server,
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn cut(&self) {
        if let Some(abort) = &*lock(&self.abort) {
            abort.abort();
        }
    }
}

/// Holds the drain, or the cleanup, until it is dropped.
pub(crate) struct TaskGuard {
    handle: Handle,
    task: Arc<Task>,
    place: Place,
    key: Key,
}

impl TaskGuard {
    pub(crate) fn new(handle: &Handle, role: Role, name: Name) -> Self {
        let (ended, abort) = (AtomicBool::new(false), Mutex::new(None));
        let task = Arc::new(Task { name, role, started: Instant::now(), ended, abort });
        let place = context::place();
        let key = handle.shared().work_of(place).add(task.clone());
        Self { handle: handle.clone(), task, place, key }
    }

    fn is_cut(&self) -> bool {
        self.handle.shared().is_cut(self.place)
    }

    /// It has come to its end by itself.
    fn ended(&self) {
        self.task.ended.store(true, Ordering::Release);
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let shared = self.handle.shared();
        match self.place {
            Place::Program => shared.finished(self.key, self.task.kind()),
            Place::Cleanup => shared.cleanup.work.remove(self.key),
        }
    }
}

/// Spawns `future` so that the drain waits for it and the cut aborts it.
pub(crate) fn spawn<F>(handle: &Handle, role: Role, name: Name, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let guard = TaskGuard::new(handle, role, name);
    let (task, place) = (guard.task.clone(), guard.place);
    let future = InContext::new(handle, Tracked { future, guard });
    let join = handle.runtime_of(place).spawn(future);
    *lock(&task.abort) = Some(join.abort_handle());
    // The cut walks the table once. Either it finds the abort handle, or its walk took this lock
    // first, and then the phase is visible here.
    if handle.shared().is_cut(place) {
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
    let place = guard.place;
    if guard.is_cut() {
        // Nothing can abort it once it has begun, and it would be cut without a name.
        let never = handle.runtime_of(place).spawn(std::future::pending());
        never.abort();
        return never;
    }
    let join = handle.runtime_of(place).spawn_blocking(move || {
        let _entered = context::enter(guard.handle.clone());
        let result = catch_unwind(AssertUnwindSafe(f));
        guard.ended();
        result.unwrap_or_else(|panic| {
            guard.log_panic(&*panic);
            resume_unwind(panic)
        })
    });
    if handle.shared().is_cut(place) {
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
        if this.guard.is_cut() {
            // Aborted in this moment. What has not begun does not begin: it would be cut without a name.
            return Poll::Pending;
        }
        let result = catch_unwind(AssertUnwindSafe(|| this.future.poll(cx)));
        if !matches!(result, Ok(Poll::Pending)) {
            this.guard.ended();
        }
        result.unwrap_or_else(|panic| {
            // Said here, because nobody may ever await the handle; and passed on to whoever does.
            this.guard.log_panic(&*panic);
            resume_unwind(panic)
        })
    }
}

/// What a panic said, in one line.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without a message");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
