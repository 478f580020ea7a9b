//! Serves `axum::serve(…)` as it is.

use std::{any::Any, convert::Infallible, fmt::Debug, net::SocketAddr};

use axum::{
    extract::Request,
    response::Response,
    serve::{IncomingStream, Listener, Serve as AxumServe},
};
use tower_service::Service;

use super::{Bound, Serve, Servers};
use crate::util::{Failure, LocalAddr};

/// With the feature `axum-0-8`: `axum::serve(listener, app)` receives the
/// [`Shutdown`](crate::Shutdown) future through its `with_graceful_shutdown`.
///
/// axum then closes the connections in its own way: idle ones at once, and without waiting for
/// upgraded ones. `graceful::serve(listener, app)` takes the same two arguments and loses no
/// request.
impl<L, M, S> Serve for AxumServe<L, M, S>
where
    L: Listener<Addr: Debug + 'static>,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, L>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let addr = self.local_addr().ok();
        let name = addr.as_ref().map_or("axum".to_owned(), |addr| format!("axum on {addr:?}"));
        // Only TCP listeners have addresses of this type.
        let any = addr.as_ref().map(|addr| addr as &dyn Any);
        let tcp = any.and_then(|addr| addr.downcast_ref::<SocketAddr>().copied());
        servers.push(move |handle| async move {
            let serve = self.with_graceful_shutdown(handle.shutdown());
            let run = Box::pin(async move { serve.await.map_err(Failure::from_error) });
            Ok(vec![Bound::other(name, tcp.map(LocalAddr::Tcp), run)])
        });
    }
}
