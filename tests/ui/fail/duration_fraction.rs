#[graceful::main(timeout = "1.5s", cleanup = 0.5)]
async fn main() {}
