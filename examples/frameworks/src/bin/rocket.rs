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
    let figment =
        rocket::figment::Figment::from(Config { address, port, log_level, ..Config::default() })
            .merge(("shutdown.ctrlc", false))
            .merge(("shutdown.signals", Vec::<&str>::new()))
            // In seconds, above the `timeout`, which names what it cuts.
            .merge(("shutdown.grace", 30));
    let rocket = rocket::custom(figment).mount("/", routes![slow]);
    graceful::serve_fn(move |shutdown| async move {
        let rocket = rocket.ignite().await.map_err(|error| error.to_string())?;
        let notify = rocket.shutdown();
        tokio::spawn(async move {
            shutdown.await;
            notify.notify();
        });
        rocket.launch().await.map(drop).map_err(|error| error.to_string())
    })
    .name("rocket")
}
