//! What is remembered of a file that is not complete, so that a later transfer can go on with it.
//!
//! A journal is a header of [`HEADER_BYTES`], which says what the file will be and where its bytes come from, and records
//! of [`RECORD_BYTES`], each of which says that some bytes are in the staging file and were compared with their digest. A
//! record is written after those bytes, never before.
//!
//! | header: offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 8 | size of the file |
//! | 16 | 12 | time of the last change to the source's content: seconds, nanoseconds |
//! | 28 | 20 | identity: inode, and time of its last change |
//! | 48 | 16 | the run of the machine that the journal was written in, zeros if there is no telling |
//! | 64 | 1 | digest algorithm |
//! | 65 | 1 + 255 | bytes of the file's name, and the name |
//! | 504 | 8 | CRC-64/NVME of all before it |
//!
//! | record: offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | offset; in a checkpoint, how many records before this one are certain to be on disk with their bytes |
//! | 8 | 8 | how many bytes; 0 is a checkpoint |
//! | 16 | 8 | their CRC-64/NVME |
//! | 24 | 8 | CRC-64/NVME of the header's own and of all before it |
//!
//! A process that is killed loses nothing that it wrote, so its records are believed by the next one. A machine that loses
//! power does: after it, which shows in the number of its run, only what a checkpoint covers is.

use std::io::{self, Read};
use std::sync::Arc;

use xferd_os::{Dir, File, FileExt, boot_id, scaled, seeded};
use xferd_wire::{DigestAlgorithm, Identity, Mtime, Run};

use crate::digest::digest_of;
use crate::names::journal_name;
use crate::runs::{Runs, RunsError};
use crate::staging::create_locked;

/// Bytes that may come before they are synced and a checkpoint is written. Less costs rate, more is sent again after a
/// power loss.
pub(crate) const SYNC_EVERY_BYTES: u64 = scaled(64 << 20);

/// Records of a journal. A journal that has as many is written anew, with those that adjoin made one.
const RECORDS_MAX: u64 = scaled(16_384);

const MAGIC: [u8; 8] = *b"\x89XFJRNL\x01";
const HEADER_BYTES: usize = 512;
const HEADER_CHECK_AT: usize = HEADER_BYTES - 8;
const RECORD_BYTES: usize = 32;
const JOURNAL_MODE: u32 = 0o600;

/// One version of a source, and how its digest is taken: all that must be the same to go on with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceVersion {
    /// Bytes of the file.
    pub size: u64,
    /// When its content last changed.
    pub mtime: Mtime,
    /// What tells it from another file, or from itself at another time.
    pub identity: Identity,
    /// The digest that proves its bytes.
    pub digest: DigestAlgorithm,
}

/// What a journal says is there.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// On disk, whatever happens.
    synced: Runs,
    /// Written, and lost with the machine's memory.
    fresh: Runs,
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: Arc<Dir>,
    /// Of the file it is about.
    file_name: String,
    name: String,
    version: SourceVersion,
    durable: bool,
    file: File,
    header_check: u64,
    records: u64,
    recorded: Recorded,
    unsynced_bytes: u64,
    /// Some of the file's bytes may be lost, and nobody knows which.
    failed_sync: bool,
}

impl Recorded {
    /// Nothing. `None` if the digest is of a kind that does not combine.
    pub(crate) fn nothing(digest: DigestAlgorithm) -> Option<Self> {
        Some(Self { synced: Runs::new(digest)?, fresh: Runs::new(digest)? })
    }

    /// Reads what the journal of the staging file `staging` says. `None` if there is none that is whole enough, or it is about
    /// another file or another version of its source.
    pub(crate) fn read(dir: &Dir, staging: &str, file_name: &str, version: &SourceVersion) -> Option<Self> {
        Self::parse(&read(dir, staging)?, file_name, version, boot_id())
    }

