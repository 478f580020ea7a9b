//! Addresses, listeners, streams, and what the kernel knows of them. Nothing in here knows HTTP.

pub(crate) mod address;
mod bind;
pub(crate) mod clock;
pub(crate) mod holders;
pub(crate) mod kernel;
pub(crate) mod lingering;
pub(crate) mod listener;
pub(crate) mod stream;
