//! What is read back from the disk after an accident.

use xferd_store::SourceVersion;
use xferd_store::fuzzing::{encode_journal, read_journal};
use xferd_wire::{DigestAlgorithm, Identity, Mtime, Run};

use crate::input::Input;

const THIS_BOOT: Option<[u8; 16]> = Some([1; 16]);
const OTHER_BOOT: Option<[u8; 16]> = Some([2; 16]);
const HEADER_BYTES: usize = 512;
const RECORD_BYTES: usize = 32;

/// A journal with any records, whole or damaged, in this run of the machine or a later one, is believed as far as
/// [`believed`] says and no further. Bytes that are no journal at all are not believed.
pub fn journal(data: &[u8]) {
    let mut input = Input(data);
    let how = input.u8();
    let digest = if how & 1 == 0 { DigestAlgorithm::Crc64Nvme } else { DigestAlgorithm::None };
    let version = SourceVersion {
        size: input.u64(),
        mtime: Mtime { seconds: 1, nanoseconds: 2 },
        identity: Identity { inode: 3, ctime_s: 4, ctime_ns: 5 },
        digest,
    };
    assert!(read_journal(input.0, "file", &version, THIS_BOOT).is_none(), "a check of 64 bits was guessed");

    let boot = [THIS_BOOT, OTHER_BOOT, None, THIS_BOOT][usize::from(how >> 1) % 4];
    let (damaged_at, damage) = (usize::from(input.u16()), input.u8());
    let mut records = Vec::new();
    while !input.is_empty() {
        let kind = input.u8();
        let (offset, len) = match kind % 4 {
            0 => (u64::from(input.u8()), 0),
            1 | 2 => (u64::from(input.u8()), u64::from(input.u8() % 16)),
            _ => (input.u64(), input.u64()),
        };
        records.push(Run { offset, len, crc64: u64::from(kind) });
    }
    let mut bytes = encode_journal("file", &version, boot, &records);
    let whole_records = if damage == 0 {
        records.len()
    } else {
        let at = damaged_at % bytes.len();
        bytes[at] ^= damage;
        match at.checked_sub(HEADER_BYTES) {
            Some(at) => at / RECORD_BYTES,
            None => return assert!(read_journal(&bytes, "file", &version, THIS_BOOT).is_none()),
        }
    };
    assert!(read_journal(&bytes, "another", &version, THIS_BOOT).is_none());

    let read = read_journal(&bytes, "file", &version, THIS_BOOT);
    let expected = believed(&records[..whole_records], boot == THIS_BOOT);
    let bytes_of = |runs: &[Run]| {
        let mut bytes: Vec<(u64, u64)> = runs.iter().map(|run| (run.offset, run.offset + run.len)).collect();
        bytes.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in bytes {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => joined.push((start, end)),
            }
        }
        joined
    };
    assert_eq!(
        read.map(|runs| bytes_of(&runs.iter().collect::<Vec<_>>())),
        expected.map(|runs| bytes_of(&runs))
    );
}

/// The records that count: up to the first that is not possible, those that a checkpoint covers, and if the machine has
/// run on, those after it of which nothing is covered. `None` if some of those claim a byte twice.
fn believed(records: &[Run], same_boot: bool) -> Option<Vec<Run>> {
    let (mut covered, mut count) = (0, 0);
    for (at, record) in (0..).zip(records) {
        let is_possible = record.offset.checked_add(record.len).is_some();
        let is_checkpoint = record.len == 0;
        if !is_possible || (is_checkpoint && !(covered..=at).contains(&record.offset)) {
            break;
        }
        if is_checkpoint {
            covered = record.offset;
        }
        count = at + 1;
    }
    let data = |from: u64, to: u64| {
        (0..)
            .zip(records)
            .filter(move |(at, run)| (from..to).contains(at) && run.len > 0)
            .map(|(_, run)| *run)
    };
    let touches = |one: &Run, other: &Run| one.offset < other.end() && other.offset < one.end();
    let overlap = |runs: &[Run]| {
        runs.iter().enumerate().any(|(at, one)| runs[at + 1..].iter().any(|other| touches(one, other)))
    };
    let mut synced: Vec<Run> = data(0, covered).collect();
    if overlap(&synced) {
        return None;
    }
    if same_boot {
        let fresh: Vec<Run> =
            data(covered, count).filter(|run| !synced.iter().any(|other| touches(run, other))).collect();
        if overlap(&fresh) {
            return None;
        }
        synced.extend(fresh);
    }
    Some(synced)
}
