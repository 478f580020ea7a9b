//! HTTP/1: what is done around each call of the service, and what a connection notes of its
//! requests.

#[cfg(feature = "http1")]
mod body;
mod exchange;
#[cfg(feature = "http1")]
mod service;

#[cfg(feature = "http1")]
pub(super) use service::Http1;
