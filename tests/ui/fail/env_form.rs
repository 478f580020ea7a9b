#[graceful::main(timeout = env("TIMEOUT", 3), delay = env("", "3s"), cleanup = env("CLEANUP", "5"))]
async fn main() {}
