//! The limit: nobody waits longer than 3 seconds for a request that takes 10.
//!
//! 1. `cargo run --example limit`
//! 2. In a second terminal, `curl http://127.0.0.1:8080`: the answer would take 10 seconds.
//! 3. Press Ctrl-C in the first: 3 seconds later the program ends and says which request it cut
//!    off.
//! 4. `echo $?`: the exit code is 124, as that of `timeout(1)`.

use std::time::Duration;

use axum::{Router, routing::get};
use graceful_examples::addr;
use tokio::time::sleep;

async fn hello() -> &'static str {
    println!("a request has come: its answer takes 10 seconds");
    sleep(Duration::from_secs(10)).await;
    "Hello world!\n"
}

#[graceful::main(timeout = "3s")]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), Router::new().route("/", get(hello)))
}
