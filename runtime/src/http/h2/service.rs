//! What is done around each call of the service.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::{body::Http2Body, executor, guard::RequestGuard};
use crate::{
    http::{
        body::{MaybeBody, without_body},
        conn::HttpConn,
        give_connect_info,
        readiness::{Readiness, answer_of_our_own},
        service::Service,
    },
    net::ConnectInfo,
};

/// The service of one connection.
pub(crate) struct Http2<S> {
    pub(crate) service: S,
    pub(crate) conn: Arc<HttpConn>,
    pub(crate) readiness: Option<Arc<Readiness>>,
    /// What each request is given, if they are.
    pub(crate) info: Option<ConnectInfo>,
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Http2<S> {
    type Response = Response<Http2Body<S::Body>>;
    type Error = S::Error;
    type Future = Http2Future<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let guard = RequestGuard::new(&self.conn, &request);
        let probe = answer_of_our_own(self.readiness.as_deref(), &request, &self.conn);
        if let Some(info) = &self.info {
            give_connect_info(&mut request, info);
        }
        let future = if probe.is_none() { Some(self.service.call(request)) } else { None };
        Http2Future { future, probe, guard: Some(guard) }
    }
}

pin_project! {
    /// The response to come.
    pub(crate) struct Http2Future<F> {
        // `None`: `probe` is all there is to say.
        #[pin]
        future: Option<F>,
        probe: Option<StatusCode>,
        guard: Option<RequestGuard>,
    }
}

impl<F, B, E> Future for Http2Future<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Http2Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.future.as_pin_mut() {
            Some(future) => ready!(future.poll(cx))?.map(MaybeBody::new),
            None => without_body(this.probe.unwrap_or_default()),
        };
        // A future that is polled after it was ready has nothing to answer with.
        let Some(mut guard) = this.guard.take() else {
            return Poll::Pending;
        };
        let guard = if guard.responds(response.status()) {
            executor::hand_over(guard);
            None
        } else {
            Some(guard)
        };
        Poll::Ready(Ok(response.map(|body| Http2Body::new(body, guard))))
    }
}
