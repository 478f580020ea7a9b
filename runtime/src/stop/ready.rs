//! What happens once every listener is bound.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::util::{
    LocalAddr,
    sync::{Mutex, lock},
};

/// Where the program listens, now that every listener is bound: what
/// [`on_ready`](crate::on_ready) hands on.
///
/// Its [`Display`](fmt::Display) form is the addresses as messages name them.
#[derive(Clone)]
pub struct Listening(Arc<[(String, Option<LocalAddr>)]>);

impl Listening {
    pub(crate) fn new(servers: impl IntoIterator<Item = (String, Option<LocalAddr>)>) -> Self {
        Self(servers.into_iter().collect())
    }

    /// The address of the first TCP listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// The addresses of all TCP listeners, in the order of the servers.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(|(_, addr)| addr.as_ref()?.tcp())
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (name, _) in self.0.iter().filter(|(_, addr)| addr.is_some()) {
            write!(f, "{between}{name}")?;
            between = ", ";
        }
        Ok(())
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

type Callback = Box<dyn FnOnce(Listening) + Send>;

/// What waits for that moment.
pub(crate) struct WhenReady(Mutex<State>);

enum State {
    Waiting(Vec<Callback>),
    Ready(Listening),
}

impl WhenReady {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Waiting(Vec::new())))
    }

    /// Calls `callback` then, or at once where that moment is past.
    pub(crate) fn call(&self, callback: Callback) {
        let listening = match &mut *lock(&self.0) {
            State::Waiting(callbacks) => return callbacks.push(callback),
            State::Ready(listening) => listening.clone(),
        };
        // Outside of the lock: the program's code may come back here.
        callback(listening);
    }

    /// It is now.
    pub(crate) fn set(&self, listening: &Listening) {
        let before = std::mem::replace(&mut *lock(&self.0), State::Ready(listening.clone()));
        if let State::Waiting(callbacks) = before {
            for callback in callbacks {
                callback(listening.clone());
            }
        }
    }
}
