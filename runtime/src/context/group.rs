//! Groups of tasks that stop one after another.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tokio::{sync::watch, task::JoinHandle};

use super::current;
use crate::{
    stop::{Members, OrderedStop, Shared, bounded},
    util::{
        sync::{Mutex, lock},
        within,
    },
    work::{TaskName, WorkItem},
};

/// A group of tasks that the drain waits for, like those of [`spawn`](crate::spawn), and of servers
/// ([`Serve::in_group`](crate::Serve::in_group)), that stop together, when it is the group's turn:
/// the group created last stops first.
///
/// A group that others need is created first, so it keeps running until they have ended: a consumer
/// that passes its work to a producer stops before the producer. The tasks of a group wait for
/// [`shutdown`](Self::shutdown) instead of [`graceful::shutdown`](crate::shutdown()), which
/// resolves for all of them at once. If a group takes longer than its [`limit`](Self::limit), it is
/// cut and named, and it is the next group's turn.
///
/// The group is also a handle to its tasks: to abort them all ([`abort_all`](Self::abort_all)), and
/// to [wait](Self::join_all) for their end. It is cheap to clone; dropping it does not affect its
/// tasks.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # #[graceful::main]
/// # async fn main() {
/// // Made first: stops last.
/// let writers = graceful::TaskGroup::new("writers");
/// let readers = graceful::TaskGroup::new("readers").limit(Duration::from_secs(5));
/// let (to_writer, mut jobs) = tokio::sync::mpsc::channel::<u32>(8);
/// writers.spawn(async move { while let Some(_job) = jobs.recv().await {} });
/// let shutdown = readers.shutdown();
/// readers.spawn(async move {
///     to_writer.send(1).await.unwrap();
///     shutdown.await;
/// });
/// # graceful::stop();
/// # }
/// ```
#[derive(Clone)]
pub struct TaskGroup(Arc<Group>);

struct Group {
    shared: Arc<Shared>,
    name: Cow<'static, str>,
    limit: Mutex<Option<Duration>>,
    told: watch::Sender<bool>,
    tasks: Mutex<Tasks>,
    /// The number of tasks, servers and connections.
    count: watch::Sender<usize>,
    /// The contexts of its servers.
    servers: Mutex<Vec<Weak<Shared>>>,
}

#[derive(Default)]
struct Tasks {
    /// The latest number; numbers are never reused.
    next: u64,
    /// `None` for a task that is about to be spawned.
    running: HashMap<u64, Option<Arc<dyn WorkItem>>>,
}

impl TaskGroup {
    /// Creates an empty group, which stops before all existing groups. In messages, `name` precedes
    /// the names of its tasks.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a context, like [`Handle::current`](crate::Handle::current).
    #[track_caller]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self::with(current::expect_current().program().clone(), name.into())
    }

    pub(super) fn with(shared: Arc<Shared>, name: Cow<'static, str>) -> Self {
        let group = Arc::new(Group {
            shared,
            name,
            limit: Mutex::new(None),
            told: watch::Sender::new(false),
            tasks: Mutex::default(),
            count: watch::Sender::new(0),
            servers: Mutex::default(),
        });
        group.shared.add_turn(&group);
        Self(group)
    }

    /// Sets how long the tasks may take once it is their turn; `None` means no limit other than
    /// that of the drain. Default: `None`. Tasks that it cuts are named like those that the drain's
    /// `timeout` cuts, with the exit code 124.
    #[must_use = "returns the group, for a chain of calls"]
    pub fn limit(self, limit: impl Into<Option<Duration>>) -> Self {
        *lock(&self.0.limit) = limit.into().map(bounded);
        self
    }

    /// Returns a future that resolves when it is the group's turn to stop.
    ///
    /// # Cancel safety
    ///
    /// The returned future is cancel safe.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.0.told.subscribe();
        async move {
            // An error means that the group is gone, so there is nothing left to stop.
            let _ = told.wait_for(|told| *told).await;
        }
    }

    /// Spawns a task of this group. Messages name it by the line of this call.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_as(&Location::caller(), future)
    }

    /// Like [`spawn`](Self::spawn), with a name for messages.
    pub fn spawn_named<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_as(&name.into(), future)
    }

    fn spawn_as<F>(&self, name: &dyn fmt::Display, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let group = &self.0;
        let name = TaskName::Text(format!("{}: {name}", group.name).into());
        let number = group.add_task();
        let member = Member { group: group.clone(), number };
        let (join, item) = current::spawn(&group.shared, name, InGroup { future, member });
        // It may have ended already.
        if let Some(place) = lock(&group.tasks).running.get_mut(&number) {
            *place = Some(item);
        }
        join
    }

    /// Creates the context of a server of this group.
    pub(crate) fn server(&self) -> Arc<Shared> {
        let server = self.0.shared.in_group(self.0.clone());
        lock(&self.0.servers).push(Arc::downgrade(&server));
        if *self.0.told.borrow() {
            server.begin_turn();
        }
        server
    }

    /// Returns the number of tasks that have not ended, and of servers and their connections.
    #[must_use]
    pub fn len(&self) -> usize {
        *self.0.count.borrow()
    }

    /// Returns whether all of these have ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Aborts all tasks, but no servers, as [`JoinHandle::abort`] does. Reports do not name them.
    pub fn abort_all(&self) {
        for item in self.0.items() {
            item.cut();
        }
    }

    /// Waits until all tasks, servers and connections of the group have ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn join_all(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self.0.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Members for Group {
    fn enter(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    fn leave(&self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

impl Group {
    fn servers(&self) -> Vec<Arc<Shared>> {
        lock(&self.servers).iter().filter_map(Weak::upgrade).collect()
    }

    fn add_task(&self) -> u64 {
        self.enter();
        let mut tasks = lock(&self.tasks);
        tasks.next += 1;
        let number = tasks.next;
        tasks.running.insert(number, None);
        number
    }

    fn items(&self) -> Vec<Arc<dyn WorkItem>> {
        lock(&self.tasks).running.values().flatten().cloned().collect()
    }
}

impl OrderedStop for Group {
    fn begin(&self) {
        self.told.send_replace(true);
        for server in self.servers() {
            server.begin_turn();
        }
    }

    fn over(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let limit = *lock(&self.limit);
            let group = TaskGroup(self);
            if within(limit, group.join_all()).await.is_some() {
                return;
            }
            let (mut items, now) = (group.0.items(), Instant::now());
            for server in group.0.servers() {
                items.extend(server.work.of_context(server.address()));
                server.cut_turn();
            }
            let mut cut = Vec::new();
            for item in &items {
                item.describe(now, &mut cut);
                item.cut();
            }
            cut.retain(|work| !work.is_idle());
            group.0.shared.turns.note_cut(cut);
        })
    }
}

/// The membership of a task in its group.
struct Member {
    group: Arc<Group>,
    number: u64,
}

impl Drop for Member {
    fn drop(&mut self) {
        let item = lock(&self.group.tasks).running.remove(&self.number);
        // Dropped outside of the lock.
        drop(item);
        self.group.leave();
    }
}

pin_project! {
    struct InGroup<F> {
        #[pin]
        future: F,
        // Declared last, so that it is dropped after the future.
        member: Member,
    }
}

impl<F: Future> Future for InGroup<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("name", &self.0.name)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
