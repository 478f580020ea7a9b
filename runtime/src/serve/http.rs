//! `graceful::serve(…)`: our own HTTP server.

use super::{Bound, Serve, Servers, servers::sealed};
use crate::http::Server;

impl sealed::Sealed for Server {}

impl Serve for Server {
    #[cfg_attr(not(feature = "probes"), allow(unused_mut))]
    fn collect(mut self: Box<Self>, servers: &mut Servers) {
        #[cfg(feature = "probes")]
        let probes = self.take_probes();
        let server = self.served();
        servers.push(move |handle| async move {
            let bound = server.bind(handle).await?.into_iter();
            Ok(bound.map(Bound::accepting).collect())
        });
        #[cfg(feature = "probes")]
        if let Some(probes) = probes {
            Box::new(probes.until_exit()).collect(servers);
        }
    }
}
