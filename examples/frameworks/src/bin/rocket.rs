//! Rocket, which would take the signals for itself.

use graceful_frameworks::addr;
use rocket::{Config, get, routes};

#[get("/slow")]
async fn slow() -> &'static str {
    graceful_frameworks::slow().await
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let log_level = rocket::config::LogLevel::Off;
    let (address, port) = (addr().ip(), addr().port());
    let config = Config { address, port, log_level, ..Config::default() };
    // Above the `timeout`, which names what it cuts.
    graceful::rocket!(rocket::custom(config).mount("/", routes![slow]), grace = 30)
}
