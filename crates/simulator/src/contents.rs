//! What files contain: each version other bytes, so that a mixture of two is neither.

use std::collections::HashMap;
use std::rc::Rc;

use xferd_os::sim::Dice;
use xferd_store::digest_of;
use xferd_wire::{Digest, DigestAlgorithm};

/// A version of a file. Two have the same bytes only if they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionId(usize);

/// All versions there have been.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    versions: Vec<Rc<[u8]>>,
    by_digest: HashMap<Digest, VersionId>,
}

impl Contents {
    /// A new version of `size` bytes.
    pub(crate) fn make(&mut self, size: usize, seed: u64) -> VersionId {
        let mut dice = Dice::new(seed);
        let mut bytes = Vec::with_capacity(size + 7);
        while bytes.len() < size {
            bytes.extend_from_slice(&dice.number().to_le_bytes());
        }
        bytes.truncate(size);
        self.of(&bytes)
    }

    /// The version that has those bytes, however they came about.
    pub(crate) fn of(&mut self, bytes: &[u8]) -> VersionId {
        let Self { versions, by_digest } = self;
        *by_digest.entry(digest_of(DigestAlgorithm::Crc64Nvme, bytes)).or_insert_with(|| {
            versions.push(bytes.into());
            VersionId(versions.len() - 1)
        })
    }

    pub(crate) fn bytes(&self, version: VersionId) -> Rc<[u8]> {
        self.versions[version.0].clone()
    }
}
