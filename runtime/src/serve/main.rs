//! The return types of `main`.

use std::{any::TypeId, future::Future};

use super::{Serve, Servers};
use crate::util::{Fail, Failure, Never, Outcome, Sealed, failure_of, via};

/// The return types of an async `main` under [`graceful::main`](macro@crate::main):
///
/// - a server or several: `impl Serve`, `(A, B)`, `Vec<S>`, `Box<dyn Serve>`;
/// - a server future: `impl Future<Output = ()>` or `impl Future<Output = Result<(), E>>`;
/// - nothing: `()`;
/// - a `Result` of any of these.
///
/// The return type determines what a stop does to the body. A body that returns a **server** is
/// start-up code: a stop before it has returned drops it, unless it has ever asked for
/// [`shutdown()`](crate::shutdown()). A body that returns **nothing** (or never returns) is work
/// like any other: the drain waits for it until the limit, then drops and names it. It learns about
/// the stop from `shutdown()`, or through a server of any framework that receives that future.
///
/// `Via` selects the implementation, so that the implementations do not overlap. The compiler
/// infers it; it is never written.
#[diagnostic::on_unimplemented(
    message = "`main` returns `{Self}`, which is nothing that can be served",
    label = "this cannot be served",
    note = "return `graceful::serve(addr, service)`, `graceful::serve_fn(…)`, several of them as a \
            tuple or `Vec`, a future with the output `()` or `Result<(), E>`, a `Result` of these, \
            or nothing"
)]
#[cfg_attr(
    feature = "axum-0-8",
    diagnostic::on_unimplemented(
        note = "`axum::serve(…)` is handed the shutdown by itself: delete `.with_graceful_shutdown(…)`"
    )
)]
#[cfg_attr(
    not(feature = "axum-0-8"),
    diagnostic::on_unimplemented(note = "for `axum::serve(…)` of axum 0.8 enable the feature: \
                `cargo add graceful-main --features axum-0-8`")
)]
pub trait Main<Via> {
    /// Returns the kind of a body that returns this type.
    #[doc(hidden)]
    #[must_use]
    fn body_kind(_: Sealed) -> BodyKind {
        BodyKind::StartUp
    }

    #[doc(hidden)]
    fn into_servers(self, servers: &mut Servers, _: Sealed) -> Result<(), Failure>;
}

/// The kind of the body of `main`, by its return type.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// It returns a server: a stop that comes earlier drops it.
    StartUp,
    /// It is the program itself: waited for like any other work.
    Work,
}

impl<S: Serve> Main<via::Serve> for S {
    fn body_kind(_: Sealed) -> BodyKind {
        // Also detects an `impl Serve` that is `()`.
        if TypeId::of::<S>() == TypeId::of::<()>() { BodyKind::Work } else { BodyKind::StartUp }
    }

    fn into_servers(self, servers: &mut Servers, _: Sealed) -> Result<(), Failure> {
        Box::new(self).collect(servers);
        Ok(())
    }
}

impl<F, O> Main<via::Future<O>> for F
where
    F: Future<Output: Outcome<O>> + Send + 'static,
{
    fn into_servers(self, servers: &mut Servers, _: Sealed) -> Result<(), Failure> {
        servers.push_future("of main", async { self.await.outcome(Sealed) });
        Ok(())
    }
}

impl<T, E, Via, EVia> Main<via::Result<Via, EVia>> for Result<T, E>
where
    T: Main<Via>,
    E: Fail<EVia>,
{
    fn body_kind(_: Sealed) -> BodyKind {
        T::body_kind(Sealed)
    }

    fn into_servers(self, servers: &mut Servers, _: Sealed) -> Result<(), Failure> {
        self.map_err(failure_of)?.into_servers(servers, Sealed)
    }
}

impl Main<via::Never> for Never {
    fn body_kind(_: Sealed) -> BodyKind {
        BodyKind::Work
    }

    fn into_servers(self, _: &mut Servers, _: Sealed) -> Result<(), Failure> {
        self
    }
}
