#[graceful::main(flavor = "multi_thred")]
async fn main() {}
