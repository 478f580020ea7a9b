//! PROXY headers: the first byte says how the rest is split, and a library says what it means.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    graceful::fuzzing::read_proxy_header(stream, usize::from(size % 64) + 1);
});
