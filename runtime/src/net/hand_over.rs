//! A connection that has left HTTP, and goes to the next process when the program lets go of it.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::moving;
use crate::util::sync::lock_std;

/// Hands a WebSocket over to the next version of the program: in the extensions of each request
/// that asks for an upgrade, on a server with [`handed_over`](crate::Server::handed_over).
///
/// A library that speaks WebSocket holds the connection and may have read ahead of the handler. So
/// the handler marks the connection, by [`hand_over`](Self::hand_over), and lets go of the socket;
/// what would have been closed then goes to the next process. The frames of the client are
/// followed, and what belongs to a message that is not complete goes along.
///
/// The handler's part is to let go only when it has taken every complete message: after a read that
/// was pending. In a loop of `tokio::select!` with `biased;` and the read first, that is so in the
/// branch of the shutdown.
///
/// # Examples
///
/// ```no_run
/// use axum::{
///     Extension, Router,
///     extract::ws::{Message, WebSocketUpgrade},
///     response::Response,
///     routing::any,
/// };
/// use graceful::HandOver;
///
/// async fn echo(upgrade: WebSocketUpgrade, Extension(hand): Extension<HandOver>) -> Response {
///     upgrade.on_upgrade(async move |mut socket| {
///         let shutdown = graceful::shutdown();
///         loop {
///             tokio::select! {
///                 biased;
///                 message = socket.recv() => {
///                     let Some(Ok(message)) = message else { return };
///                     if socket.send(message).await.is_err() {
///                         return;
///                     }
///                 }
///                 () = shutdown.clone() => {
///                     if !hand.hand_over("echo", []) {
///                         // No next process: goodbye.
///                         let _ = socket.send(Message::Close(None)).await;
///                     }
///                     return;
///                 }
///             }
///         }
///     })
/// }
///
/// # async fn speak(connection: graceful::Connection) {}
/// #[graceful::main(upgrade = [SIGUSR2])]
/// async fn main() -> impl graceful::Serve {
///     graceful::serve("127.0.0.1:8080", Router::new().route("/echo", any(echo)))
///         // Such as `tokio_tungstenite::WebSocketStream::from_raw_socket(connection, …)`.
///         .handed_over("echo", speak)
/// }
/// ```
#[derive(Clone)]
pub struct HandOver(Arc<Slot>);

struct Slot {
    listener: String,
    /// Whether it cannot move: something in the connection is not known here.
    stays: AtomicBool,
    mark: Mutex<Option<Mark>>,
}

/// The handler's name and state, which go along with the connection.
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) state: Vec<u8>,
}

impl HandOver {
    pub(super) fn new(listener: &str) -> Self {
        let (listener, stays) = (listener.to_owned(), AtomicBool::new(false));
        Self(Arc::new(Slot { listener, stays, mark: Mutex::new(None) }))
    }

    /// Marks the connection: when the program lets go of it, it goes to the next process, whose
    /// handler for `name` ([`Server::handed_over`](crate::Server::handed_over)) finds `state` in
    /// [`Connection::handed_over`](crate::Connection::handed_over).
    ///
    /// Returns whether it does. `false`: there is no next process, or it has no such listener, or
    /// the connection cannot move (TLS, a WebSocket extension such as compression, a `state` of
    /// more than 1 MiB): then say goodbye, as in any stop.
    #[must_use = "if it returns `false`, the connection ends here"]
    pub fn hand_over(&self, name: impl Into<String>, state: impl Into<Vec<u8>>) -> bool {
        let slot = &self.0;
        let state = state.into();
        // Relaxed: set by the connection before the program has it.
        let moves = !slot.stays.load(Ordering::Relaxed)
            && moving::gives(&slot.listener)
            && state.len() <= moving::LONGEST_STATE;
        if moves {
            *lock_std(&slot.mark) = Some(Mark { name: name.into(), state });
        }
        moves
    }

    /// Keeps the connection in this process.
    pub(crate) fn keep(&self) {
        self.0.stays.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_mark(&self) -> Option<Mark> {
        lock_std(&self.0.mark).take().filter(|_| !self.0.stays.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOver").field("listener", &self.0.listener).finish_non_exhaustive()
    }
}
