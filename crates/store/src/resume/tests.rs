use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tempfile::TempDir;
use xferd_wire::{Identity, Mtime};

use super::*;
use crate::attributes::FileAttributes;
use crate::digest::digest_of;
use crate::journal::{SYNC_EVERY_BYTES, of_another_boot};
use crate::store::Options;

const BYTES: &[u8] = b"what is sent in three parts";

fn rig() -> (TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Options::default()).unwrap();
    (root, store)
}

fn path() -> RemotePath {
    RemotePath::parse("in/file").unwrap()
}

fn version() -> SourceVersion {
    SourceVersion {
        size: BYTES.len() as u64,
        mtime: Mtime { seconds: 1_000_000_000, nanoseconds: 7 },
        identity: Identity { inode: 4711, ctime_s: 1_000_000_001, ctime_ns: 8 },
        digest: DigestAlgorithm::Crc64Nvme,
    }
}

fn receive(staging: &mut Staging, start: usize, end: usize) {
    let bytes = &BYTES[start..end];
    staging.file().write_all_at(bytes, start as u64).unwrap();
    let crc64 = Runs::crc64(&digest_of(DigestAlgorithm::Crc64Nvme, bytes));
    staging.record(Run { offset: start as u64, len: bytes.len() as u64, crc64 }).unwrap();
}

fn stage(store: &Store) -> (Staging, Vec<(u64, u64)>) {
    let (staging, held) = store.stage_resumable(&path(), &version(), false).unwrap();
    (staging, held.iter().map(|run| (run.offset, run.end())).collect())
}

fn kept(root: &Path) -> Vec<PathBuf> {
    let mut kept: Vec<_> =
        fs::read_dir(root.join("in")).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    kept
}

fn journal(root: &Path) -> PathBuf {
    kept(root).into_iter().find(|path| path.extension().is_some_and(|it| it == "journal")).unwrap()
}

#[test]
fn what_was_recorded_is_there_when_the_same_source_comes_again() {
    let (root, store) = rig();
    let (mut staging, held) = stage(&store);
    assert_eq!(held, []);
    receive(&mut staging, 20, 27);
    receive(&mut staging, 0, 5);
    // Bytes that nobody recorded are not there.
    staging.file().write_all_at(b"?", 10).unwrap();
    drop(staging);
    let (mut staging, held) = stage(&store);
    assert_eq!(held, [(0, 5), (20, 27)]);
    receive(&mut staging, 5, 12);
    drop(staging);
    let (mut staging, held) = stage(&store);
    assert_eq!(held, [(0, 12), (20, 27)]);
    receive(&mut staging, 12, 20);
    let attributes = FileAttributes { mode: 0o640, mtime: version().mtime };
    store.commit(staging, version().size, &attributes, false).unwrap();
    assert_eq!(fs::read(root.path().join("in/file")).unwrap(), BYTES);
    assert_eq!(kept(root.path()), [root.path().join("in/file")], "the journal has gone");
}

#[test]
fn the_digest_of_the_whole_combines_from_what_was_kept() {
    let (_root, store) = rig();
    let (mut staging, _) = stage(&store);
    receive(&mut staging, 9, 27);
    drop(staging);
    let (_staging, mut held) = store.stage_resumable(&path(), &version(), false).unwrap();
    let crc64 = Runs::crc64(&digest_of(DigestAlgorithm::Crc64Nvme, &BYTES[..9]));
    held.add(Run { offset: 0, len: 9, crc64 }).unwrap();
    assert_eq!(held.digest(27), Some(digest_of(DigestAlgorithm::Crc64Nvme, BYTES)));
}

/// A file that can be resumed, of which half is recorded, and that cannot be synced.
fn unsyncable(root: &Path, store: &Store, version: SourceVersion) -> Staging {
    let (mut staging, _) = stage(store);
    receive(&mut staging, 0, 12);
    drop(staging);
    let dir = Arc::new(Dir::open(&root.join("in")).unwrap());
    let name = resumable_name("file");
    let recorded = Recorded::nothing(version.digest).unwrap();
    let journal = Journal::create(dir.clone(), &name, "file", version, true, recorded).unwrap();
    // A socket has nothing to be synced, and says so (fsync(2), EINVAL).
    let (socket, _) = UnixStream::pair().unwrap();
    let mut staging =
        Staging::named(File::from(OwnedFd::from(socket)), dir, name, &path(), version.size, true);
    staging.keep_with(journal);
    staging
}

#[test]
fn a_file_whose_sync_has_failed_is_not_gone_on_with() {
    let (root, store) = rig();
    let mut staging = unsyncable(root.path(), &store, version());
    assert!(staging.sync().is_err());
    drop(staging);
    assert_eq!(kept(root.path()), [] as [PathBuf; 0]);
    assert_eq!(stage(&store).1, []);
}

