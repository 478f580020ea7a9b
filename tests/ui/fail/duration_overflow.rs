#[graceful::main(timeout = "99999999999999999999h")]
async fn main() {}
