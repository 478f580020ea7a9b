//! The program's service, in the single form that the rest of this module works with.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;

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

/// A tower service, cloned for each request. It is called at once if it is ready, as most are: then
/// neither it nor the request has to be kept until the first poll.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Tower<S>(S);

impl<S, B> Service for Tower<S>
where
    S: tower_service::Service<Request<Incoming>, Response = Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Error = S::Error;
    type Future = TowerFuture<S>;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> TowerFuture<S> {
        let mut service = self.0.clone();
        // hyper polls what this returns within the same poll: then a waker is there.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => TowerFuture::Called { future: service.call(request) },
            // Boxed out of line: what is returned is then built where hyper keeps it.
            Poll::Ready(Err(error)) => TowerFuture::Failed { error: Some(boxed(error)) },
            Poll::Pending => TowerFuture::Waiting { waiting: Some(boxed((service, request))) },
        }
    }
}

#[cold]
#[inline(never)]
fn boxed<T>(value: T) -> Box<T> {
    Box::new(value)
}

pin_project! {
    #[doc(hidden)]
    #[project = TowerFutureProj]
    pub enum TowerFuture<S: tower_service::Service<Request<Incoming>>> {
        Called {
            #[pin]
            future: S::Future,
        },
        // `None` once it is called.
        Waiting { waiting: Option<Box<(S, Request<Incoming>)>> },
        // `None` once it is returned.
        Failed { error: Option<Box<S::Error>> },
    }
}

impl<S: tower_service::Service<Request<Incoming>>> Future for TowerFuture<S> {
    type Output = Result<S::Response, S::Error>;

    // In each of its two callers: a call costs a copy of the response.
    #[allow(clippy::inline_always, reason = "as measured by the bench")]
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let future = match self.as_mut().project() {
                TowerFutureProj::Called { future } => return future.poll(cx),
                TowerFutureProj::Waiting { waiting } => {
                    let Some((service, _)) = waiting.as_deref_mut() else { return Poll::Pending };
                    ready!(service.poll_ready(cx))?;
                    let Some(called) = waiting.take() else { return Poll::Pending };
                    let (mut service, request) = *called;
                    service.call(request)
                }
                TowerFutureProj::Failed { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(*error)));
                }
            };
            self.set(Self::Called { future });
        }
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
    Tower<S>: Service,
{
    type Service = Tower<S>;

    fn into_service(self, _: Sealed) -> Tower<S> {
        Tower(self)
    }
}

// The extensions of a request.

/// Adds the connection's info to a request, also in the form that axum's extractor looks for.
#[cold]
pub(super) fn give_connect_info<B>(request: &mut Request<B>, info: &ConnectInfo) {
    let extensions = request.extensions_mut();
    #[cfg(feature = "axum-0-8")]
    if let Some(peer) = info.peer_addr() {
        extensions.insert(axum::extract::ConnectInfo(peer));
    }
    extensions.insert(info.clone());
}

/// For `Router::into_make_service_with_connect_info::<SocketAddr>()`.
///
/// A client of a Unix socket has no such address and gets the unspecified one, `0.0.0.0:0`.
#[cfg(feature = "axum-0-8")]
impl axum::extract::connect_info::Connected<ConnectInfo> for std::net::SocketAddr {
    fn connect_info(info: ConnectInfo) -> Self {
        info.peer_addr().unwrap_or_else(|| (std::net::Ipv4Addr::UNSPECIFIED, 0).into())
    }
}

/// For `into_make_service_with_connect_info::<graceful::ConnectInfo>()`.
#[cfg(feature = "axum-0-8")]
impl axum::extract::connect_info::Connected<Self> for ConnectInfo {
    fn connect_info(info: Self) -> Self {
        info
    }
}
