//! A router of axum's, served by axum.

mod service;

use std::io;

use axum::{Router, body::Body, routing::any};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> io::Result<()> {
    service::run(async {
        let mut term = signal(SignalKind::terminate())?;
        let stop = async move {
            term.recv().await;
        };
        let handler = any(async |request| service::handle::<Body>(request).await);
        let app = Router::new().route("/", handler.clone()).route("/slow", handler);
        axum::serve(service::listen().await?, app).with_graceful_shutdown(stop).await
    })
}
