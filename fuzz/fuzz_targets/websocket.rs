//! Frames of a WebSocket client: the first byte says how the rest is split.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    graceful::fuzzing::follow_websocket(stream, usize::from(size % 64) + 1);
});
