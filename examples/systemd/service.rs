//! A service of systemd, with its units beside it: `web.socket` and `web.service`.
//!
//! 1. `cargo build --release --example service`
//! 2. `sudo install target/release/examples/service /usr/local/bin/web`
//! 3. `sudo cp examples/systemd/web.socket examples/systemd/web.service /etc/systemd/system/`
//! 4. `sudo systemctl daemon-reload && sudo systemctl enable --now web.socket`
//! 5. `curl http://127.0.0.1:8080`: the first request starts it. `systemctl status web` says what
//!    it does, and while it stops, what it waits for; `sudo systemctl restart web` loses no
//!    request.
//!
//! Without systemd it is a program like any other: `cargo run --example service`.

use axum::{Router, routing::get};

#[graceful::main(timeout = "20s", dump = [SIGUSR1])]
async fn main() -> impl graceful::Serve {
    let app = Router::new().route("/", get(|| async { "Hello world!" }));
    // The socket of `web.socket` is bound here. Where there is none, it is bound now.
    graceful::serve("127.0.0.1:8080", app)
}
