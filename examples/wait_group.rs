//! Work behind an answer: the handler answers at once and leaves the rest to a task, which the stop
//! waits for. In Go this needs a `sync.WaitGroup`.
//!
//! 1. `cargo run --example wait_group`
//! 2. In a second terminal, `curl http://127.0.0.1:8080`: "Accepted", at once.
//! 3. Within 5 seconds, press Ctrl-C in the first: the program waits for the work, then ends with
//!    0.

use std::time::Duration;

use axum::{Router, routing::get};
use graceful_examples::addr;
use tokio::time::sleep;

async fn work() {
    println!("working …");
    sleep(Duration::from_secs(5)).await;
    println!("work done");
}

async fn accept() -> &'static str {
    graceful::spawn(work());
    "Accepted\n"
}

#[graceful::main]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), Router::new().route("/", get(accept)))
}
