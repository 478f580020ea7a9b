//! What the examples share: the address to listen on.

/// The environment variable `ADDR`, or `127.0.0.1:8080`.
#[must_use]
pub fn addr() -> String {
    std::env::var("ADDR").unwrap_or_else(|_| "127.0.0.1:8080".to_owned())
}
