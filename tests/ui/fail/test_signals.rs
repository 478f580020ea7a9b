#[graceful::test(signals = [SIGTERM])]
async fn stops() {}

fn main() {}
