//! Graceful shutdown for servers, as one attribute.
//!
//! ```no_run
//! # use axum::{Router, routing::get};
//! #[graceful::main(timeout = "3s")]
//! async fn main() -> impl graceful::Serve {
//!     let app = Router::new().route("/", get(|| async { "Hello world!" }));
//!     graceful::serve("127.0.0.1:8080", app)
//! }
//! ```
//!
//! [`main`](macro@main) listens for stop signals before the first line of the body runs. On the
//! first one, the server stops accepting without losing an accepted connection, finishes its work
//! within the `timeout`, runs the cleanup hooks, and ends the process with an exit code that says
//! how it went. Everything that the limit cut off is named.
//!
//! # Map
//!
//! | to … | use |
//! |---|---|
//! | serve HTTP, from any tower or hyper service | [`serve`], [`Server`] |
//! | serve another protocol, over TCP, Unix sockets or TLS | [`listen`], [`Connection`] |
//! | end a connection of another protocol without loss | [`Connection::idle_shutdown`] |
//! | get the client's address | [`Server::connect_info`], [`ConnectInfo`] |
//! | serve with another framework | [`serve_fn`]; `axum::serve(…)` as it is with the feature `axum-0-8` |
//! | serve several at once | a tuple or `Vec` of them, [`Serve`] |
//! | keep answering, with metrics and probes, while the rest stops | [`Serve::until_exit`] |
//! | wait for background work | [`spawn`], [`spawn_named`], [`spawn_blocking`], [`spawn_local`] |
//! | stop the program when a task ends | [`spawn_critical`] |
//! | stop tasks and servers one after another | [`TaskGroup`], [`Serve::in_group`] |
//! | clean up | [`on_stop`]; [`keep`] for guards that must outlive the report |
//! | run code once every listener is bound | [`on_ready`] |
//! | react to the drain in loops, WebSockets and streams | [`shutdown`], [`until_shutdown`]; to the first signal, [`stopping`] |
//! | stop from code | [`stop`] |
//! | send clients elsewhere without a stop, and take them back | [`Handle::lame_duck`] |
//! | see what is in flight | [`Handle::in_flight`] |
//! | do without the attribute, use your own runtime, or test | [`Config`] |
//!
//! # Messages
//!
//! If the program has installed a [`tracing`] subscriber, messages are events with the target
//! `graceful`. With the feature `log`, if it has a logger of the crate `log` instead, they are
//! records for that logger. Otherwise, they are lines on stderr. The events of a stop are in a span
//! named `stop`, with the field `cause`, which is closed after the last of them. Their fields:
//!
//! | event | level | fields |
//! |---|---|---|
//! | `listening on …` | info | `addr` |
//! | `lame duck: …`, `lame duck no more: …` | info | |
//! | `… received, draining for …` | info | `signal` (empty if no signal started the stop), `limit`, `delay_ms` |
//! | `waiting for …`, at most once a second, when the counts or the oldest piece of work have changed | info | `requests`, `connections`, `tasks`, `oldest` |
//! | `… received, in flight: …`, on a signal of [`Config::dump`] | info | `signal`, `requests`, `connections`, `tasks` |
//! | `drained, waiting for the last figures …`, with [`Config::scrape`] | info | `limit` |
//! | the report; with names, if something was cut off | info; error | `elapsed_ms`, `requests`, `connections`, `tasks` (how many were drained), `cut` (how many were cut off) |
//! | `error: …`: `main`, a server or a cleanup hook has failed | error | `error`, `report` (the error's own `{:?}` form, if that has more than one line) |
//! | `error: kept values are left behind: …`, for [`keep`] | error | `kept` |
//! | `server … has ended by itself`, for [`serve_fn`], before any stop | info | `server` |
//! | `nothing to serve: …`, tasks of `tokio::spawn` that `main` has left behind | warn | `server`; `tasks` |
//! | `task … panicked: …` | error | `task`, `panic` |
//! | `read the certificate … again`; if that fails | info; warn | `certificate`; `error` |
//! | `… connection limit reached …`, once | warn | `server`, `max_connections` |
//! | `connection from …: …`: the error of a handler of [`listen`] | debug | `peer`, `error` |
//! | `… cannot accept: …`, `… accepting again …` | warn, info | `server`, `error`, `elapsed_ms` |
//!
//! On a terminal, a drain that takes more than half a second shows a live line with the remaining
//! work and its oldest piece, which wipes itself at the end. Output of the program starts on its
//! own line meanwhile. The echo of the key (`^C`) is wiped, with the rest of its line.
//!
//! ## Filters
//!
//! A filter for the program's own messages, such as `RUST_LOG=myapp=info` or
//! `EnvFilter::new("myapp=info")`, leaves out the messages of this crate. Errors, and what was cut
//! off, are still lines on stderr then: a process that ends with 1 or 124 never does so silently.
//! Filters for the target `graceful`:
//!
//! | to get | use |
//! |---|---|
//! | all messages in the program's log | `myapp=info,graceful=info` |
//! | only errors and what was cut in the program's log | `myapp=info,graceful=error` |
//! | the errors of single connections of [`listen`], as well | `myapp=info,graceful=debug` |
//! | neither "listening on" nor the report, wherever they would go | `quiet = true`, [`Config::quiet`] |
//! | no line on stderr at all | a filter that accepts `graceful=error`, or a subscriber that drops it |
//!
//! Each message is one event with one line of text. If an error prints itself over several lines
//! (`anyhow`, `eyre`, `miette`), stderr shows all of them, and the event has them in its field
//! `report`.
//!
//! # Testing your own shutdown
//!
//! [`Config::start`] serves inside an ordinary test and installs no signal handler. Stopping
//! returns the [`Report`]:
//!
//! ```
//! # use axum::{Router, routing::get};
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app = Router::new().route("/", get(|| async { "Hello world!" }));
//! let running = graceful::Config::new().start(graceful::serve("127.0.0.1:0", app)).await.unwrap();
//! let addr = running.local_addr().unwrap();
//! // … requests to `addr`, some of which are still running …
//! let report = running.stop().await;
//! assert!(report.is_clean(), "{report}");
//! # }
//! ```
//!
//! # Comparison to other libraries
//!
//! - `axum::serve(…).with_graceful_shutdown(…)` has no limit, swallows the second signal, and does
//!   not wait for WebSockets.
//! - `hyper_util::server::graceful::GracefulShutdown` is the building block of that: it leaves
//!   signals, limits and exit code to the caller. Both close keep-alive connections at once, which
//!   loses the requests that are in transit.
//! - `axum-server` has a limit; `actix-web` and Rocket have their own limits and signals, and
//!   swallow the second signal.
//! - `tokio-graceful` and `tokio-graceful-shutdown` wait for tasks and subsystems; connections are
//!   up to the caller.
//! - `tokio_util::task::TaskTracker` and `CancellationToken` are what you would build [`spawn`] and
//!   [`shutdown`] from by hand; they do not know what was cut.
//!
//! `docs/comparison.md` in the repository (on docs.rs, in the module `guides`) compares them
//! feature by feature, with measurements. `docs/migration.md` shows how to migrate from each of
//! them.
//!
//! # Features
//!
//! - `http1`, `http2` (both default): [`serve`], for the protocols that are enabled.
//! - `net` (enabled by each of these): [`listen`], without any HTTP.
//! - `tls`: TLS with rustls, with the crypto provider of your choice: [`Server::tls`],
//!   [`Server::tls_files`].
//! - `proxy-protocol`: [`Server::proxy_protocol`].
//! - `probes`: `Server::probes`, a port for Kubernetes, with figures for Prometheus.
//! - `metrics`: the same figures for the recorder of the crate `metrics`; see `docs/metrics.md` in
//!   the repository.
//! - `serde`: `Serialize` for [`InFlight`] and [`Report`].
//! - `systemd`: tells systemd when the program is ready, what it is doing and when it stops, asks
//!   for the time that a stop needs, and feeds the watchdog. It also uses the sockets that the
//!   process was started with, by address, by name (`systemd:name`) and by number (`fd:3`). See
//!   `docs/systemd.md` in the repository.
//! - `axum-0-8`: [`Serve`] for `axum::serve(…)` of axum 0.8. [`serve`] and [`serve_fn`] also work
//!   with later versions of axum.
//! - `log`: messages for loggers of the crate `log`, in their own format, if there is no `tracing`
//!   subscriber.
//! - `tokio-util`: `cancellation_token`, for libraries that expect a `CancellationToken`.
//! - `test-util`: the argument `start_paused`.
//!
//! # Panics that abort
//!
//! With `panic = "abort"` in the profile, a panic anywhere, even in a handler, ends the process at
//! once with SIGABRT: nothing is drained, and no hook runs. Work that this crate cuts off never
//! causes one: it is dropped while its timers still exist, or left as it is.
//!
//! # Platforms
//!
//! Runs on Unix and on Windows, on targets with 64-bit atomics (`target_has_atomic = "64"`; not
//! `mipsel` and `armv5te`, among others). Nothing is lost on Linux; `docs/platforms.md` in the
//! repository says what differs elsewhere.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http2"),
    allow(dead_code, unused_imports, reason = "some of the core serves one protocol alone")
)]

