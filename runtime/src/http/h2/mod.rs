//! HTTP/2: what is done around each call of the service.

mod body;
mod executor;
mod frames;
mod guard;
mod service;

pub(super) use executor::ConnExecutor;
pub(super) use frames::Wire;
pub(super) use service::Http2;
