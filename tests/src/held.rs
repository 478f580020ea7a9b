//! What a process holds of the system.

use std::fs;

/// Descriptors, threads, and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Kilobytes of memory that are resident.
    pub kilobytes: usize,
}

impl Held {
    /// By a process; `"self"`: this one.
    #[must_use]
    pub fn by(process: &str) -> Self {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{process}/{what}")).map(Iterator::count);
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        Self {
            descriptors: count("fd").unwrap_or_default(),
            threads: count("task").unwrap_or_default(),
            kilobytes: kilobytes.unwrap_or_default(),
        }
    }
}
