//! How far a connection is, and hyper's part of it.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

#[cfg(feature = "http1")]
use hyper::server::conn::http1;
#[cfg(feature = "http2")]
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;

#[cfg(feature = "http1")]
use super::h1::Http1;
#[cfg(feature = "http2")]
use super::h2::{ConnExecutor, Http2};
use super::{
    conn::HttpConn,
    detect::{Detect, Version},
    framing::Framing,
    io::Io,
    options::Options,
    service::Service,
    state::Event,
};
use crate::net::{ConnGuard, ConnectInfo, LingeringClose};

#[cfg(feature = "http1")]
type Http1Conn<S> = http1::UpgradeableConnection<TokioIo<Io>, Http1<S>>;
#[cfg(feature = "http2")]
type Http2Conn<S> = http2::Connection<TokioIo<Io>, Http2<S>, ConnExecutor>;

/// How far a connection is. hyper's futures are large and boxed: most connections are idle most of
/// the time, and many never send a byte.
#[allow(
    clippy::large_enum_variant,
    reason = "an allocation less for each connection; the task is large enough anyway"
)]
pub(super) enum Stage<S: Service> {
    Detect(Detect<S>),
    #[cfg(feature = "http1")]
    Http1(Pin<Box<Http1Conn<S>>>),
    #[cfg(feature = "http2")]
    Http2(Pin<Box<Http2Conn<S>>>),
    Closing(LingeringClose, Option<Framing>),
    Done,
}

impl<S: Service> Stage<S> {
    /// The protocol is known: hyper takes over.
    pub(super) fn speaking(
        detect: Detect<S>,
        version: Version,
        options: &Arc<Options>,
        guard: &ConnGuard<HttpConn>,
        info: Option<ConnectInfo>,
    ) -> Self {
        #[cfg_attr(not(feature = "http2"), allow(unused_mut))]
        let Detect { mut io, service, .. } = detect;
        let (conn, readiness) = (guard.conn().clone(), options.readiness.clone());
        match version {
            #[cfg(feature = "http1")]
            Version::Http1 => {
                let service = Http1 { service, conn, readiness, info };
                let http1 = options.http1.serve_connection(TokioIo::new(io), service);
                Self::Http1(Box::pin(http1.with_upgrades()))
            }
            #[cfg(feature = "http2")]
            Version::Http2 => {
                conn.on(Event::SpeaksHttp2);
                io.speak_http2();
                let service = Http2 { service, conn, readiness, info };
                let builder = options.http2_builder(ConnExecutor(guard.clone()));
                Self::Http2(Box::pin(builder.serve_connection(TokioIo::new(io), service)))
            }
        }
    }

    /// Tells an HTTP/2 client that the connection is about to end.
    #[cfg_attr(not(feature = "http2"), allow(clippy::unused_self, reason = "as with the feature"))]
    pub(super) fn say_goaway(&mut self) {
        #[cfg(feature = "http2")]
        if let Self::Http2(http2) = self {
            http2.as_mut().graceful_shutdown();
        }
    }

    /// Where the stream is at hand.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Detect(detect) => detect.io.stream().local_addr(),
            Self::Closing(closing, _) => closing.local_addr(),
            _ => None,
        }
    }
}
