//! axum: the router is a service, and `serve` takes it.

use axum::{Router, routing::get};
use graceful_frameworks::{addr, slow};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), Router::new().route("/slow", get(slow)))
}
