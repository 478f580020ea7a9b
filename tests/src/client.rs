//! A client on a bare socket: what it sends and reads is what is on the wire.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::PATIENCE;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Head lines, in lower case.
    pub head: String,
    /// The body, without chunk marks.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the server says that it closes the connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// As `TcpStream::connect`.
    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Connects.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).expect("connects")
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sends");
    }

    /// Sends a GET.
    pub fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    }

    /// Reads a response.
    ///
    /// # Errors
    ///
    /// If the connection ends or fails before the response does.
    pub fn try_response(&mut self) -> io::Result<Response> {
        let end = self.read_until(|bytes| find(bytes, b"\r\n\r\n").map(|at| at + 4))?;
        let head = String::from_utf8_lossy(&self.take(end)).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut response = Response { status, head, body: Vec::new() };
        if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            self.read_until(|bytes| (bytes.len() >= length).then_some(length))?;
            response.body = self.take(length);
        } else if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let end = self.read_until(|bytes| find(bytes, b"\r\n").map(|at| at + 2))?;
                let line = String::from_utf8_lossy(&self.take(end)).into_owned();
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                self.read_until(|bytes| (bytes.len() >= size + 2).then_some(0))?;
                response.body.extend(self.take(size));
                self.take(2);
                if size == 0 {
                    break;
                }
            }
        }
        Ok(response)
    }

    /// Reads a response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// Sends a GET and reads the response.
    #[track_caller]
    pub fn fetch(&mut self, path: &str) -> Response {
        self.get(path);
        self.response()
    }

    /// Waits for the server to close the connection.
    #[track_caller]
    pub fn closed(&mut self) {
        assert!(self.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&self.buffer));
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("a clean close");
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    /// Reads until `end` finds what it looks for.
    ///
    /// # Errors
    ///
    /// If the connection ends or fails before.
    pub fn read_until(&mut self, end: impl Fn(&[u8]) -> Option<usize>) -> io::Result<usize> {
        loop {
            if let Some(at) = end(&self.buffer) {
                return Ok(at);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend(&chunk[..n]),
            }
        }
    }
}

/// Where `needle` begins.
#[must_use]
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
