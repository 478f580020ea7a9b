//! The HTTP server, one protocol on `net`: from accepted streams to answered requests.
//!
//! `server` (what users build) → `task` (one per connection: parked, speaking or closing) → `h1` or
//! `h2` (around each call of the service). The state of a connection is kept in its `HttpConn`,
//! which the drain and the report read from outside (`describe`); `state` defines the states and
//! what bounds them.
//!
//! May use: `util`, `log`, `work`, `stop`, `context`, `net`. Must not know: `Serve`, `Config`.

mod conn;
mod factory;
pub(crate) mod framing;
mod h1;
#[cfg(feature = "http2")]
mod h2;
mod io;
#[cfg(all(test, graceful_loom))]
mod loom_models;
mod options;
mod parked;
#[cfg(feature = "probes")]
mod probes;
mod readiness;
mod server;
mod service;
mod state;
mod stream_table;
mod task;

use service::give_connect_info;

pub use factory::HttpService;
#[cfg(feature = "http2")]
pub use options::Http2Builder;
pub use server::{Server, serve};

/// For the fuzz targets.
#[cfg(fuzzing)]
#[allow(unreachable_pub, reason = "for the fuzz targets")]
pub(crate) mod fuzzing {
    pub use super::{
        conn::name, framing::oracle::compare, h2::follow_http2, parked::detect,
        state::walk::walk_states,
    };
}
