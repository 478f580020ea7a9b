//! Graceful shutdown for servers, as one attribute.

mod config;
mod context;
mod duration;
mod exit;
mod failure;
mod handle;
mod hooks;
#[cfg(feature = "http")]
mod http;
mod in_flight;
mod limits;
mod log;
mod main_fn;
mod pending;
mod phase;
mod progress;
mod race;
mod registry;
mod report;
mod run;
mod sentinel;
mod serve;
mod serving;
mod shutdown;
mod signal;
mod start;
mod sync;
mod task;
mod work;
mod writer;

#[doc = include_str!("main_attr.md")]
pub use graceful_main_macros::main;

#[cfg(feature = "http")]
pub use self::http::{HttpService, Listen, Server, serve};
pub use self::{
    config::{Config, Flavor, OnUnhandledPanic, StartPaused, UnhandledPanic},
    exit::Exit,
    failure::Failure,
    handle::{Handle, on_stop, shutdown, spawn, spawn_blocking, spawn_named, stop},
    in_flight::InFlight,
    limits::{Env, Limit, Wait, env},
    main_fn::{Fail, Main, Outcome, via},
    report::{Cause, Report},
    serve::{Serve, ServeFn, serve_fn},
    shutdown::Shutdown,
    signal::Signal,
    start::Running,
};
