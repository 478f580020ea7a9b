#[graceful::main(timeout = env("TIMEOUT", 3), delay = env("", "3s"), cleanup = graceful::env("CLEANUP", "5"))]
async fn main() {}
