//! A server in a process, and a request to it: for the benches that stop servers under clients.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

/// Starts a server. Returns its lines as well, from both of its pipes.
pub(crate) fn start(command: &mut Command) -> (Child, Receiver<String>) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
    let (to_here, lines) = channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as _),
        child.stderr.take().map(|pipe| Box::new(pipe) as _),
    ];
    for pipe in pipes.into_iter().flatten() {
        let to_here = to_here.clone();
        // Read to its end: a server must not meet a closed pipe.
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = to_here.send(line);
            }
        });
    }
    (child, lines)
}

/// Sends a request, the last one of its connection unless that is kept, and reads the response.
/// Returns whether the connection ends with it; `None`: no whole response came.
pub(crate) fn ask(stream: &mut TcpStream, keeps: bool) -> Option<bool> {
    let close = if keeps { "" } else { "connection: close\r\n" };
    // In one write: of two, the second waits until the first is acknowledged (Nagle), and a server
    // that has half a request does not close the connection as idle.
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{close}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut piece = [0; 2048];
    loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
            if answer.len() >= end + 4 + length.parse::<usize>().ok()? {
                return Some(head.contains("connection: close"));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
}
