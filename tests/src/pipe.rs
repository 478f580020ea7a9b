//! Pipes that nobody reads, or that are read with care.

use std::{
    io::{PipeReader, PipeWriter, Read, Write},
    sync::mpsc::channel,
    thread,
};

use crate::PATIENCE;

/// Writes until the pipe takes no more.
pub fn fill(writer: &PipeWriter) {
    let mut writer = writer.try_clone().expect("a descriptor");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can be told not to block");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("as above");
}

/// The next line that comes out of the pipe, and not a byte more.
#[must_use]
pub fn read_line(reader: &PipeReader) -> String {
    let mut reader = reader.try_clone().expect("a descriptor");
    let (to_line, line) = channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && reader.read_exact(&mut byte).is_ok() {
            line.extend(byte);
        }
        // The test may be over.
        let _ = to_line.send(line);
    });
    let line = line.recv_timeout(PATIENCE).expect("a line");
    String::from_utf8(line).expect("text").trim_end().to_owned()
}
