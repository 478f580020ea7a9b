//! hyper-util's `auto` connection with its `GracefulShutdown`.

mod service;

use std::io;

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> io::Result<()> {
    service::run(async {
        let mut term = signal(SignalKind::terminate())?;
        let listener = service::listen().await?;
        let builder = auto::Builder::new(TokioExecutor::new());
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, _) = tokio::select! {
                accepted = listener.accept() => accepted?,
                _ = term.recv() => break,
            };
            stream.set_nodelay(true)?;
            let service = service_fn(service::handle);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            tokio::spawn(graceful.watch(connection.into_owned()));
        }
        drop(listener);
        graceful.shutdown().await;
        Ok(())
    })
}
