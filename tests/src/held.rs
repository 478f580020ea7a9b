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
    /// By the process with this number.
    #[must_use]
    pub fn by(pid: u32) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
        Self {
            descriptors: count("fd").unwrap_or_default(),
            threads: count("task").unwrap_or_default(),
            kilobytes: kilobytes(pid, "VmRSS:").unwrap_or_default(),
        }
    }
}

/// The memory of a process that is resident, in kilobytes.
#[must_use]
pub fn resident(pid: u32) -> usize {
    kilobytes(pid, "VmRSS:").expect("the process is there")
}

/// The most memory that a process has had at a time, in kilobytes.
#[must_use]
pub fn peak(pid: u32) -> usize {
    kilobytes(pid, "VmHWM:").expect("the process is there")
}

/// A line of `/proc/pid/status` (`proc_pid_status(5)`).
fn kilobytes(pid: u32, name: &str) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let text = status.lines().find_map(|line| line.strip_prefix(name))?;
    text.trim().trim_end_matches(" kB").parse().ok()
}
