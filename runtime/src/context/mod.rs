//! How code finds the context it belongs to: `Handle`, the free functions, and what they return.
//!
//! May use: `util`, `log`, `work`, `stop`. Must not know: servers.

mod current;
mod free;
mod handle;
mod shutdown;
mod unserved;
mod until_shutdown;

pub use free::{on_stop, shutdown, spawn, spawn_blocking, spawn_named, stop};
pub use handle::Handle;
pub use shutdown::Shutdown;
pub use until_shutdown::{UntilShutdown, until_shutdown};

pub(crate) use current::{InContext, as_main, enter};
pub(crate) use unserved::Unserved;
