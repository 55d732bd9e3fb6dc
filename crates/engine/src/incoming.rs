//! One file on its way in: what a server does with a put and a client with the answer to a get.

use std::sync::Arc;

use xferd_store::{FileAttributes, Hasher, Staging, Store, StoreError};
use xferd_wire::{Digest, DigestAlgorithm, ErrorCode, RemotePath};

use crate::disk::DiskOutcome;
use crate::failure::Failure;
use crate::session::Effects;

/// Files up to this size are gathered in memory and stored by one piece of work instead of three: a round through the
/// work queue costs more than copying 64 KiB.
pub const GATHERED_BYTES_MAX: u64 = 64 << 10;

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

    /// Where it goes.
    pub fn path(&self) -> &RemotePath {
        &self.path
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
            return Err(Failure::new(
                ErrorCode::SizeMismatch,
                format!("{}: more bytes than the {} announced", self.path, self.size.unwrap_or_default()),
            ));
        };
        match &mut self.body {
            Body::Gathered { due, .. } => *due = len,
            Body::Staged { staging, receiving } => {
                *receiving = true;
                effects.receive(self.key, staging.file(), offset, len, self.hasher.take());
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
            return Err(Failure::protocol(format!(
                "{}: digest is {}, announced was {}",
                self.path,
                theirs.algorithm().name(),
                self.algorithm.name()
            )));
        }
        let Some(hasher) = self.hasher.take() else {
            return Err(Failure::protocol(format!("{}: a second digest", self.path)));
        };
        let ours = hasher.finish();
        if ours != *theirs {
            return Err(Failure::new(
                ErrorCode::DigestMismatch,
                format!(
                    "{}: the bytes that came have digest {ours}, the sender's have {theirs}; nothing was stored, send it again",
                    self.path
                ),
            ));
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
            let expected = self.size.unwrap_or(size);
            return Err(Failure::new(
                ErrorCode::SizeMismatch,
                format!("{}: {} of {expected} bytes came; nothing was stored", self.path, self.at),
            ));
        }
        let Some(digest) = self.verified else {
            return Err(Failure::protocol(format!("{}: commit before the digest", self.path)));
        };
        let (store, path) = (self.store.clone(), self.path.clone());
        match std::mem::replace(&mut self.body, Body::Committing) {
            Body::Gathered { bytes, .. } => effects.work(self.key, move || {
                DiskOutcome::Committed(store.put_whole(&path, &bytes, &attributes, durable)).into()
            }),
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
