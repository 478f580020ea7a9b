//! A server that was made and then dropped, as by a semicolon behind it.

use std::fmt::Display;

use super::handle::Handle;

/// Part of each server. Dropped before the server is bound it leaves a note, for a program that
/// then ends with nothing to serve.
pub(crate) struct Unserved(Option<String>);

impl Unserved {
    pub(crate) fn new(server: &impl Display) -> Self {
        Self(Some(server.to_string()))
    }

    /// It has got where it belongs.
    pub(crate) fn served(mut self) {
        self.0 = None;
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        if let (Some(server), Some(handle)) = (self.0.take(), Handle::try_current()) {
            handle.shared().note_unserved(server);
        }
    }
}
