//! What files contain: each version other bytes, so that a mixture of two is neither.

use std::rc::Rc;

use xferd_os::sim::Dice;

/// A version of a file. None has the bytes of another, unless both are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionId(usize);

/// All versions there have been.
#[derive(Debug, Default)]
pub(crate) struct Contents(Vec<Rc<[u8]>>);

impl Contents {
    /// A new version of `size` bytes.
    pub(crate) fn make(&mut self, size: usize, seed: u64) -> VersionId {
        let mut dice = Dice::new(seed);
        let mut bytes = Vec::with_capacity(size + 7);
        while bytes.len() < size {
            bytes.extend_from_slice(&dice.number().to_le_bytes());
        }
        bytes.truncate(size);
        self.0.push(bytes.into());
        VersionId(self.0.len() - 1)
    }

    /// A version of those bytes, however they came about.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> VersionId {
        self.0.push(bytes.into());
        VersionId(self.0.len() - 1)
    }

    pub(crate) fn bytes(&self, version: VersionId) -> Rc<[u8]> {
        self.0[version.0].clone()
    }
}
