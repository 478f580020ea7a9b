//! WebSockets: the stop waits for them, and their handler says goodbye.
//!
//! 1. `cargo run --example websocket`
//! 2. In a second terminal, with any client: `npx wscat -c ws://127.0.0.1:8080`, or
//!    `websocat ws://127.0.0.1:8080`. What you type comes back.
//! 3. In the first, press Ctrl-C: the client is told 1001, "going away", and the program ends, with
//!    0.

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
    routing::any,
};
use graceful_examples::addr;

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    // Taken here, where the context is; moved to wherever the connection goes.
    let shutdown = graceful::shutdown();
    upgrade.on_upgrade(|socket| talk(socket, shutdown))
}

async fn talk(mut socket: WebSocket, mut shutdown: graceful::Shutdown) {
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            () = &mut shutdown => break,
        }
    }
    let goodbye = CloseFrame { code: close_code::AWAY, reason: "the server is restarting".into() };
    // A client that has gone by itself needs no goodbye.
    if socket.send(Message::Close(Some(goodbye))).await.is_ok() {
        // Until it has answered.
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

#[graceful::main(timeout = "5s")]
async fn main() -> impl graceful::Serve {
    graceful::serve(addr(), Router::new().route("/", any(echo)))
}
