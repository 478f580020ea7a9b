#[graceful::main(timout = "3s", signals = [SIGTREM], worker_threads = 0, delay = "1.5s")]
async fn main(port: u16) {}
