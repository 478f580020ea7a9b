//! The name of a request in reports, where hyper takes the head for one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    graceful::fuzzing::name(bytes);
});
