//! A server for a container, and for Kubernetes: `Dockerfile` and `compose.yaml` are beside it, the
//! manifests in `../kubernetes`.
//!
//! Its limits come from the environment, so that they are written next to what they have to fit
//! into: `terminationGracePeriodSeconds`, `stop_grace_period`.

use std::time::Duration;

use axum::{Router, extract::Path, routing::get};

/// Work that takes a while.
async fn slow(Path(millis): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    "done\n"
}

#[graceful::main(
    delay = env("DELAY", "0s"),
    timeout = env("TIMEOUT", "20s"),
    cleanup = env("CLEANUP", "5s"),
    dump = [SIGUSR1]
)]
async fn main() -> impl graceful::Serve {
    let listen = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let app = Router::new()
        .route("/", get(|| async { "Hello world!\n" }))
        .route("/slow/{millis}", get(slow));
    graceful::serve(listen("LISTEN", "0.0.0.0:8080"), app).probes(listen("PROBES", "0.0.0.0:9000"))
}
