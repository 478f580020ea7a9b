//! HTTP/1 or HTTP/2, as more and more bytes come.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    graceful::fuzzing::detect(bytes);
});
