//! HTTP/2: what is done around each call of the service.

mod body;
mod executor;
mod guard;
mod service;

pub(super) use executor::ConnExecutor;
pub(super) use service::Http2;
