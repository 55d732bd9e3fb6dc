//! Digests: of bytes as they come, and of a file that many send at once.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use xferd_os::{File, FileExt, scaled};
use xferd_wire::{Digest, DigestAlgorithm, RemotePath};

use crate::error::{StoreError, shown};
use crate::source::Source;
use crate::store::Store;

/// Bytes read at a time: a quarter of the calls that 1 MiB takes, at 0.96 of its rate (docs/why-send-path.md).
const READ_BYTES: usize = scaled(4 << 20) as usize;

/// Takes the digest of bytes as they come.
///
/// ```
/// use xferd_store::Hasher;
/// use xferd_wire::DigestAlgorithm;
///
/// let mut hasher = Hasher::new(DigestAlgorithm::Crc64Nvme);
/// hasher.update(b"12345");
/// hasher.update(b"6789");
/// assert_eq!(hasher.finish().to_string(), "crc64nvme:ae8b14860a799888");
/// ```
pub struct Hasher(State);

// Boxed, because a hasher is handed from thread to thread and the states have 300 and 1,900 bytes.
enum State {
    None,
    Crc64Nvme(Box<crc_fast::Digest>),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        Self(match algorithm {
            DigestAlgorithm::None => State::None,
            DigestAlgorithm::Crc64Nvme => {
                State::Crc64Nvme(Box::new(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme)))
            }
            DigestAlgorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Takes in `bytes`, after those it has seen.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::None => {}
            State::Crc64Nvme(crc) => crc.update(bytes),
            State::Blake3(blake3) => {
                blake3.update(bytes);
            }
        }
    }

    /// The digest of all it has seen. A CRC is spelled as a number, the highest byte first.
    pub fn finish(self) -> Digest {
        let digest = match self.0 {
            State::None => Ok(Digest::NONE),
            State::Crc64Nvme(crc) => Digest::new(DigestAlgorithm::Crc64Nvme, &crc.finalize().to_be_bytes()),
            State::Blake3(blake3) => Digest::new(DigestAlgorithm::Blake3, blake3.finalize().as_bytes()),
        };
        digest.expect("each algorithm makes digests of its own length")
    }
}

/// The digest of `bytes`.
pub fn digest_of(algorithm: DigestAlgorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::None => "Hasher(none)",
            State::Crc64Nvme(_) => "Hasher(crc64nvme)",
            State::Blake3(_) => "Hasher(blake3)",
        })
    }
}

/// The digest of a range of a file, shared by all who send it and taken once, whoever gets to it first.
#[derive(Debug)]
pub struct SourceDigest {
    path: String,
    end: u64,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
enum Progress {
    /// Everything before `at` is in the hasher.
    Hashing {
        hasher: Hasher,
        at: u64,
    },
    Done(Digest),
    Failed(StoreError),
}

impl SourceDigest {
    /// Bytes that one [`SourceDigest::advance`] takes in: about two milliseconds of work, so that a worker stays available.
    pub const SLICE_BYTES: u64 = scaled(16 << 20);

    /// The digest of the bytes `[start, end)` of the file that messages call `path`.
    pub fn new(path: &RemotePath, algorithm: DigestAlgorithm, start: u64, end: u64) -> Self {
        let progress = if algorithm == DigestAlgorithm::None || start >= end {
            Progress::Done(Hasher::new(algorithm).finish())
        } else {
            Progress::Hashing { hasher: Hasher::new(algorithm), at: start }
        };
        Self { path: shown(path), end, progress: Mutex::new(progress) }
    }

