//! Any protocol: a server that answers each line with itself, and says goodbye when it is stopped.
//!
//! 1. `cargo run --example echo`
//! 2. In a second terminal, `nc 127.0.0.1 8080`, and type.
//! 3. Press Ctrl-C in the first: the client reads `bye`, and the program ends.

use graceful::Connection;
use graceful_examples::addr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

async fn lines(connection: Connection) -> std::io::Result<()> {
    println!("a connection from {:?}", connection.peer_addr());
    // Once the drain has begun and the client is silent: a line that is on its way is still
    // answered.
    let mut idle = connection.idle_shutdown();
    let mut lines = BufReader::new(connection).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => lines.get_mut().write_all(format!("{line}\n").as_bytes()).await?,
                None => return Ok(()),
            },
            () = &mut idle => return lines.get_mut().write_all(b"bye\n").await,
        }
    }
}

#[graceful::main(timeout = "3s")]
async fn main() -> impl graceful::Serve {
    graceful::listen(addr(), lines)
}
