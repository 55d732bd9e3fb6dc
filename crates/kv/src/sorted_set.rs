//! Members in the order of their scores.

use std::cmp::Ordering;
use std::mem::size_of;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use xferd_os::random::RandomState;

use crate::value::{Counted, allocated, shrunk};

/// Shared by both places that a member has, and by copies of a set.
pub(crate) type Member = Arc<[u8]>;

/// Members of a sorted set that Redis keeps in one allocation (`zset-max-listpack-entries`), and the bytes of each
/// (`zset-max-listpack-value`).
const COMPACT_MEMBERS_MAX: usize = 128;
const COMPACT_BYTES_MAX: usize = 64;

/// Members of a chunk. With so many, moving half of them to make place costs about as much as finding where, and the chunks of a
/// million members are counted through in microseconds.
const CHUNK_MEMBERS_MAX: usize = 256;
/// A chunk with fewer is put to its neighbour, if both are not half a chunk then.
const CHUNK_MEMBERS_MIN: usize = CHUNK_MEMBERS_MAX / 4;

/// Members with their scores, by member and by score, those of one score by their bytes.
///
/// The order is kept in chunks, none of them empty. To find a member by its score takes logarithmic time, by its rank one that is
/// linear in the chunks.
#[derive(Debug, Default)]
pub(crate) struct SortedSet {
    scores: HashMap<Member, f64, RandomState>,
    chunks: Vec<Vec<Ranked>>,
    /// Bytes that the chunks take.
    chunk_bytes: usize,
}

#[derive(Clone, Debug)]
struct Ranked {
    score: f64,
    member: Member,
}

impl Clone for SortedSet {
    fn clone(&self) -> Self {
        // A copied vector has no places to spare.
        let chunks = self.chunks.clone();
        let chunk_bytes = chunks.iter().map(bytes_of).sum();
        Self { scores: self.scores.clone(), chunks, chunk_bytes }
    }
}

