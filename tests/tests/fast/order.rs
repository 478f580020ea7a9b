//! Servers that drain one after another.

use std::net::SocketAddr;

use graceful_tests::{Client, Errno, Fixture, PATIENCE, Process, Signal, fixture};

/// The process, and the addresses of the tunnels, the control port and the third server.
fn serve(fixture: Fixture) -> (Process, [SocketAddr; 3]) {
    let (mut process, first) = fixture.serve();
    let addrs = [first, process.addr(), process.addr()];
    (process, addrs)
}

fn ordered() -> Fixture {
    fixture!("ordered")
}

#[track_caller]
fn refused(addr: SocketAddr) {
    let start = std::time::Instant::now();
    loop {
        match Client::try_connect(addr) {
            Ok(_) => assert!(start.elapsed() < PATIENCE, "clients are still let in"),
            Err(error) => {
                let refused = Some(Errno::CONNREFUSED.raw_os_error());
                return assert_eq!(error.raw_os_error(), refused, "{error}");
            }
        }
    }
}

#[test]
fn the_control_port_serves_until_the_tunnels_are_over() {
    let (mut process, [tunnels, control, third]) = serve(ordered());
    let mut tunnel = process.hold(tunnels);
    let mut kept = Client::connect(control);
    assert_eq!(kept.fetch("/").text(), "fine");
    process.term();
    process.line("the tunnels have their turn");
    refused(tunnels);
    refused(third);
    // As if nothing was: on the connection that was there, and on new ones.
    for _ in 0..3 {
        let response = kept.fetch("/");
        assert_eq!((response.text().as_str(), response.closes()), ("fine", false));
        let response = Client::connect(control).fetch("/");
        assert_eq!((response.text().as_str(), response.closes()), ("fine", false));
    }
    process.release();
    assert_eq!(tunnel.response().text(), "held");
    process.line("the control port has its turn");
    refused(control);
    let ended = process.wait().expect(0);
    // In its turn, it drains as any other: the idle connection is closed without loss.
    kept.closed();
    // The last answer may have come before its end was noted, which is in the drain then.
    let drained = ["drained 1 request, ", "drained 2 requests, "];
    assert!(drained.iter().any(|text| ended.said(text)), "{:#?}", ended.lines);
}

/// A request at the control port, in its turn.
#[test]
fn what_the_last_server_answers_is_waited_for() {
    let (mut process, [_, control, _]) = serve(ordered());
    let mut client = process.hold(control);
    process.term();
    process.line("the control port has its turn");
    refused(control);
    process.release();
    let response = client.response();
    assert_eq!((response.text().as_str(), response.closes()), ("held", true));
    let _ = process.wait().expect(0);
}

/// And so are what its handlers wait for, hooks that they register, and tasks.
#[test]
fn the_handlers_of_the_last_server_hear_of_the_drain_in_their_turn() {
    let (mut process, [tunnels, control, _]) = serve(ordered());
    let mut tunnel = process.hold(tunnels);
    let mut streams = [tunnels, control].map(|addr| {
        let mut client = Client::connect(addr);
        client.get("/until-the-drain");
        process.line("stream begins");
        client
    });
    let websocket = |path: &str| {
        let stream = std::net::TcpStream::connect(control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        tungstenite::client(format!("ws://{control}/{path}"), stream).unwrap().0
    };
    let mut echo = websocket("ws-told");
    Client::connect(control).fetch("/hook");
    process.term();
    process.line("the tunnels have their turn");
    assert_eq!(streams[0].response().text(), "the drain");
    // Still there.
    echo.send("a".into()).unwrap();
    assert_eq!(echo.read().unwrap().into_text().unwrap(), "a");
    assert_eq!(Client::connect(control).fetch("/").text(), "fine");
    process.release();
    assert_eq!(tunnel.response().text(), "held");
    process.line("the control port has its turn");
    assert_eq!(streams[1].response().text(), "the drain");
    assert!(echo.read().unwrap().is_close());
    while echo.read().is_ok() {}
    let ended = process.wait().expect(0);
    assert!(ended.said("hook of a handler"), "{:#?}", ended.lines);
}

/// Then it is the next one's turn.
#[test]
fn the_limit_of_a_group_cuts_its_servers() {
    let (mut process, [tunnels, control, _]) = serve(ordered().env("LIMITED", "yes"));
    let mut tunnel = process.hold(tunnels);
    let mut client = process.hold(control);
    process.term();
    process.line("the control port has its turn");
    assert!(tunnel.try_response().is_err(), "cut");
    process.release();
    assert_eq!(client.response().text(), "held");
    let ended = process.wait().expect(124);
    let cut: Vec<_> = ended.lines.iter().filter(|line| line.contains("GET /hold")).collect();
    assert_eq!(cut.len(), 1, "{:#?}", ended.lines);
}

/// As the drain itself does not wait for it, as long as others are served.
#[test]
fn a_handshake_that_is_late_holds_no_turn() {
    let (mut process, [tunnels, control, _]) = serve(ordered().env("PROXIED", "yes"));
    let silent = Client::connect(tunnels);
    let mut client = process.hold(control);
    process.term();
    let start = std::time::Instant::now();
    process.line("the control port has its turn");
    // Its grace is a second; the whole drain has twenty.
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    process.release();
    assert_eq!(client.response().text(), "held");
    let _ = process.wait().expect(0);
    drop(silent);
}

/// The limit of the drain holds for all, whose turn it ever was.
#[test]
fn the_limit_cuts_a_server_whose_turn_has_not_come() {
    let (mut process, [tunnels, control, third]) = serve(ordered().env("TIMEOUT", "500ms"));
    let clients = [tunnels, control, third].map(|addr| process.hold(addr));
    process.term();
    let ended = process.wait().expect(124);
    assert!(!ended.said("the control port has its turn"), "{:#?}", ended.lines);
    let cut = ended.lines.iter().filter(|line| line.contains("GET /hold")).count();
    assert_eq!(cut, 3, "{:#?}", ended.lines);
    for mut client in clients {
        assert!(client.try_response().is_err());
    }
}

#[test]
fn a_second_signal_ends_all_of_them() {
    let (mut process, [tunnels, control, _]) = serve(ordered());
    let _clients = [tunnels, control].map(|addr| process.hold(addr));
    process.term();
    process.line("the tunnels have their turn");
    std::thread::sleep(std::time::Duration::from_millis(250));
    process.signal(Signal::TERM);
    let _ = process.wait().expect(128 + 15);
}

/// Also those whose turn would come later.
#[test]
fn a_lame_duck_sends_the_clients_of_each_server_away() {
    let (mut process, addrs) = serve(ordered());
    for closes in [true, false] {
        process.signal(Signal::USR1);
        process.line("lame duck");
        for addr in addrs {
            assert_eq!(Client::connect(addr).fetch("/").closes(), closes);
        }
    }
    process.signal(Signal::TERM);
    let _ = process.wait().expect(0);
}
