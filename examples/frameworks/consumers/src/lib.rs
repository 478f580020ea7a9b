//! What the examples share: the work that a message is about.

use std::time::Duration;

use redis::{AsyncConnectionConfig, RedisResult, aio::MultiplexedConnection};

/// Takes a while, so that a stop comes in the middle of it.
pub async fn work(job: &str) {
    println!("begins {job}");
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Connects to the Redis that the environment names.
///
/// # Errors
///
/// If it is not there.
///
/// # Panics
///
/// If `REDIS` is not set.
pub async fn redis() -> RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(std::env::var("REDIS").expect("REDIS is set"))?;
    // A blocking command answers when there is something to answer with.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}
