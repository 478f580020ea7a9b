//! `Config::start`, inside of an ordinary test.

use std::{error::Error as _, io, time::Duration};

use graceful::{Cause, Config};
use graceful_tests::{Client, Errno, in_time, in_words};

async fn get(addr: std::net::SocketAddr, path: &'static str) -> String {
    let fetch = move || Client::connect(addr).fetch(path).text();
    tokio::task::spawn_blocking(fetch).await.unwrap()
}

#[tokio::test]
async fn starts_serves_and_stops() {
    let server = graceful::serve("127.0.0.1:0", graceful_tests::app::router());
    let running = Config::new().start(server).await.unwrap();
    let addr = running.local_addr().unwrap();
    assert_eq!(get(addr, "/").await, "fine");
    let report = in_time(running.stop()).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(*report.cause(), Cause::Stop);
    assert_eq!(Client::try_connect(addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_free_functions_work_in_handlers_and_tasks() {
    use axum::{Router, routing::get as route};
    let handler = || async {
        graceful::on_stop(async { println!("hook") });
        let child = graceful::spawn(async { graceful::spawn(async { 7 }).await.unwrap() });
        let blocking = graceful::spawn_blocking(|| graceful::Handle::try_current().is_some());
        let shutdown = graceful::shutdown();
        graceful::spawn_named("waits for the drain", async move {
            shutdown.await;
        });
        format!("{} {}", child.await.unwrap(), blocking.await.unwrap())
    };
    let server = graceful::serve("127.0.0.1:0", Router::new().route("/", route(handler)));
    let running = Config::new().start(server).await.unwrap();
    assert_eq!(get(running.local_addr().unwrap(), "/").await, "7 true");
    assert!(graceful::Handle::try_current().is_none(), "the test itself is not in there");
    let report = in_time(running.stop()).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tasks(), 1);
}

#[tokio::test]
async fn the_limit_cuts_and_names() {
    let config = Config::new().timeout(Duration::from_millis(50));
    let running = config.start(()).await.unwrap();
    let task = running.handle().spawn_named("endless", std::future::pending::<()>());
    let report = in_time(running.stop()).await;
    assert_eq!(report.exit().code(), 124);
    let cut: Vec<_> = report.cut().iter().map(ToString::to_string).collect();
    assert!(matches!(&cut[..], [one] if one.starts_with("task endless, ")), "{cut:?}");
    assert!(task.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn the_cut_reaches_the_children_of_a_task() {
    let config = Config::new().timeout(Duration::from_millis(50));
    let running = config.start(()).await.unwrap();
    let (to_test, from_child) = tokio::sync::oneshot::channel();
    let (hang_up, hung) = std::sync::mpsc::channel::<()>();
    let parent = running.handle().spawn_named("parent", async {
        let child = graceful::spawn_named("child", std::future::pending::<()>());
        graceful::spawn_blocking(move || hung.recv());
        to_test.send(child).unwrap();
        std::future::pending::<()>().await;
    });
    let child = from_child.await.unwrap();
    let report = in_time(running.stop()).await;
    let cut: Vec<_> = report.cut().iter().map(ToString::to_string).collect();
    assert_eq!(cut.len(), 3, "{cut:?}");
    for name in ["task parent, ", "task child, ", "task tests/tests/fast/embedded.rs:"] {
        assert!(cut.iter().any(|line| line.starts_with(name)), "{name} in {cut:?}");
    }
    assert!(parent.await.unwrap_err().is_cancelled());
    assert!(child.await.unwrap_err().is_cancelled());
    drop(hang_up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cut_ends_upgraded_connections() {
    let server = graceful::serve("127.0.0.1:0", graceful_tests::app::router());
    let config = Config::new().timeout(Duration::from_millis(50));
    let running = config.start(server).await.unwrap();
    let url = format!("ws://{}/ws", running.local_addr().unwrap());
    let (mut socket, _) =
        tokio::task::spawn_blocking(move || tungstenite::connect(url).unwrap()).await.unwrap();
    let report = in_time(running.stop()).await;
    assert_eq!(report.exit().code(), 124);
    let ended = tokio::task::spawn_blocking(move || socket.read().is_err());
    assert!(tokio::time::timeout(graceful_tests::PATIENCE, ended).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_task_spawned_after_the_cut_does_not_run() {
    let running = Config::new().timeout(Duration::from_millis(20)).start(()).await.unwrap();
    let handle = running.handle().clone();
    let _endless = handle.spawn(std::future::pending::<()>());
    let report = in_time(running.stop()).await;
    assert_eq!(report.exit().code(), 124);
    assert!(handle.spawn(std::future::pending::<()>()).await.unwrap_err().is_cancelled());
    let (ran, has_run) = std::sync::mpsc::channel();
    let blocking = handle.spawn_blocking(move || ran.send(()).unwrap());
    assert!(blocking.await.unwrap_err().is_cancelled());
    assert!(has_run.recv().is_err(), "its closure was dropped, and not called");
}

#[tokio::test]
async fn two_at_once_do_not_mix() {
    let app = graceful_tests::app::router;
    let start = || async {
        let server = graceful::serve("127.0.0.1:0", app());
        Config::new().start(server).await.unwrap()
    };
    let (one, two) = (start().await, start().await);
    let addr = two.local_addr().unwrap();
    assert!(in_time(one.stop()).await.is_clean());
    assert_eq!(get(addr, "/").await, "fine");
    assert!(in_time(two.stop()).await.is_clean());
}

#[tokio::test]
async fn a_drop_stops() {
    let server = graceful::serve_fn(|shutdown| shutdown);
    let running = Config::new().start(server).await.unwrap();
    let shutdown = running.handle().shutdown();
    drop(running);
    shutdown.await;
}

#[tokio::test]
async fn an_error_of_a_server_reaches_the_report() {
    let server = graceful::serve_fn(|_| async { Err::<(), _>("out of luck") });
    let report = Config::new().start(server).await.unwrap().ended().await;
    assert_eq!(report.exit().code(), 1);
    assert!(report.failures()[0].to_string().contains("out of luck"));
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let server = graceful::serve(addr, graceful_tests::app::router());
    let failure = Config::new().start(server).await.unwrap_err();
    let error = failure.to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {addr}: {}", in_words(Errno::ADDRINUSE))),
        "{error}"
    );
    // The error itself, also of a copy: the text need not be searched.
    let copy = failure.clone();
    let source: &io::Error = copy.source().unwrap().downcast_ref().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
}

#[test]
#[should_panic(expected = "no graceful context here")]
fn outside_of_a_context_the_panic_says_what_is_missing() {
    graceful::stop();
}

#[tokio::test]
async fn durations_without_end_are_no_limit() {
    let server = graceful::serve("127.0.0.1:0", graceful_tests::app::router());
    let config = Config::new().timeout(Duration::MAX).cleanup(Duration::MAX).linger(Duration::MAX);
    let running = config.start(server.header_timeout(Duration::MAX)).await.unwrap();
    assert_eq!(get(running.local_addr().unwrap(), "/").await, "fine");
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cut_drops_a_handler_before_the_hooks_run() {
    use axum::{Router, routing::get as route};
    struct Told(std::sync::mpsc::Sender<&'static str>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send("handler dropped").unwrap();
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    let hook = tell.clone();
    let handler = move || {
        let told = Told(tell.clone());
        async move {
            let _told = told;
            std::future::pending::<()>().await;
        }
    };
    let server = graceful::serve("127.0.0.1:0", Router::new().route("/", route(handler)));
    let config = Config::new().timeout(Duration::from_millis(50));
    let running = config.start(server).await.unwrap();
    let handle = running.handle().clone();
    handle.on_stop(async move { hook.send("hook").unwrap() });
    let mut client = Client::connect(running.local_addr().unwrap());
    client.get("/");
    while handle.in_flight().iter().all(|it| !it.to_string().starts_with("GET / ")) {
        tokio::task::yield_now().await;
    }
    assert_eq!(in_time(running.stop()).await.exit().code(), 124);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["handler dropped", "hook"]);
    assert!(handle.in_flight().is_empty(), "{:?}", handle.in_flight());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_cannot_turn_clients_away_is_closed_at_the_drain() {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    };
    let name = format!("graceful-test-{}", std::process::id());
    let addr = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&addr).unwrap();
    let running =
        Config::new().start(graceful::serve(listener, graceful_tests::app::router())).await;
    let running = running.unwrap();
    let handle = running.handle().clone();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    handle.spawn(async move { drop(released.await) });
    let stop = tokio::spawn(running.stop());
    handle.shutdown().await;
    while UnixStream::connect_addr(&addr).is_ok() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert!(stop.await.unwrap().is_clean());
}

/// Work that ends just about when the limit is reached: either it has ended, or it is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_at_the_limit_is_named_once() {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};
    for _ in 0..10 {
        let running = Config::new().timeout(Duration::from_millis(30)).start(()).await.unwrap();
        let handle = running.handle().clone();
        let begun = Arc::new(Mutex::new(BTreeSet::new()));
        for number in 0..400 {
            let (begun, child) = (begun.clone(), handle.clone());
            handle.spawn_named(number.to_string(), async move {
                tokio::time::sleep(Duration::from_micros(28_000 + number * 10)).await;
                // What starts in that moment: it runs and is named, or it does not begin.
                child.spawn_named(format!("child of {number}"), async move {
                    begun.lock().unwrap().insert(format!("child of {number}"));
                    std::future::pending::<()>().await;
                });
            });
        }
        let report = in_time(running.stop()).await;
        let name = |cut: &graceful::InFlight| match cut {
            graceful::InFlight::Task { name, .. } => name.clone(),
            other => panic!("{other}"),
        };
        let cut: BTreeSet<_> = report.cut().iter().map(name).collect();
        assert_eq!(cut.len(), report.cut().len(), "each is named once");
        let begun = begun.lock().unwrap().clone();
        let unnamed: Vec<_> = begun.difference(&cut).collect();
        assert!(unnamed.is_empty(), "begun, and cut without a name: {unnamed:?}");
    }
}

/// It is in the middle of a poll when the limit cuts, and ends with that. A thread that does not
/// get the processor for some 10 ms then is too late: that may happen, but not each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_at_the_limit_is_not_called_cut() {
    let mut ended = 0;
    for _ in 0..10 {
        let running = Config::new().timeout(Duration::from_millis(30)).start(()).await.unwrap();
        let (cut, is_cut) = std::sync::mpsc::channel::<()>();
        running.handle().spawn_named("is cut", async move {
            let _cut = cut;
            std::future::pending::<()>().await;
        });
        running.handle().spawn_named("ends", async move {
            is_cut.recv().expect_err("nothing is sent");
        });
        let report = in_time(running.stop()).await;
        match report.cut() {
            [graceful::InFlight::Task { name, .. }] if name == "is cut" => ended += 1,
            cut => assert_eq!(cut.len(), 2, "{report:?}"),
        }
    }
    assert!(ended > 5, "called cut {} times of 10", 10 - ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_starts_and_stops_leave_no_threads() {
    let ours = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        // One that ends while this looks has no name any more.
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        let names: Vec<_> = tasks.filter_map(|task| name(task.unwrap())).collect();
        names.iter().filter(|name| name.starts_with("graceful-")).count()
    };
    for _ in 0..200 {
        let running = Config::new().start(graceful::serve_fn(|shutdown| shutdown)).await.unwrap();
        assert!(in_time(running.stop()).await.is_clean());
    }
    // The tests beside this one have theirs; a thread may still be at its last step.
    let until = std::time::Instant::now() + graceful_tests::PATIENCE;
    while ours() > 60 {
        assert!(std::time::Instant::now() < until, "{} threads are left", ours());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// `Send` and not `Sync`; the second clone panics.
struct Counted {
    clones: std::cell::Cell<usize>,
    panics: bool,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.set(self.clones.get() + 1);
        assert!(!self.panics || self.clones.get() != 2, "the second clone panics");
        Self { clones: std::cell::Cell::new(0), panics: false }
    }
}

impl hyper::service::Service<hyper::Request<hyper::body::Incoming>> for Counted {
    type Response = hyper::Response<String>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn call(&self, _: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        std::future::ready(Ok(hyper::Response::new("counted".to_owned())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_clone_of_a_service_costs_its_connection() {
    let service = Counted { clones: std::cell::Cell::new(0), panics: true };
    let running = Config::new().start(graceful::serve("127.0.0.1:0", service)).await.unwrap();
    let addr = running.local_addr().unwrap();
    assert_eq!(get(addr, "/").await, "counted");
    let refused = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(addr);
        client.get("/");
        client.try_response().is_err()
    });
    assert!(refused.await.unwrap());
    assert_eq!(get(addr, "/").await, "counted");
    assert!(in_time(running.stop()).await.is_clean());
}

#[tokio::test]
async fn a_box_of_a_server_is_a_server() {
    let server: Box<dyn graceful::Serve> =
        Box::new(graceful::serve("127.0.0.1:0", graceful_tests::app::router()));
    let nested: Vec<Box<dyn graceful::Serve>> = vec![server, Box::new(())];
    let running = Config::new().start(nested).await.unwrap();
    assert_eq!(get(running.local_addr().unwrap(), "/").await, "fine");
    assert!(in_time(running.stop()).await.is_clean());
}

/// A program that embeds a server has signals of its own.
#[test]
fn start_leaves_the_signals_alone() {
    let caught = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigCgt:")).unwrap().to_owned()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = caught();
    runtime.block_on(async {
        let server = graceful::serve("127.0.0.1:0", graceful_tests::app::router());
        let running = Config::new().start(server).await.unwrap();
        assert_eq!(caught(), before);
        assert!(in_time(running.stop()).await.is_clean());
    });
}

/// One server fails while another has a request under way: that one is answered, and the failure is
/// told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failure_of_a_server_drains_the_others() {
    use axum::{Router, routing::get as route};
    let (fail, failing) = tokio::sync::oneshot::channel::<()>();
    let (begin, has_begun) = tokio::sync::oneshot::channel::<()>();
    let begin = std::sync::Mutex::new(Some(begin));
    let handler = move || {
        begin.lock().unwrap().take().unwrap().send(()).unwrap();
        async {
            graceful::shutdown().await;
            "answered"
        }
    };
    let handler = std::sync::Arc::new(handler);
    let app = Router::new().route("/", route(move || handler()));
    let failing = graceful::serve_fn(|_| async {
        failing.await?;
        Err::<(), Box<dyn std::error::Error + Send + Sync>>("out of luck".into())
    });
    let config = Config::new().timeout(graceful_tests::PATIENCE);
    let running = config.start((graceful::serve("127.0.0.1:0", app), failing)).await.unwrap();
    let addr = running.local_addr().unwrap();
    let answer = tokio::spawn(get(addr, "/"));
    has_begun.await.unwrap();
    fail.send(()).unwrap();
    let report = in_time(running.ended()).await;
    assert_eq!(answer.await.unwrap(), "answered");
    assert_eq!((report.exit().code(), report.requests()), (1, 1), "{report}");
    assert_eq!(*report.cause(), Cause::Failed);
    assert!(report.failures()[0].to_string().contains("out of luck"), "{report:?}");
}
