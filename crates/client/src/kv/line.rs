//! Calls on their way from those who make them to one connection.

use std::collections::VecDeque;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use xferd_engine::{Reach, lock};

use super::call::Call;

/// Calls that wait for one connection, whether it is there or not.
#[derive(Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// What has to be answered, by [`Call::weight`].
    load: AtomicUsize,
    /// That of the state, to be looked at without the lock.
    standing: AtomicU8,
}

#[derive(Default)]
struct State {
    standing: Standing,
    waiting: VecDeque<Call>,
    /// To the connection, once it is open.
    reach: Option<Reach>,
    /// How often a connection was tried in vain since the last one was open.
    attempts: u32,
}

/// How things are with the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Standing {
    /// There is none, and nobody needs one.
    #[default]
    Vacant,
    Dialing,
    Open,
    /// It could not be made, and is tried again soon.
    Pausing,
    /// There is to be none any more.
    Closed,
}

/// What became of a call that was put onto a line.
pub(crate) enum Pushed {
    Waits,
    /// It does, for a connection that has to be made.
    Dials,
    /// The line is closed.
    Refused(Call),
}

impl Line {
    /// One whose connection is being made.
    pub(crate) fn dialing() -> Self {
        let line = Self::default();
        line.stand(&mut lock(&line.state), Standing::Dialing);
        line
    }

    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self) -> Standing {
        let standing = self.standing.load(Ordering::Relaxed);
        [Standing::Dialing, Standing::Open, Standing::Pausing, Standing::Closed]
            .into_iter()
            .find(|known| *known as u8 == standing)
            .unwrap_or_default()
    }

    pub(crate) fn push(&self, call: Call) -> Pushed {
        let mut state = lock(&self.state);
        if state.standing == Standing::Closed {
            return Pushed::Refused(call);
        }
        self.load.fetch_add(call.weight(), Ordering::Relaxed);
        state.waiting.push_back(call);
        if let Some(reach) = &state.reach {
            reach.nudge();
        }
        if state.standing == Standing::Vacant {
            self.stand(&mut state, Standing::Dialing);
            return Pushed::Dials;
        }
        Pushed::Waits
    }

    /// The next call to be sent.
    pub(crate) fn next(&self) -> Option<Call> {
        let mut state = lock(&self.state);
        loop {
            let call = state.waiting.pop_front()?;
            if !call.is_withdrawn() {
                return Some(call);
            }
            self.done(&call);
        }
    }

    /// The call is over.
    pub(crate) fn done(&self, call: &Call) {
        self.load.fetch_sub(call.weight(), Ordering::Relaxed);
    }

    /// The connection is there. False: it is not wanted any more.
    pub(crate) fn open(&self, reach: Option<Reach>) -> bool {
        let mut state = lock(&self.state);
        if state.standing == Standing::Closed {
            return false;
        }
        self.stand(&mut state, Standing::Open);
        state.reach = reach;
        state.attempts = 0;
        true
    }

    /// The connection is gone, or was not to be had. Gives those that do not wait for another one, by what `waits` says; and
    /// how often it was tried in vain if there are others, for whom it is to be tried again.
    pub(crate) fn lose(&self, waits: impl Fn(&Call) -> bool) -> (VecDeque<Call>, Option<u32>) {
        let mut state = lock(&self.state);
        state.reach = None;
        let all = mem::take(&mut state.waiting);
        let (waiting, dropped): (VecDeque<Call>, VecDeque<Call>) =
            all.into_iter().partition(|call| !call.is_withdrawn() && waits(call));
        self.load.store(waiting.iter().map(Call::weight).sum(), Ordering::Relaxed);
        let attempts = (!waiting.is_empty()).then_some(state.attempts);
        state.waiting = waiting;
        if state.standing != Standing::Closed {
            state.attempts = attempts.map_or(0, |attempts| attempts.saturating_add(1));
            self.stand(&mut state, if attempts.is_some() { Standing::Pausing } else { Standing::Vacant });
        }
        (dropped, attempts)
    }

    /// No calls are taken any more. Gives those that were not sent.
    pub(crate) fn close(&self) -> VecDeque<Call> {
        let mut state = lock(&self.state);
        self.stand(&mut state, Standing::Closed);
        if let Some(reach) = state.reach.take() {
            reach.nudge();
        }
        mem::take(&mut state.waiting)
    }

    /// Has the connection look at what it shares with other threads.
    pub(crate) fn nudge(&self) {
        if let Some(reach) = &lock(&self.state).reach {
            reach.nudge();
        }
    }

    fn stand(&self, state: &mut State, standing: Standing) {
        state.standing = standing;
        self.standing.store(standing as u8, Ordering::Relaxed);
    }
}
