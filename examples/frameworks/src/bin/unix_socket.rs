//! A tower service over a Unix socket, beside TCP.

use std::convert::Infallible;

use graceful_frameworks::{addr, slow};
use hyper::{Request, Response, body::Incoming};

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    let service = tower::service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(slow().await.to_owned()))
    });
    let socket = std::env::temp_dir().join(format!("frameworks-{}.sock", std::process::id()));
    graceful::serve([addr().to_string(), format!("unix:{}", socket.display())], service)
}
