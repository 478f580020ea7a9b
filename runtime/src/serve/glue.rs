//! Frameworks whose glue is always the same. Macros, and not functions behind features: so that their
//! crates are not in the manifest, and whatever version the program has is the one that is used.

use std::{
    future::{Future, poll_fn},
    pin::pin,
};

/// Serves an `HttpServer` of actix-web (4), bound and not yet run: `graceful::actix!(server)` is a
/// [`ServeFn`](crate::ServeFn).
///
/// Its signals are switched off, and its own limit is raised above any other, so that the signals and
/// the `timeout` of this crate are the ones that count. Its connections end as actix ends them.
///
/// # Examples
///
/// ```ignore
/// use actix_web::{App, HttpServer, web};
///
/// #[graceful::main(timeout = "10s")]
/// async fn main() -> std::io::Result<impl graceful::Serve> {
///     let app = || App::new().route("/", web::get().to(async || "hello"));
///     Ok(graceful::actix!(HttpServer::new(app).bind("0.0.0.0:8080")?))
/// }
/// ```
#[macro_export]
macro_rules! actix {
    ($server:expr) => {{
        let server = $server;
        let addr = server.addrs().first().copied();
        // In seconds: a year.
        let server = server.disable_signals().shutdown_timeout(31_536_000).run();
        let handle = server.handle();
        let serve = $crate::serve_fn(move |shutdown| {
            let stop = async move {
                shutdown.await;
                handle.stop(true).await;
            };
            $crate::__beside(server, stop)
        });
        $crate::__named(serve, "actix", addr)
    }};
}

/// Serves a `Rocket` (0.5), built and not yet launched: `graceful::rocket!(rocket)` is a
/// [`ServeFn`](crate::ServeFn).
///
/// Its signals are switched off. When it is told to stop it gives its requests `grace` seconds, 10
/// unless said otherwise (`graceful::rocket!(rocket, grace = 30)`), and then cuts them by itself, which
/// it does not report: so `grace` should be above the `timeout`, which names what it cuts.
///
/// # Examples
///
/// ```ignore
/// #[graceful::main(timeout = "10s")]
/// async fn main() -> impl graceful::Serve {
///     graceful::rocket!(rocket::build().mount("/", rocket::routes![hello]), grace = 12)
/// }
/// ```
#[macro_export]
macro_rules! rocket {
    ($rocket:expr) => {
        $crate::rocket!($rocket, grace = 10)
    };
    ($rocket:expr, grace = $grace:expr) => {{
        let rocket = $rocket;
        let figment = rocket.figment().clone();
        let figment = figment.merge(("shutdown.ctrlc", false));
        let figment = figment.merge(("shutdown.signals", ::std::vec::Vec::<&str>::new()));
        let grace: u32 = $grace;
        let rocket = rocket.configure(figment.merge(("shutdown.grace", grace)));
        let serve = $crate::serve_fn(move |shutdown| async move {
            let rocket = rocket.ignite().await.map_err(|error| error.to_string())?;
            let notify = rocket.shutdown();
            let stop = async move {
                shutdown.await;
                notify.notify();
            };
            let launched = $crate::__beside(rocket.launch(), stop).await;
            launched.map(drop).map_err(|error| error.to_string())
        });
        $crate::__named(serve, "rocket", ::core::option::Option::None)
    }};
}

/// Waits for `server`, with `stop` polled beside it.
#[doc(hidden)]
pub async fn beside<O>(server: impl Future<Output = O>, stop: impl Future<Output = ()>) -> O {
    let (mut server, mut stop) = (pin!(server), pin!(stop));
    let mut stopped = false;
    poll_fn(|cx| {
        if !stopped {
            stopped = stop.as_mut().poll(cx).is_ready();
        }
        server.as_mut().poll(cx)
    })
    .await
}

#[doc(hidden)]
pub fn named(
    serve: super::ServeFn,
    name: &str,
    addr: Option<std::net::SocketAddr>,
) -> super::ServeFn {
    let serve = serve.name(name);
    match addr {
        Some(addr) => serve.addr(addr),
        None => serve,
    }
}