    /// The same of the bytes of a journal, in the run `this_boot` of the machine.
    pub(crate) fn parse(
        bytes: &[u8],
        file_name: &str,
        version: &SourceVersion,
        this_boot: Option<[u8; 16]>,
    ) -> Option<Self> {
        let (header, records) = bytes.split_at_checked(HEADER_BYTES)?;
        let same_boot = this_boot.is_some() && header == encode_header(file_name, version, this_boot);
        let written_in = header.get(48..64)?.try_into().ok()?;
        if !same_boot && header != encode_header(file_name, version, Some(written_in)) {
            return None;
        }
        let mut recorded = Self::nothing(version.digest)?;
        let mut since_checkpoint = Vec::new();
        let (mut count, mut covered) = (0, 0);
        for record in records.chunks_exact(RECORD_BYTES) {
            let Some(run) = decode_record(record, header_check(header)) else { break };
            if run.len > 0 {
                since_checkpoint.push((count, run));
            } else if run.offset >= covered && run.offset <= count {
                covered = run.offset;
                let (synced, fresh) = since_checkpoint.into_iter().partition(|(at, _)| *at < covered);
                since_checkpoint = fresh;
                add_all(&mut recorded.synced, synced).ok()?;
            } else {
                break;
            }
            count += 1;
        }
        if same_boot {
            since_checkpoint.retain(|(_, run)| !recorded.synced.touches(run.offset, run.end()));
            add_all(&mut recorded.fresh, since_checkpoint).ok()?;
        }
        Some(recorded)
    }

    /// All that is there.
    pub(crate) fn all(&self) -> Result<Runs, RunsError> {
        let mut runs: Vec<Run> = self.synced.iter().chain(self.fresh.iter()).collect();
        // In order, there are never more on the way than in the end.
        runs.sort_unstable_by_key(|run| run.offset);
        let mut all = self.synced.clone();
        all.clear();
        runs.into_iter().try_for_each(|run| all.add(run))?;
        Ok(all)
    }
}

impl Journal {
    /// Writes a new journal in the place of any other.
    pub(crate) fn create(
        dir: Arc<Dir>,
        staging: &str,
        file_name: &str,
        version: SourceVersion,
        durable: bool,
        recorded: Recorded,
    ) -> io::Result<Self> {
        let name = journal_name(staging);
        let (file, header_check, records) = write(&dir, &name, file_name, &version, &recorded)?;
        Ok(Self {
            dir,
            file_name: file_name.to_owned(),
            name,
            version,
            durable,
            file,
            header_check,
            records,
            recorded,
            unsynced_bytes: 0,
            failed_sync: false,
        })
    }

    /// Remembers that the bytes of `run` are in `data`, where they are already.
    ///
    /// If the file is to survive a power loss, `data` is synced now and then.
    pub(crate) fn record(&mut self, run: Run, data: &File) -> io::Result<()> {
        self.append(run)?;
        if self.recorded.fresh.add(run).is_err() {
            self.checkpoint(data)?;
            self.recorded.fresh.add(run).map_err(io::Error::other)?;
        }
        self.unsynced_bytes += run.len;
        if self.durable && self.unsynced_bytes >= SYNC_EVERY_BYTES {
            self.checkpoint(data)?;
        }
        if self.records >= RECORDS_MAX {
            let written = write(&self.dir, &self.name, &self.file_name, &self.version, &self.recorded)?;
            (self.file, self.header_check, self.records) = written;
        }
        Ok(())
    }

    /// Whether the file could not be synced: then none of its bytes are to be believed, not even those recorded before.
    pub(crate) fn has_failed_sync(&self) -> bool {
        self.failed_sync
    }

    /// Removes it; its file is complete, or is not believed.
    pub(crate) fn remove(self) {
        // If that fails, a sweep removes it.
        let _ = self.dir.remove_file(&self.name);
    }

    /// Has all that was recorded on disk, and says so.
    fn checkpoint(&mut self, data: &File) -> io::Result<()> {
        if !seeded!(JournalBeforeData) {
            data.sync_data().inspect_err(|_| self.failed_sync = true)?;
        }
        self.append(Run { offset: self.records, len: 0, crc64: 0 })?;
        self.file.sync_data()?;
        // The names of both.
        self.dir.sync()?;
        self.recorded.synced = self.recorded.all().map_err(io::Error::other)?;
        self.recorded.fresh.clear();
        self.unsynced_bytes = 0;
        Ok(())
    }

    fn append(&mut self, run: Run) -> io::Result<()> {
        let at = HEADER_BYTES as u64 + self.records * RECORD_BYTES as u64;
        self.file.write_all_at(&encode_record(run, self.header_check), at)?;
        self.records += 1;
        Ok(())
    }
}

