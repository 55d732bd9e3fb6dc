//! One file on its way in: what a server does with a put and a client with the answer to a get.

use std::sync::Arc;

use xferd_os::{scaled, seeded};
use xferd_store::{FileAttributes, Hasher, Staging, Store, StoreError, WholeFile};
use xferd_wire::{Digest, DigestAlgorithm, RemotePath, WritePath};

use crate::disk::DiskOutcome;
use crate::failure::Failure;
use crate::session::Effects;

/// Files up to this size are gathered in memory and stored by one piece of work, together with others: that is worth a
/// copy (docs/why-send-path.md).
pub const GATHERED_BYTES_MAX: u64 = scaled(256 << 10);

/// A file that arrives in extents and becomes visible when it is whole and right.
///
/// Drive it with what the peer sends: [`Incoming::start`], then for each extent [`Incoming::extent`] (followed by
/// [`Incoming::gather`] until [`Incoming::gathering`] is 0, if the file is gathered), then [`Incoming::digest`] and
/// [`Incoming::commit`]. Dropping it at any moment leaves nothing behind.
pub struct Incoming {
    key: u32,
    store: Arc<Store>,
    path: RemotePath,
    /// Announced size; `None` when the sender does not know it yet.
    size: Option<u64>,
    /// Bytes announced by extents so far; the next extent starts here.
    at: u64,
    hasher: Option<Hasher>,
    algorithm: DigestAlgorithm,
    /// The sender's digest was equal to ours.
    verified: Option<Digest>,
    body: Body,
}

enum Body {
    /// Small: kept in memory. `due` bytes of the current extent are still to come.
    Gathered { bytes: Vec<u8>, due: u64 },
    /// The staging file is being made.
    Staging,
    /// In a staging file; `receiving` while the shard puts an extent into it.
    Staged { staging: Staging, receiving: bool },
    /// Handed to the commit.
    Committing,
}

impl Incoming {
    /// A file of `size` bytes that will be `path` in `store`. With `gather` a small one is kept in memory.
    pub fn new(
        key: u32,
        store: Arc<Store>,
        path: RemotePath,
        size: Option<u64>,
        algorithm: DigestAlgorithm,
        gather: bool,
    ) -> Self {
        let small = gather && size.is_some_and(|size| size <= GATHERED_BYTES_MAX);
        let body = if small { Body::Gathered { bytes: Vec::new(), due: 0 } } else { Body::Staging };
        Self {
            key,
            store,
            path,
            size,
            at: 0,
            hasher: Some(Hasher::new(algorithm)),
            algorithm,
            verified: None,
            body,
        }
    }

