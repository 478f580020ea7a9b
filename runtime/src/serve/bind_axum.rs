//! The listener of `graceful::bind` as axum knows it.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::sync::watch;

use super::bind::{BoundListener, Progress, drained};
use crate::{
    net::{ConnectInfo, Connection},
    util::LocalAddr,
};

/// An address, as axum knows it: with it comes the moment in which axum is to stop.
#[derive(Clone)]
pub struct BoundAddr {
    addr: Option<SocketAddr>,
    progress: Option<(Arc<watch::Sender<Progress>>, Duration)>,
}

impl BoundAddr {
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        self.addr
    }

    pub(crate) fn drained(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (progress, linger) = self.progress.as_ref()?;
        Some(drained(progress.subscribe(), *linger))
    }
}

impl fmt::Debug for BoundAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            Some(addr) => addr.fmt(f),
            None => f.write_str("a Unix socket"),
        }
    }
}

impl Listener for BoundListener {
    type Io = Connection;
    type Addr = BoundAddr;

    async fn accept(&mut self) -> (Connection, BoundAddr) {
        let connection = BoundListener::accept(self).await;
        let addr = BoundAddr { addr: connection.peer_addr(), progress: None };
        (connection, addr)
    }

    fn local_addr(&self) -> io::Result<BoundAddr> {
        let addr = self.addrs.first().and_then(LocalAddr::tcp);
        Ok(BoundAddr { addr, progress: Some((self.progress.clone(), self.linger)) })
    }
}

impl Connected<IncomingStream<'_, BoundListener>> for ConnectInfo {
    fn connect_info(stream: IncomingStream<'_, BoundListener>) -> Self {
        stream.io().info().clone()
    }
}
