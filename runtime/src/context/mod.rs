//! How code finds its context: `Handle`, the free functions, and the types they return.
//!
//! May use: `util`, `log`, `work`, `stop`. Must not know: servers.

mod current;
mod free;
mod group;
mod handle;
mod shutdown;

#[cfg(feature = "tokio-util")]
pub use free::cancellation_token;
pub use free::{UntilShutdown, keep, on_ready, on_stop, shutdown, stop, stopping, until_shutdown};
pub use group::TaskGroup;
pub use handle::{Handle, spawn, spawn_blocking, spawn_critical, spawn_local, spawn_named};
pub use shutdown::Shutdown;

pub(crate) use current::{InContext, adopt, as_main, enter};
pub(crate) use handle::Unserved;
