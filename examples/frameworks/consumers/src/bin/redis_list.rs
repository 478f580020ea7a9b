//! A queue in a list of Redis: each message is done once, also when the program is stopped in the
//! middle of it.
//!
//! The trap is to give up a command that takes something out:
//!
//! ```ignore
//! tokio::select! {
//!     job = redis.blpop("jobs", 0.0) => work(job).await,
//!     () = graceful::shutdown() => break,
//! }
//! ```
//!
//! When the stop comes, `select!` drops the future of `BLPOP`. Redis does not hear of that: it may
//! have taken the message out of the list already, or takes out the next one that comes, and the
//! answer is read by nobody. (`until_shutdown` around it is the same.) The cure is not to give it
//! up: the command is awaited to its end, which comes soon, because it is told to
//! (`CLIENT UNBLOCK`) and blocks for a second at the most.
//!
//! `BLMOVE` in place of `BLPOP` also keeps the message when the program is killed: it is in the
//! list `working` until it is done. A message that was begun then is begun again, so what it does
//! should bear that.

use graceful_consumers::{redis, work};

#[graceful::main(timeout = "30s", name = "redis_list")]
async fn main() -> redis::RedisResult<()> {
    let shutdown = graceful::shutdown();
    let mut redis = redis().await?;
    let blocked: i64 = redis::cmd("CLIENT").arg("ID").query_async(&mut redis).await?;
    let mut other = graceful_consumers::redis().await?;
    let stopped = shutdown.clone();
    graceful::spawn(async move {
        stopped.await;
        // Where it does not block in this moment it will for a second.
        let unblock = redis::cmd("CLIENT").arg("UNBLOCK").arg(blocked).exec_async(&mut other).await;
        if let Err(error) = unblock {
            eprintln!("cannot unblock: {error}");
        }
    });
    // What an instance that was killed has left.
    let mut back = redis::cmd("LMOVE");
    back.arg("working").arg("jobs").arg("RIGHT").arg("LEFT");
    while back.query_async::<Option<String>>(&mut redis).await?.is_some() {}

    let mut take = redis::cmd("BLMOVE");
    take.arg("jobs").arg("working").arg("LEFT").arg("RIGHT").arg(1);
    while !shutdown.has_started() {
        let Some(job) = take.query_async::<Option<String>>(&mut redis).await? else {
            continue;
        };
        work(&job).await;
        // Done, and out of the list, in one step.
        let mut done = redis::pipe();
        done.atomic().hincr("done", &job, 1).ignore().lrem("working", 1, &job).ignore();
        done.exec_async(&mut redis).await?;
    }
    Ok(())
}
