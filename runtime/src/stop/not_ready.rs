//! What the program itself says of its readiness.

use std::borrow::Cow;

use crate::util::sync::{Mutex, lock};

/// Why it does not want requests now, if it does not. Looked at by probes, and by what tells the service
/// manager.
#[derive(Debug, Default)]
pub(crate) struct NotReady(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    reason: Option<Cow<'static, str>>,
    /// What the service manager is to be told once there is no reason any more.
    untold: Option<String>,
}

impl NotReady {
    /// Returns what the manager is to be told now.
    pub(crate) fn set(&self, reason: Option<Cow<'static, str>>) -> Option<String> {
        let mut state = lock(&self.0);
        state.reason = reason;
        if state.reason.is_none() { state.untold.take() } else { None }
    }

    /// All but what the program says is ready, which is `status`: the manager is to be told so now, or
    /// else later, and why.
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
