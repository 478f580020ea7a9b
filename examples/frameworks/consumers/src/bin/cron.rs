//! A scheduler: what is due at a time is done by one instance, once, and brought to its end when a
//! stop comes in the middle of it. The wait for the next time is given up.

use std::str::FromStr;

use chrono::Utc;
use cron::Schedule;
use graceful_consumers::{redis, work};

#[graceful::main(timeout = "30s", name = "cron")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut redis = redis().await?;
    // Each second: second, minute, hour, day of the month, month, day of the week.
    let schedule = Schedule::from_str("* * * * * *")?;
    for time in schedule.upcoming(Utc) {
        let wait = (time - Utc::now()).to_std().unwrap_or_default();
        if graceful::until_shutdown(tokio::time::sleep(wait)).await.is_none() {
            break;
        }
        let slot = time.timestamp();
        // The first instance that says so does it.
        let mut claim = redis::cmd("HSETNX");
        claim.arg("begun").arg(slot).arg(1);
        if claim.query_async::<bool>(&mut redis).await? {
            work(&slot.to_string()).await;
            redis::cmd("HINCRBY").arg("done").arg(slot).arg(1).exec_async(&mut redis).await?;
        }
    }
    Ok(())
}