#[test]
fn a_file_whose_checkpoint_has_failed_is_not_gone_on_with() {
    let (root, store) = rig();
    let version = SourceVersion { size: SYNC_EVERY_BYTES, ..version() };
    let mut staging = unsyncable(root.path(), &store, version);
    staging.record(Run { offset: 0, len: SYNC_EVERY_BYTES, crc64: 0 }).unwrap_err();
    drop(staging);
    assert_eq!(kept(root.path()), [] as [PathBuf; 0]);
    assert_eq!(stage(&store).1, []);
}

/// A file that can be resumed, of which half is recorded, and whose writer has waited for the disk in vain.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn paced_in_vain(store: &Store) -> Staging {
    let (mut staging, _) = stage(store);
    receive(&mut staging, 0, 12);
    // What is written there is never on a disk (sync_file_range(2), ESPIPE).
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    staging.write_to(xferd_os::Sink::paced(Arc::new(null)));
    staging.sink().write_all_at(&BYTES[12..20], 12).unwrap_err();
    staging
}

#[test]
#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn a_file_whose_writer_has_waited_for_the_disk_in_vain_is_not_gone_on_with() {
    let (root, store) = rig();
    drop(paced_in_vain(&store));
    assert_eq!(kept(root.path()), [] as [PathBuf; 0]);
    assert_eq!(stage(&store).1, []);
}

#[test]
#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn a_file_whose_writer_has_waited_for_the_disk_in_vain_is_neither_recorded_nor_committed() {
    let (root, store) = rig();
    let mut staging = paced_in_vain(&store);
    staging.record(Run { offset: 20, len: 7, crc64: 0 }).unwrap_err();
    assert_eq!(kept(root.path()).len(), 1, "the journal is gone, the file is still open");
    let attributes = FileAttributes { mode: 0o600, mtime: version().mtime };
    store.commit(staging, BYTES.len() as u64, &attributes, true).unwrap_err();
    assert_eq!(kept(root.path()), [] as [PathBuf; 0]);
}

#[test]
fn another_version_of_the_source_starts_over() {
    let original = version();
    let Identity { inode, ctime_s, ctime_ns } = original.identity;
    let Mtime { seconds, nanoseconds } = original.mtime;
    for other in [
        SourceVersion { size: 28, ..original },
        SourceVersion { mtime: Mtime { seconds: seconds + 1, nanoseconds }, ..original },
        SourceVersion { mtime: Mtime { seconds, nanoseconds: nanoseconds + 1 }, ..original },
        SourceVersion { identity: Identity { inode: inode + 1, ctime_s, ctime_ns }, ..original },
        SourceVersion { identity: Identity { inode, ctime_s: ctime_s + 1, ctime_ns }, ..original },
        SourceVersion { identity: Identity { inode, ctime_s, ctime_ns: ctime_ns + 1 }, ..original },
        SourceVersion { digest: DigestAlgorithm::None, ..original },
    ] {
        let (_root, store) = rig();
        let (mut staging, _) = stage(&store);
        receive(&mut staging, 0, 20);
        drop(staging);
        let (staging, held) = store.stage_resumable(&path(), &other, false).unwrap();
        assert!(held.is_empty(), "{other:?}");
        assert_eq!(file::attributes(staging.file()).unwrap().size, 0, "nothing of it is left");
        drop(staging);
        assert_eq!(stage(&store).1, [], "nor is it when the original comes back");
    }
}

#[test]
fn a_file_that_was_cut_off_by_somebody_starts_over() {
    let (root, store) = rig();
    let (mut staging, _) = stage(&store);
    receive(&mut staging, 0, 20);
    drop(staging);
    let [data, _] = kept(root.path()).try_into().unwrap();
    File::options().write(true).open(data).unwrap().set_len(19).unwrap();
    assert_eq!(stage(&store).1, []);
}

#[test]
fn after_another_start_of_the_machine_nothing_is_believed_that_was_not_synced() {
    let (root, store) = rig();
    let (mut staging, _) = stage(&store);
    receive(&mut staging, 0, 20);
    drop(staging);
    let journal = journal(root.path());
    let aged = of_another_boot(&fs::read(&journal).unwrap());
    fs::write(&journal, aged).unwrap();
    assert_eq!(stage(&store).1, []);
}

