// #[graceful::main(timeout = "none", signals = [SIGTERM, SIGINT], dump = [SIGUSR1], upgrade = [SIGUSR2], upgrade_timeout = "10s", handover = env("HANDOVER", "/run/app/handover.sock"), quiet = true, delay = "1m30s", linger = "100ms", cleanup = env("CLEANUP", "5s"), flavor = "current_thread", name = "web", start_paused = true, unhandled_panic = "shutdown_runtime", crate = "renamed")]
// /// The program.
// #[allow(unused)]
// pub(crate) async fn main() -> impl graceful::Serve {
//     graceful::serve("127.0.0.1:8080", app())
// }

/// The program.
#[allow(unused)]
pub(crate) fn main() -> renamed::Exit {
    async fn main() -> impl graceful::Serve {
        graceful::serve("127.0.0.1:8080", app())
    }
    renamed::Config::new()
        .timeout(::core::option::Option::None)
        .signals([renamed::Signal::SIGTERM, renamed::Signal::SIGINT])
        .dump([renamed::Signal::SIGUSR1])
        .upgrade([renamed::Signal::SIGUSR2])
        .upgrade_timeout(::core::time::Duration::from_secs(10u64))
        .handover(
            ::std::env::var_os("HANDOVER")
                .unwrap_or_else(|| ::std::ffi::OsString::from("/run/app/handover.sock")),
        )
        .quiet(true)
        .delay(::core::time::Duration::from_secs(90u64))
        .linger(::core::time::Duration::from_millis(100u64))
        .cleanup(renamed::env("CLEANUP", ::core::time::Duration::from_secs(5u64)))
        .flavor(renamed::Flavor::CurrentThread)
        .name("web")
        .start_paused(true)
        .unhandled_panic(renamed::UnhandledPanic::ShutdownRuntime)
        .run(main)
}
