//! Addresses, listeners, streams, and what the kernel knows of them. Nothing in here knows HTTP.

pub(crate) mod address;
pub(crate) mod clock;
pub(crate) mod kernel;
pub(crate) mod lingering;
pub(crate) mod listener;
pub(crate) mod stream;
