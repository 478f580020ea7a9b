//! `graceful::listen(…)`: a server for any protocol.

use std::{fmt, future::Future, sync::Arc};

use super::{Bound, Serve, Servers};
use crate::{
    context::{Handle, Unserved},
    log::say,
    net::{Connection, Endpoint, Listen, MakeConnection, Preamble, RawMaker, server_options},
    stop::Shared,
    util::{Outcome, Sealed},
};

/// Serves any protocol: `handler` is called with each [`Connection`], in a separate task.
///
/// Does for connections what [`serve`](crate::serve) does for HTTP: accepts them without loss,
/// waits until the handler has returned and the client has received everything, names them in
/// reports, and cuts them at the limit. The handler learns about the drain from
/// [`Connection::shutdown`]. Works over TCP, Unix sockets and TLS.
///
/// The handler returns `()` or `Result<(), E>`. An error ends only its own connection, and is
/// logged at the level `debug`.
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
                    // On stderr, it would be noise: how a connection ends is up to its client.
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

/// A server for any protocol, returned by [`listen`]. Return it from `main`, or pass it to
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
