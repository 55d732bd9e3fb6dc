//! Connections that are used together: which one a call takes, and when one is made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xferd_engine::Failure;
use xferd_os::{clock, random};

use super::berth::Berth;
use super::call::Call;
use super::dialer::Dialer;
use super::line::{Line, Pushed, Standing};

/// The pauses before a connection is tried again, after it was tried at once: each twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Pool {
    lines: Box<[Line]>,
    dialer: Arc<Dialer>,
    /// There was a connection: if it breaks, calls wait for another one. What was never reached is most likely not there.
    was_connected: AtomicBool,
}

impl Pool {
    pub(crate) fn new(connections: usize, dialer: Arc<Dialer>) -> Self {
        let lines = (0..connections).map(|_| Line::default()).collect();
        Self { lines, dialer, was_connected: AtomicBool::new(false) }
    }

    pub(crate) fn call(self: &Arc<Self>, call: Call) {
        let index = self.choose();
        let Some(line) = self.lines.get(index) else { return };
        match line.push(call) {
            Pushed::Waits => {}
            Pushed::Dials => self.dialer.dial(self.berth(index)),
            Pushed::Refused(call) => drop(call),
        }
    }

    /// The connection with nothing to do, else one that is not made yet, else the one with the least to do.
    fn choose(&self) -> usize {
        let rank = |line: &Line| match (line.standing(), line.load()) {
            (Standing::Dialing | Standing::Open, 0) => (0, 0),
            (Standing::Vacant, _) => (1, 0),
            (Standing::Dialing | Standing::Open, load) => (2, load),
            (Standing::Pausing | Standing::Closed, load) => (3, load),
        };
        let ranked = self.lines.iter().map(rank).enumerate();
        ranked.min_by_key(|&(_, rank)| rank).map_or(0, |(index, _)| index)
    }

    pub(crate) fn line(&self, index: usize) -> Option<&Line> {
        self.lines.get(index)
    }

    /// Ends everything that is under way, and whatever comes later.
    pub(crate) fn close(&self) {
        // Those that are dropped say why.
        self.lines.iter().for_each(|line| drop(line.close()));
    }

    pub(crate) fn opened(&self) {
        self.was_connected.store(true, Ordering::Relaxed);
    }

    /// A connection is gone, or was not to be had. What was not sent waits for the next one, if one may be had in time.
    pub(crate) fn lose(self: &Arc<Self>, index: usize, failure: &Failure) {
        let Some(line) = self.line(index) else { return };
        let now = clock::now();
        let may_wait = failure.retryable && self.was_connected.load(Ordering::Relaxed);
        let (dropped, attempts) = line.lose(|call| may_wait && call.deadline > now);
        for call in dropped {
            call.cut(failure);
        }
        if let Some(attempts) = attempts {
            self.dialer.dial_after(pause(attempts), self.berth(index));
        }
    }

    fn berth(self: &Arc<Self>, index: usize) -> Berth {
        Berth::pooled(self.clone(), index)
    }
}

/// How long to wait before the next attempt. Many who lost their connections together do not come back together.
fn pause(attempts: u32) -> Duration {
    let Some(doublings) = attempts.checked_sub(1) else { return Duration::ZERO };
    let pause = PAUSE_MIN.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX);
    let half = pause / 2;
    half + half.mul_f64(random::number() as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_made_at_once_and_the_others_after_pauses_that_grow_to_a_second() {
        assert_eq!(pause(0), Duration::ZERO);
        for (attempts, most) in [(1, PAUSE_MIN), (2, PAUSE_MIN * 2), (7, PAUSE_MAX), (u32::MAX, PAUSE_MAX)] {
            for _ in 0..100 {
                assert!((most / 2..=most).contains(&pause(attempts)));
            }
        }
    }
}
