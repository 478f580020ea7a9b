//! `graceful::listen(…)`: a server of any protocol.

use std::{fmt, future::Future, sync::Arc};

use super::{Bound, Serve, Servers, servers::sealed};
use crate::{
    context::{Handle, Unserved},
    log::say,
    net::{Connection, Endpoint, Listen, MakeConnection, Preamble, RawMaker, server_options},
    stop::Shared,
    util::{Outcome, Sealed},
};

/// Serves any protocol: `handler` is called with each [`Connection`], in a task of its own.
///
/// Does for connections what [`serve`](crate::serve) does for HTTP: they are accepted without
/// loss, waited for until the handler has returned and the client has received everything, named in
/// reports, and cut at the limit. The handler learns of the drain from [`Connection::shutdown`].
/// Over TCP, Unix sockets and TLS.
///
/// The handler returns nothing, or a `Result<(), E>`: an error costs its connection alone, and is
/// an event of the level `debug`.
///
/// # Examples
///
/// ```no_run
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     graceful::listen("127.0.0.1:7000", async |mut connection: graceful::Connection| {
///         let mut byte = [0];
///         while connection.read(&mut byte).await? > 0 {
///             connection.write_all(&byte).await?;
///         }
///         std::io::Result::Ok(())
///     })
/// }
/// ```
pub fn listen<A, H, Fut, O>(addr: A, handler: H) -> ListenServer
where
    A: Listen,
    H: Fn(Connection) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Outcome<O>> + Send + 'static,
{
    let target = addr.into_target();
    let handler = Arc::new(handler);
    ListenServer {
        unserved: Unserved::new(&target),
        endpoint: Endpoint::new(target),
        maker: Box::new(move |shared, preamble| {
            let log = shared.log.clone();
            let handler = move |connection: Connection| {
                let peer = connection.info().peer();
                let (ended, log) = (handler(connection), log.clone());
                async move {
                    let Err(failure) = ended.await.outcome(Sealed) else {
                        return;
                    };
                    // On stderr it would be noise: how a connection ends is its client's affair.
                    if log.is_debugged() {
                        say!(
                            log, debug, { peer = peer.to_string(), error = failure.to_string() },
                            "connection from {peer}: {failure}"
                        );
                    }
                }
            };
            Arc::new(RawMaker { shared, preamble: Arc::new(preamble), handler })
        }),
    }
}

/// A server of any protocol, made by [`listen`]: return it from `main`, or hand it to
/// [`Config::start`](crate::Config::start).
#[must_use = "it serves once it is returned from `main` or handed to `Config::start`"]
pub struct ListenServer {
    unserved: Unserved,
    endpoint: Endpoint,
    maker: Box<dyn FnOnce(Arc<Shared>, Preamble) -> Arc<dyn MakeConnection> + Send>,
}

server_options!(ListenServer);

impl fmt::Debug for ListenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenServer").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl sealed::Sealed for ListenServer {}

impl Serve for ListenServer {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let this = *self;
        this.unserved.served();
        servers.push(move |handle: Handle| async move {
            let bound = this.endpoint.bind(handle.shared(), false, this.maker).await?;
            Ok(bound.into_iter().map(Bound::accepting).collect())
        });
    }
}
