//! Rocket, which would take the signals for itself: told to leave them alone, and to be done within
//! the `timeout`.

use graceful_frameworks::addr;
use rocket::{Config, config::Shutdown, get, routes};

#[get("/slow")]
async fn slow() -> &'static str {
    graceful_frameworks::slow().await
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let server = graceful::serve_fn(|shutdown| async {
        // It waits for all of its grace, also with nothing to do: as short as the longest request.
        let own =
            Shutdown { ctrlc: false, signals: [].into(), grace: 2, mercy: 1, ..Default::default() };
        let config = Config {
            address: addr().ip(),
            port: addr().port(),
            shutdown: own,
            log_level: rocket::config::LogLevel::Off,
            ..Config::default()
        };
        let rocket = rocket::custom(config).mount("/", routes![slow]).ignite().await;
        let rocket = rocket.map_err(|error| error.to_string())?;
        let stop = rocket.shutdown();
        tokio::spawn(async move {
            shutdown.await;
            stop.notify();
        });
        rocket.launch().await.map(drop).map_err(|error| error.to_string())
    });
    server.name("rocket").addr(addr())
}
