#[graceful::main(timeout = true, signals = "SIGTERM", worker_threads = "4", flavor = 1, name = 7, crate = 3)]
async fn main() {}
