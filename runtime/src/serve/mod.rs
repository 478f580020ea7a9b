//! The return types of `main`, and how they are run: bound first, then served.
//!
//! May use: everything but `config`. A file here adapts each other kind of server (`http`, another
//! framework) to `Serve`.

#[cfg(feature = "axum-0-8")]
mod axum;
pub(crate) mod launch;
#[cfg(feature = "net")]
mod listen;
mod main;
mod serve_fn;
mod servers;

#[cfg(feature = "net")]
pub use listen::{ListenServer, listen};
pub use main::Main;
pub use serve_fn::{ServeFn, serve_fn};
pub use servers::{InGroup, Serve, UntilExit};

pub(crate) use main::BodyKind;
pub(crate) use servers::{Bound, BoxFuture, Servers};
