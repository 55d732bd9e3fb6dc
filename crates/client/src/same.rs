//! What is there already, and need not be transferred again.

use std::sync::Arc;

use xferd_engine::Failure;
use xferd_store::{FileAttributes, FileDigest, Store, StoreError};
use xferd_wire::{
    Checksum, Digest, DigestAlgorithm, Entry, EntryKind, ErrorCode, Frame, LinkTarget, RemotePath,
};

use crate::task::{Channel, ClientOutcome, unexpected};

/// Files of one connection whose contents are being compared: each is open here and there.
pub(crate) const COMPARISONS_MAX: usize = 64;

/// How a file that is there already is told from one that has to be transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// By size and modification time, to the nanosecond.
    #[default]
    Times,
    /// By size and digest.
    Contents,
    /// Not at all: everything is transferred.
    Nothing,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is transferred.
    Differs,
    /// Its content is there.
    Same,
    /// Whether its content is there, digests have to tell.
    Doubtful,
}

impl Compare {
    /// Compares a file of `size` bytes with what is `there` under its name.
    pub(crate) fn judge(self, size: u64, attributes: &FileAttributes, there: &Entry) -> Verdict {
        let is_alike = there.kind == EntryKind::File && there.size == size;
        match self {
            Self::Times if is_alike && there.mtime == attributes.mtime => Verdict::Same,
            Self::Contents if is_alike => Verdict::Doubtful,
            Self::Times | Self::Contents | Self::Nothing => Verdict::Differs,
        }
    }

    /// Makes sure that the server can do what it takes, which is `digest` to prove what is transferred.
    pub(crate) fn check(self, digest: DigestAlgorithm, channel: &Channel<'_>) -> Result<(), Failure> {
        if self != Self::Contents {
            return Ok(());
        }
        if !channel.checksums {
            let message =
                "the server cannot compare contents; update it, or do without --checksum (checksum: true)";
            return Err(Failure::new(ErrorCode::Unsupported, message));
        }
        channel.check_digest(telling(digest))
    }
}

/// A digest that tells contents apart, `digest` if it does.
fn telling(digest: DigestAlgorithm) -> DigestAlgorithm {
    if digest == DigestAlgorithm::None { DigestAlgorithm::Crc64Nvme } else { digest }
}

/// Two files of one size whose digests are being taken, here and there.
#[derive(Default)]
pub(crate) struct Comparison {
    ours: Option<Digest>,
    theirs: Option<Digest>,
    /// Sides that are done, whether or not there is a digest.
    done: u8,
}

impl Comparison {
    /// Asks for the digest of `remote`, and has that of `local` in `store` taken.
    pub(crate) fn begin(
        remote: &RemotePath,
        store: &Arc<Store>,
        local: &RemotePath,
        digest: DigestAlgorithm,
        channel: &mut Channel<'_>,
    ) -> (u32, Self) {
        let digest = telling(digest);
        let request = channel.request(&Frame::Checksum(Checksum { path: remote.clone(), digest }));
        let (store, local) = (store.clone(), local.clone());
        take_slice(request, channel, move || store.file_digest(&local, digest).map(Box::new));
        (request, Self::default())
    }

    /// A slice of our file was hashed.
    pub(crate) fn on_hashed(
        &mut self,
        request: u32,
        result: Result<(Box<FileDigest>, Option<Digest>), StoreError>,
        channel: &mut Channel<'_>,
    ) {
        match result {
            Ok((file, None)) => return take_slice(request, channel, || Ok(file)),
            Ok((_, ours)) => self.ours = ours,
            // Whatever is the matter, the transfer will meet it again.
            Err(_) => {}
        }
        self.done += 1;
    }

    /// The server answers.
    pub(crate) fn on_frame(&mut self, frame: Frame) -> Result<(), Failure> {
        match frame {
            Frame::Digest(theirs) => self.theirs = Some(theirs),
            Frame::Done => self.done += 1,
            Frame::Error(_) => {
                self.theirs = None;
                self.done += 1;
            }
            _ => return Err(unexpected(&frame)),
        }
        Ok(())
    }

    /// Whether the contents are the same; `None` as long as that is open.
    pub(crate) fn is_same(&self) -> Option<bool> {
        (self.done == 2).then(|| self.ours.is_some() && self.ours == self.theirs)
    }
}

fn take_slice(
    request: u32,
    channel: &mut Channel<'_>,
    file: impl FnOnce() -> Result<Box<FileDigest>, StoreError> + Send + 'static,
) {
    channel.effects.work(request, move || {
        let hashed = file().and_then(|file| file.advance().map(|digest| (file, digest)));
        ClientOutcome::Hashed(hashed)
    });
}

/// Whether what is `there` has the attributes that it would be given.
pub(crate) fn has_attributes(there: &Entry, attributes: &FileAttributes) -> bool {
    let theirs = FileAttributes { mode: there.mode, mtime: there.mtime };
    theirs.permissions() == attributes.permissions() && theirs.mtime == attributes.mtime
}

/// Whether the directory that is wanted is `there`, whatever its attributes.
pub(crate) fn is_directory(there: &Entry) -> bool {
    there.kind == EntryKind::Directory
}

/// Whether the link that is wanted is `there`.
pub(crate) fn is_link_to(there: &Entry, target: &LinkTarget) -> bool {
    there.kind == EntryKind::Symlink && there.link_target.as_ref() == Some(target)
}
