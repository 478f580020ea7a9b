//! A loop without any shutdown code.

mod service;

use std::io;

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

fn main() -> io::Result<()> {
    service::run(async {
        let listener = service::listen().await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = service_fn(service::handle);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    })
}
