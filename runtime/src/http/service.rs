//! The program's service, in the single form that the rest of this module works with.

use std::{error::Error, future::Future};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;

use crate::{
    net::ConnectInfo,
    util::{Sealed, via},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// A service that answers requests.
#[doc(hidden)]
pub trait SingleService<Via>: Send + 'static {
    type Service: Service;

    fn into_service(self, _: Sealed) -> Self::Service;
}

/// The single form that the rest of this module works with, so that its bounds are written once.
#[doc(hidden)]
pub trait Service: Clone + Send + 'static {
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    type Error: Into<BoxError>;
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;

    fn call(&self, request: Request<Incoming>) -> Self::Future;
}

/// A hyper service, unchanged.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Hyper<S>(S);

impl<S, B> Service for Hyper<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> S::Future {
        self.0.call(request)
    }
}

impl<S> SingleService<via::Hyper> for S
where
    S: hyper::service::Service<Request<Incoming>> + Send + 'static,
    Hyper<S>: Service,
{
    type Service = Hyper<S>;

    fn into_service(self, _: Sealed) -> Hyper<S> {
        Hyper(self)
    }
}

impl<S> SingleService<via::Tower> for S
where
    S: tower_service::Service<Request<Incoming>> + Send + 'static,
    Hyper<TowerToHyperService<S>>: Service,
{
    type Service = Hyper<TowerToHyperService<S>>;

    fn into_service(self, _: Sealed) -> Self::Service {
        Hyper(TowerToHyperService::new(self))
    }
}

// The extensions of a request.

/// Adds the connection's info to a request, also in the form that axum's extractor looks for.
#[cold]
pub(super) fn give_connect_info<B>(request: &mut Request<B>, info: &ConnectInfo) {
    let extensions = request.extensions_mut();
    #[cfg(feature = "axum")]
    if let Some(peer) = info.peer_addr() {
        extensions.insert(axum::extract::ConnectInfo(peer));
    }
    extensions.insert(info.clone());
}

/// For `Router::into_make_service_with_connect_info::<SocketAddr>()`.
///
/// A client of a Unix socket has no such address and gets the unspecified one, `0.0.0.0:0`.
#[cfg(feature = "axum")]
impl axum::extract::connect_info::Connected<ConnectInfo> for std::net::SocketAddr {
    fn connect_info(info: ConnectInfo) -> Self {
        info.peer_addr().unwrap_or_else(|| (std::net::Ipv4Addr::UNSPECIFIED, 0).into())
    }
}

/// For `into_make_service_with_connect_info::<graceful::ConnectInfo>()`.
#[cfg(feature = "axum")]
impl axum::extract::connect_info::Connected<Self> for ConnectInfo {
    fn connect_info(info: Self) -> Self {
        info
    }
}
