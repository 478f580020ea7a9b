#[graceful::main(timeout, flavor =)]
async fn main() {}
