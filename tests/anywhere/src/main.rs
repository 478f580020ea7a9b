//! A server with everything that a stop has to do: a request that takes a while, a task, a hook, a
//! connection of another protocol, a port for probes.

use std::time::Duration;

use axum::{Router, routing::get};
use graceful::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn slow() -> &'static str {
    println!("slow begins");
    tokio::time::sleep(Duration::from_secs(1)).await;
    "slow"
}

async fn endless() -> &'static str {
    println!("endless begins");
    std::future::pending().await
}

/// Panics where `PANICS` says so.
fn panics(place: &str) {
    assert!(std::env::var("PANICS").as_deref() != Ok(place), "a panic in {place}");
}

/// Panics in the drain.
async fn late() -> &'static str {
    println!("late begins");
    graceful::shutdown().await;
    panic!("a late panic")
}

/// Sends back each byte.
async fn echo(mut connection: Connection) -> std::io::Result<()> {
    let mut idle = connection.idle_shutdown();
    loop {
        tokio::select! {
            byte = connection.read_u8() => {
                let byte = byte?;
                connection.write_u8(byte).await?;
            }
            () = &mut idle => return Ok(()),
        }
    }
}

#[graceful::main(timeout = env("TIMEOUT", "5s"), cleanup = "2s")]
async fn main() -> impl graceful::Serve {
    panics("main");
    graceful::on_stop(async {
        println!("hook runs");
        panics("a hook");
    });
    graceful::spawn_named("told", async {
        panics("a task");
        graceful::shutdown().await;
        println!("task is told");
        panics("the drain");
    });
    graceful::spawn_blocking(|| panics("a thread"));
    let app = Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/slow", get(slow))
        .route("/endless", get(endless))
        .route("/panic", get(async || panics("a handler")))
        .route("/late", get(late))
        .route("/stop", get(|| async { graceful::stop() }))
        .route("/block", get(|| async { std::thread::sleep(Duration::from_secs(600)) }));
    let server = graceful::serve("127.0.0.1:0", app).probes("127.0.0.1:0");
    (server, graceful::listen("127.0.0.1:0", echo))
}
