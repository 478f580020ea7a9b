//! hyper by hand: one `service_fn`.

use std::convert::Infallible;

use graceful_frameworks::{addr, slow};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};

async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(slow().await)))
}

#[graceful::main(timeout = env("TIMEOUT", "20s"))]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), service_fn(handle))
}
