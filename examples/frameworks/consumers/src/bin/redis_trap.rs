//! The trap, for comparison: `BLPOP` inside of `select!`. Do not do this.
//!
//! `redis_list` says why, and how it is done. Here a hook keeps the process alive for a moment
//! after the command was given up, as a flush of telemetry would. A message that comes then is
//! handed to a future that is no more.

use std::time::Duration;

use graceful_consumers::{redis, work};

#[graceful::main(name = "redis_trap")]
async fn main() -> redis::RedisResult<()> {
    let mut redis = redis().await?;
    let flush = redis.clone();
    graceful::on_stop(async move {
        println!("given up");
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(flush);
    });
    println!("begins nothing yet");
    loop {
        let mut take = redis::cmd("BLPOP");
        take.arg("jobs").arg(0);
        tokio::select! {
            job = take.query_async::<(String, String)>(&mut redis) => work(&job?.1).await,
            () = graceful::shutdown() => return Ok(()),
        }
    }
}
