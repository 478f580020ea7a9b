//! axum with its own server: `axum::serve(…)` is returned as it is.

use axum::{Router, routing::get};
use graceful_frameworks::{addr, slow};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> std::io::Result<impl graceful::Serve> {
    let listener = tokio::net::TcpListener::bind(addr()).await?;
    Ok(axum::serve(listener, Router::new().route("/slow", get(slow))))
}
