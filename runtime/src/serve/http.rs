//! `graceful::serve(…)`: our own HTTP server.

use super::{Bound, Serve, Servers, servers::sealed};
use crate::http::Server;

impl sealed::Sealed for Server {}

impl Serve for Server {
    fn collect(self: Box<Self>, servers: &mut Servers) {
        let server = self.served();
        servers.push(move |handle| async move {
            let accept_loop = server.bind(handle).await?;
            Ok(Bound {
                name: accept_loop.name().to_owned(),
                addr: Some(accept_loop.local_addr().clone()),
                run: Box::pin(accept_loop.run()),
            })
        });
    }
}
