//! Sets of signals, as the kernel shows them of a process.

use super::Signal;

/// The signals that a line such as `SigIgn:` of a `/proc/…/status` has (`proc_pid_status(5)`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask(u64);

impl Mask {
    /// `None`: there is no such line.
    pub(crate) fn read(status: &str, name: &str) -> Option<Self> {
        let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(Self)
    }

    /// A bit for each, `number - 1`.
    pub(crate) fn contains(self, signal: Signal) -> bool {
        self.0 >> (signal.number() - 1) & 1 == 1
    }
}