    /// Has the staging file made, unless the file is gathered.
    pub fn start<O: From<DiskOutcome> + 'static>(&mut self, effects: &mut Effects<O>) {
        if !matches!(self.body, Body::Staging) {
            return;
        }
        let (store, path, size) = (self.store.clone(), self.path.clone(), self.size);
        effects.work(self.key, move || DiskOutcome::Staged(store.stage(&path, size)).into());
    }

    /// Whether the stream has to wait for the staging file or for the bytes of an extent.
    pub fn is_waiting(&self) -> bool {
        matches!(self.body, Body::Staging | Body::Staged { receiving: true, .. })
    }

    /// Whether the file is kept in memory until its commit.
    pub fn is_gathered(&self) -> bool {
        matches!(self.body, Body::Gathered { .. })
    }

    /// The staging file is there, or could not be made.
    pub fn on_staged(&mut self, result: Result<Staging, StoreError>) -> Result<(), Failure> {
        self.body = Body::Staged { staging: result?, receiving: false };
        Ok(())
    }

    /// The way its bytes take to the disk.
    pub fn write_path(&self) -> WritePath {
        match &self.body {
            Body::Staged { staging, .. } => staging.write_path(),
            Body::Gathered { .. } | Body::Staging | Body::Committing => WritePath::Cached,
        }
    }

    /// An extent begins. Its bytes follow in the stream.
    pub fn extent<O>(&mut self, offset: u64, len: u64, effects: &mut Effects<O>) -> Result<(), Failure> {
        if offset != self.at {
            return Err(Failure::protocol(format!(
                "{}: extent at {offset}, but {} bytes have come so far and extents of one connection follow each other",
                self.path, self.at
            )));
        }
        if self.verified.is_some() {
            return Err(Failure::protocol(format!("{}: extent after the digest", self.path)));
        }
        let end = offset.checked_add(len).filter(|&end| self.size.is_none_or(|size| end <= size));
        let Some(end) = end else {
            return Err(Failure::too_many_bytes(&self.path, self.size.unwrap_or_default()));
        };
        match &mut self.body {
            Body::Gathered { due, .. } => *due = len,
            Body::Staged { staging, receiving } => {
                *receiving = true;
                effects.receive(self.key, staging.sink(), offset, len, self.hasher.take());
            }
            Body::Staging | Body::Committing => {
                return Err(Failure::protocol(format!("{}: extent after the commit", self.path)));
            }
        }
        self.at = end;
        Ok(())
    }

    /// Bytes of the current extent that [`Incoming::gather`] still waits for.
    pub fn gathering(&self) -> u64 {
        match self.body {
            Body::Gathered { due, .. } => due,
            _ => 0,
        }
    }

    /// Takes what belongs to the current extent of a gathered file; returns how much that was.
    pub fn gather(&mut self, input: &[u8]) -> usize {
        let Body::Gathered { bytes, due } = &mut self.body else { return 0 };
        let taken = input.len().min(usize::try_from(*due).unwrap_or(usize::MAX));
        let (mine, _) = input.split_at(taken);
        bytes.extend_from_slice(mine);
        *due -= taken as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(mine);
        }
        taken
    }

    /// The extent is in the staging file, or could not be written.
    pub fn on_received(
        &mut self,
        hasher: Option<Hasher>,
        result: std::io::Result<()>,
    ) -> Result<(), Failure> {
        self.hasher = hasher;
        if let Body::Staged { receiving, .. } = &mut self.body {
            *receiving = false;
        }
        result.map_err(|error| Failure::io(self.path.as_str(), &error))
    }

    /// The sender's digest of all bytes.
    pub fn digest(&mut self, theirs: &Digest) -> Result<(), Failure> {
        if theirs.algorithm() != self.algorithm {
            return Err(Failure::other_algorithm(&self.path, theirs.algorithm(), self.algorithm));
        }
        let Some(hasher) = self.hasher.take() else {
            return Err(Failure::protocol(format!("{}: a second digest", self.path)));
        };
        let ours = hasher.finish();
        if ours != *theirs && !seeded!(DigestNotChecked) {
            return Err(Failure::other_bytes(&self.path, &ours, theirs));
        }
        self.verified = Some(ours);
        Ok(())
    }

    /// Makes it visible if it is whole. Returns the verified digest, to be told once [`DiskOutcome::Committed`] came.
    pub fn commit<O: From<DiskOutcome> + 'static>(
        &mut self,
        size: u64,
        attributes: FileAttributes,
        durable: bool,
        effects: &mut Effects<O>,
    ) -> Result<Digest, Failure> {
        if self.at != size || self.size.is_some_and(|announced| announced != size) || self.gathering() > 0 {
            return Err(Failure::too_few_bytes(&self.path, self.at, self.size.unwrap_or(size)));
        }
        let Some(digest) = self.verified else {
            return Err(Failure::protocol(format!("{}: commit before the digest", self.path)));
        };
        let (store, path) = (self.store.clone(), self.path.clone());
        match std::mem::replace(&mut self.body, Body::Committing) {
            Body::Gathered { bytes, .. } => {
                effects.put(self.key, store, WholeFile { path, bytes, attributes }, durable);
            }
            Body::Staged { staging, .. } => effects.work(self.key, move || {
                DiskOutcome::Committed(store.commit(staging, size, &attributes, durable)).into()
            }),
            Body::Staging | Body::Committing => {
                return Err(Failure::protocol(format!("{}: a second commit", self.path)));
            }
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use xferd_store::{Options, digest_of};
    use xferd_wire::{ErrorCode, Mtime};

    use super::*;
    use crate::session::Effect;

    const STAGED_BYTES: u64 = GATHERED_BYTES_MAX + 1;

    struct Rig {
        root: TempDir,
        incoming: Incoming,
        effects: Effects<DiskOutcome>,
    }

    impl Rig {
        fn new(size: Option<u64>) -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::write(root.path().join("x"), b"old").unwrap();
            let store = Arc::new(Store::open(root.path(), Options::default()).unwrap());
            let path = RemotePath::parse("x").unwrap();
            let mut incoming = Incoming::new(7, store, path, size, DigestAlgorithm::Crc64Nvme, true);
            let mut effects = Effects::default();
            incoming.start(&mut effects);
            let mut rig = Self { root, incoming, effects };
            if let Some(DiskOutcome::Staged(staged)) = rig.work() {
                rig.incoming.on_staged(staged).unwrap();
            }
            rig
        }

        /// Does the work that was asked for, if any was.
        fn work(&mut self) -> Option<DiskOutcome> {
            let mut effects = self.effects.take().into_iter();
            match (effects.next(), effects.next()) {
                (None, None) => None,
                (Some(Effect::Work { key: 7, work }), None) => Some(work.run()),
                _ => panic!("one piece of work at a time"),
            }
        }

        fn extent(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
            self.incoming.extent(offset, bytes.len() as u64, &mut self.effects)?;
            if let Some(Effect::Receive { sink, offset, len, hasher, .. }) = self.effects.take().pop() {
                assert_eq!(len, bytes.len() as u64);
                let mut hasher = hasher.unwrap();
                hasher.update(bytes);
                return self.incoming.on_received(Some(hasher), sink.write_all_at(bytes, offset));
            }
            for byte in bytes {
                assert_eq!(self.incoming.gather(&[*byte]), 1);
            }
            assert_eq!(self.incoming.gather(b"not mine"), 0);
            Ok(())
        }

        fn commit(&mut self, size: u64) -> Result<Digest, Failure> {
            let attributes = FileAttributes { mode: 0o644, mtime: Mtime::default() };
            let digest = self.incoming.commit(size, attributes, false, &mut self.effects)?;
            assert!(matches!(self.work(), Some(DiskOutcome::Committed(Ok(())))));
            Ok(digest)
        }

        fn stored(&self) -> Vec<u8> {
            std::fs::read(self.root.path().join("x")).unwrap()
        }
    }

    fn digest(bytes: &[u8]) -> Digest {
        digest_of(DigestAlgorithm::Crc64Nvme, bytes)
    }

    fn code(result: Result<impl std::fmt::Debug, Failure>) -> ErrorCode {
        result.unwrap_err().code
    }

    /// A gathered file and a staged one, announced and not.
    const SIZES: [(u64, bool); 4] =
        [(5, true), (GATHERED_BYTES_MAX, true), (STAGED_BYTES, true), (STAGED_BYTES, false)];

    #[test]
    fn a_file_that_comes_whole_and_right_takes_the_place_of_the_old_one() {
        for (size, announced) in SIZES {
            let bytes = vec![7; size as usize];
            let mut rig = Rig::new(announced.then_some(size));
            assert_eq!(rig.incoming.is_gathered(), size <= GATHERED_BYTES_MAX);
            rig.extent(0, &bytes[..2]).unwrap();
            rig.extent(2, &bytes[2..]).unwrap();
            rig.incoming.digest(&digest(&bytes)).unwrap();
            assert_eq!(rig.stored(), b"old");
            assert_eq!(rig.commit(size).unwrap(), digest(&bytes));
            assert!(rig.stored() == bytes);
            assert_eq!(code(rig.commit(size)), ErrorCode::Protocol, "a second commit");
        }
    }

    #[test]
    fn a_short_file_is_never_committed() {
        for (size, announced) in SIZES {
            let short = vec![7; size as usize - 1];
            let mut rig = Rig::new(announced.then_some(size));
            rig.extent(0, &short).unwrap();
            rig.incoming.digest(&digest(&short)).unwrap();
            assert_eq!(code(rig.commit(size)), ErrorCode::SizeMismatch);
            if announced {
                assert_eq!(code(rig.commit(size - 1)), ErrorCode::SizeMismatch);
            }
            drop(rig.incoming);
            assert_eq!(std::fs::read(rig.root.path().join("x")).unwrap(), b"old");
            assert_eq!(std::fs::read_dir(rig.root.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_is_not_in_order_is_refused() {
        for (size, announced) in SIZES {
            let bytes = vec![7; size as usize];
            let mut rig = Rig::new(announced.then_some(size));
            assert_eq!(code(rig.extent(1, &bytes[1..])), ErrorCode::Protocol, "a gap");
            rig.extent(0, &bytes[1..]).unwrap();
            assert_eq!(code(rig.extent(0, b"x")), ErrorCode::Protocol, "a repetition");
            if announced {
                assert_eq!(code(rig.extent(size - 1, b"xx")), ErrorCode::SizeMismatch, "too much");
            }
            assert_eq!(
                code(rig.commit(size - 1)),
                if announced { ErrorCode::SizeMismatch } else { ErrorCode::Protocol }
            );
            rig.incoming.digest(&digest(&bytes[1..])).unwrap();
            assert_eq!(
                code(rig.incoming.digest(&digest(&bytes[1..]))),
                ErrorCode::Protocol,
                "a second digest"
            );
            assert_eq!(code(rig.extent(size - 1, b"x")), ErrorCode::Protocol, "more after the digest");
            assert_eq!(rig.stored(), b"old");
        }
    }

    #[test]
    fn other_bytes_than_were_sent_are_refused() {
        for (size, announced) in SIZES {
            let bytes = vec![7; size as usize];
            let mut rig = Rig::new(announced.then_some(size));
            rig.extent(0, &bytes).unwrap();
            assert_eq!(code(rig.incoming.digest(&Digest::NONE)), ErrorCode::Protocol);
            assert_eq!(code(rig.incoming.digest(&digest(b"other"))), ErrorCode::DigestMismatch);
            assert_eq!(code(rig.commit(size)), ErrorCode::Protocol);
            assert_eq!(rig.stored(), b"old");
        }
    }
}
