//! Opens files for sending: small ones are read at once, large ones are left to the kernel.

use std::sync::{Arc, Mutex, Weak};

use xferd_os::{HashMap, Mapping};
use xferd_reactor::SendBuf;
use xferd_store::{FileAttributes, Source, SourceDigest, Store, StoreError, digest_of};
use xferd_wire::{Digest, DigestAlgorithm, FileHeader, Frame, Identity, Mtime, RemotePath};

use crate::lock::lock;
use crate::outgoing::OpenSource;
use crate::session::Effects;

/// Large files that are sent and known to be, so that others who want the same can join. Beyond it, each sends its own.
pub const OPEN_FILES_MAX: usize = 1024;

/// More than what announces a file has on the wire, with a name of usual length; and more than its digest and its end.
const ROOM_BYTES: usize = 256;

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
    /// Up to how many bytes are read at once, together with their digest.
    pub small_bytes_max: u64,
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
    /// Here, with their digest: up to [`Wanted::small_bytes_max`] bytes.
    Small(SendBuf, Digest),
    /// In the file.
    Large(Arc<OpenSource>),
}

impl Content {
    /// Bytes of it in memory, if it is.
    pub fn kept_bytes(&self) -> Option<u64> {
        match self {
            Self::Small(bytes, _) => Some(bytes.remaining().len() as u64),
            Self::Large(_) => None,
        }
    }
}

/// Large files that are being sent. All who send the same part of the same version of one share its descriptor, its
/// mapping and its digest.
#[derive(Debug, Default)]
pub struct OpenFiles(Mutex<HashMap<Version, Weak<OpenSource>>>);

/// A part of a file as it was at some time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Version {
    path: RemotePath,
    identity: Identity,
    size: u64,
    mtime: Mtime,
    start: u64,
    end: u64,
    digest: DigestAlgorithm,
    mapped: bool,
}

impl OpenFiles {
    /// The one that is being sent, or what `open` opens.
    fn join(
        &self,
        version: Version,
        open: impl FnOnce() -> Result<OpenSource, StoreError>,
    ) -> Result<Arc<OpenSource>, StoreError> {
        let mut files = lock(&self.0);
        if let Some(open) = files.get(&version).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let opened = Arc::new(open()?);
        if files.len() >= OPEN_FILES_MAX {
            files.retain(|_, file| file.strong_count() > 0);
        }
        if files.len() < OPEN_FILES_MAX {
            files.insert(version, Arc::downgrade(&opened));
        }
        Ok(opened)
    }
}

impl Opened {
    /// Opens `path` in `store`, and reads it if it is small; if it is large and one of `files`, joins that. Blocks.
    ///
    /// # Errors
    /// What the store says: not there, not a file, no permission, changed while it was read.
    pub fn open(
        store: &Store,
        path: &RemotePath,
        wanted: &Wanted,
        files: &OpenFiles,
    ) -> Result<Self, StoreError> {
        let source = store.open_source(path)?;
        let FileAttributes { mode, mtime } = source.attributes();
        let (size, identity) = (source.size(), source.identity());
        let end = wanted.end.unwrap_or(size).min(size);
        let start = wanted.start.min(end);
        let header = FileHeader { size, start, end, mode, mtime };
        let content = if end - start <= wanted.small_bytes_max {
            let bytes = read(&source, start, end)?;
            let digest = digest_of(wanted.digest, bytes.remaining());
            Content::Small(bytes, digest)
        } else {
            let Wanted { digest, mapped, .. } = *wanted;
            let version = Version { path: path.clone(), identity, size, mtime, start, end, digest, mapped };
            Content::Large(files.join(version, || {
                let mapping = if mapped { Some(Arc::new(map(&source, size)?)) } else { None };
                let digest = SourceDigest::new(path, digest, start, end);
                Ok(OpenSource::new(source, mapping, digest, start, end))
            })?)
        };
        Ok(Self { header, identity, content })
    }
}

/// Reads a part of a small file, with room around it for the frames that go with it.
fn read(source: &Source, start: u64, end: u64) -> Result<SendBuf, StoreError> {
    let mut bytes = Vec::with_capacity(2 * ROOM_BYTES + usize::try_from(end - start).unwrap_or_default());
    bytes.resize(ROOM_BYTES, 0);
    source.read(start, end, &mut bytes)?;
    Ok(SendBuf::with_room(bytes, ROOM_BYTES))
}

fn map(source: &Source, size: u64) -> Result<Mapping, StoreError> {
    Mapping::map(&source.file(), size).map_err(|error| source.failed(error))
}

/// Sends the whole content of a small file: one extent, unless it is empty, and the digest.
pub fn send_small<O>(request: u32, start: u64, bytes: SendBuf, digest: Digest, effects: &mut Effects<O>) {
    if !bytes.is_empty() {
        effects.send(request, &Frame::Extent { offset: start, len: bytes.remaining().len() as u64 });
        effects.send_bytes(bytes);
    }
    effects.send(request, &Frame::Digest(digest));
}

#[cfg(test)]
mod tests {
    use xferd_store::Options;

    use super::*;

    const BYTES: usize = 1000;

    fn open(store: &Store, name: &str, end: Option<u64>, files: &OpenFiles) -> Arc<OpenSource> {
        let wanted =
            Wanted { start: 0, end, digest: DigestAlgorithm::Crc64Nvme, mapped: false, small_bytes_max: 100 };
        match Opened::open(store, &RemotePath::parse(name).unwrap(), &wanted, files).unwrap().content {
            Content::Large(open) => open,
            Content::Small(..) => panic!("the file is large"),
        }
    }

    #[test]
    fn who_sends_the_same_part_of_the_same_version_shares_it_while_it_is_sent() {
        let root = tempfile::tempdir().unwrap();
        let write = |byte| std::fs::write(root.path().join("x"), vec![byte; BYTES]).unwrap();
        write(1);
        let store = Store::open(root.path(), Options::default()).unwrap();
        let files = OpenFiles::default();
        let first = open(&store, "x", None, &files);
        assert!(Arc::ptr_eq(&first, &open(&store, "x", None, &files)));
        assert!(!Arc::ptr_eq(&first, &open(&store, "x", Some(BYTES as u64 - 1), &files)));
        std::fs::remove_file(root.path().join("x")).unwrap();
        write(2);
        assert!(!Arc::ptr_eq(&first, &open(&store, "x", None, &files)), "another file has the name");
        let gone = Arc::downgrade(&first);
        drop(first);
        assert!(gone.upgrade().is_none(), "nothing is kept open for later");
    }

    #[test]
    fn so_many_files_can_be_joined_and_the_next_is_sent_for_itself() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x"), vec![0; BYTES + OPEN_FILES_MAX]).unwrap();
        let store = Store::open(root.path(), Options::default()).unwrap();
        let files = OpenFiles::default();
        let part = |number: usize| open(&store, "x", Some((BYTES + number) as u64), &files);
        let mut all: Vec<_> = (0..OPEN_FILES_MAX).map(part).collect();
        assert!(Arc::ptr_eq(all.last().unwrap(), &part(OPEN_FILES_MAX - 1)));
        let alone = part(OPEN_FILES_MAX);
        assert!(!Arc::ptr_eq(&alone, &part(OPEN_FILES_MAX)));
        all.pop();
        let next = part(OPEN_FILES_MAX);
        assert!(Arc::ptr_eq(&next, &part(OPEN_FILES_MAX)));
    }
}