    /// Takes in the next slice of `file`, at most [`Self::SLICE_BYTES`]. The digest, once the whole range was taken in.
    ///
    /// # Errors
    /// [`StoreError::SourceChanged`] if the file ends before the range does, or what reading it says; from then on
    /// that to everybody.
    pub fn advance(&self, file: &File) -> Result<Option<Digest>, StoreError> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Progress::Hashing { hasher, at } = &mut *progress {
            let slice_end = self.end.min(at.saturating_add(Self::SLICE_BYTES));
            let hashed = hash_range(file, hasher, at, slice_end);
            match hashed {
                Err(error) => *progress = Progress::Failed(self.failure(error)),
                Ok(()) if slice_end < self.end => return Ok(None),
                Ok(()) => {
                    let whole = std::mem::replace(hasher, Hasher::new(DigestAlgorithm::None));
                    *progress = Progress::Done(whole.finish());
                }
            }
        }
        match &*progress {
            Progress::Hashing { .. } => Ok(None),
            Progress::Done(digest) => Ok(Some(*digest)),
            Progress::Failed(error) => Err(error.clone()),
        }
    }

    fn failure(&self, error: std::io::Error) -> StoreError {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => StoreError::SourceChanged { path: self.path.clone() },
            _ => StoreError::of_shown(self.path.clone(), error),
        }
    }
}

/// The digest of a whole file, taken a slice at a time.
#[derive(Debug)]
pub struct FileDigest {
    source: Source,
    digest: SourceDigest,
}

impl FileDigest {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// Takes in the next slice, at most [`SourceDigest::SLICE_BYTES`]. The digest, once all was taken in.
    ///
    /// # Errors
    /// [`StoreError::SourceChanged`] if the file was written to meanwhile, or what reading it says.
    pub fn advance(&self) -> Result<Option<Digest>, StoreError> {
        let digest = self.digest.advance(&self.source.file())?;
        if digest.is_some() {
            self.source.verify_unchanged()?;
        }
        Ok(digest)
    }
}

impl Store {
    /// Opens the file at `path` to take its digest. Links are followed as long as they stay beneath the root.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::NotAFile`], [`StoreError::OutsideRoot`] and the like.
    pub fn file_digest(
        &self,
        path: &RemotePath,
        algorithm: DigestAlgorithm,
    ) -> Result<FileDigest, StoreError> {
        let source = self.open_source(path)?;
        let digest = SourceDigest::new(path, algorithm, 0, source.size());
        Ok(FileDigest { source, digest })
    }
}

impl Source {
    /// The digest of its bytes `[start, end)`.
    ///
    /// # Errors
    /// [`StoreError::SourceChanged`] if it ends before that.
    pub fn digest(&self, algorithm: DigestAlgorithm, start: u64, end: u64) -> Result<Digest, StoreError> {
        let mut hasher = Hasher::new(algorithm);
        if algorithm != DigestAlgorithm::None {
            let mut at = start;
            hash_range(&self.file(), &mut hasher, &mut at, end).map_err(|error| self.read_failed(error))?;
        }
        Ok(hasher.finish())
    }
}

