//! One file on its way out: what a client does for a put and a server for a get.

use std::collections::VecDeque;
use std::sync::Arc;

use xferd_os::Mapping;
use xferd_store::{Source, SourceDigest, StoreError};
use xferd_wire::Digest;

use crate::disk::DiskOutcome;
use crate::failure::Failure;
use crate::session::{Effects, SendSource};

/// Bytes per extent. A source that shrinks is noticed after at most this much padding, and a cancelled transfer stops
/// after at most this much; at gigabytes a second a frame header per 4 MiB costs nothing.
const EXTENT_BYTES: u64 = 4 << 20;

/// Extents queued ahead, so that the socket never waits for the session.
const EXTENTS_AHEAD: usize = 2;

/// A file opened for sending, shared by all who send it: one descriptor, perhaps one mapping, one digest.
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

    /// The file and what it was when it was opened.
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn send_source(&self) -> SendSource {
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
    /// Lengths of the extents that have not left yet.
    queued: VecDeque<u64>,
    /// Bytes that have left and were not yet counted.
    moved: u64,
    digest: Option<Digest>,
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
            queued: VecDeque::new(),
            moved: 0,
            digest: None,
            hashing: true,
            verifying: false,
        };
        outgoing.hash(effects);
        outgoing.fill(effects);
        outgoing
    }

    /// The file it sends.
    pub fn source(&self) -> &OpenSource {
        &self.open
    }

    /// Bytes announced to the peer so far.
    pub fn sent_bytes(&self) -> u64 {
        self.at - self.open.start
    }

    /// Bytes that have left since this was last asked.
    pub fn take_moved_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }

    /// An extent has left.
    pub fn on_sent<O: From<DiskOutcome> + 'static>(&mut self, effects: &mut Effects<O>) -> Progress {
        self.moved += self.queued.pop_front().unwrap_or_default();
        self.fill(effects);
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
        match result {
            Ok(Some(digest)) => {
                self.hashing = false;
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

    fn hash<O: From<DiskOutcome> + 'static>(&self, effects: &mut Effects<O>) {
        let open = self.open.clone();
        effects.work(self.key, move || DiskOutcome::Hashed(open.digest.advance(&open.source.file())).into());
    }

    fn fill<O>(&mut self, effects: &mut Effects<O>) {
        while self.queued.len() < EXTENTS_AHEAD && self.at < self.open.end {
            let len = (self.open.end - self.at).min(EXTENT_BYTES);
            effects.send_extent(self.key, self.open.send_source(), self.at, len);
            self.at += len;
            self.queued.push_back(len);
        }
    }

    fn conclude<O: From<DiskOutcome> + 'static>(&mut self, effects: &mut Effects<O>) -> Progress {
        if self.queued.is_empty() && self.at == self.open.end && !self.hashing && !self.verifying {
            self.verifying = true;
            let open = self.open.clone();
            effects.work(self.key, move || DiskOutcome::Verified(open.source.verify_unchanged()).into());
        }
        Progress::Moving
    }
}
