//! From an accepted stream to the handler of the program.

use std::{future::Future, sync::Arc, time::Duration};

use super::{
    accept::{Accepted, MakeConnection},
    conn::{ConnCore, GuardedConn},
    connect_info::ConnectInfo,
    connection::Connection,
    guard::ConnGuard,
    guarded_io::GuardedIo,
    handshake::Preamble,
    raw_conn::RawConn,
};
use crate::{context::InContext, stop::Shared};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Hands each connection to `handler`, in a task of its own.
pub(crate) struct RawMaker<H> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) preamble: Arc<Preamble>,
    pub(crate) handler: H,
}

impl<H, Fut> MakeConnection for RawMaker<H>
where
    H: Fn(Connection) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn make(&self, accepted: Accepted) {
        let Accepted { stream, peer, kernel, slot } = accepted;
        let core = ConnCore::new(&self.shared, peer, kernel, slot);
        let guard = ConnGuard::first(RawConn::new(core));
        let (handler, preamble) = (self.handler.clone(), self.preamble.clone());
        let task = async move {
            let core = guard.conn().core();
            let Some(stream) = preamble.shake(core, stream, Some(HANDSHAKE)).await else {
                return;
            };
            guard.conn().begins();
            let info = ConnectInfo::of(&stream, core);
            let connection = Connection::new(GuardedIo::new(stream, guard.clone()), info);
            // `guard` goes last: what the handler owns is dropped before the drain stops waiting.
            handler(connection).await;
        };
        self.shared.runtime().spawn(InContext::new(&self.shared, task));
    }
}
