#[graceful::main(timeout = "3s", delay = "1s", timeout = "4s")]
async fn main() {}
