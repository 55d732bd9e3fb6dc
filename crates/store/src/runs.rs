//! Which bytes of a file are there and proven, and their digest.

use std::collections::BTreeMap;

use xferd_wire::limits::RUNS_MAX;
use xferd_wire::{Digest, DigestAlgorithm, Run};

/// Bytes of one file that were compared with their digests, as runs that adjoin nowhere.
///
/// Their digests are combined as they grow together, so that the whole file's digest is known once all of it is there,
/// whatever the order in which it came. That works for CRC-64/NVME and for no digest at all.
///
/// ```
/// use xferd_store::{Runs, digest_of};
/// use xferd_wire::{DigestAlgorithm, Run};
///
/// let algorithm = DigestAlgorithm::Crc64Nvme;
/// let mut runs = Runs::new(algorithm).expect("its digests combine");
/// for (offset, bytes) in [(4, &b"56789"[..]), (0, &b"1234"[..])] {
///     runs.add(Run { offset, len: bytes.len() as u64, crc64: Runs::crc64(&digest_of(algorithm, bytes)) })?;
/// }
/// assert_eq!(runs.digest(9), Some(digest_of(algorithm, b"123456789")));
/// # Ok::<(), xferd_store::RunsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runs {
    algorithm: DigestAlgorithm,
    /// By offset.
    runs: BTreeMap<u64, Run>,
}

/// Why a run is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunsError {
    /// Some of its bytes are there already, and their digest cannot be taken out again.
    #[error("some of these bytes are there already")]
    Overlap,
    /// There are [`RUNS_MAX`] runs, and it adjoins none.
    #[error("more than {RUNS_MAX} separate runs of bytes; fill the gaps between them first")]
    TooMany,
}

impl Runs {
    /// Nothing yet. `None` for an algorithm whose digests do not combine.
    pub fn new(algorithm: DigestAlgorithm) -> Option<Self> {
        (algorithm != DigestAlgorithm::Blake3).then(|| Self { algorithm, runs: BTreeMap::new() })
    }

    /// The number in a digest of CRC-64/NVME; 0 for any other.
    pub fn crc64(digest: &Digest) -> u64 {
        digest.as_bytes().try_into().map_or(0, u64::from_be_bytes)
    }

    /// Adds bytes, which grow together with those they adjoin.
    ///
    /// # Errors
    /// [`RunsError`]; nothing is changed then.
    pub fn add(&mut self, run: Run) -> Result<(), RunsError> {
        if self.touches(run.offset, run.end()) {
            return Err(RunsError::Overlap);
        }
        let before = self.runs.range(..run.offset).next_back().map(|(_, before)| *before);
        let before = before.filter(|before| before.end() == run.offset);
        let after = self.runs.get(&run.end()).copied();
        if before.is_none() && after.is_none() && self.runs.len() >= RUNS_MAX {
            return Err(RunsError::TooMany);
        }
        let mut joined = run;
        if let Some(after) = after {
            self.runs.remove(&after.offset);
            joined = self.join(joined, after);
        }
        if let Some(before) = before {
            joined = self.join(before, joined);
        }
        self.runs.insert(joined.offset, joined);
        Ok(())
    }

    /// Learns of a run from one who holds all that is held here, perhaps more, and as runs that adjoin nowhere.
    ///
    /// What overlaps something that is held here and ends within it is older than that: nothing is learnt from it, because
    /// digests cannot be taken apart.
    ///
    /// # Errors
    /// [`RunsError::TooMany`].
    pub fn learn(&mut self, run: Run) -> Result<(), RunsError> {
        let known: Vec<Run> = self.touching(run.offset, run.end()).collect();
        if known.iter().any(|known| known.offset < run.offset || known.end() > run.end()) {
            return Ok(());
        }
        for known in known {
            self.runs.remove(&known.offset);
        }
        self.add(run)
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Whether any byte of `[start, end)` is there.
    pub fn touches(&self, start: u64, end: u64) -> bool {
        self.touching(start, end).next().is_some()
    }

    /// Whether every byte of `[start, end)` is there.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let before = self.runs.range(..=start).next_back();
        start >= end || before.is_some_and(|(_, run)| run.end() >= end)
    }

