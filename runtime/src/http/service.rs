//! The service of the program in the one form that the rest works on.

use std::{error::Error, future::Future};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;

use crate::util::{Sealed, via};

type BoxError = Box<dyn Error + Send + Sync>;

/// A service that answers requests.
#[doc(hidden)]
pub trait SingleService<Via>: Send + 'static {
    type Service: Service;

    fn into_service(self, _: Sealed) -> Self::Service;
}

/// The one form that the rest of this module works on: its bounds, written once.
#[doc(hidden)]
pub trait Service: Clone + Send + 'static {
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    type Error: Into<BoxError>;
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;

    fn call(&self, request: Request<Incoming>) -> Self::Future;
}

/// A hyper service as it is.
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
