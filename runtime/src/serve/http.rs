//! `graceful::serve(…)`: our own HTTP server.

use super::{Bound, Serve, Servers, servers::sealed};
use crate::http::Server;

impl sealed::Sealed for Server {}

impl Serve for Server {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let server = self.served();
        servers.push(move |handle| async move {
            let bound = server.bind(handle).await?.into_iter();
            Ok(bound.map(Bound::accepting).collect())
        });
    }
}
