//! Any protocol: connections are let in without loss, waited for, named and cut, as requests are.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use graceful_tests::{PATIENCE, Process, fixture, load::Random};

fn serve(timeout: &str) -> (Process, SocketAddr) {
    let fixture = fixture!("opened");
    fixture.env("LINES", "127.0.0.1:0").env("TIMEOUT", timeout).serve()
}

fn connect(addr: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn echo(stream: &mut BufReader<TcpStream>, line: &str) -> String {
    stream.get_mut().write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    answer
}

#[test]
fn a_handler_learns_of_the_drain_and_says_goodbye() {
    let (mut process, addr) = serve("20s");
    assert!(!process.line_if("http://"), "it does not speak HTTP");
    let mut client = connect(addr);
    assert_eq!(echo(&mut client, "one\n"), "one\n");
    process.term();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
    let ended = process.wait().expect(0);
    assert!(ended.said("drained 1 connection"), "{ended:#?}");
}

#[test]
fn what_the_limit_cuts_is_named() {
    let (mut process, addr) = serve("300ms");
    let mut client = connect(addr);
    client.get_mut().write_all(b"stall\n").unwrap();
    process.line("a connection");
    let local = client.get_ref().local_addr().unwrap();
    process.term();
    let ended = process.wait().expect(124);
    assert!(ended.said(&format!("connection from {local}, with its handler")), "{ended:#?}");
}

/// The handler has returned; what it wrote is on its way to a client that does not read yet, and
/// goes on sending.
#[test]
fn what_was_written_is_delivered_before_the_exit() {
    let (mut process, addr) = serve("20s");
    let client = connect(addr);
    let mut writer = client.get_ref().try_clone().unwrap();
    // More than both ends' buffers hold: the server is stuck in a write until this is read.
    let line = format!("{}\n", "x".repeat(8 << 20));
    let expected = line.len();
    let sent = std::thread::spawn(move || writer.write_all(line.as_bytes()));
    process.line("a connection");
    let mut client = client;
    let mut first = [0; 1];
    client.read_exact(&mut first).unwrap();
    process.term();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    sent.join().unwrap().unwrap();
    assert_eq!(rest.len() + 1, expected + "bye\n".len());
    assert!(rest.ends_with(b"\nbye\n"));
    let _ = process.wait().expect(0);
}

#[test]
fn over_a_unix_socket_too() {
    let path = std::env::temp_dir().join(format!("graceful-lines-{}.sock", std::process::id()));
    let fixture = fixture!("opened");
    let mut process = fixture.env("LINES", &format!("unix:{}", path.display())).spawn();
    process.line("listening on unix:");
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"one\n").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"one\n");
    process.term();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
    let _ = process.wait().expect(0);
    assert!(!path.exists());
}

/// 32 clients with a connection for each line, or one for as long as the server keeps it, and no
/// second try: what was accepted is answered.
#[test]
fn restarts_lose_no_line() {
    for keep_alive in [false, true] {
        restart(keep_alive);
    }
}

fn restart(keep_alive: bool) {
    let restarts: u64 = std::env::var("GRACEFUL_RESTARTS").map_or(20, |text| text.parse().unwrap());
    let (answered, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 0..restarts {
        let (process, addr) = serve("20s");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..32 {
                let (over, answered, lost) = (&over, &answered, &lost);
                scope.spawn(move || {
                    // When the last answer had come: a busy machine may make a long pause of a
                    // short one.
                    let pause = std::cell::Cell::new(Instant::now());
                    let paused = |since: Instant| since - pause.get() > Duration::from_millis(150);
                    while !over.load(Ordering::Relaxed) {
                        // Refused, or reset before anything was sent: the next instance's.
                        let Ok(stream) = TcpStream::connect(addr) else { return };
                        stream.set_nodelay(true).unwrap();
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        let mut stream = BufReader::new(stream);
                        let mut asked = 0;
                        loop {
                            let line = format!("{round} {client} {asked}\n");
                            let mut answer = String::new();
                            let since = Instant::now();
                            let sent = stream.get_mut().write_all(line.as_bytes());
                            let read = sent.and_then(|()| stream.read_line(&mut answer));
                            asked += 1;
                            match read {
                                Ok(_) if answer == line => answered.fetch_add(1, Ordering::Relaxed),
                                // The server has closed between two lines, and the next one crosses
                                // that: only after a pause that was longer than the linger.
                                Ok(_) if asked > 1 && paused(since) => break,
                                _ => lost.fetch_add(1, Ordering::Relaxed),
                            };
                            if answer != line || !keep_alive || over.load(Ordering::Relaxed) {
                                break;
                            }
                            pause.set(Instant::now());
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(30_000 + Random(round + 1).below(20_000)));
            process.signal(graceful_tests::Signal::TERM);
            // A protocol of lines has no way to say that this was the last: as long as a client
            // goes on asking it is answered.
            std::thread::sleep(Duration::from_millis(if keep_alive { 100 } else { 0 }));
            let mut process = process;
            over.store(keep_alive, Ordering::Relaxed);
            let ended = process.wait();
            over.store(true, Ordering::Relaxed);
            assert_eq!(ended.code(), 0, "{ended:#?}");
        });
    }
    let (answered, lost) = (answered.into_inner(), lost.into_inner());
    println!("keep-alive: {keep_alive}, {restarts} restarts: {answered} answered, {lost} lost");
    assert!(answered > 100 && lost == 0, "{answered} answered, {lost} lost");
}
