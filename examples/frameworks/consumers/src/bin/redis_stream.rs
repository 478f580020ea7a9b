//! A stream of Redis, read by a group of consumers: a message is acknowledged once it is done, and
//! read again by a consumer of the same name if it never was. The trap and the cure are those of
//! `redis_list`.

use graceful_consumers::{redis, work};
use redis::streams::StreamReadReply;

#[graceful::main(timeout = "30s", name = "redis_stream")]
async fn main() -> redis::RedisResult<()> {
    let shutdown = graceful::shutdown();
    let mut redis = redis().await?;
    let mut group = redis::cmd("XGROUP");
    group.arg("CREATE").arg("events").arg("workers").arg("0").arg("MKSTREAM");
    match group.exec_async(&mut redis).await {
        Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
        _ => {}
    }
    // First what was read and not acknowledged, then what is new (XREADGROUP, "The ID to specify").
    let mut from = "0";
    while !shutdown.has_started() {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg("workers").arg("one").arg("COUNT").arg(1).arg("BLOCK").arg(1_000);
        read.arg("STREAMS").arg("events").arg(from);
        // Not given up: what it returns has been handed to this consumer.
        let reply: Option<StreamReadReply> = read.query_async(&mut redis).await?;
        let message = reply.and_then(|reply| reply.keys.into_iter().next()?.ids.into_iter().next());
        let Some(message) = message else {
            from = ">";
            continue;
        };
        let job: String = message.get("job").unwrap_or_default();
        work(&job).await;
        let mut done = redis::pipe();
        done.atomic()
            .hincr("done", &job, 1)
            .ignore()
            .xack("events", "workers", &[&message.id])
            .ignore();
        done.exec_async(&mut redis).await?;
    }
    Ok(())
}
