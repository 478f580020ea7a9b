//! Durations as text: what is read is printed as the same, and what a message says to write is one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        graceful::fuzzing::read_duration(text);
    }
});