#[test]
fn after_another_start_of_the_machine_what_a_checkpoint_covers_is_believed() {
    let (root, store) = rig();
    let version = SourceVersion { size: 3 * SYNC_EVERY_BYTES, digest: DigestAlgorithm::None, ..version() };
    let part = |at: u64, len: u64| Run { offset: at, len, crc64: 0 };
    for round in 0..2 {
        let (mut staging, held) = store.stage_resumable(&path(), &version, true).unwrap();
        assert_eq!(held.bytes(), if round == 0 { 0 } else { SYNC_EVERY_BYTES });
        if round == 0 {
            staging.file().set_len(version.size).unwrap();
            staging.record(part(0, SYNC_EVERY_BYTES - 1)).unwrap();
            // Completes what is synced at a time.
            staging.record(part(SYNC_EVERY_BYTES - 1, 1)).unwrap();
            staging.record(part(2 * SYNC_EVERY_BYTES, 5)).unwrap();
        }
        drop(staging);
        // Twice: what was taken over from one run of the machine is still believed in the next but one.
        let journal = journal(root.path());
        let aged = of_another_boot(&fs::read(&journal).unwrap());
        fs::write(&journal, aged).unwrap();
    }
    let (_staging, held) = store.stage_resumable(&path(), &version, true).unwrap();
    assert_eq!(held.iter().collect::<Vec<_>>(), [part(0, SYNC_EVERY_BYTES)]);
}

#[test]
fn a_process_that_was_killed_between_two_checkpoints_loses_nothing() {
    let (_root, store) = rig();
    let version = SourceVersion { size: 3 * SYNC_EVERY_BYTES, digest: DigestAlgorithm::None, ..version() };
    let (mut staging, _) = store.stage_resumable(&path(), &version, true).unwrap();
    staging.file().set_len(version.size).unwrap();
    for number in 0..5 {
        staging.record(Run { offset: number * (32 << 20), len: 32 << 20, crc64: 0 }).unwrap();
    }
    drop(staging);
    let (_staging, held) = store.stage_resumable(&path(), &version, true).unwrap();
    assert_eq!(held.bytes(), 5 * (32 << 20));
}

#[test]
fn one_transfer_at_a_time_has_a_file() {
    let (_root, store) = rig();
    let (staging, _) = stage(&store);
    let second = store.stage_resumable(&path(), &version(), false);
    assert!(matches!(second, Err(StoreError::Busy { .. })), "{second:?}");
    drop(staging);
    stage(&store);
}

#[test]
fn a_digest_that_does_not_combine_is_refused() {
    let (root, store) = rig();
    let blake3 = SourceVersion { digest: DigestAlgorithm::Blake3, ..version() };
    let refused = store.stage_resumable(&path(), &blake3, false);
    assert!(matches!(refused, Err(StoreError::NotResumable { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn what_can_be_resumed_is_neither_listed_nor_reached_nor_swept_up() {
    let (root, store) = rig();
    let (mut staging, _) = stage(&store);
    receive(&mut staging, 0, 20);
    drop(staging);
    assert!(
        store.list(&RemotePath::ROOT, true).unwrap().next_batch(usize::MAX).unwrap().len() == 1,
        "the folder"
    );
    for kept in kept(root.path()) {
        let name = format!("in/{}", kept.file_name().unwrap().to_str().unwrap());
        assert!(matches!(
            store.open_source(&RemotePath::parse(&name).unwrap()),
            Err(StoreError::Reserved { .. })
        ));
    }
    assert_eq!(store.sweep(&AtomicBool::new(false)).unwrap(), 0);
    assert_eq!(stage(&store).1, [(0, 20)]);
}

#[test]
fn what_nobody_resumes_is_swept_up_when_its_time_has_passed() {
    let (root, store) = rig();
    drop(stage(&store));
    let sweep = |keep| store.sweep_keeping(keep, &AtomicBool::new(false)).unwrap();
    assert_eq!(sweep(Duration::from_secs(60)), 0);
    assert_eq!(sweep(Duration::ZERO), 1);
    assert!(kept(root.path()).is_empty());
}

#[test]
fn what_cannot_be_resumed_is_swept_up() {
    let sweep = |store: &Store| store.sweep(&AtomicBool::new(false)).unwrap();
    let (root, store) = rig();
    drop(stage(&store));
    let [data, journal] = kept(root.path()).try_into().unwrap();
    fs::write(&journal, b"no journal").unwrap();
    assert_eq!(sweep(&store), 1);
    assert!(kept(root.path()).is_empty(), "a file whose journal is none, and that");

    drop(stage(&store));
    fs::remove_file(&data).unwrap();
    assert_eq!(sweep(&store), 1);
    assert!(kept(root.path()).is_empty(), "a journal without its file");

    drop(stage(&store));
    fs::remove_file(&journal).unwrap();
    assert_eq!(sweep(&store), 1);
    assert!(kept(root.path()).is_empty(), "a file without its journal");

    let (staging, _) = stage(&store);
    fs::write(&journal, b"no journal").unwrap();
    assert_eq!(sweep(&store), 0, "somebody has it");
    drop(staging);
}
