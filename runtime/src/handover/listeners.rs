//! Listeners of other frameworks' servers, which bind for themselves.

use std::{
    io,
    net::TcpListener,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
};

use crate::{
    net::{
        SocketSharing,
        moving::{self, Offer, Offers},
    },
    util::sync::lock_std,
};

/// Returns the listener that the process before has passed on under this name, by
/// [`pass_on`]; `None` if there is none: then bind, and pass it on to the next.
///
/// For servers of other frameworks, such as `axum::serve` and those in
/// [`serve_fn`](crate::serve_fn): new connections find a listener at any time. Their open
/// connections end as their framework ends them. What [`serve`](crate::serve) and
/// [`listen`](crate::listen) bind goes along by itself, with its connections.
///
/// A listener that is not asked for before the program is ready is closed. One that was returned
/// here is passed on again.
///
/// # Examples
///
/// ```no_run
/// # use axum::Router;
/// #[graceful::main(upgrade = [SIGUSR2])]
/// async fn main() -> std::io::Result<impl graceful::Serve> {
///     let listener = match graceful::inherited("web") {
///         Some(listener) => listener,
///         None => std::net::TcpListener::bind("127.0.0.1:8080")?,
///     };
///     graceful::pass_on("web", &listener)?;
///     listener.set_nonblocking(true)?;
///     let listener = tokio::net::TcpListener::from_std(listener)?;
///     Ok(graceful::serve_fn(async move |shutdown| {
///         axum::serve(listener, Router::new()).with_graceful_shutdown(shutdown).await
///     }))
/// }
/// ```
#[must_use]
pub fn inherited(name: &str) -> Option<TcpListener> {
    let offer = moving::inherited_by(&key(name))?;
    // Without a descriptor for the next process there is none for this one either.
    pass_on(name, &offer.socket).ok()?;
    Some(offer.socket.into())
}

/// Passes a listener on to the next version of the program, which asks for it by
/// [`inherited`].
///
/// # Errors
///
/// If there are no descriptors left.
///
/// # Examples
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// graceful::pass_on("web", &listener)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn pass_on(name: &str, listener: &impl AsFd) -> io::Result<()> {
    let socket = listener.as_fd().try_clone_to_owned()?;
    let passed: Arc<Passed> = Arc::new(Passed { name: key(name), socket });
    let mut all = lock_std(&PASSED);
    all.retain(|other| other.name != passed.name);
    moving::listens(Arc::downgrade(&passed) as _);
    all.push(passed);
    Ok(())
}

/// The program stops, and there is no next version: whoever connects is to be refused as soon as
/// the program's own server has closed its listener.
pub(super) fn forget() {
    lock_std(&PASSED).clear();
}

/// Kept until the program stops.
static PASSED: Mutex<Vec<Arc<Passed>>> = Mutex::new(Vec::new());

struct Passed {
    name: String,
    socket: OwnedFd,
}

impl Offers for Passed {
    fn offer(&self) -> io::Result<Offer> {
        Ok(Offer {
            listener: self.name.clone(),
            written: String::new(),
            sharing: SocketSharing::Unknown,
            socket: self.socket.try_clone()?,
        })
    }
}

/// Apart from the addresses of other listeners.
fn key(name: &str) -> String {
    format!("name:{name}")
}
