//! Addresses as text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        graceful::fuzzing::read_address(text);
    }
});
