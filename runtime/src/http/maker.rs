//! From an accepted stream to the task of its connection.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    conn::HttpConn,
    io::Io,
    options::Options,
    service::{Service, SingleService},
    state::Event,
    task::ConnTask,
};
use crate::{
    context::InContext,
    net::{Accepted, ConnGuard, ConnectInfo, GuardedConn, MakeConnection, Stream, before_protocol},
    stop::Shared,
    util::{
        Sealed,
        sync::{Mutex, lock},
    },
};

/// What makes connections, once the context and the options are known.
#[doc(hidden)]
pub struct Maker(
    pub(super) Box<dyn FnOnce(Arc<Shared>, Options) -> Arc<dyn MakeConnection> + Send>,
);

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").finish_non_exhaustive()
    }
}

impl Maker {
    /// Each connection has a clone of `service`.
    pub(super) fn cloning<S: Service>(service: S) -> Self {
        Self(Box::new(|shared, options| {
            Arc::new(Cloning { shared, options: Arc::new(options), service: Mutex::new(service) })
        }))
    }

    /// Each connection has a service of its own, which `make` makes.
    pub(super) fn making<M, Via>(make: M) -> Self
    where
        M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
        M: Clone + Send + 'static,
        Via: 'static,
    {
        Self(Box::new(|shared, options| {
            let make = Mutex::new(make);
            let via = std::marker::PhantomData::<fn() -> Via>;
            Arc::new(Making { shared, options: Arc::new(options), make, via })
        }))
    }
}

/// Locked for each connection, to be cloned: so what is cloned need not be `Sync`. A panic is told
/// by the panic hook, and costs this connection; the next is another try.
fn clone_of<T: Clone>(value: &Mutex<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| lock(value).clone())).ok()
}

struct Cloning<S> {
    shared: Arc<Shared>,
    options: Arc<Options>,
    service: Mutex<S>,
}

impl<S: Service> MakeConnection for Cloning<S> {
    fn make(&self, accepted: Accepted) {
        let (stream, guard) = begin(&self.shared, accepted);
        let Some(service) = clone_of(&self.service) else {
            return;
        };
        if self.options.preamble.is_empty() {
            let info = self.options.info(&stream, &guard);
            let mut task = ConnTask::new(Io::new(stream, guard), service, &self.options, info);
            return spawn(&self.shared, poll_fn(move |cx| task.poll(cx)));
        }
        let options = self.options.clone();
        spawn(&self.shared, async move {
            let Some(stream) = options.shake(stream, &guard).await else {
                return;
            };
            let info = options.info(&stream, &guard);
            let mut task = ConnTask::new(Io::new(stream, guard), service, &options, info);
            poll_fn(|cx| task.poll(cx)).await;
        });
    }
}

struct Making<M, Via> {
    shared: Arc<Shared>,
    options: Arc<Options>,
    make: Mutex<M>,
    via: std::marker::PhantomData<fn() -> Via>,
}

impl<M, Via> MakeConnection for Making<M, Via>
where
    M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
    M: Clone + Send + 'static,
    Via: 'static,
{
    fn make(&self, accepted: Accepted) {
        let (stream, guard) = begin(&self.shared, accepted);
        let Some(mut make) = clone_of(&self.make) else {
            return;
        };
        let options = self.options.clone();
        spawn(&self.shared, async move {
            let Some(stream) = options.shake(stream, &guard).await else {
                return;
            };
            let info = ConnectInfo::of(&stream, guard.conn().core());
            // An error of either costs the connection: there is no service to answer with. It may take as
            // long as a handshake.
            let making = async {
                poll_fn(|cx| make.poll_ready(cx)).await.ok()?;
                make.call(info.clone()).await.ok()
            };
            let core = guard.conn().core();
            let limit = options.header_timeout;
            let Some(service) = before_protocol(core, limit, making).await else {
                return;
            };
            drop(make);
            guard.conn().on(Event::Shaken);
            let info = options.connect_info.then_some(info);
            let service = service.into_service(Sealed);
            let mut task = ConnTask::new(Io::new(stream, guard), service, &options, info);
            poll_fn(|cx| task.poll(cx)).await;
        });
    }
}

/// A connection that is counted and listed from here on.
fn begin(shared: &Arc<Shared>, accepted: Accepted) -> (Stream, ConnGuard<HttpConn>) {
    let Accepted { stream, peer, kernel, slot } = accepted;
    (stream, HttpConn::accepted(shared, peer, kernel, slot))
}

impl Options {
    /// What comes before HTTP. `None`: the connection has come to nothing.
    async fn shake(&self, stream: Stream, guard: &ConnGuard<HttpConn>) -> Option<Stream> {
        let conn = guard.conn();
        let stream = self.preamble.shake(conn.core(), stream, self.header_timeout).await?;
        // From here on as a connection that has just been accepted.
        conn.on(Event::Shaken);
        Some(stream)
    }

    fn info(&self, stream: &Stream, guard: &ConnGuard<HttpConn>) -> Option<ConnectInfo> {
        self.connect_info.then(|| ConnectInfo::of(stream, guard.conn().core()))
    }
}

fn spawn(shared: &Arc<Shared>, task: impl Future<Output = ()> + Send + 'static) {
    shared.runtime().spawn(InContext::new(shared, task));
}