/// Whether the staging file `staging` has a journal that begins as one must.
pub(crate) fn has_journal(dir: &Dir, staging: &str) -> bool {
    read(dir, staging).is_some_and(|bytes| bytes.get(..HEADER_BYTES).is_some_and(is_header))
}

fn read(dir: &Dir, staging: &str) -> Option<Vec<u8>> {
    let bytes_max = HEADER_BYTES as u64 + (RECORDS_MAX + 2) * RECORD_BYTES as u64;
    let (file, attributes) = dir.open_file(journal_name(staging)).ok()?;
    let mut bytes = Vec::new();
    (attributes.size <= bytes_max).then_some(())?;
    file.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Writes a journal under a name of its own and then gives it `name`, so that it is there whole or not at all. The file,
/// the check of its header, and its number of records.
fn write(
    dir: &Dir,
    name: &str,
    file_name: &str,
    version: &SourceVersion,
    recorded: &Recorded,
) -> io::Result<(File, u64, u64)> {
    let mut bytes = encode_header(file_name, version, boot_id());
    let check = header_check(&bytes);
    let checkpoint = Run { offset: recorded.synced.len() as u64, len: 0, crc64: 0 };
    let records = recorded.synced.iter().chain([checkpoint]).chain(recorded.fresh.iter());
    records.for_each(|run| bytes.extend_from_slice(&encode_record(run, check)));
    let (file, unfinished) = create_locked(dir, JOURNAL_MODE)?;
    let written = file.write_all_at(&bytes, 0).and_then(|()| {
        // What is believed after a power loss must not get lost by being written anew.
        if recorded.synced.is_empty() { Ok(()) } else { file.sync_data() }
    });
    if let Err(error) = written.and_then(|()| dir.rename(&unfinished, dir, name)) {
        // If that fails as well, a sweep removes it.
        let _ = dir.remove_file(&unfinished);
        return Err(error);
    }
    let records = ((bytes.len() - HEADER_BYTES) / RECORD_BYTES) as u64;
    Ok((file, check, records))
}

fn add_all(runs: &mut Runs, mut added: Vec<(u64, Run)>) -> Result<(), RunsError> {
    added.sort_unstable_by_key(|(_, run)| run.offset);
    added.into_iter().try_for_each(|(_, run)| runs.add(run))
}

fn encode_header(file_name: &str, version: &SourceVersion, boot: Option<[u8; 16]>) -> Vec<u8> {
    let SourceVersion { size, mtime, identity, digest } = *version;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&mtime.seconds.to_le_bytes());
    bytes.extend_from_slice(&mtime.nanoseconds.to_le_bytes());
    bytes.extend_from_slice(&identity.inode.to_le_bytes());
    bytes.extend_from_slice(&identity.ctime_s.to_le_bytes());
    bytes.extend_from_slice(&identity.ctime_ns.to_le_bytes());
    bytes.extend_from_slice(&boot.unwrap_or_default());
    // A component of a path has at most 255 bytes.
    bytes.extend_from_slice(&[digest.id(), file_name.len() as u8]);
    bytes.extend_from_slice(file_name.as_bytes());
    bytes.resize(HEADER_CHECK_AT, 0);
    let check = crc64(&bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

fn is_header(header: &[u8]) -> bool {
    let Some((checked, _)) = header.split_at_checked(HEADER_CHECK_AT) else { return false };
    checked.starts_with(&MAGIC) && crc64(checked) == header_check(header)
}

fn header_check(header: &[u8]) -> u64 {
    let check = header.get(HEADER_CHECK_AT..).and_then(|check| check.first_chunk());
    check.map_or(0, |check| u64::from_le_bytes(*check))
}

fn encode_record(run: Run, header_check: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let check = record_check(run, header_check);
    for (room, number) in bytes.chunks_exact_mut(8).zip([run.offset, run.len, run.crc64, check]) {
        room.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn decode_record(record: &[u8], header_check: u64) -> Option<Run> {
    let mut numbers = record.chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes));
    let run = Run { offset: numbers.next()?, len: numbers.next()?, crc64: numbers.next()? };
    let is_possible = run.offset.checked_add(run.len).is_some();
    (is_possible && numbers.next()? == record_check(run, header_check)).then_some(run)
}

fn record_check(run: Run, header_check: u64) -> u64 {
    let numbers = [header_check, run.offset, run.len, run.crc64];
    crc64(&numbers.map(u64::to_le_bytes).concat())
}

fn crc64(bytes: &[u8]) -> u64 {
    Runs::crc64(&digest_of(DigestAlgorithm::Crc64Nvme, bytes))
}

/// The bytes of a journal with these records, which need not make sense.
#[cfg(fuzzing)]
pub(crate) fn encode(
    file_name: &str,
    version: &SourceVersion,
    boot: Option<[u8; 16]>,
    records: &[Run],
) -> Vec<u8> {
    let mut bytes = encode_header(file_name, version, boot);
    let check = header_check(&bytes);
    records.iter().for_each(|run| bytes.extend_from_slice(&encode_record(*run, check)));
    bytes
}

/// The bytes of a journal as they would be, had it been written before the machine was last started.
#[cfg(test)]
pub(crate) fn of_another_boot(journal: &[u8]) -> Vec<u8> {
    let (header, records) = journal.split_at(HEADER_BYTES);
    let mut header = header.to_vec();
    header[48] ^= 1;
    let check = crc64(&header[..HEADER_CHECK_AT]);
    header[HEADER_CHECK_AT..].copy_from_slice(&check.to_le_bytes());
    let old_check = header_check(journal.get(..HEADER_BYTES).unwrap_or_default());
    let records = records.chunks_exact(RECORD_BYTES).map(|record| decode_record(record, old_check));
    records.flatten().for_each(|run| header.extend_from_slice(&encode_record(run, check)));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: SourceVersion = SourceVersion {
        size: 1 << 40,
        mtime: Mtime { seconds: 1, nanoseconds: 2 },
        identity: Identity { inode: 3, ctime_s: 4, ctime_ns: 5 },
        digest: DigestAlgorithm::None,
    };
    const STAGING: &str = ".xferd-0123456789abcdef";

    #[test]
    fn a_journal_is_written_anew_before_it_has_more_records_than_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(directory.path()).unwrap());
        let data = tempfile::tempfile().unwrap();
        let nothing = Recorded::nothing(VERSION.digest).unwrap();
        let mut journal = Journal::create(dir.clone(), STAGING, "f", VERSION, false, nothing).unwrap();
        let written = || std::fs::metadata(directory.path().join(journal_name(STAGING))).unwrap().len();
        let full = (HEADER_BYTES + RECORD_BYTES * RECORDS_MAX as usize) as u64;
        // Its first record is a checkpoint over nothing.
        for number in 0..RECORDS_MAX - 2 {
            journal.record(Run { offset: number, len: 1, crc64: 0 }, &data).unwrap();
            assert!(written() <= full);
        }
        assert_eq!(written(), full - RECORD_BYTES as u64);
        journal.record(Run { offset: RECORDS_MAX - 2, len: 1, crc64: 0 }, &data).unwrap();
        assert!(written() < full);
        let read = Recorded::read(&dir, STAGING, "f", &VERSION).unwrap().all().unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [Run { offset: 0, len: RECORDS_MAX - 1, crc64: 0 }]);
    }

    #[test]
    fn a_journal_cut_off_anywhere_says_what_its_whole_records_say() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(directory.path()).unwrap());
        let data = tempfile::tempfile().unwrap();
        let nothing = Recorded::nothing(VERSION.digest).unwrap();
        let mut journal = Journal::create(dir.clone(), STAGING, "f", VERSION, false, nothing).unwrap();
        for number in 0..3 {
            journal.record(Run { offset: number * 2, len: 1, crc64: 0 }, &data).unwrap();
        }
        let path = directory.path().join(journal_name(STAGING));
        let bytes = std::fs::read(&path).unwrap();
        // Its first record is a checkpoint over nothing.
        for len in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let read = Recorded::read(&dir, STAGING, "f", &VERSION).map(|read| read.all().unwrap().len());
            let records = len.checked_sub(HEADER_BYTES).map(|bytes| bytes / RECORD_BYTES);
            assert_eq!(read, records.map(|records| records.saturating_sub(1)), "{len} bytes");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            std::fs::write(&path, &flipped).unwrap();
            let read = Recorded::read(&dir, STAGING, "f", &VERSION).map(|read| read.all().unwrap().len());
            let whole = at.checked_sub(HEADER_BYTES).map(|at| (at / RECORD_BYTES).saturating_sub(1));
            assert_eq!(read, whole, "flipped at {at}");
        }
    }
}
