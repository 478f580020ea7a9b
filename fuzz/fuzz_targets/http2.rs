//! Frames of HTTP/2: the first byte says how the rest is split, the second how much of it is read,
//! behind a preface; the rest is written.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [size, at, stream @ ..] = bytes else { return };
    let (reads, writes) = stream.split_at(stream.len() * usize::from(*at) / 255);
    let reads = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", reads].concat();
    graceful::fuzzing::follow_http2(&reads, writes, usize::from(size % 64) + 1);
});
