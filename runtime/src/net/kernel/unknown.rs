//! A kernel that cannot be asked.

use std::{collections::HashSet, net::SocketAddr};

use super::Facts;

#[derive(Debug)]
pub(crate) struct Kernel;

impl Kernel {
    pub(crate) fn new(_: SocketAddr, _: Option<u64>) -> Self {
        Self
    }

    pub(crate) fn arriving(&self) -> Option<HashSet<SocketAddr>> {
        None
    }

    pub(crate) fn at_the_drain(&self, _: SocketAddr) -> Option<Facts> {
        None
    }

    pub(crate) fn ask(&self, _: SocketAddr, _: SocketAddr) -> Option<Facts> {
        None
    }
}
