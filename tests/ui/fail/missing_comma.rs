#[graceful::main(timeout = "3s" delay = "1s")]
async fn main() {}
