use std::time::Duration;

const CLEANUP: Duration = Duration::from_secs(1);

#[graceful::main(
    timeout = "1m30s",
    signals = [SIGTERM, SIGINT, SIGUSR1],
    delay = graceful::env("DELAY", "0s"),
    quiet = true,
    linger = Duration::from_millis(100),
    cleanup = CLEANUP,
    flavor = "multi_thread",
    worker_threads = 2,
    name = "web",
    crate = "graceful",
)]
async fn main() {}
