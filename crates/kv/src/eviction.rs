//! Which keys make room for others.

use std::str::FromStr;

use crate::entry::Entry;

/// What happens when the memory that keys may take is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Policy {
    /// Commands that need more are refused.
    #[default]
    NoEviction,
    /// What was not asked for the longest goes.
    AllKeysLru,
    /// What was asked for the least goes.
    AllKeysLfu,
    /// What would expire soonest goes; what would not stays.
    VolatileTtl,
}

/// There is no such policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no eviction policy is called {0:?}; choose one of noeviction, allkeys-lru, allkeys-lfu, volatile-ttl"
)]
pub struct UnknownPolicy(String);

impl Policy {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::NoEviction, Self::AllKeysLru, Self::AllKeysLfu, Self::VolatileTtl];

    /// As Redis names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEviction => "noeviction",
            Self::AllKeysLru => "allkeys-lru",
            Self::AllKeysLfu => "allkeys-lfu",
            Self::VolatileTtl => "volatile-ttl",
        }
    }

    pub(crate) fn of(number: u8) -> Self {
        Self::ALL.into_iter().find(|policy| *policy as u8 == number).unwrap_or_default()
    }

    /// What a new key keeps.
    pub(crate) fn begun(self, now_ms: u64) -> u32 {
        match self {
            Self::AllKeysLfu => minutes(now_ms) << 16 | LFU_BEGINS_WITH,
            _ => ticks(now_ms),
        }
    }

    /// What a key keeps that was asked for; `dice` is any number.
    pub(crate) fn asked(self, access: u32, now_ms: u64, dice: u64) -> u32 {
        match self {
            Self::AllKeysLfu => {
                let counter = frequency(access, now_ms);
                let above = counter.saturating_sub(LFU_BEGINS_WITH);
                let rises = counter < 255 && dice % u64::from(above * LFU_LOG_FACTOR + 1) == 0;
                minutes(now_ms) << 16 | (counter + u32::from(rises))
            }
            _ => ticks(now_ms),
        }
    }

    /// How much sooner than others an entry goes; `None` if it stays.
    pub(crate) fn rank(self, entry: &Entry, now_ms: u64) -> Option<u64> {
        match self {
            Self::NoEviction => None,
            Self::AllKeysLru => Some(idle_ms(entry.access(), now_ms)),
            Self::AllKeysLfu => Some(u64::from(255 - frequency(entry.access(), now_ms))),
            Self::VolatileTtl => entry.deadline().map(|deadline| u64::MAX - deadline),
        }
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let found = Self::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownPolicy(name.into()))
    }
}

/// For how long a key was not asked for, where that is kept.
pub(crate) fn idle_ms(access: u32, now_ms: u64) -> u64 {
    u64::from(ticks(now_ms).wrapping_sub(access)) << TICK_BITS
}

/// How often a key was asked for, logarithmically, less one for each minute that it was not, where that is kept.
pub(crate) fn frequency(access: u32, now_ms: u64) -> u32 {
    let passed = minutes(now_ms).wrapping_sub(access >> 16) & 0xffff;
    (access & 0xff).saturating_sub(passed)
}

/// A key that is new is not the first to go (`LFU_INIT_VAL` of Redis).
const LFU_BEGINS_WITH: u32 = 5;
/// How much rarer each further step of the counter is (`lfu-log-factor` of Redis).
const LFU_LOG_FACTOR: u32 = 10;
/// Ticks of 128 ms: the number comes round once in 17 years.
const TICK_BITS: u32 = 7;

fn ticks(now_ms: u64) -> u32 {
    (now_ms >> TICK_BITS) as u32
}

fn minutes(now_ms: u64) -> u32 {
    (now_ms / 60_000) as u32 & 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_the_names_they_are_found_by() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
            assert_eq!(Policy::of(policy as u8), policy);
        }
        assert!("allkeys-random".parse::<Policy>().unwrap_err().to_string().contains("choose one of"));
    }

    #[test]
    fn who_was_asked_for_often_is_so_for_minutes() {
        let lfu = Policy::AllKeysLfu;
        let mut access = lfu.begun(0);
        assert_eq!(frequency(access, 0), 5);
        for dice in 0..100_000 {
            access = lfu.asked(access, 0, dice);
        }
        let often = frequency(access, 0);
        assert!((30..=255).contains(&often), "{often}");
        assert_eq!(frequency(access, 3 * 60_000), often - 3);
        assert_eq!(frequency(access, 300 * 60_000), 0);
    }

    #[test]
    fn who_was_not_asked_for_the_longest_goes_first() {
        let (mut old, mut new) = (Entry::string(0, b"a", b"", None), Entry::string(0, b"b", b"", Some(9)));
        old.set_access(Policy::AllKeysLru.begun(1_000));
        new.set_access(Policy::AllKeysLru.begun(5_000));
        let rank = |policy: Policy, entry| policy.rank(entry, 10_000);
        assert!(rank(Policy::AllKeysLru, &old) > rank(Policy::AllKeysLru, &new));
        assert_eq!(rank(Policy::VolatileTtl, &old), None);
        assert!(rank(Policy::VolatileTtl, &new).is_some());
        assert_eq!(rank(Policy::NoEviction, &new), None);
    }
}
