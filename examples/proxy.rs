//! A TCP proxy, such as in front of a Redis: when it is restarted, no reply is lost.
//!
//! 1. `redis-server --port 6379`, or another server: `UPSTREAM=127.0.0.1:5432` for PostgreSQL.
//! 2. `cargo run --example proxy`
//! 3. In a third terminal, `redis-benchmark -p 8080 -k 0 -n 100000 -t incr`.
//! 4. Press Ctrl-C in the second and start it again: replies under way arrive, and clients that
//!    connect meanwhile are refused.

use std::{env, io};

use graceful::Connection;
use graceful_examples::addr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::TcpStream,
};

async fn proxy(client: Connection) -> io::Result<()> {
    let upstream = env::var("UPSTREAM").unwrap_or_else(|_| "127.0.0.1:6379".to_owned());
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    // A proxy does not know where the messages end that it passes on: a client that is silent is
    // done.
    let mut idle = client.idle_shutdown();
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            tokio::select! {
                read = from_client.read(&mut buffer) => match read? {
                    0 => break,
                    length => to_server.write_all(&buffer[..length]).await?,
                },
                () = &mut idle => break,
            }
        }
        // Half of a close: the server answers what it has read, and closes then.
        to_server.shutdown().await
    };
    let replies = copy(&mut from_server, &mut to_client);
    tokio::try_join!(requests, replies)?;
    Ok(())
}

#[graceful::main(timeout = "10s")]
async fn main() -> impl graceful::Serve {
    graceful::listen(addr(), proxy)
}
