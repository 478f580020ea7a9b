//! A server before it is bound: where it listens, and the steps before its protocol.

use std::sync::Arc;

use super::{
    accept::{AcceptLoop, MakeConnection},
    handshake::Preamble,
    listener::Listener,
    sockets::Slots,
    sockets::SocketOptions,
    target::Target,
};
use crate::{stop::Shared, util::Failure};

#[derive(Debug)]
pub(crate) struct Endpoint {
    target: Target,
    pub(crate) sockets: SocketOptions,
    pub(crate) preamble: Preamble,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<super::tls::TlsSource>,
}

impl Endpoint {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            sockets: SocketOptions::default(),
            preamble: Preamble::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    fn is_tls(&self) -> bool {
        false
    }

    /// Binds all of its addresses, or none. `is_http` decides what ALPN offers.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound, or a certificate cannot be read.
    #[cfg_attr(not(feature = "tls"), allow(unused_mut, unused_variables))]
    pub(crate) async fn bind(
        mut self,
        shared: &Arc<Shared>,
        is_http: bool,
        maker: impl FnOnce(Arc<Shared>, Preamble) -> Arc<dyn MakeConnection>,
    ) -> Result<Vec<AcceptLoop>, Failure> {
        let scheme = match (is_http, self.is_tls()) {
            (true, false) => "http",
            (true, true) => "https",
            (false, false) => "tcp",
            (false, true) => "tls",
        };
        // First, so that a bad certificate is reported before anything is bound.
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls {
            let shared = shared.clone();
            let acceptor = move || tls.acceptor(&shared, is_http);
            let acceptor = crate::util::threads::on_own_thread("graceful-tls", acceptor).await;
            self.preamble.acceptor = Some(Arc::new(acceptor.map_err(Failure::from_error)??));
        }
        let listeners = Listener::bind(self.target, &self.sockets).await?;
        let maker = maker(shared.clone(), self.preamble);
        let slots = Slots::new(self.sockets.max_connections);
        let accept_loop = |listener| {
            AcceptLoop::new(shared.clone(), listener, maker.clone(), slots.clone(), scheme)
        };
        listeners.into_iter().map(accept_loop).collect()
    }
}
