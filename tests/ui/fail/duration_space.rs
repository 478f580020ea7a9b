#[graceful::main(timeout = "3 s")]
async fn main() {}
