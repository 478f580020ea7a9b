#[graceful::main(timeout = "10ms")]
async fn forever() -> ! {
    graceful::stop();
    loop {
        tokio::task::yield_now().await;
    }
}

fn main() {
    assert_eq!(forever().code(), 124);
}
