//! WebSockets, streams, databases: work that does not end by itself.

use crate::FIXTURES;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use graceful_tests::{
    Client, Fixture, Http2, Process, Signal, client::find, fixture, http2::kind, terminal::Tmux,
};
use tungstenite::{Message, WebSocket, protocol::frame::coding::CloseCode, stream::MaybeTlsStream};

fn example(name: &str) -> Fixture {
    Fixture::example(FIXTURES, name)
}

type Socket = WebSocket<MaybeTlsStream<std::net::TcpStream>>;

fn websocket(addr: SocketAddr, path: &str) -> Socket {
    let (socket, _) = tungstenite::connect(format!("ws://{addr}{path}")).unwrap();
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(graceful_tests::PATIENCE)).unwrap();
    }
    socket
}

fn echo(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text(text));
}

#[test]
fn a_websocket_is_waited_for_and_told_goodbye() {
    let (mut process, addr) = example("websocket").serve();
    let mut socket = websocket(addr, "/");
    echo(&mut socket, "before");
    process.signal(Signal::TERM);
    let Message::Close(Some(frame)) = socket.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(frame.code, CloseCode::Away);
    assert!(!process.is_over(), "waits for the client's answer");
    // Sends the answer, and sees the end.
    assert!(socket.read().is_err());
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 connection in "), "{ended:#?}");
}

#[test]
fn a_websocket_that_ignores_the_drain_works_until_the_limit_and_is_named() {
    let web = fixture!("web").env("TIMEOUT", "500ms");
    let (mut process, addr) = web.serve();
    let mut socket = websocket(addr, "/ws?token=secret");
    echo(&mut socket, "before");
    let start = Instant::now();
    process.signal(Signal::TERM);
    process.line("SIGTERM received");
    echo(&mut socket, "during");
    let ended = process.wait().expect(124);
    assert!(ended.after(start) >= Duration::from_millis(500), "{ended:#?}");
    assert!(ended.said("cut off: upgraded connection /ws from 127.0.0.1"), "{ended:#?}");
    assert!(!ended.said("secret"), "{ended:#?}");
}

#[test]
fn a_websocket_over_http2_is_waited_for_and_named() {
    for ignores in [false, true] {
        let (mut process, addr) = if ignores {
            fixture!("web").env("TIMEOUT", "1500ms").serve()
        } else {
            example("websocket").serve()
        };
        let mut client = Http2::connect(addr);
        client.connect_websocket(1, if ignores { "/ws" } else { "/" });
        let head = client.frame().unwrap();
        assert_eq!((head.kind, head.stream), (kind::HEADERS, 1));
        // A masked text frame, "hi", with the mask 0 (RFC 6455, section 5.2).
        client.send(kind::DATA, 0, 1, &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(client.frame().unwrap().payload, [0x81, 2, b'h', b'i']);
        process.signal(Signal::TERM);
        if ignores {
            // Longer than an idle connection is given to answer a PING.
            let ended = process.wait().expect(124);
            assert!(ended.said("cut off: upgraded connection /ws from 127.0.0.1"), "{ended:#?}");
        } else {
            let goodbye = loop {
                let frame = client.frame().unwrap();
                if frame.kind == kind::DATA {
                    break frame;
                }
            };
            // Close, 1001.
            assert_eq!((goodbye.payload[0], &goodbye.payload[2..4]), (0x88, &[0x03, 0xe9][..]));
            client.send(kind::DATA, 0, 1, &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
            client.rest();
            let _ = process.wait().expect(0);
        }
    }
}

#[test]
fn a_stream_of_events_ends_well_at_the_drain() {
    let (mut process, addr) = example("events").serve();
    let mut client = Client::connect(addr);
    client.get("/");
    client.read_until(|bytes| find(bytes, b"tick 1")).unwrap();
    process.signal(Signal::TERM);
    // The last chunk comes: for the client the response is complete.
    assert!(client.response().text().contains("tick 1"));
    client.closed();
    let _ = process.wait().expect(0);
}

#[test]
fn tasks_may_spawn_tasks_while_draining() {
    let (mut process, addr) = fixture!("web").serve();
    assert_eq!(Client::connect(addr).fetch("/spawn-later").status, 200);
    process.line("parent waits");
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("grandchild ends"), "{ended:#?}");
    assert!(ended.said("3 tasks in "), "{ended:#?}");
}

#[test]
fn many_that_were_cut_are_counted() {
    let web = fixture!("web").env("TIMEOUT", "200ms");
    let (mut process, addr) = web.serve();
    let mut clients: Vec<_> = (0..25).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        client.get("/hold");
        process.line("hold begins");
    }
    process.signal(Signal::TERM);
    let ended = process.wait().expect(124);
    let named = ended.lines.iter().filter(|line| line.starts_with("  GET /hold from ")).count();
    assert_eq!(named, 20, "{ended:#?}");
    assert!(ended.said("  … and 5 more"), "{ended:#?}");
}

#[test]
fn what_runs_can_be_asked_for() {
    let (mut process, addr) = fixture!("web").serve();
    let mut client = Client::connect(addr);
    client.get("/stream");
    client.read_until(|bytes| find(bytes, b"chunk 0")).unwrap();
    let mut held = Client::connect(addr);
    held.get("/hold?secret");
    process.line("hold begins");
    let _socket = websocket(addr, "/ws");
    assert_eq!(Client::connect(addr).fetch("/spawn").status, 200);
    let text = Client::connect(addr).fetch("/in-flight").text();
    for line in [
        "GET /stream from 127.0.0.1",
        "response begun",
        "GET /hold from 127.0.0.1",
        "no response yet",
        "upgraded connection /ws from 127.0.0.1",
        "task tests/src/app.rs:",
        "GET /in-flight from 127.0.0.1",
        "server http://127.0.0.1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn an_acknowledged_write_is_in_the_database() {
    let folder = std::env::temp_dir().join(format!("graceful-cleanup-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let db = folder.join("notes.db");
    let (mut process, addr) = example("cleanup").env("DB", db.to_str().unwrap()).serve();
    let writers: Vec<_> = (0..8).map(|_| std::thread::spawn(move || write_notes(addr))).collect();
    // In the middle of the writing: the log is there, and some notes are.
    while !db.with_extension("db-wal").exists() {
        std::thread::yield_now();
    }
    assert_eq!(write_note(&mut Client::connect(addr)), Some(true));
    stop(&mut process);
    let acknowledged = 1 + writers.into_iter().map(|it| it.join().unwrap()).sum::<i64>();
    assert!(!db.with_extension("db-wal").exists(), "the write-ahead log is gone");
    let connection = rusqlite::Connection::open(&db).unwrap();
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let written = count("SELECT count(*) FROM notes");
    assert!(
        acknowledged > 8 && written >= acknowledged,
        "{acknowledged} answered, {written} there"
    );
    drop(connection);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn stop(process: &mut Process) {
    process.signal(Signal::TERM);
    let ended = process.wait().expect(0);
    assert!(ended.said("database closed"), "{ended:#?}");
}

/// Whether it was acknowledged; `None`: there is no server any more.
fn write_note(client: &mut Client) -> Option<bool> {
    use std::io::Write;
    let request = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nnote";
    client.stream().write_all(request).ok()?;
    let response = client.try_response().ok()?;
    assert_eq!(response.status, 201, "{}", response.text());
    Some(!response.closes())
}

/// Writes until the server is gone; returns how many notes were acknowledged.
fn write_notes(addr: SocketAddr) -> i64 {
    let mut acknowledged = 0;
    while let Ok(mut client) = Client::try_connect(addr) {
        while let Some(again) = write_note(&mut client) {
            acknowledged += 1;
            if !again {
                break;
            }
        }
    }
    acknowledged
}

/// With the echo of the keys, and a program that prints while it drains.
#[test]
fn what_the_program_prints_stands_on_lines_of_its_own() {
    let Some(tmux) = Tmux::start("lines") else { return };
    let program = concat!(env!("CARGO_BIN_EXE_fixtures"), " messages");
    let command = format!("MODE=chatty {program}; echo exit $?; sleep 60");
    tmux.run(&["new-session", "-d", "-x", "90", "-y", "30", &command]);
    let wait_for = |what: &str| tmux.wait_for(what);
    wait_for("begins");
    tmux.run(&["send-keys", "C-c"]);
    let end = wait_for("exit 0");
    let lines: Vec<_> = end.lines().map(str::trim_end).collect();
    let says = |line: &str| lines.iter().any(|it| it.starts_with(line));
    assert!(says("SIGINT received, draining for at most 20s"), "after the echo of the key:\n{end}");
    for number in 1..=4 {
        assert!(lines.contains(&&*format!("work {number}")), "{number} is not alone:\n{end}");
    }
    assert!(says("draining: main"), "the live line was never there:\n{end}");
    let draining = lines.iter().filter(|line| line.contains("draining: "));
    for line in draining {
        assert!(line.starts_with("draining: ") && line.ends_with("s left"), "{line}\n{end}");
    }
}

/// Looks at a real terminal: needs tmux.
#[test]
fn a_terminal_shows_one_live_line_and_wipes_it() {
    let Some(tmux) = Tmux::start("live") else { return };
    let web = concat!(env!("CARGO_BIN_EXE_fixtures"), " web");
    let command = format!("stty -echo; ADDR=127.0.0.1:0 TIMEOUT=30s {web}; echo exit $?; sleep 60");
    tmux.run(&["new-session", "-d", "-x", "100", "-y", "20", &command]);
    let wait_for = |what: &str| tmux.wait_for(what);
    let screen_of_start = wait_for("listening on http://");
    let addr = screen_of_start.split_once("http://").unwrap().1.split_whitespace().next().unwrap();
    let addr = addr.parse().unwrap();
    let mut client = Client::connect(addr);
    client.get("/hold");
    wait_for("hold begins");
    tmux.run(&["send-keys", "C-c"]);
    let live = wait_for("draining: 1 request, 1 connection; oldest: GET /hold from 127.0.0.1, ");
    assert!(live.lines().any(|line| line.starts_with("draining") && line.ends_with("s left")));
    tmux.run(&["send-keys", "Enter"]);
    assert_eq!(client.response().text(), "held");
    let end = wait_for("exit 0");
    assert!(!end.contains("draining: "), "wiped:\n{end}");
    assert!(end.contains("drained 1 request, 1 connection in "), "{end}");
}
