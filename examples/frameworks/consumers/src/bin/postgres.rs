//! A queue in a table of PostgreSQL: `FOR UPDATE SKIP LOCKED` takes a row that no other worker has,
//! and the transaction that does the work is the one that says it is done. A worker that is killed
//! has done nothing.

use std::time::Duration;

use graceful_consumers::work;
use tokio_postgres::NoTls;

const TAKE: &str = "SELECT id FROM jobs WHERE done = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";

#[graceful::main(timeout = "30s", name = "postgres")]
async fn main() -> Result<(), tokio_postgres::Error> {
    let shutdown = graceful::shutdown();
    let url = std::env::var("POSTGRES").expect("POSTGRES is set");
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    // Waited for: it ends once `client` is dropped, and has sent all by then.
    graceful::spawn_named("the connection to PostgreSQL", async move {
        if let Err(error) = connection.await {
            eprintln!("the connection has failed: {error}");
        }
    });
    while !shutdown.has_started() {
        let transaction = client.transaction().await?;
        if let Some(row) = transaction.query_opt(TAKE, &[]).await? {
            let id: i32 = row.get(0);
            work(&id.to_string()).await;
            transaction.execute("UPDATE jobs SET done = done + 1 WHERE id = $1", &[&id]).await?;
            transaction.commit().await?;
        } else {
            drop(transaction);
            // Nothing that could be lost: a sleep may be given up.
            graceful::until_shutdown(tokio::time::sleep(Duration::from_millis(100))).await;
        }
    }
    Ok(())
}
