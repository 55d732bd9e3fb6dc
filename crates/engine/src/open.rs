//! Opens files for sending: small ones are read at once, large ones are left to the kernel.

use std::sync::Arc;

use xferd_os::Mapping;
use xferd_store::{FileAttributes, Hasher, Source, SourceDigest, Store, StoreError};
use xferd_wire::{Digest, DigestAlgorithm, FileHeader, Frame, Identity, RemotePath};

use crate::incoming::GATHERED_BYTES_MAX;
use crate::outgoing::OpenSource;
use crate::session::Effects;

/// A part of a file that is to be sent, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// First byte.
    pub start: u64,
    /// One past the last byte; `None` for the end of the file.
    pub end: Option<u64>,
    /// The digest to take.
    pub digest: DigestAlgorithm,
    /// Send from one mapping instead of by `sendfile`.
    pub mapped: bool,
}

/// A file ready to be sent.
pub struct Opened {
    /// What is sent of which file.
    pub header: FileHeader,
    /// Which version of the file it is.
    pub identity: Identity,
    /// The bytes.
    pub content: Content,
}

/// Where the bytes of an opened file are.
pub enum Content {
    /// Here, with their digest: up to [`GATHERED_BYTES_MAX`] bytes.
    Small(Vec<u8>, Digest),
    /// In the file.
    Large(Arc<OpenSource>),
}

impl Opened {
    /// Opens `path` in `store`, and reads it if it is small. Blocks.
    ///
    /// # Errors
    /// What the store says: not there, not a file, no permission, changed while it was read.
    pub fn open(store: &Store, path: &RemotePath, wanted: &Wanted) -> Result<Self, StoreError> {
        let source = store.open_source(path)?;
        let FileAttributes { mode, mtime } = source.attributes();
        let (size, identity) = (source.size(), source.identity());
        let end = wanted.end.unwrap_or(size).min(size);
        let start = wanted.start.min(end);
        let header = FileHeader { size, start, end, mode, mtime };
        let content = if end - start <= GATHERED_BYTES_MAX {
            let bytes = source.read(start, end)?;
            let mut hasher = Hasher::new(wanted.digest);
            hasher.update(&bytes);
            Content::Small(bytes, hasher.finish())
        } else {
            let mapping = match wanted.mapped {
                true => Some(Arc::new(map(&source, size)?)),
                false => None,
            };
            let digest = SourceDigest::new(path, wanted.digest, start, end);
            Content::Large(Arc::new(OpenSource::new(source, mapping, digest, start, end)))
        };
        Ok(Self { header, identity, content })
    }
}

fn map(source: &Source, size: u64) -> Result<Mapping, StoreError> {
    Mapping::map(&source.file(), size).map_err(|error| source.failed(error))
}

/// Sends the whole content of a small file: one extent, unless it is empty, and the digest.
pub fn send_small<O>(request: u32, start: u64, bytes: &[u8], digest: Digest, effects: &mut Effects<O>) {
    if !bytes.is_empty() {
        effects.send(request, &Frame::Extent { offset: start, len: bytes.len() as u64 });
        effects.send_encoded(|out| out.extend_from_slice(bytes));
    }
    effects.send(request, &Frame::Digest(digest));
}
