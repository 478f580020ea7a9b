//! A kernel that cannot be asked.

use std::{collections::HashSet, net::SocketAddr, time::Instant};

use super::Answer;

#[derive(Debug)]
pub(crate) struct Kernel;

impl Kernel {
    pub(crate) fn new(_: SocketAddr, _: Option<u64>) -> Self {
        Self
    }

    pub(crate) fn arriving(&self) -> Option<HashSet<SocketAddr>> {
        None
    }

    pub(crate) fn waiting(&self) -> usize {
        0
    }

    pub(crate) fn waiting_unix(_: u64) -> usize {
        0
    }

    pub(crate) fn at_the_drain(&self, _: SocketAddr, _: Instant) -> Answer {
        Answer::Unknown
    }

    pub(crate) fn ask(&self, _: SocketAddr, _: SocketAddr, _: Instant) -> Answer {
        Answer::Unknown
    }
}
