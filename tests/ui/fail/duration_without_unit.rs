#[graceful::main(timeout = "3", cleanup = 5)]
async fn main() {}
