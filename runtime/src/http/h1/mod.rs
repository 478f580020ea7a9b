//! HTTP/1: what is done around each call of the service, and what a connection notes of its
//! requests.

mod body;
mod exchange;
mod service;

pub(super) use service::Http1;
