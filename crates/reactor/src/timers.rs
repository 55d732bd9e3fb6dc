use std::collections::BTreeMap;
use std::time::Instant;

/// Deadlines, each with a key that says whose it is.
///
/// Every operation takes O(log n); a cancelled timer is gone at once. Timers with the same deadline expire in the order
/// in which they were set.
#[derive(Debug)]
pub struct Timers<K> {
    pending: BTreeMap<TimerId, K>,
    timers_max: usize,
    set: u64,
}

/// Names a timer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId {
    deadline: Instant,
    sequence: u64,
}

impl<K: Copy> Timers<K> {
    /// No timers, and room for `timers_max`.
    pub fn new(timers_max: usize) -> Timers<K> {
        Timers { pending: BTreeMap::new(), timers_max, set: 0 }
    }

    /// Sets a timer, or answers `None` if `timers_max` are set.
    pub fn set(&mut self, deadline: Instant, key: K) -> Option<TimerId> {
        if self.pending.len() >= self.timers_max {
            return None;
        }
        let id = TimerId { deadline, sequence: self.set };
        self.set += 1;
        self.pending.insert(id, key);
        Some(id)
    }

    /// Takes a timer back; returns its key if it had not expired.
    pub fn cancel(&mut self, id: TimerId) -> Option<K> {
        self.pending.remove(&id)
    }

    /// When the next timer expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(id, _)| id.deadline)
    }

    /// Takes the earliest timer that has expired by `now`. Call it until it answers `None`; timers may be set and
    /// cancelled in between.
    pub fn expire(&mut self, now: Instant) -> Option<(TimerId, K)> {
        let earliest = self.pending.first_entry()?;
        (earliest.key().deadline <= now).then(|| earliest.remove_entry())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn timers_expire_by_deadline_and_then_in_the_order_they_were_set() {
        let start = Instant::now();
        let mut timers = Timers::new(8);
        for (ms, key) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c')] {
            timers.set(after(start, ms), key).unwrap();
        }
        assert_eq!(timers.next_deadline(), Some(after(start, 10)));
        assert_eq!(timers.expire(after(start, 9)), None);
        let expired: String =
            std::iter::from_fn(|| timers.expire(after(start, 20))).map(|(_, key)| key).collect();
        assert_eq!(expired, "abc");
        assert_eq!(timers.next_deadline(), Some(after(start, 30)));
    }

    #[test]
    fn a_cancelled_timer_never_expires_and_leaves_room_for_another() {
        let start = Instant::now();
        let mut timers = Timers::new(1);
        let first = timers.set(start, 1).unwrap();
        assert_eq!(timers.cancel(first), Some(1));
        assert_eq!(timers.cancel(first), None);
        assert!(timers.set(start, 2).is_some());
        assert_eq!(timers.expire(start).map(|(_, key)| key), Some(2));
        assert_eq!(timers.expire(start), None);
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn the_limit_is_reached_and_not_passed() {
        let start = Instant::now();
        let mut timers = Timers::new(2);
        assert!(timers.set(start, 'a').is_some());
        assert!(timers.set(start, 'b').is_some());
        assert!(timers.set(start, 'c').is_none());
        assert_eq!(timers.expire(start).map(|(_, key)| key), Some('a'));
        assert!(timers.set(start, 'c').is_some());
    }
}
