//! Where a context is, and which part of a life a piece of code belongs to.

/// What carries a context to the code that looks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The threads of the runtime, which belong to the context.
    Threads,
    /// The futures of this crate, on the threads of another program.
    Futures,
}

/// Which part of the life of a process a piece of code belongs to, and with it the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The program: until the limit of the drain.
    Program,
    /// The cleanup hooks: until theirs.
    Cleanup,
}