impl SortedSet {
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(crate) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// Sets the score of a member, which is a number, and says which it had.
    pub(crate) fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let known = self.scores.get_key_value_mut(member).map(|(member, place)| {
            let before = std::mem::replace(place, score);
            (member.clone(), before)
        });
        let (member, before) = match known {
            Some((member, before)) => {
                self.take(before, &member);
                (member, Some(before))
            }
            None => {
                let member = Member::from(member);
                self.scores.insert(member.clone(), score);
                (member, None)
            }
        };
        self.place(score, member);
        before
    }

    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.scores.remove(member)?;
        self.take(score, member);
        self.shrink();
        Some(score)
    }

    /// Members and scores, the least first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        self.range(0..self.len())
    }

    /// Those with such ranks, the least first.
    pub(crate) fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        let (first, last) = (self.at(ranks.start), self.at(ranks.end));
        let chunks = (first.0..=last.0).flat_map(move |index| {
            let chunk = self.chunks.get(index).map_or(&[][..], Vec::as_slice);
            let start = if index == first.0 { first.1 } else { 0 };
            let end = if index == last.0 { last.1 } else { chunk.len() };
            chunk.get(start..end).unwrap_or_default()
        });
        chunks.map(|ranked| (&*ranked.member, ranked.score))
    }

    /// How many there are before one of such a score, or as many as have lower ones.
    pub(crate) fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.count_while(|other, other_member| order(other, other_member, score, member).is_lt())
    }

    /// For how many, the least first, `is_before` holds. It holds for none behind one for which it does not.
    pub(crate) fn count_while(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> usize {
        let (chunk, index) = self.find(is_before);
        self.chunks.iter().take(chunk).map(Vec::len).sum::<usize>() + index
    }

    /// Takes out the member with the lowest score.
    pub(crate) fn pop_first(&mut self) -> Option<(Member, f64)> {
        self.chunks.first()?;
        self.pop(0, 0)
    }

    /// Takes out the member with the highest score.
    pub(crate) fn pop_last(&mut self) -> Option<(Member, f64)> {
        let chunk = self.chunks.len().checked_sub(1)?;
        self.pop(chunk, self.chunks.last()?.len() - 1)
    }

    /// Bytes that its tables take, members not counted.
    pub(crate) fn places_bytes(&self) -> usize {
        allocated(self.scores.allocation_size())
            + allocated(self.chunks.capacity() * size_of::<Vec<Ranked>>())
            + self.chunk_bytes
    }

    fn pop(&mut self, chunk: usize, index: usize) -> Option<(Member, f64)> {
        let Ranked { score, member } = self.take_at(chunk, index);
        self.scores.remove(&member);
        self.shrink();
        Some((member, score))
    }

    fn place(&mut self, score: f64, member: Member) {
        let (chunk, index) =
            self.find(|other, other_member| order(other, other_member, score, &member).is_lt());
        let ranked = Ranked { score, member };
        if chunk < self.chunks.len() {
            return self.place_at(chunk, index, ranked);
        }
        match self.chunks.last().map(Vec::len) {
            Some(len) if len < CHUNK_MEMBERS_MAX => self.place_at(chunk - 1, len, ranked),
            // Who only appends has full chunks.
            _ => {
                let new = vec![ranked];
                self.chunk_bytes += bytes_of(&new);
                self.chunks.push(new);
            }
        }
    }

    fn place_at(&mut self, chunk: usize, index: usize, ranked: Ranked) {
        let place = &mut self.chunks[chunk];
        self.chunk_bytes -= bytes_of(place);
        if place.len() < CHUNK_MEMBERS_MAX {
            place.insert(index, ranked);
            self.chunk_bytes += bytes_of(place);
            return;
        }
        let half = CHUNK_MEMBERS_MAX / 2;
        let mut upper = place.split_off(half);
        place.shrink_to_fit();
        match index.checked_sub(half) {
            Some(index) => upper.insert(index, ranked),
            None => place.insert(index, ranked),
        }
        self.chunk_bytes += bytes_of(place) + bytes_of(&upper);
        self.chunks.insert(chunk + 1, upper);
    }

    fn take(&mut self, score: f64, member: &[u8]) {
        let (chunk, index) =
            self.find(|other, other_member| order(other, other_member, score, member).is_lt());
        debug_assert_eq!(&*self.chunks[chunk][index].member, member, "what has a score has a place");
        self.take_at(chunk, index);
    }

    fn take_at(&mut self, chunk: usize, index: usize) -> Ranked {
        let place = &mut self.chunks[chunk];
        let taken = place.remove(index);
        let len = place.len();
        if len == 0 {
            self.chunk_bytes -= bytes_of(place);
            self.chunks.remove(chunk);
        } else if len < CHUNK_MEMBERS_MIN {
            let after = self.chunks.get(chunk + 1).map(|_| (chunk, chunk + 1));
            let before = chunk.checked_sub(1).map(|before| (before, chunk));
            let fitting = [after, before].into_iter().flatten().find(|(lower, upper)| {
                self.chunks[*lower].len() + self.chunks[*upper].len() < CHUNK_MEMBERS_MAX / 2
            });
            if let Some((lower, upper)) = fitting {
                let mut upper = self.chunks.remove(upper);
                let lower = &mut self.chunks[lower];
                self.chunk_bytes -= bytes_of(lower) + bytes_of(&upper);
                lower.append(&mut upper);
                lower.shrink_to_fit();
                self.chunk_bytes += bytes_of(lower);
            }
        }
        taken
    }

    /// The chunk, and the place in it, of the first for which `is_before` does not hold; behind the last chunk if there is none.
    fn find(&self, is_before: impl Fn(f64, &[u8]) -> bool) -> (usize, usize) {
        let is_before = |ranked: &Ranked| is_before(ranked.score, &ranked.member);
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(is_before));
        (chunk, self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(is_before)))
    }

    /// The chunk, and the place in it, of the one with that rank; behind the last chunk if there is none.
    fn at(&self, rank: usize) -> (usize, usize) {
        let mut index = rank;
        for (chunk, ranked) in self.chunks.iter().enumerate() {
            if index < ranked.len() {
                return (chunk, index);
            }
            index -= ranked.len();
        }
        (self.chunks.len(), 0)
    }

    fn shrink(&mut self) {
        if let Some(capacity) = shrunk(self.scores.len(), self.scores.capacity()) {
            self.scores.shrink_to(capacity);
        }
        if let Some(capacity) = shrunk(self.chunks.len(), self.chunks.capacity()) {
            self.chunks.shrink_to(capacity);
        }
    }
}

