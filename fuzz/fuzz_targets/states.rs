//! The states of a connection: a step for each byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    graceful::fuzzing::walk_states(bytes);
});
