//! What the program itself says of its readiness.

use std::borrow::Cow;

use crate::util::sync::{Mutex, lock};

/// Why it does not want requests now, if it does not. Looked at by probes alone.
#[derive(Debug, Default)]
pub(crate) struct NotReady(Mutex<Option<Cow<'static, str>>>);

impl NotReady {
    pub(crate) fn set(&self, reason: Option<Cow<'static, str>>) {
        *lock(&self.0) = reason;
    }

    pub(crate) fn reason(&self) -> Option<Cow<'static, str>> {
        lock(&self.0).clone()
    }
}
