//! The application of the fixtures: handlers that say when they have begun, and go on when the test
//! says so.

use std::{convert::Infallible, fs::File, io::BufRead, sync::LazyLock, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, ws::WebSocketUpgrade},
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
    std::thread::sleep(Duration::from_millis(400));
    "computed"
}

async fn block_a_thread() -> &'static str {
    graceful::spawn_blocking(|| {
        println!("blocking thread begins");
        std::thread::sleep(Duration::from_secs(600));
    });
    "left behind"
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
        .route("/", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/body", any(|body: Bytes| async move { body.len().to_string() }))
        .route("/hold", get(hold))
        .route("/block", get(block))
        .route("/compute", get(compute))
        .route("/block-a-thread", get(block_a_thread))
        .route("/stream", get(streaming))
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
            get(|| async { drop(graceful::spawn(async { panic!("task panics") })) }),
        )
        .route("/panic", get(|| async { panic!("handler panics") as &'static str }))
        .route("/spawn-later", get(spawn_later))
        .route("/ws", any(websocket))
        .route("/in-flight", get(in_flight))
        .route("/stop", get(|| async { graceful::stop() }))
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
        Ok("blocked") => graceful::on_stop(async {
            println!("hook blocks");
            std::thread::sleep(Duration::from_secs(600));
        }),
        _ => {}
    }
}
