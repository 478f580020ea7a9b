//! The first byte says how the rest is split; hyper says where the messages in it end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    let pieces: Vec<_> = stream.chunks(usize::from(size % 64) + 1).collect();
    if let Err(difference) = graceful::fuzzing::compare(&pieces) {
        panic!("{difference}");
    }
});
