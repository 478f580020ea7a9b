//! Names in the user's crate do not get in the way of the expansion.
#![allow(dead_code)]

mod core {}
mod std {}
struct Config;
struct Duration;

#[graceful::main(timeout = "3s", signals = [SIGTERM])]
async fn main() {}
