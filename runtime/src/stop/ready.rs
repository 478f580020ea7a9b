//! Readiness: callbacks that run once every listener is bound, and the readiness that the program
//! reports itself.

use std::{borrow::Cow, fmt, net::SocketAddr, sync::Arc};

use crate::util::{
    LocalAddr,
    sync::{Mutex, lock},
};

/// Where the program listens, once every listener is bound; passed to the callback of
/// [`on_ready`](crate::on_ready).
///
/// Its [`Display`](fmt::Display) form lists the addresses as messages name them.
#[derive(Clone)]
pub struct Listening(Arc<[(String, Option<LocalAddr>)]>);

impl Listening {
    pub(crate) fn new(servers: impl IntoIterator<Item = (String, Option<LocalAddr>)>) -> Self {
        Self(servers.into_iter().collect())
    }

    /// Returns the address of the first TCP listener.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// Returns the addresses of all TCP listeners, in the order of the servers.
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

/// Callbacks that run once all listeners are bound.
pub(crate) struct WhenReady(Mutex<Callbacks>);

enum Callbacks {
    Waiting(Vec<Callback>),
    Ready(Listening),
}

impl WhenReady {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Callbacks::Waiting(Vec::new())))
    }

    /// Calls `callback` once all listeners are bound, or immediately if they already are.
    pub(crate) fn call(&self, callback: Callback) {
        let listening = match &mut *lock(&self.0) {
            Callbacks::Waiting(callbacks) => return callbacks.push(callback),
            Callbacks::Ready(listening) => listening.clone(),
        };
        // Called outside of the lock, because the program's code may call back into this.
        callback(listening);
    }

    /// All listeners are bound; runs the callbacks.
    pub(crate) fn set(&self, listening: &Listening) {
        let before = std::mem::replace(&mut *lock(&self.0), Callbacks::Ready(listening.clone()));
        if let Callbacks::Waiting(callbacks) = before {
            for callback in callbacks {
                callback(listening.clone());
            }
        }
    }
}

// The readiness that the program reports itself.

/// Why the program does not want requests now, if it does not. Read by probes and by the
/// notifications to the service manager.
#[derive(Debug, Default)]
pub(crate) struct NotReady(Mutex<Reason>);

#[derive(Debug, Default)]
struct Reason {
    reason: Option<Cow<'static, str>>,
    /// The status to send to the service manager once the program is ready again.
    untold: Option<String>,
}

impl NotReady {
    /// Sets the reason. Returns the status to send to the service manager now, if any.
    pub(crate) fn set(&self, reason: Option<Cow<'static, str>>) -> Option<String> {
        let mut state = lock(&self.0);
        state.reason = reason;
        if state.reason.is_none() { state.untold.take() } else { None }
    }

    /// Called once everything else is ready. Returns `Ok` if the program is, too; otherwise keeps
    /// `status` until it is, and returns the reason.
    pub(crate) fn or_later(&self, status: &str) -> Result<(), Cow<'static, str>> {
        let mut state = lock(&self.0);
        match &state.reason {
            None => Ok(()),
            Some(reason) => {
                let reason = reason.clone();
                state.untold = Some(status.to_owned());
                Err(reason)
            }
        }
    }

    pub(crate) fn reason(&self) -> Option<Cow<'static, str>> {
        lock(&self.0).reason.clone()
    }
}
