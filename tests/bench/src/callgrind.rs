//! Reads the counts of callgrind: of all functions, and of the allocator's.

use std::collections::HashMap;

/// Instructions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) all: f64,
    /// Those of `malloc` and its like, and of `memset`. They differ from run to run: glibc's way
    /// through its lists of free memory depends on what else was freed, and when.
    pub(crate) allocator: f64,
}

const ALLOCATOR: [&str; 9] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "memset",
    "posix_memalign",
    "unlink_chunk",
    "_int_",
];

fn is_allocator(function: &str) -> bool {
    let name = function.trim_start_matches('_');
    ALLOCATOR.iter().any(|it| name.starts_with(it) || function.starts_with(it))
}

/// The format is described in valgrind's manual, "Callgrind Format Specification". `None`: there
/// are no totals, because the process did not end.
pub(crate) fn read(text: &str) -> Option<Counts> {
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    let mut counts = Counts { all: total.trim().parse().ok()?, allocator: 0.0 };
    // Names are written out once, behind a number in brackets.
    let mut is_allocators = HashMap::new();
    let mut within = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(function) = line.strip_prefix("fn=") {
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            within = *is_allocators.entry(number).or_insert_with(|| is_allocator(name));
        } else if let Some(function) = line.strip_prefix("cfn=") {
            if let Some((number, name)) = function.split_once(' ') {
                is_allocators.insert(number, is_allocator(name));
            }
        } else if line.starts_with("calls=") {
            // What the callee has taken is in its own lines.
            lines.next();
        } else if within && line.starts_with(|it: char| it.is_ascii_digit() || "+-*".contains(it)) {
            let cost = line.split_once(' ').and_then(|(_, cost)| cost.parse::<f64>().ok());
            counts.allocator += cost.unwrap_or(0.0);
        }
    }
    Some(counts)
}
