//! A restart that no client can see.
//!
//! 1. `cargo run --example upgrade`: it says which process it is, and its version.
//! 2. In a second terminal, `cargo run --example upgrade client`: a client that keeps its one
//!    connection prints an answer each second.
//! 3. Change `VERSION` below, and in a third terminal `cargo build --example upgrade`.
//! 4. `kill -USR2 PROCESS`, with the number from 1: the answers are of the new version, and of
//!    another process. The old one says what it has handed over, and ends.
//!
//! The new process is in the background then: `kill NUMBER` ends it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{ExitCode, Termination},
    time::Duration,
};

use axum::{Router, routing::get};
use graceful_examples::addr;

const VERSION: u32 = 1;

#[graceful::main(upgrade = [SIGUSR2], timeout = "10s")]
async fn server() -> impl graceful::Serve {
    println!("process {}, version {VERSION}", std::process::id());
    let hello = || async { format!("version {VERSION}, process {}", std::process::id()) };
    graceful::serve(addr(), Router::new().route("/", get(hello)))
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("client") {
        return client().report();
    }
    server().report()
}

fn client() -> std::io::Result<()> {
    let mut connection = TcpStream::connect(addr())?;
    loop {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n")?;
        let mut answer = [0; 1_000];
        let length = connection.read(&mut answer)?;
        if length == 0 {
            println!("the connection was closed");
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        println!("{}", answer.rsplit("\r\n").next().unwrap_or_default());
        std::thread::sleep(Duration::from_secs(1));
    }
}