impl Counted<SortedSet> {
    /// As [`SortedSet::insert`]; the compact form of Redis has only one zero.
    pub(crate) fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let before = self.items.insert(member, score);
        if before.is_none() {
            self.bytes += member_bytes(member);
            self.is_compact &= self.items.len() <= COMPACT_MEMBERS_MAX && member.len() <= COMPACT_BYTES_MAX;
        }
        if self.is_compact && score == 0.0 && score.is_sign_negative() {
            self.items.insert(member, 0.0);
        }
        before
    }

    /// As [`SortedSet::remove`].
    pub(crate) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.items.remove(member)?;
        self.bytes -= member_bytes(member);
        Some(score)
    }

    /// Takes out the member with the lowest score, or the highest.
    pub(crate) fn pop(&mut self, highest: bool) -> Option<(Member, f64)> {
        let popped = if highest { self.items.pop_last() } else { self.items.pop_first() }?;
        self.bytes -= member_bytes(&popped.0);
        Some(popped)
    }
}

/// None of the numbers is NaN, and zeros are equal whatever their sign.
fn order(score: f64, member: &[u8], other: f64, other_member: &[u8]) -> Ordering {
    score.partial_cmp(&other).unwrap_or(Ordering::Equal).then_with(|| member.cmp(other_member))
}

fn bytes_of(chunk: &Vec<Ranked>) -> usize {
    allocated(chunk.capacity() * size_of::<Ranked>())
}

/// With the two counts of who shares it.
fn member_bytes(member: &[u8]) -> usize {
    allocated(2 * size_of::<usize>() + member.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Scores in units that leave many members with the same one.
    fn number_of(step: u64) -> (Vec<u8>, f64) {
        let dice = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        ((dice % 3_000).to_string().into_bytes(), (dice / 7 % 50) as f64)
    }

    #[test]
    fn members_are_in_order_however_they_came_and_went() {
        let (mut set, mut model) = (SortedSet::default(), BTreeSet::new());
        for step in 0..20_000 {
            let (member, score) = number_of(step);
            let before = if step % 3 == 0 || step > 15_000 {
                set.remove(&member)
            } else {
                model.insert((score as u64, member.clone()));
                set.insert(&member, score)
            };
            if let Some(before) = before.filter(|before| *before != score || step % 3 == 0 || step > 15_000) {
                assert!(model.remove(&(before as u64, member)), "step {step}");
            }
            assert_eq!(set.len(), model.len());
        }
        assert!(set.chunks.iter().all(|chunk| (1..=CHUNK_MEMBERS_MAX).contains(&chunk.len())));
        assert_eq!(set.chunk_bytes, set.chunks.iter().map(bytes_of).sum());
        let expected: Vec<_> = model.iter().map(|(score, member)| (&member[..], *score as f64)).collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        assert_eq!(set.iter().rev().count(), expected.len());
        for (rank, (member, score)) in expected.iter().enumerate() {
            assert_eq!(set.rank(*score, member), rank);
            assert_eq!(set.range(rank..expected.len()).next(), Some((*member, *score)));
            assert_eq!(set.range(0..rank + 1).next_back(), Some((*member, *score)));
        }
        let copy = set.clone();
        assert_eq!(copy.chunk_bytes, copy.chunks.iter().map(bytes_of).sum());
    }

    #[test]
    fn zeros_of_both_signs_are_one_score() {
        let mut set = SortedSet::default();
        for (member, score) in [(b"b", 0.0), (b"a", -0.0), (b"c", -0.0)] {
            set.insert(member, score);
        }
        assert_eq!(set.iter().map(|(member, _)| member).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }
}
