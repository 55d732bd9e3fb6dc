//! What files are: each version has other bytes, so that a mixture of two is neither, and attributes that go with them.

use std::collections::HashMap;
use std::rc::Rc;

use xferd_os::Timestamp;
use xferd_os::sim::Dice;
use xferd_store::digest_of;
use xferd_wire::{Digest, DigestAlgorithm};

/// A version of a file. Two have the same bytes and attributes only if they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VersionId(usize);

/// What is kept of a file with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) mode: u32,
    pub(crate) mtime: Timestamp,
}

/// All versions there have been.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    versions: Vec<(Rc<[u8]>, Kept)>,
    known: HashMap<(Digest, u32, i64, u32), VersionId>,
}

impl Kept {
    /// Any that a file can have; hardly ever the same twice.
    fn any(dice: &mut Dice) -> Self {
        let mode = *dice.one_of(&[0o644, 0o600, 0o755, 0o664, 0o440]);
        let mtime =
            Timestamp { seconds: dice.below(1 << 31) as i64, nanoseconds: dice.below(1_000_000_000) as u32 };
        Self { mode, mtime }
    }
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
        let kept = Kept::any(&mut dice);
        self.of(&bytes, kept)
    }

    /// The bytes of `version` with other attributes.
    pub(crate) fn touch(&mut self, version: VersionId, seed: u64) -> VersionId {
        let kept = Kept::any(&mut Dice::new(seed));
        self.with(version, kept)
    }

    /// The bytes of `version` with those attributes.
    pub(crate) fn with(&mut self, version: VersionId, kept: Kept) -> VersionId {
        self.of(&self.bytes(version), kept)
    }

    /// The version that has those bytes and attributes, however they came about.
    pub(crate) fn of(&mut self, bytes: &[u8], kept: Kept) -> VersionId {
        let Self { versions, known } = self;
        let Kept { mode, mtime } = kept;
        let digest = digest_of(DigestAlgorithm::Crc64Nvme, bytes);
        *known.entry((digest, mode, mtime.seconds, mtime.nanoseconds)).or_insert_with(|| {
            versions.push((bytes.into(), kept));
            VersionId(versions.len() - 1)
        })
    }

    pub(crate) fn bytes(&self, version: VersionId) -> Rc<[u8]> {
        self.versions[version.0].0.clone()
    }

    pub(crate) fn kept(&self, version: VersionId) -> Kept {
        self.versions[version.0].1
    }
}
