//! Numbers that anybody can repeat.

use std::hash::{BuildHasherDefault, DefaultHasher};

use super::world;

/// What maps are hashed with: the same each time, so that they are gone through in the same order each time.
pub type RandomState = BuildHasherDefault<DefaultHasher>;

/// A number that is another one each time, in each world the same ones.
pub fn number() -> u64 {
    world(|world| world.dice.number())
}

/// A source of numbers that follow from a seed: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, OOPSLA 2014; as in <https://prng.di.unimi.it/splitmix64.c>, which is in the public domain).
#[derive(Debug, Clone)]
pub struct Dice(u64);

/// What a chance is a part of.
pub const MILLION: u32 = 1_000_000;

impl Dice {
    /// The numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of a remainder is of no importance here.
        self.number().checked_rem(end).unwrap_or_default()
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// True so many times in a million.
    pub fn chance(&mut self, in_a_million: u32) -> bool {
        in_a_million > 0 && self.below(MILLION.into()) < in_a_million.into()
    }

    /// One of `things`.
    ///
    /// # Panics
    /// If there are none.
    pub fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len() as u64) as usize]
    }
}
