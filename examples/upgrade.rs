//! A restart that no client can see.
//!
//! 1. `cargo run --example upgrade`: it says which process it is, and its version.
//! 2. In a second terminal `cargo run --example upgrade client`: a client on one connection, which
//!    it never opens anew, prints an answer each second.
//! 3. Change `VERSION` below, and in a third terminal `cargo build --example upgrade`.
//! 4. `kill -USR2 PROCESS`, with the number from 1: the client's answers are of the new version,
//!    and of another process. The old one says what it has handed over, and ends.
//!
//! The new process is in the background then: `kill NUMBER` ends it.

use std::{io, time::Duration};

use axum::{Router, routing::get};
use graceful_examples::addr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const VERSION: u32 = 1;

#[graceful::main(upgrade = [SIGUSR2], timeout = "10s")]
async fn main() -> io::Result<Option<graceful::Server>> {
    if std::env::args().nth(1).as_deref() == Some("client") {
        return client().await.map(|()| None);
    }
    println!("process {}, version {VERSION}", std::process::id());
    let hello = || async { format!("version {VERSION}, process {}", std::process::id()) };
    Ok(Some(graceful::serve(addr(), Router::new().route("/", get(hello)))))
}

async fn client() -> io::Result<()> {
    let mut connection = TcpStream::connect(addr()).await?;
    loop {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n").await?;
        let mut answer = [0; 1_000];
        let length = connection.read(&mut answer).await?;
        if length == 0 {
            println!("the connection was closed");
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        println!("{}", answer.rsplit("\r\n").next().unwrap_or_default());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
