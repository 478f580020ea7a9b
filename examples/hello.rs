//! A server that stops gracefully.
//!
//! 1. `cargo run --example hello`
//! 2. In a second terminal, `curl http://127.0.0.1:8080`: it says "Hello world!".
//! 3. In the first, press Ctrl-C: the program drains, says so, and exits with 0.

use axum::{Router, routing::get};
use graceful_examples::addr;

#[graceful::main(timeout = "3s")]
async fn main() -> impl graceful::Serve {
    let app = Router::new().route("/", get(|| async { "Hello world!" }));
    graceful::serve(addr(), app)
}
