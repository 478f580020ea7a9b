//! What the examples share: where they listen, and a request that takes a second.

use std::{net::SocketAddr, time::Duration};

/// From the environment.
///
/// # Panics
///
/// If `ADDR` is not set, or is no address.
#[must_use]
pub fn addr() -> SocketAddr {
    std::env::var("ADDR").expect("ADDR is set").parse().expect("an address")
}

/// What `/slow` answers.
pub async fn slow() -> &'static str {
    println!("slow begins");
    tokio::time::sleep(Duration::from_secs(1)).await;
    "slow"
}

/// The server of the programs that are about what is told of a stop.
pub fn telling() -> graceful::Server {
    graceful::serve(addr(), axum::Router::new().route("/slow", axum::routing::get(slow)))
}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/migration.md")]
struct Migration;
