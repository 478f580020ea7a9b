#[graceful::test(worker_threads = 2)]
async fn stops() {}

fn main() {}
