//! A real terminal: tmux.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::PATIENCE;

/// A server of its own, by the name of its socket, which ends with the test however that ends.
#[derive(Debug)]
pub struct Tmux(String);

impl Tmux {
    /// `name` is that of the test. `None`: there is none here.
    #[must_use]
    pub fn start(name: &str) -> Option<Self> {
        let has_it = Command::new("tmux").arg("-V").output().is_ok();
        let can = crate::can("a terminal (Debian: apt-get install tmux)", has_it);
        can.then(|| Self(format!("graceful-{name}-{}", std::process::id())))
    }

    /// Runs a command of tmux, and returns what it prints.
    #[allow(clippy::must_use_candidate, reason = "for what it does, most of the time")]
    pub fn run(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").arg("-L").arg(&self.0).args(args).output().expect("tmux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns the screen once it shows `what`.
    #[allow(clippy::must_use_candidate, reason = "for the wait, most of the time")]
    pub fn wait_for(&self, what: &str) -> String {
        let start = Instant::now();
        loop {
            let screen = self.run(&["capture-pane", "-p"]);
            if screen.contains(what) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "no {what:?} in:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}
