//! A room of WebSockets whose members stay in it across an upgrade.
//!
//! 1. `cargo run --example chat`, and `http://127.0.0.1:8080` in a browser, in two windows: what
//!    one says, both read.
//! 2. In a second terminal `kill -USR2 PROCESS`, with the number that the page shows: nobody is
//!    thrown out. The number is another one from the next message on.
//!
//! The new process is in the background then: `kill NUMBER` ends it.

use axum::{
    Extension, Router,
    extract::{
        State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    response::{Html, Response},
    routing::{any, get},
};
use futures_util::{SinkExt, StreamExt};
use graceful::{Connection, HandOver};
use graceful_examples::addr;
use tokio::sync::broadcast;
use tokio_tungstenite::{WebSocketStream, tungstenite};

/// Everything that is said in this process.
type Room = broadcast::Sender<Utf8Bytes>;

const PAGE: &str = "<!doctype html><title>chat</title><body>\
    <ul id=said></ul><form id=form><input id=text autofocus></form><script>\
    const ws = new WebSocket(`ws://${location.host}/room`);\
    const add = text => said.append(Object.assign(document.createElement('li'), {textContent: text}));\
    ws.onmessage = event => add(event.data); ws.onclose = () => add('closed');\
    form.onsubmit = () => { ws.send(text.value); text.value = ''; return false };\
    </script>";

fn in_words(text: &str) -> Utf8Bytes {
    format!("{text} (process {})", std::process::id()).into()
}

/// A member who has come to this process.
async fn join(
    upgrade: WebSocketUpgrade,
    State(room): State<Room>,
    Extension(hand): Extension<HandOver>,
) -> Response {
    upgrade.on_upgrade(|socket| member(socket, room, hand))
}

async fn member(mut socket: WebSocket, room: Room, hand: HandOver) {
    let (mut said, shutdown) = (room.subscribe(), graceful::shutdown());
    loop {
        tokio::select! {
            biased;
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => drop(room.send(in_words(&text))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            Ok(text) = said.recv() => {
                if socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            () = shutdown.clone() => {
                if !hand.hand_over("room", []) {
                    // A stop: the browser reads "closed".
                    let _ = socket.send(Message::Close(None)).await;
                }
                return;
            }
        }
    }
}

/// A member who was in the room in the process before.
async fn stay(connection: Connection, room: Room) {
    let hand = connection.hand_over_handle();
    let role = tungstenite::protocol::Role::Server;
    let mut socket = WebSocketStream::from_raw_socket(connection, role, None).await;
    let (mut said, shutdown) = (room.subscribe(), graceful::shutdown());
    loop {
        tokio::select! {
            biased;
            message = socket.next() => match message {
                Some(Ok(tungstenite::Message::Text(text))) => drop(room.send(in_words(&text))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            Ok(text) = said.recv() => {
                if socket.send(tungstenite::Message::text(text.as_str())).await.is_err() {
                    return;
                }
            }
            () = shutdown.clone() => {
                if !hand.hand_over("room", []) {
                    let _ = socket.close(None).await;
                }
                return;
            }
        }
    }
}

#[graceful::main(upgrade = [SIGUSR2], timeout = "3s")]
async fn main() -> impl graceful::Serve {
    println!("process {}", std::process::id());
    let room: Room = broadcast::channel(100).0;
    let again = room.clone();
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/room", any(join))
        .with_state(room);
    graceful::serve(addr(), app)
        .handed_over("room", move |connection| stay(connection, again.clone()))
}
