//! One file on its way out: what a client does for a put and a server for a get.

use std::sync::Arc;

use xferd_os::{Mapping, scaled};
use xferd_store::{Source, SourceDigest, StoreError};
use xferd_wire::Digest;

use crate::disk::DiskOutcome;
use crate::failure::Failure;
use crate::session::{Effects, SendSource};

/// Bytes per extent. A source that shrinks is noticed after at most this much padding, a cancelled transfer stops after
/// little more, and after an accident at most this much of each connection is sent again; at gigabytes a second a frame
/// header per 8 MiB costs nothing.
pub const EXTENT_BYTES: u64 = scaled(8 << 20);

/// The next extent is queued while this much of the last one is left, so that the socket never waits for the session.
const AHEAD_BYTES: u64 = scaled(1 << 20);

/// How far the digest may be ahead of what has left: far enough that it is never waited for, not so far that a peer who
/// asks for a large file and does not read it has it hashed for nothing.
const HASHED_AHEAD_BYTES: u64 = scaled(64 << 20);

/// A file opened for sending, shared by all who send it: one descriptor, perhaps one mapping, one digest.
#[derive(Debug)]
pub struct OpenSource {
    source: Source,
    mapping: Option<Arc<Mapping>>,
    digest: SourceDigest,
    start: u64,
    end: u64,
}

impl OpenSource {
    /// The bytes `[start, end)` of `source`, sent from `mapping` if there is one.
    pub fn new(
        source: Source,
        mapping: Option<Arc<Mapping>>,
        digest: SourceDigest,
        start: u64,
        end: u64,
    ) -> Self {
        Self { source, mapping, digest, start, end }
    }

    /// The file itself.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where its bytes are sent from.
    pub fn send_source(&self) -> SendSource {
        match &self.mapping {
            Some(mapping) => SendSource::Mapping(mapping.clone()),
            None => SendSource::File(self.source.file()),
        }
    }
}

/// What a step of [`Outgoing`] came to.
#[derive(Debug)]
pub enum Progress {
    /// It goes on.
    Moving,
    /// Everything was sent, the source stayed as it was: the digest of what was sent.
    Complete(Digest),
    /// It cannot be completed. Extents that were announced have been filled up; the peer has to be told.
    Failed(Failure),
}

/// Sends a file as extents and takes its digest meanwhile.
///
/// The digest is taken from the file by workers, not from the stream: `sendfile` shows nobody the bytes. So a source that
/// changes in between shows as a mismatch at the receiver, and [`Source::verify_unchanged`] is asked at the end, which
/// holds for every way of sending.
pub struct Outgoing {
    key: u32,
    open: Arc<OpenSource>,
    at: u64,
    /// Bytes of announced extents that have not left yet.
    queued: u64,
    digest: Option<Digest>,
    /// Bytes this one has had hashed; those who send the same file may have had more.
    hashed: u64,
    /// A slice is being hashed.
    hashing: bool,
    verifying: bool,
}