    /// The runs that have bytes in `[start, end)`, in order.
    pub fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = Run> + '_ {
        let first = self.runs.range(..=start).next_back().map_or(start, |(&offset, _)| offset);
        self.runs
            .range(first..end.max(first))
            .map(|(_, run)| *run)
            .filter(move |run| run.end() > start && run.offset < end)
    }

    /// All runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.values().copied()
    }

    /// What of the first `size` bytes is not there, in order.
    pub fn gaps(&self, size: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for run in self.iter().take_while(|run| run.offset < size) {
            if run.offset > at {
                gaps.push((at, run.offset));
            }
            at = run.end();
        }
        if at < size {
            gaps.push((at, size));
        }
        gaps
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|run| run.len).sum()
    }

    /// The digest of the first `size` bytes, if they and no others are there.
    pub fn digest(&self, size: u64) -> Option<Digest> {
        let whole = match self.runs.first_key_value() {
            None if size == 0 => Run { offset: 0, len: 0, crc64: 0 },
            Some((0, run)) if run.len == size && self.runs.len() == 1 => *run,
            _ => return None,
        };
        match self.algorithm {
            DigestAlgorithm::Crc64Nvme => {
                Digest::new(DigestAlgorithm::Crc64Nvme, &whole.crc64.to_be_bytes()).ok()
            }
            _ => Some(Digest::NONE),
        }
    }

    fn join(&self, first: Run, second: Run) -> Run {
        let crc64 = match self.algorithm {
            DigestAlgorithm::Crc64Nvme => crc_fast::checksum_combine(
                crc_fast::CrcAlgorithm::Crc64Nvme,
                first.crc64,
                second.crc64,
                second.len,
            ),
            _ => 0,
        };
        Run { offset: first.offset, len: first.len + second.len, crc64 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::digest_of;

    const ALGORITHM: DigestAlgorithm = DigestAlgorithm::Crc64Nvme;

    fn run(bytes: &[u8], start: usize, end: usize) -> Run {
        let crc64 = Runs::crc64(&digest_of(ALGORITHM, &bytes[start..end]));
        Run { offset: start as u64, len: (end - start) as u64, crc64 }
    }

    fn runs_of(ranges: &[(u64, u64)]) -> Runs {
        let mut runs = Runs::new(DigestAlgorithm::None).unwrap();
        for (start, end) in ranges {
            runs.add(Run { offset: *start, len: end - start, crc64: 0 }).unwrap();
        }
        runs
    }

    proptest! {
        #[test]
        fn the_digests_of_parts_in_any_order_combine_to_that_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 1..2000),
            cuts in proptest::collection::btree_set(1_usize..2000, 0..12),
            order in any::<u64>(),
        ) {
            let mut at: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            at.insert(0, 0);
            at.push(bytes.len());
            let mut parts: Vec<Run> = at.windows(2).map(|cut| run(&bytes, cut[0], cut[1])).collect();
            let count = parts.len();
            for index in 0..count {
                parts.swap(index, (order.rotate_left(index as u32) % count as u64) as usize);
            }
            let mut runs = Runs::new(ALGORITHM).unwrap();
            for (index, part) in parts.into_iter().enumerate() {
                prop_assert_eq!(runs.digest(bytes.len() as u64).is_some(), index == count);
                runs.add(part).unwrap();
                prop_assert_eq!(runs.add(part), Err(RunsError::Overlap));
            }
            prop_assert_eq!(runs.digest(bytes.len() as u64), Some(digest_of(ALGORITHM, &bytes)));
        }
    }

    #[test]
    fn what_is_missing_is_known() {
        let runs = runs_of(&[(10, 20), (30, 40)]);
        assert_eq!(runs.gaps(50), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!(runs.gaps(35), [(0, 10), (20, 30)]);
        assert_eq!(runs.gaps(5), [(0, 5)]);
        assert_eq!(runs_of(&[(0, 10)]).gaps(10), []);
        assert_eq!(runs.bytes(), 20);
        for (start, end, touches, covers) in [
            (0, 10, false, false),
            (0, 11, true, false),
            (10, 20, true, true),
            (12, 18, true, true),
            (19, 21, true, false),
            (20, 30, false, false),
            (15, 35, true, false),
            (40, 50, false, false),
        ] {
            assert_eq!(
                (runs.touches(start, end), runs.covers(start, end)),
                (touches, covers),
                "{start} {end}"
            );
        }
    }

    #[test]
    fn there_are_no_more_runs_than_the_limit_but_a_gap_can_always_be_filled() {
        let mut runs = Runs::new(DigestAlgorithm::None).unwrap();
        let single = |offset| Run { offset, len: 1, crc64: 0 };
        for number in 0..RUNS_MAX as u64 {
            runs.add(single(number * 2)).unwrap();
        }
        assert_eq!(runs.add(single(RUNS_MAX as u64 * 2)), Err(RunsError::TooMany));
        runs.add(single(1)).unwrap();
        assert_eq!(runs.len(), RUNS_MAX - 1);
        runs.add(single(RUNS_MAX as u64 * 2)).unwrap();
    }

    #[test]
    fn what_another_holds_takes_the_place_of_what_is_known_of_it() {
        let mut runs = runs_of(&[(10, 20), (30, 40)]);
        runs.learn(Run { offset: 10, len: 10, crc64: 0 }).unwrap();
        runs.learn(Run { offset: 5, len: 40, crc64: 0 }).unwrap();
        assert_eq!(runs.gaps(50), [(0, 5), (45, 50)]);
    }

    #[test]
    fn nothing_is_learnt_from_what_was_said_before_what_is_known_already() {
        let mut runs = runs_of(&[(8, 24)]);
        for (offset, end) in [(0, 16), (16, 32), (8, 24), (10, 20)] {
            runs.learn(Run { offset, len: end - offset, crc64: 0 }).unwrap();
        }
        assert_eq!(runs.gaps(32), [(0, 8), (24, 32)]);
        runs.add(Run { offset: 0, len: 8, crc64: 0 }).unwrap();
        assert_eq!(runs.gaps(32), [(24, 32)]);
    }

    #[test]
    fn an_empty_file_is_whole_and_one_that_is_longer_is_not() {
        let empty = Runs::new(ALGORITHM).unwrap();
        assert_eq!(empty.digest(0), Some(digest_of(ALGORITHM, b"")));
        assert_eq!(runs_of(&[(0, 10)]).digest(9), None);
        assert_eq!(runs_of(&[(0, 10)]).digest(10), Some(Digest::NONE));
        assert!(Runs::new(DigestAlgorithm::Blake3).is_none());
    }
}
