//! The cure: the request that is being answered gets its answer, however long it takes.
//!
//! 1. `cargo run --example drain`
//! 2. In a second terminal, `curl http://127.0.0.1:8080`: the answer takes 5 seconds.
//! 3. Within these, press Ctrl-C in the first: the program goes on, and says what it waits for.
//! 4. In a third terminal, `curl http://127.0.0.1:8080`: "Connection refused", nobody new is let
//!    in.
//! 5. The second terminal gets its "Hello world!", and in the same moment the program ends, with 0.

use std::time::Duration;

use axum::{Router, routing::get};
use graceful_examples::addr;
use tokio::time::sleep;

async fn hello() -> &'static str {
    println!("a request has come: its answer takes 5 seconds");
    sleep(Duration::from_secs(5)).await;
    "Hello world!\n"
}

#[graceful::main(timeout = "none")]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), Router::new().route("/", get(hello)))
}
