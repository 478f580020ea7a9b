//! Lines on stderr, and the one line of a terminal that is written again and again.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether the line of the cursor is to be wiped by what is written next.
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
    let text = match line {
        "" => String::new(),
        line => live_line(line),
    };
    let was_live = LIVE.swap(!line.is_empty(), Ordering::Relaxed);
    if was_live || !line.is_empty() {
        let mut stderr = io::stderr().lock();
        // A terminal that is gone shows nothing.
        let _ = write!(stderr, "{WIPE}{text}").and_then(|()| stderr.flush());
    }
}

/// The line without a line break at the right margin (DECAWM), so that there is just one to wipe.
///
/// Then the cursor is moved to the right margin and writes a blank there: the next character that is
/// printed, which may be the program's own, begins a new line, while a CR stays in this one.
fn live_line(line: &str) -> String {
    format!("\x1b[?7l{line}\x1b[?7h\x1b[999C ")
}

/// The terminal has echoed the key that sent a signal.
pub(super) fn key_echoed() {
    if io::stderr().is_terminal() {
        LIVE.store(true, Ordering::Relaxed);
    }
}
