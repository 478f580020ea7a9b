//! `main` and what it holds need not be `Send`.
use std::rc::Rc;

#[graceful::main(flavor = "current_thread")]
async fn main() {
    let local = Rc::new(1);
    tokio::task::yield_now().await;
    assert_eq!(*local, 1);
}