/// Takes `[at, end)` of `file` into `hasher` and moves `at` along.
fn hash_range(file: &File, hasher: &mut Hasher, at: &mut u64, end: u64) -> std::io::Result<()> {
    thread_local! {
        // One for each worker instead of one for each transfer: there are few workers, and theirs stays in cache.
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(READ_BYTES, 0);
        while *at < end {
            let wanted = usize::try_from(end - *at).map_or(READ_BYTES, |left| left.min(READ_BYTES));
            let room = &mut buffer[..wanted];
            file.read_exact_at(room, *at)?;
            hasher.update(room);
            *at += wanted as u64;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn some_bytes(len: usize) -> Vec<u8> {
        (0u32..).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).take(len).collect()
    }

    #[test]
    fn crc64nvme_has_the_check_value_of_its_definition() {
        // The "check" of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        let digest = digest_of(DigestAlgorithm::Crc64Nvme, b"123456789");
        assert_eq!(digest.as_bytes(), 0xAE8B_1486_0A79_9888_u64.to_be_bytes());
    }

    #[test]
    fn blake3_of_nothing_is_the_vector_of_its_authors() {
        let digest = digest_of(DigestAlgorithm::Blake3, b"");
        assert_eq!(
            digest.to_string(),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn pieces_have_the_digest_of_the_whole() {
        let bytes = some_bytes(100_003);
        for algorithm in DigestAlgorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            bytes.chunks(997).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), digest_of(algorithm, &bytes), "{algorithm}");
        }
    }

    #[test]
    fn a_range_of_a_file_has_the_digest_of_its_bytes() {
        let bytes = some_bytes(SourceDigest::SLICE_BYTES as usize + 5);
        let file = file_of(&bytes);
        for (start, end) in [(0, bytes.len()), (7, bytes.len() - 1), (READ_BYTES, READ_BYTES + 1)] {
            let path = RemotePath::parse("f").unwrap();
            let shared = SourceDigest::new(&path, DigestAlgorithm::Crc64Nvme, start as u64, end as u64);
            let digest = loop {
                if let Some(digest) = shared.advance(&file).unwrap() {
                    break digest;
                }
            };
            assert_eq!(digest, digest_of(DigestAlgorithm::Crc64Nvme, &bytes[start..end]));
            assert_eq!(shared.advance(&file).unwrap(), Some(digest), "it is remembered");
        }
    }

    #[test]
    fn a_slice_is_taken_at_a_time() {
        let file = file_of(&some_bytes(SourceDigest::SLICE_BYTES as usize + 1));
        let path = RemotePath::parse("f").unwrap();
        let exact = SourceDigest::new(&path, DigestAlgorithm::Crc64Nvme, 0, SourceDigest::SLICE_BYTES);
        assert!(exact.advance(&file).unwrap().is_some());
        let longer = SourceDigest::new(&path, DigestAlgorithm::Crc64Nvme, 0, SourceDigest::SLICE_BYTES + 1);
        assert!(longer.advance(&file).unwrap().is_none());
        assert!(longer.advance(&file).unwrap().is_some());
    }

    #[test]
    fn many_threads_that_advance_one_digest_get_the_same() {
        let bytes = some_bytes(3 * SourceDigest::SLICE_BYTES as usize);
        let file = file_of(&bytes);
        let path = RemotePath::parse("f").unwrap();
        let shared = SourceDigest::new(&path, DigestAlgorithm::Crc64Nvme, 0, bytes.len() as u64);
        let expected = digest_of(DigestAlgorithm::Crc64Nvme, &bytes);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let digest = loop {
                        if let Some(digest) = shared.advance(&file).unwrap() {
                            break digest;
                        }
                    };
                    assert_eq!(digest, expected);
                });
            }
        });
    }

    #[test]
    fn the_digest_of_a_file_is_that_of_its_bytes_unless_it_changes_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let bytes = some_bytes(SourceDigest::SLICE_BYTES as usize + 1);
        std::fs::write(root.path().join("f"), &bytes).unwrap();
        let store = Store::open(root.path(), crate::Options::default()).unwrap();
        let path = RemotePath::parse("f").unwrap();
        let digest = store.file_digest(&path, DigestAlgorithm::Blake3).unwrap();
        assert_eq!(digest.size(), bytes.len() as u64);
        assert_eq!(digest.advance().unwrap(), None);
        assert_eq!(digest.advance().unwrap(), Some(digest_of(DigestAlgorithm::Blake3, &bytes)));

        let digest = store.file_digest(&path, DigestAlgorithm::Crc64Nvme).unwrap();
        assert_eq!(digest.advance().unwrap(), None);
        File::options().append(true).open(root.path().join("f")).unwrap().write_all_at(b"x", 0).unwrap();
        assert!(matches!(digest.advance(), Err(StoreError::SourceChanged { .. })));
    }

    #[test]
    fn a_file_that_ends_early_fails_for_everybody_and_for_good() {
        let file = file_of(b"short");
        let path = RemotePath::parse("f").unwrap();
        let shared = SourceDigest::new(&path, DigestAlgorithm::Crc64Nvme, 0, 6);
        assert!(matches!(shared.advance(&file), Err(StoreError::SourceChanged { .. })));
        file.write_all_at(b"longer now", 0).unwrap();
        assert!(matches!(shared.advance(&file), Err(StoreError::SourceChanged { .. })));
    }
}