// `tests/tests/fast/layers.rs` checks which of these may use which.
mod config;
mod context;
#[cfg(feature = "handover")]
mod handover;
#[cfg(feature = "http1")]
mod http;
mod log;
mod manager;
#[cfg(feature = "net")]
mod net;
mod serve;
mod signal;
mod stop;
mod util;
mod work;

#[cfg(not(any(unix, windows)))]
compile_error!("graceful runs on Unix and on Windows: this target is neither");

#[cfg(all(windows, any(feature = "handover", feature = "systemd")))]
compile_error!(
    "the features `handover` and `systemd` of `graceful-main` need Unix: enable them under \
     `[target.'cfg(unix)'.dependencies]` in Cargo.toml"
);

#[doc = include_str!("main_attr.md")]
pub use graceful_main_macros::main;
#[doc = include_str!("test_attr.md")]
pub use graceful_main_macros::test;

/// The guides from `docs/` in the repository. Only on docs.rs, because their links are those of the
/// repository.
#[cfg(docsrs)]
pub mod guides {
    macro_rules! guides {
        ($($name:ident: $file:literal),* $(,)?) => {
            $(#[doc = include_str!($file)] pub mod $name {})*
        };
    }
    guides! {
        comparison: "../docs/comparison.md",
        consumers: "../docs/consumers.md",
        containers: "../docs/containers.md",
        cost: "../docs/cost.md",
        frameworks: "../docs/frameworks.md",
        goodbyes: "../docs/goodbyes.md",
        kubernetes: "../docs/kubernetes.md",
        metrics: "../docs/metrics.md",
        migration: "../docs/migration.md",
        platforms: "../docs/platforms.md",
        reference: "../docs/reference.md",
        restarts: "../docs/restarts.md",
        systemd: "../docs/systemd.md",
        upgrade: "../docs/upgrade.md",
    }
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::{
        handover::message::read_messages, http::fuzzing::*, net::fuzzing::*,
        util::duration::read_duration,
    };
}

#[cfg(feature = "tokio-util")]
pub use self::context::cancellation_token;
#[cfg(feature = "http2")]
#[doc(hidden)]
pub use self::http::Http2Builder;
#[cfg(feature = "http1")]
pub use self::http::{HttpService, Server, serve};
#[cfg(feature = "tls")]
pub use self::net::tls_info::TlsInfo;
pub use self::{
    config::{Config, Env, Flavor, IntoLimit, Running, Start, UnhandledPanic, env},
    context::{
        Handle, Shutdown, TaskGroup, keep, on_ready, on_stop, shutdown, spawn, spawn_blocking,
        spawn_critical, spawn_local, spawn_named, stop, stopping, until_shutdown,
    },
    serve::{Main, Serve, ServeFn, serve_fn},
    signal::Signal,
    stop::{Cause, Exit, Listening, Report},
    util::Failure,
    work::{ConnectionState, InFlight, Progress},
};
/// Types in the signatures above that nobody has to name.
#[doc(hidden)]
pub use self::{
    config::{IntoWait, OnUnhandledPanic, StartPaused},
    context::UntilShutdown,
    serve::{InGroup, UntilExit},
    util::{Fail, Outcome, via},
};
#[cfg(feature = "handover")]
pub use self::{
    handover::{UpgradeError, inherited, pass_on},
    net::HandOver,
};
#[cfg(feature = "net")]
pub use self::{
    net::{Acceptor, ConnectInfo, Connection, IdleShutdown, Listen, SocketSharing, Transport},
    serve::{ListenServer, listen},
};
/// rustls, in the version that `Server::tls` takes.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
