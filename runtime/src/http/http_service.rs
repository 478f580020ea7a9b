//! Which types are a service that can be served.

use super::{maker::Maker, service::SingleService};
use crate::{
    net::ConnectInfo,
    util::{Sealed, via},
};

/// A service that [`serve`](crate::serve) takes:
///
/// - a tower service (an `axum::Router`, tonic's `Routes`), from `Request<Incoming>` to
///   `Response<B>`;
/// - a hyper one (`hyper::service::service_fn(…)`);
/// - one that makes a service for each connection: a tower service from [`ConnectInfo`] to one of
///   the above, such as `tower::service_fn(…)`, `tower::make::Shared`, and with the feature `axum`
///   what `into_make_service_with_connect_info::<SocketAddr>()` returns.
///
/// `Via` says which of them it is; the compiler finds it. It is cloned for each connection, and a
/// tower service for each request, as `axum::serve` does: `Clone` and `Send` are all it needs. A
/// panic in `clone`, `poll_ready` or `call` costs the connection it happens on.
///
/// # Examples
///
/// A service for each connection:
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use axum::{Router, routing::get};
/// use graceful::ConnectInfo;
///
/// #[graceful::main]
/// async fn main() -> impl graceful::Serve {
///     let make = tower::service_fn(async |info: ConnectInfo| {
///         let hello = format!("hello, {:?}", info.peer_addr());
///         Ok::<_, Infallible>(Router::new().route("/", get(async || hello)))
///     });
///     graceful::serve("127.0.0.1:8080", make)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an HTTP service",
    label = "not a service from `http::Request<hyper::body::Incoming>` to `http::Response<_>`",
    note = "hand in an `axum::Router`, a tower service that is `Clone + Send + 'static`, or \
            `hyper::service::service_fn(handler)`",
    note = "an `axum::Router<S>` is one once its state is there: `.with_state(state)`",
    note = "for the client's address call `.connect_info()` on the server"
)]
pub trait HttpService<Via>: Send + 'static {
    #[doc(hidden)]
    fn into_maker(self, _: Sealed) -> Maker;
}

impl<S: SingleService<via::Hyper>> HttpService<via::Hyper> for S {
    fn into_maker(self, _: Sealed) -> Maker {
        Maker::cloning(self.into_service(Sealed))
    }
}

impl<S: SingleService<via::Tower>> HttpService<via::Tower> for S {
    fn into_maker(self, _: Sealed) -> Maker {
        Maker::cloning(self.into_service(Sealed))
    }
}

impl<M, Via> HttpService<via::Make<Via>> for M
where
    M: tower_service::Service<ConnectInfo, Response: SingleService<Via>, Future: Send>,
    M: Clone + Send + 'static,
    Via: 'static,
{
    fn into_maker(self, _: Sealed) -> Maker {
        Maker::making(self)
    }
}
