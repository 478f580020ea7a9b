//! Cleanup: a SQLite database is closed after the last handler that writes to it.
//!
//! 1. `cargo run --example cleanup --features sqlite` (the database is `notes.db`, or where the
//!    environment variable `DB` says)
//! 2. In a second terminal, `curl -d 'some note' http://127.0.0.1:8080`, as often as you like.
//!    `ls notes.db*`: beside the database there is its write-ahead log, `notes.db-wal`.
//! 3. In the first, press Ctrl-C. `ls notes.db*` again: the log has been written back and is gone.

use std::{
    env,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use graceful_examples::addr;
use rusqlite::Connection;

type Database = Arc<Mutex<Option<Connection>>>;

async fn note(State(database): State<Database>, text: String) -> (StatusCode, String) {
    // SQLite blocks, so it has a thread of its own; the stop waits for it even if the client has
    // gone.
    let insert = graceful::spawn_blocking(move || {
        let database = database.lock().expect("no writer panics");
        let connection = database.as_ref().expect("closed only after the last handler");
        connection.execute("INSERT INTO notes (text) VALUES (?1)", [text])?;
        Ok::<_, rusqlite::Error>(connection.last_insert_rowid())
    });
    match insert.await {
        Ok(Ok(id)) => (StatusCode::CREATED, format!("note {id}\n")),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn open() -> rusqlite::Result<Connection> {
    let path = env::var("DB").unwrap_or_else(|_| "notes.db".to_owned());
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection
        .execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)", [])?;
    Ok(connection)
}

fn close(database: &Database) {
    let connection = database.lock().expect("no writer panics").take().expect("closed once");
    // Writes the log back into the database and empties it.
    let checkpoint = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    match checkpoint.and_then(|()| connection.close().map_err(|(_, error)| error)) {
        Ok(()) => println!("database closed"),
        Err(error) => eprintln!("closing the database: {error}"),
    }
}

#[graceful::main(timeout = "10s", cleanup = "10s")]
async fn main() -> rusqlite::Result<impl graceful::Serve> {
    let database = Arc::new(Mutex::new(Some(open()?)));
    let to_close = database.clone();
    graceful::on_stop(async move { close(&to_close) });
    let app = Router::new().route("/", post(note)).with_state(database);
    Ok(graceful::serve(addr(), app))
}
