//! HTTP/2: what is done around each call of the service.

mod frames;
mod service;

pub(super) use frames::Wire;
pub(super) use service::{ConnExecutor, Http2};
