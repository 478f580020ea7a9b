#[graceful::main(dump = [SIGUSR1], lame_duck = [SIGTERM, SIGUSR1], spread = "none")]
async fn main() {}
