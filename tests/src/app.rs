//! The application of the fixtures: handlers that say when they have begun, and go on when the test
//! says so.

use std::{
    convert::Infallible,
    fs::File,
    io::BufRead,
    sync::{
        Arc, Barrier, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{
        Path,
        ws::{CloseFrame, Message, WebSocketUpgrade, close_code},
    },
    http::StatusCode,
    response::Response,
    routing::{any, get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

/// Becomes true when the test writes a line to stdin.
static RELEASED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| {
    let (released, _) = watch::channel(false);
    std::thread::spawn(|| {
        for line in std::io::stdin().lock().lines() {
            if line.is_ok() {
                RELEASED.send_replace(true);
            }
        }
    });
    released
});

/// How many bodies have been measured.
static POSTS: AtomicUsize = AtomicUsize::new(0);

async fn measure(body: Bytes) -> String {
    POSTS.fetch_add(1, Ordering::Relaxed);
    body.len().to_string()
}

/// Waits until the test says so.
pub async fn released() {
    let mut released = RELEASED.subscribe();
    // The sender is a static: it is never dropped.
    let _ = released.wait_for(|released| *released).await;
}

async fn hold() -> &'static str {
    println!("hold begins");
    released().await;
    "held"
}

async fn block() -> &'static str {
    println!("block begins");
    std::thread::sleep(Duration::from_secs(600));
    "blocked"
}

/// Blocks every worker of the runtime, this one among them, for good.
async fn block_all() {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    let all = Arc::new(Barrier::new(workers));
    for _ in 1..workers {
        let all = all.clone();
        tokio::spawn(async move {
            all.wait();
            std::thread::sleep(Duration::from_secs(600));
        });
    }
    // The task that was spawned last is this worker's own next one; the others take those before
    // it.
    tokio::spawn(async {});
    all.wait();
    println!("every worker is blocked");
    std::thread::sleep(Duration::from_secs(600));
}

/// Leaves the process without a descriptor, for good: whichever comes free is taken.
async fn exhaust() {
    while let Ok(file) = File::open("/dev/null") {
        std::mem::forget(file);
    }
    std::thread::spawn(|| {
        loop {
            File::open("/dev/null").map_or_else(|_| std::thread::yield_now(), std::mem::forget);
        }
    });
}

/// Computes for longer than the usual linger, without waiting for anything.
async fn compute() -> &'static str {
    std::thread::sleep(Duration::from_millis(1_200));
    "computed"
}

/// Work on a thread, until the test says so.
async fn spawn_blocking() {
    graceful::spawn_blocking(|| {
        println!("blocking work begins");
        tokio::runtime::Handle::current().block_on(released());
        println!("blocking work ends");
    });
}

async fn block_a_thread() -> &'static str {
    graceful::spawn_blocking(|| {
        println!("blocking thread begins");
        std::thread::sleep(Duration::from_secs(600));
    });
    "left behind"
}

