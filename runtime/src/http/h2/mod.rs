//! HTTP/2: follows the frames, and wraps each call of the service.

mod frames;
mod service;

pub(super) use frames::Wire;
pub(super) use service::{ConnExecutor, Http2};

#[cfg(fuzzing)]
pub use frames::follow_http2;
