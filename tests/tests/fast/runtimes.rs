//! Whose runtime it is, and whose signals: `run_on`, the settings of tokio's builder, signals for a
//! server inside of another program, and groups of tasks as handles.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use graceful::{Cause, Config, Flavor, Serve, Signal, TaskGroup};
use graceful_tests::{Client, in_time};
use rustix::process::{getpid, kill_process};

fn app() -> Router {
    graceful_tests::app::router()
}

#[test]
fn a_runtime_of_the_programs_own_is_drained_as_ours_is() {
    for current_thread in [false, true] {
        let mut builder = if current_thread {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        let runtime = builder.enable_all().thread_name("theirs").build().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let hook = done.clone();
        let exit = Config::new().run_on(runtime, async move || {
            graceful::on_stop(async move {
                hook.fetch_add(1, Ordering::SeqCst);
            });
            graceful::keep(vec![1]);
            // The free functions work in a handler.
            let stop = get(|| async {
                let name = std::thread::current().name().map(str::to_owned);
                graceful::stop();
                graceful::spawn(async { tokio::time::sleep(Duration::from_millis(20)).await });
                name.unwrap_or_default()
            });
            let app = Router::new().route("/", stop);
            graceful::on_ready(async move |listening| {
                let addr = listening.local_addr().unwrap();
                let fetch = move || Client::connect(addr).fetch("/").text();
                let said = tokio::task::spawn_blocking(fetch).await.unwrap();
                assert_eq!(said == "theirs", !current_thread, "{said}");
            });
            graceful::serve("127.0.0.1:0", app)
        });
        assert_eq!((exit.code(), done.load(Ordering::SeqCst)), (0, 1));
    }
}

#[test]
fn all_of_tokios_settings_can_be_set() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let config = Config::new().worker_threads(1).runtime(|builder| {
        builder.worker_threads(3).thread_name("named").max_blocking_threads(1);
    });
    let config = config.on_thread_start(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let exit = config.run(async || {
        assert_eq!(tokio::runtime::Handle::current().metrics().num_workers(), 3);
        let task = graceful::spawn(async {
            // The context is there all the same.
            graceful::spawn(async { std::thread::current().name().map(str::to_owned) }).await
        });
        assert_eq!(task.await.unwrap().unwrap().as_deref(), Some("named"));
        // On a busy machine the others have yet to begin.
        let begun = async {
            while started.load(Ordering::SeqCst) < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        in_time(begun).await;
    });
    assert_eq!(exit.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_a_server_inside_of_another_program() {
    let config = || Config::new().signals([Signal::SIGUSR1]);
    let running = config().start(graceful::serve("127.0.0.1:0", app())).signals().await.unwrap();
    // Without a word about signals there are none.
    let other = config().start(graceful::serve("127.0.0.1:0", app())).await.unwrap();
    kill_process(getpid(), rustix::process::Signal::USR1).unwrap();
    let report = in_time(running.ended()).await;
    assert_eq!(*report.cause(), Cause::Signal(Signal::SIGUSR1));
    assert!(report.is_clean(), "{report}");
    let addr = other.local_addr().unwrap();
    let fetch = move || Client::connect(addr).fetch("/").text();
    assert_eq!(tokio::task::spawn_blocking(fetch).await.unwrap(), "fine");
    assert!(in_time(other.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_dropped_and_what_stands_apart_ends_inside_of_another_program_too() {
    struct Kept(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Kept {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let server = graceful::serve("127.0.0.1:0", app()).until_exit();
    let running = Config::new().start((server, graceful::serve_fn(|shutdown| shutdown))).await;
    let running = running.unwrap();
    let (addr, handle) = (running.local_addr().unwrap(), running.handle().clone());
    let (dropped, is_dropped) = tokio::sync::oneshot::channel();
    handle.keep(Kept(Some(dropped)));
    // Its moment is past.
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    handle.on_ready(move |listening| async move { ready.send(listening.local_addr()).unwrap() });
    assert_eq!(in_time(is_ready).await.unwrap(), Some(addr));
    let ask = move || {
        let mut client = Client::connect(addr);
        assert_eq!(client.fetch("/").text(), "fine");
        client
    };
    let mut client = tokio::task::spawn_blocking(ask).await.unwrap();
    assert!(in_time(running.stop()).await.is_clean());
    in_time(is_dropped).await.unwrap();
    let ended = move || {
        assert!(client.try_response().is_err());
        while Client::try_connect(addr).is_ok() {}
    };
    in_time(tokio::task::spawn_blocking(ended)).await.unwrap();
}

#[test]
fn what_is_not_send_is_waited_for_where_it_can_be_spawned() {
    let exit = Config::new().flavor(Flavor::Local).run(async || {
        let shared = Rc::new(std::cell::Cell::new(0));
        let count = shared.clone();
        graceful::spawn_local(async move {
            graceful::shutdown().await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            count.set(1);
        });
        let watched = shared.clone();
        graceful::on_ready(async |_| graceful::stop());
        graceful::spawn_local(async move {
            let shutdown = graceful::shutdown();
            shutdown.await;
            while watched.get() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        graceful::serve_fn(|shutdown| shutdown)
    });
    assert_eq!(exit.code(), 0);
}

#[graceful::test]
async fn a_group_is_a_handle_to_its_tasks() {
    let group = TaskGroup::new("jobs");
    assert!(group.is_empty());
    let (to_test, ended) = tokio::sync::oneshot::channel();
    group.spawn(async move {
        tokio::task::yield_now().await;
        to_test.send(()).unwrap();
    });
    in_time(group.join_all()).await;
    ended.await.unwrap();
    let never = group.spawn_named("never", std::future::pending::<()>());
    let also = group.spawn(std::future::pending::<()>());
    assert_eq!(group.len(), 2);
    let names: Vec<_> =
        graceful::Handle::current().in_flight().iter().map(ToString::to_string).collect();
    assert!(names.iter().any(|name| name.starts_with("task jobs: never, ")), "{names:?}");
    group.abort_all();
    in_time(group.join_all()).await;
    assert!(never.await.unwrap_err().is_cancelled() && also.await.unwrap_err().is_cancelled());
}

/// One that is made when all others have had their turn has its own at once.
#[test]
fn a_group_that_is_made_in_the_drain_is_told_at_once() {
    let exit = Config::new().timeout(Duration::from_secs(10)).run(async || {
        graceful::spawn(async {
            drop(TaskGroup::new("early"));
            graceful::stop();
            graceful::shutdown().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            TaskGroup::new("late").shutdown().await;
        });
    });
    assert_eq!(exit.code(), 0);
}
