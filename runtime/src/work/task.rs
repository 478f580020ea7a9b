//! Tasks that the drain waits for.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
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
use tokio::{
    runtime::Handle as Runtime,
    task::{AbortHandle, JoinHandle},
};

use super::{Key, Work, WorkItem, WorkKind, in_flight::InFlight};
use crate::{
    log::say,
    util::{
        panic_message,
        sync::{Mutex, lock},
    },
};

/// The name of a task in messages and reports.
#[derive(Clone, Debug)]
pub(crate) enum TaskName {
    /// The caller's line, formatted only when it is read.
    Line(&'static Location<'static>),
    Text(Cow<'static, str>),
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(location) => location.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

pub(crate) enum Role {
    Task,
    /// With a count of the clients waiting to be accepted, if available.
    Server(Option<CountWaiting>),
}

/// Counts the clients waiting to be accepted.
pub(crate) type CountWaiting = Box<dyn Fn() -> usize + Send + Sync>;

/// The entry of a tracked future in the table of work.
struct Task {
    name: TaskName,
    role: Role,
    started: Instant,
    /// Whether it ended by itself.
    ended: AtomicBool,
    /// Set right after the spawn. `None` for blocking closures, which cannot be aborted.
    abort: Mutex<Option<AbortHandle>>,
}

impl Task {
    fn in_words(&self, now: Instant) -> InFlight {
        let age = now.saturating_duration_since(self.started);
        let name = self.name.to_string();
        match &self.role {
            Role::Task => InFlight::Task { name, age },
            Role::Server(count) => {
                let waiting = count.as_ref().map_or(0, |count| count());
                InFlight::Server { name, waiting, age }
            }
        }
    }

    fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }
}

impl WorkItem for Task {
    fn describe(&self, now: Instant, out: &mut Vec<InFlight>) {
        out.push(self.in_words(now));
    }

    fn oldest(&self) -> Option<Instant> {
        Some(self.started)
    }

    fn kind(&self) -> WorkKind {
        match self.role {
            Role::Task => WorkKind::Task,
            Role::Server(_) => WorkKind::Server,
        }
    }

    fn has_ended(&self) -> bool {
        // Acquire: pairs with the release in `TaskGuard::ended`, so that its last effects come
        // before the report.
        self.ended.load(Ordering::Acquire)
    }

    fn is_drained(&self) -> bool {
        // Otherwise it was aborted, by the program or by the limit of its group.
        self.has_ended()
    }

    fn cut(&self) {
        if let Some(abort) = &*lock(&self.abort) {
            abort.abort();
        }
    }
}

/// Holds the drain, or the cleanup, until dropped.
pub(crate) struct TaskGuard {
    work: Arc<Work>,
    task: Arc<Task>,
    key: Key,
}

impl TaskGuard {
    pub(crate) fn new(work: &Arc<Work>, role: Role, name: TaskName) -> Self {
        let (ended, abort) = (AtomicBool::new(false), Mutex::new(None));
        let task = Arc::new(Task { name, role, started: Instant::now(), ended, abort });
        let key = work.add(task.clone());
        Self { work: work.clone(), task, key }
    }

    /// Notes that it has ended by itself.
    fn ended(&self) {
        self.task.ended.store(true, Ordering::Release);
    }

    fn log_panic(&self, panic: &(dyn Any + Send)) {
        if !self.task.is_server() {
            let (task, message) = (self.task.name.to_string(), panic_message(panic));
            say!(
                self.work.log(), error, { task = task.clone(), panic = message.clone() },
                "task {task} panicked: {message}"
            );
        }
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if !self.task.is_server() && self.task.has_ended() {
            self.work.piece_finished(|| self.task.in_words(Instant::now()));
        }
        self.work.finished(self.key);
    }
}

/// Spawns `future` with `spawner`, so that `work` waits for it and the cut aborts it. Also returns
/// its entry in the table.
pub(crate) fn spawn<F, T>(
    work: &Arc<Work>,
    role: Role,
    name: TaskName,
    future: F,
    spawner: impl FnOnce(TrackedTask<F>) -> JoinHandle<T>,
) -> (JoinHandle<T>, Arc<dyn WorkItem>)
where
    F: Future,
{
    let guard = TaskGuard::new(work, role, name);
    let task = guard.task.clone();
    let join = spawner(TrackedTask { future, guard });
    *lock(&task.abort) = Some(join.abort_handle());
    // The cut walks the table once. Either it finds the abort handle, or it took this lock first,
    // and then the phase is visible here.
    if work.is_sealed() {
        join.abort();
    }
    (join, task)
}

/// Runs `f` on a blocking thread of `runtime`. `work` waits for it, and nothing can abort it.
pub(crate) fn spawn_blocking<F, T>(
    work: &Arc<Work>,
    runtime: &Runtime,
    name: TaskName,
    f: F,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let guard = TaskGuard::new(work, Role::Task, name);
    if work.is_sealed() {
        // Once begun, it cannot be aborted, and it would be cut without being named.
        let never = runtime.spawn(std::future::pending());
        never.abort();
        return never;
    }
    let join = runtime.spawn_blocking(move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        guard.ended();
        result.unwrap_or_else(|panic| {
            guard.log_panic(&*panic);
            resume_unwind(panic)
        })
    });
    if work.is_sealed() {
        // Takes effect only if it has not begun yet.
        join.abort();
    }
    join
}

pin_project! {
    /// A future that the drain waits for.
    pub(crate) struct TrackedTask<F> {
        // Dropped before the guard, so that everything it owns is gone when the drain stops
        // waiting.
        #[pin]
        future: F,
        guard: TaskGuard,
    }
}

impl<F: Future> Future for TrackedTask<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if this.guard.work.is_sealed() {
            // It is being aborted. A future that has not begun must not begin now: it would be cut
            // without being named.
            return Poll::Pending;
        }
        let result = catch_unwind(AssertUnwindSafe(|| this.future.poll(cx)));
        if !matches!(result, Ok(Poll::Pending)) {
            this.guard.ended();
        }
        result.unwrap_or_else(|panic| {
            // Logged here, because the handle may never be awaited, and resumed in case it is.
            this.guard.log_panic(&*panic);
            resume_unwind(panic)
        })
    }
}
