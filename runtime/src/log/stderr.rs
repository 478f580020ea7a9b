//! Lines on stderr, and the one line of a terminal that is written again and again.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether a live line stands on the terminal.
static LIVE: AtomicBool = AtomicBool::new(false);

/// To the first column, and "erase in line" (ECMA-48, section 8.3.41).
const WIPE: &str = "\r\x1b[2K";

/// In one write, as far as the system takes it: what the program prints does not come in between.
pub(super) fn write(line: &str) {
    let wipe = if LIVE.swap(false, Ordering::Relaxed) { WIPE } else { "" };
    // If stderr is gone, there is no other place to report it.
    let _ = io::stderr().write_all(format!("{wipe}{line}\n").as_bytes());
}

/// Rewrites the live line; an empty one wipes it.
pub(super) fn write_live(line: &str) {
    // Without a line break at the right margin (DECAWM), so that there is just one line to wipe.
    let text = match line {
        "" => String::new(),
        line => format!("\x1b[?7l{line}\x1b[?7h"),
    };
    let was_live = LIVE.swap(!line.is_empty(), Ordering::Relaxed);
    if was_live || !line.is_empty() {
        let mut stderr = io::stderr().lock();
        // A terminal that is gone shows nothing.
        let _ = write!(stderr, "{WIPE}{text}").and_then(|()| stderr.flush());
    }
}
