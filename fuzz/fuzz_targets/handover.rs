//! The first byte says how the rest is split; whatever is read from it as messages of a hand-over
//! can be written again, and nothing else is taken for one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    graceful::fuzzing::read_messages(stream, usize::from(size % 64) + 1);
});
