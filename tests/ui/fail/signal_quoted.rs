#[graceful::main(signals = ["SIGTERM", 15])]
async fn main() {}
