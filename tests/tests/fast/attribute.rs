//! What the options do, and `#[graceful::test]`.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

#[test]
fn worker_threads_reach_the_runtime() {
    #[graceful::main(worker_threads = 3)]
    async fn run() {
        assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
        assert_eq!(Handle::current().metrics().num_workers(), 3);
    }
    assert_eq!(run().code(), 0);
}

#[test]
fn flavor_reaches_the_runtime() {
    #[graceful::main(flavor = "current_thread")]
    async fn run() {
        assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
        let main = std::thread::current().id();
        let task = graceful::spawn(async { std::thread::current().id() });
        assert_eq!(task.await.unwrap(), main);
    }
    assert_eq!(run().code(), 0);
}

#[test]
fn the_local_flavor_spawns_what_cannot_move() {
    #[graceful::main(flavor = "local")]
    async fn run() {
        let here = std::rc::Rc::new(7);
        let there = here.clone();
        let task = tokio::task::spawn_local(async move { *there });
        assert_eq!(task.await.unwrap(), *here);
        graceful::spawn(async {}).await.unwrap();
    }
    assert_eq!(run().code(), 0);
}

#[test]
fn the_default_flavor_serves_on_the_workers() {
    #[graceful::main]
    async fn run() -> impl graceful::Serve {
        let main = std::thread::current().id();
        graceful::serve_fn(move |_| async move {
            assert_ne!(std::thread::current().id(), main);
        })
    }
    assert_eq!(run().code(), 0);
}

#[test]
fn the_name_reaches_the_runtime() {
    #[graceful::main(name = "web")]
    async fn run() {
        assert_eq!(Handle::current().name(), Some("web"));
    }
    assert_eq!(run().code(), 0);
}

#[test]
fn start_paused_reaches_the_runtime() {
    #[graceful::main(flavor = "current_thread", start_paused = true)]
    async fn run() {
        let start = std::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(run().code(), 0);
}

#[test]
fn axum_serve_is_served_as_it_is() {
    #[graceful::main]
    async fn run() -> std::io::Result<impl graceful::Serve> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        graceful::spawn(async move {
            let fetch = move || graceful_tests::Client::connect(addr).fetch("/").text();
            assert_eq!(tokio::task::spawn_blocking(fetch).await.unwrap(), "fine");
            graceful::stop();
        });
        Ok(axum::serve(listener, graceful_tests::app::router()))
    }
    assert_eq!(run().code(), 0);
}

#[graceful::test]
async fn a_test_has_a_context() {
    let (ran, hook) = tokio::sync::oneshot::channel();
    graceful::on_stop(async { ran.send(()).unwrap() });
    let task = graceful::spawn(async {
        graceful::shutdown().await;
        7
    });
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
    graceful::stop();
    graceful::shutdown().await;
    assert_eq!(task.await.unwrap(), 7);
    // Runs after the body: the receiver has to live until then.
    std::mem::forget(hook);
}

#[graceful::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_may_fail_by_its_result() -> Result<(), String> {
    assert_eq!(Handle::current().metrics().num_workers(), 2);
    Ok(())
}

#[graceful::test(timeout = "50ms")]
#[should_panic(expected = "limit of 50ms reached, cut off: task endless, ")]
async fn a_cut_fails_the_test() {
    graceful::spawn_named("endless", std::future::pending::<()>());
}

#[graceful::test]
#[should_panic(expected = "the body panics")]
async fn a_panic_fails_the_test() {
    panic!("the body panics");
}

#[test]
fn hooks_run_after_the_body_of_a_test() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let ran = Arc::new(AtomicUsize::new(0));
    let hook = ran.clone();
    graceful::Config::new().test(async || {
        graceful::on_stop(async move {
            hook.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}
