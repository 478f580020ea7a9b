//! The same as a tower service on ours.

mod service;

use hyper::body::Incoming;

fn main() -> graceful::Exit {
    let mut config = graceful::Config::new();
    if std::env::var_os("ONE_WORKER").is_some() {
        config = config.worker_threads(1);
    }
    let service = tower::service_fn(service::handle::<Incoming>);
    config.run(move || async move { graceful::serve("127.0.0.1:0", service) })
}