impl Outgoing {
    /// Starts sending under `key`.
    pub fn start<O: From<DiskOutcome> + 'static>(
        key: u32,
        open: Arc<OpenSource>,
        effects: &mut Effects<O>,
    ) -> Self {
        let mut outgoing = Self {
            key,
            at: open.start,
            open,
            queued: 0,
            digest: None,
            hashed: 0,
            hashing: false,
            verifying: false,
        };
        outgoing.hash(effects);
        outgoing.fill(effects);
        outgoing
    }

    /// Bytes announced to the peer so far.
    pub fn sent_bytes(&self) -> u64 {
        self.at - self.open.start
    }

    /// So many more bytes have left.
    pub fn on_sent<O: From<DiskOutcome> + 'static>(
        &mut self,
        bytes: u64,
        effects: &mut Effects<O>,
    ) -> Progress {
        self.queued = self.queued.saturating_sub(bytes);
        self.fill(effects);
        self.hash(effects);
        self.conclude(effects)
    }

    /// The source ended early.
    pub fn on_source_short(&self) -> Progress {
        Progress::Failed(Failure::from(self.open.source.changed()))
    }

    /// A slice was hashed.
    pub fn on_hashed<O: From<DiskOutcome> + 'static>(
        &mut self,
        result: Result<Option<Digest>, StoreError>,
        effects: &mut Effects<O>,
    ) -> Progress {
        self.hashing = false;
        match result {
            Ok(Some(digest)) => {
                self.digest = Some(digest);
                self.conclude(effects)
            }
            Ok(None) => {
                self.hash(effects);
                Progress::Moving
            }
            Err(error) => Progress::Failed(error.into()),
        }
    }

    /// The source was looked at once more.
    pub fn on_verified(&mut self, result: Result<(), StoreError>) -> Progress {
        match (result, self.digest.take()) {
            (Err(error), _) => Progress::Failed(error.into()),
            (Ok(()), Some(digest)) => Progress::Complete(digest),
            (Ok(()), None) => Progress::Moving,
        }
    }

    fn hash<O: From<DiskOutcome> + 'static>(&mut self, effects: &mut Effects<O>) {
        let left = self.sent_bytes() - self.queued;
        if self.hashing || self.digest.is_some() || self.hashed > left + HASHED_AHEAD_BYTES {
            return;
        }
        self.hashing = true;
        self.hashed += SourceDigest::SLICE_BYTES;
        let open = self.open.clone();
        effects.work(self.key, move || DiskOutcome::Hashed(open.digest.advance(&open.source.file())).into());
    }

    fn fill<O>(&mut self, effects: &mut Effects<O>) {
        while self.queued < AHEAD_BYTES && self.at < self.open.end {
            let len = (self.open.end - self.at).min(EXTENT_BYTES);
            effects.send_extent(self.key, self.open.send_source(), self.at, len);
            self.at += len;
            self.queued += len;
        }
    }

    fn conclude<O: From<DiskOutcome> + 'static>(&mut self, effects: &mut Effects<O>) -> Progress {
        if self.queued == 0 && self.at == self.open.end && self.digest.is_some() && !self.verifying {
            self.verifying = true;
            let open = self.open.clone();
            effects.work(self.key, move || DiskOutcome::Verified(open.source.verify_unchanged()).into());
        }
        Progress::Moving
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fs::OpenOptions;

    use tempfile::TempDir;
    use xferd_store::{Options, Store, digest_of};
    use xferd_wire::{DigestAlgorithm, ErrorCode, RemotePath};

    use super::*;
    use crate::open::{Content, OpenFiles, Opened, Wanted};
    use crate::session::Effect;

    const SIZE: u64 = 3 * EXTENT_BYTES + 5;

    /// Bytes that leave at a time.
    const PART_BYTES: u64 = 300_000;

    /// A large file in a directory, opened from `start` on.
    fn open(start: u64) -> (TempDir, Arc<OpenSource>) {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x"), vec![7; SIZE as usize]).unwrap();
        let store = Store::open(root.path(), Options::default()).unwrap();
        let wanted = Wanted {
            start,
            end: None,
            digest: DigestAlgorithm::Crc64Nvme,
            mapped: false,
            small_bytes_max: 0,
        };
        match Opened::open(&store, &RemotePath::parse("x").unwrap(), &wanted, &OpenFiles::default())
            .unwrap()
            .content
        {
            Content::Large(source) => (root, source),
            Content::Small(..) => panic!("the file is large"),
        }
    }

    /// Sends all of `source`; `change` happens once everything has left. How it ended, and the extents.
    fn send(source: Arc<OpenSource>, change: impl FnOnce()) -> (Progress, Vec<(u64, u64)>) {
        let mut effects = Effects::<DiskOutcome>::default();
        let mut outgoing = Outgoing::start(7, source, &mut effects);
        let (mut extents, mut change) = (Vec::new(), Some(change));
        let (mut leaving, mut works) = (0, VecDeque::new());
        loop {
            for effect in effects.take() {
                match effect {
                    Effect::SendExtent { key: 7, offset, len, .. } => {
                        extents.push((offset, len));
                        leaving += len;
                    }
                    Effect::Work { key: 7, work } => works.push_back(work),
                    Effect::Send(_) => {}
                    _ => panic!("nothing else is to be done"),
                }
            }
            assert!(leaving < EXTENT_BYTES + AHEAD_BYTES);
            let progress = if leaving > 0 {
                let bytes = leaving.min(PART_BYTES);
                leaving -= bytes;
                outgoing.on_sent(bytes, &mut effects)
            } else {
                if let Some(change) = change.take() {
                    change();
                }
                match works.pop_front().expect("something is under way").run() {
                    DiskOutcome::Hashed(result) => outgoing.on_hashed(result, &mut effects),
                    DiskOutcome::Verified(result) => outgoing.on_verified(result),
                    other => panic!("{other:?}"),
                }
            };
            if !matches!(progress, Progress::Moving) {
                return (progress, extents);
            }
        }
    }

    #[test]
    fn a_file_leaves_in_extents_without_gaps_and_then_its_digest() {
        for start in [0, 1, EXTENT_BYTES, SIZE - 1] {
            let (_root, source) = open(start);
            let (progress, extents) = send(source, || {});
            let expected = digest_of(DigestAlgorithm::Crc64Nvme, &vec![7; (SIZE - start) as usize]);
            assert!(matches!(progress, Progress::Complete(digest) if digest == expected), "{progress:?}");
            let end = extents.iter().fold(start, |at, (offset, len)| {
                assert_eq!(*offset, at);
                at + len
            });
            assert_eq!(end, SIZE);
        }
    }

    #[test]
    fn a_file_that_changed_while_it_was_sent_is_never_complete() {
        let change = |len: u64| {
            let (root, source) = open(0);
            let change =
                || OpenOptions::new().write(true).open(root.path().join("x")).unwrap().set_len(len).unwrap();
            send(source, change).0
        };
        for len in [0, SIZE - 1, SIZE + 1] {
            let progress = change(len);
            assert!(
                matches!(&progress, Progress::Failed(failure) if failure.code == ErrorCode::SourceChanged),
                "{progress:?}"
            );
        }
    }
}