/// Work that uses a timer in every moment, on a task and on a thread, and never ends.
async fn tick() {
    for _ in 0..8 {
        graceful::spawn(async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                // In the middle of a poll most of the time.
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        graceful::spawn_blocking(|| {
            let runtime = tokio::runtime::Handle::current();
            loop {
                runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
            }
        });
    }
}

async fn work() {
    println!("work begins");
    released().await;
    println!("work ends");
}

/// Tasks that begin while the drain is under way.
async fn spawn_later() {
    graceful::spawn(async {
        println!("parent waits");
        graceful::shutdown().await;
        graceful::spawn(async {
            graceful::spawn(async { println!("grandchild ends") });
        });
    });
}

/// An echo that never looks up.
async fn websocket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Waits for the drain, and says goodbye (RFC 6455, section 7.4.1, and the IANA registry).
async fn websocket_goodbye(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        let mut shutdown = graceful::shutdown();
        loop {
            tokio::select! {
                message = socket.recv() => if !matches!(message, Some(Ok(_))) { return },
                () = &mut shutdown => break,
            }
        }
        let (code, reason) = (close_code::RESTART, "restart".into());
        // A client that has gone is no reason to panic.
        let _ = socket.send(Message::Close(Some(CloseFrame { code, reason }))).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// An echo that is told of the drain as its handler is.
async fn websocket_told(upgrade: WebSocketUpgrade) -> Response {
    let mut shutdown = graceful::shutdown();
    upgrade.on_upgrade(|mut socket| async move {
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    Some(Ok(message)) => drop(socket.send(message).await),
                    Some(Err(_)) | None => return,
                },
                () = &mut shutdown => break,
            }
        }
        // A client that has gone is no reason to panic.
        let _ = socket.send(Message::Close(None)).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

/// Sends so many bytes, and lets go of it.
async fn websocket_gift(Path(count): Path<usize>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |mut socket| async move {
        let gift = Message::Binary(vec![b'x'; count].into());
        // A client that has gone is no reason to panic.
        let _ = socket.send(gift).await;
        println!("the gift is sent");
    })
}

async fn in_flight() -> String {
    let lines = graceful::Handle::current().in_flight();
    lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A chunk at once, the next when released.
async fn streaming() -> Body {
    let chunks = stream::unfold(0, |count| async move {
        match count {
            0 => println!("stream begins"),
            1 => released().await,
            _ => return None,
        }
        Some((Ok::<_, Infallible>(Bytes::from(format!("chunk {count}"))), count + 1))
    });
    Body::from_stream(chunks)
}

/// A part at once, the rest at the drain.
async fn until_the_drain() -> Body {
    println!("stream begins");
    let shutdown = graceful::shutdown();
    Body::from_stream(stream::once(async {
        shutdown.await;
        Ok::<_, Infallible>(Bytes::from("the drain"))
    }))
}

/// Answers at once, while a tracked task reads what is still coming.
async fn early(body: Body) -> &'static str {
    graceful::spawn(async move {
        let mut size = 0;
        let mut body = body.into_data_stream();
        while let Some(Ok(chunk)) = body.next().await {
            size += chunk.len();
            println!("read {size} bytes");
        }
        println!("upload ends after {size} bytes");
    });
    "early"
}

/// The routes.
pub fn router() -> Router {
    LazyLock::force(&RELEASED);
    Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/", post(measure))
        .route("/body", any(|body: Bytes| async move { body.len().to_string() }))
        .route("/hold", get(hold))
        .route("/block", get(block))
        .route("/block-all", get(block_all))
        .route("/compute", get(compute))
        .route("/block-a-thread", get(block_a_thread))
        .route("/stream", get(streaming))
        .route("/until-the-drain", get(until_the_drain))
        .route("/large", get(|| async { "x".repeat(3_000_000) }))
        .route("/upload-answer", get(|| async { "x".repeat(300_000) }))
        .route("/refuse", post(|| async { (StatusCode::PAYLOAD_TOO_LARGE, "x".repeat(300_000)) }))
        .route("/upload", post(|| async { "x".repeat(100_000) }))
        .route("/bytes/{count}", get(|Path(count): Path<usize>| async move { "x".repeat(count) }))
        .route("/exhaust", get(exhaust))
        .route("/early", post(early))
        .route("/spawn", get(|| async { drop(graceful::spawn(work())) }))
        .route("/spawn-untracked", get(|| async { drop(tokio::spawn(work())) }))
        .route(
            "/spawn-panic",
            get(|| async {
                drop(graceful::spawn(async { panic!("task panics\n  in two lines") }));
            }),
        )
        .route(
            "/spawn-panic-at-the-drain",
            get(|| async {
                drop(graceful::spawn(async {
                    graceful::shutdown().await;
                    panic!("at the drain");
                }));
            }),
        )
        .route("/spawn-blocking", get(spawn_blocking))
        .route("/panic", get(|| async { panic!("handler panics") as &'static str }))
        .route("/tick", get(tick))
        .route("/spawn-later", get(spawn_later))
        .route("/ws", any(websocket))
        .route("/ws-told", any(websocket_told))
        .route(
            "/hook",
            get(|| async { graceful::on_stop(async { println!("hook of a handler") }) }),
        )
        .route("/ws-goodbye", any(websocket_goodbye))
        .route("/ws-gift/{count}", any(websocket_gift))
        .route("/in-flight", get(in_flight))
        .route("/stop", get(|| async { graceful::stop() }))
}

/// Never gets to its end.
struct Stuck;

impl Drop for Stuck {
    fn drop(&mut self) {
        println!("drop begins");
        std::thread::sleep(Duration::from_secs(600));
    }
}

thread_local! {
    static STUCK: Stuck = const { Stuck };
}

/// The end of this thread blocks for good.
pub fn stick_at_the_end() {
    STUCK.with(|_| {});
}

/// What nobody should have to wait for.
struct SlowDrop(bool);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        assert!(!self.0, "panics when dropped");
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Registers hooks that say when they run.
pub fn hooks() {
    if std::env::var("PANICS").as_deref() == Ok("abort") {
        // As with `panic = "abort"` in the profile, for which all would have to be built again.
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            std::process::abort();
        }));
    }
    match std::env::var("HOOKS").as_deref() {
        Ok("two") => {
            graceful::on_stop(async { println!("hook one") });
            graceful::on_stop(async { println!("hook two") });
        }
        Ok("panic") => {
            graceful::on_stop(async { println!("hook one") });
            graceful::on_stop(async { panic!("hook panics") });
        }
        Ok("slow-drop" | "panicking-drop") => {
            let owned = SlowDrop(std::env::var("HOOKS").as_deref() == Ok("panicking-drop"));
            graceful::on_stop(async move { drop(owned) });
            graceful::on_stop(async {
                println!("hook hangs");
                std::future::pending::<()>().await;
            });
        }
        Ok("stuck") => {
            graceful::on_stop(async { println!("hook one") });
            graceful::on_stop(async {
                println!("hook hangs");
                std::future::pending::<()>().await;
            });
        }
        Ok("count") => graceful::on_stop(async {
            println!("posts handled: {}", POSTS.load(Ordering::Relaxed));
        }),
        Ok("spawning") => graceful::on_stop(async {
            let task = graceful::spawn(async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                graceful::spawn_blocking(|| println!("hook's thread runs")).await
            });
            task.await.expect("not cut").expect("not cut");
            graceful::spawn(async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                println!("hook's task ends");
            });
        }),
        Ok("spawning-too-much") => graceful::on_stop(async {
            graceful::spawn_named("of a hook", std::future::pending::<()>());
        }),
        Ok("connecting") => graceful::on_stop(async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let addr = listener.local_addr().expect("bound");
            let (here, there) =
                tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
            println!("hook connected: {}", here.is_ok() && there.is_ok());
        }),
        // What it waits for is a task of the program, as of a connection pool.
        Ok("dependent") => {
            let (ask, asked) = tokio::sync::oneshot::channel::<()>();
            let (tell, told) = tokio::sync::oneshot::channel::<()>();
            tokio::spawn(async move {
                let _ = asked.await;
                let _ = tell.send(());
            });
            graceful::on_stop(async move {
                let _ = ask.send(());
                let _ = told.await;
                println!("hook was told");
            });
        }
        // Timers of the program and of its own, up to the limit and beyond.
        Ok("ticking") => {
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            graceful::on_stop(async move {
                loop {
                    ticks.tick().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
        Ok("all-at-once") => {
            stick_at_the_end();
            graceful::on_stop(async { std::thread::sleep(Duration::from_secs(600)) });
        }
        Ok("blocked") => graceful::on_stop(async {
            println!("hook blocks");
            std::thread::sleep(Duration::from_secs(600));
        }),
        _ => {}
    }
}
