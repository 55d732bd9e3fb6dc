//! What may be found in a tree, from what was asked for and what was answered.
//!
//! An attempt to change a place begins, and ends when it is acknowledged, or when nothing of it can take effect any
//! more. What may be found is what was attempted, except what had ended before something that was acknowledged began.

use std::collections::BTreeMap;

use crate::contents::{Contents, VersionId};

/// What may be in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    File(VersionId),
}

/// Names an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttemptId(u64);

/// Places by their paths, and what was attempted there.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    places: BTreeMap<String, Vec<Attempt>>,
    /// Grows with everything that happens.
    moment: u64,
}

#[derive(Debug)]
struct Attempt {
    id: AttemptId,
    /// Any of them.
    states: Vec<State>,
    began: u64,
    ended: Option<u64>,
    course: Course,
    /// Once it is acknowledged it survives a power loss.
    is_durable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Whoever asked for it waits.
    Running,
    /// It was running when the power was lost: what it did before may be lost, though it will be acknowledged.
    Interrupted,
    Acknowledged,
    /// Nobody waits for it any more, and it may still take effect.
    Forsaken,
    /// It can take no effect any more.
    Over,
}

impl Tree {
    /// Somebody begins to bring one of `states` about.
    pub(crate) fn begin(&mut self, path: &str, states: Vec<State>, is_durable: bool) -> AttemptId {
        self.moment += 1;
        let id = AttemptId(self.moment);
        let attempt =
            Attempt { id, states, began: self.moment, ended: None, course: Course::Running, is_durable };
        self.places.entry(path.to_owned()).or_insert_with(|| vec![Attempt::nothing()]).push(attempt);
        id
    }

    /// The outcome of an attempt may be `state`, too.
    pub(crate) fn widen(&mut self, id: AttemptId, state: State) {
        self.change(id, |attempt, _| attempt.states.push(state));
    }

    pub(crate) fn acknowledge(&mut self, id: AttemptId) {
        self.change(id, |attempt, moment| {
            attempt.ended = Some(moment);
            let is_lost = attempt.course == Course::Interrupted && !attempt.is_durable;
            attempt.course = if is_lost { Course::Over } else { Course::Acknowledged };
        });
    }

    /// What it is to bring about was there, or most of it: nobody has synced that.
    pub(crate) fn leave_unsynced(&mut self, id: AttemptId) {
        self.change(id, |attempt, _| attempt.is_durable = false);
    }

    /// It failed, or was given up; nobody knows what it will have done.
    pub(crate) fn forsake(&mut self, id: AttemptId) {
        self.change(id, |attempt, _| attempt.course = Course::Forsaken);
    }

    /// Whoever could have carried out what was forsaken is gone.
    pub(crate) fn end_forsaken(&mut self) {
        self.moment += 1;
        for attempt in self.places.values_mut().flatten() {
            if attempt.course == Course::Forsaken {
                attempt.course = Course::Over;
                attempt.ended = Some(self.moment);
            }
        }
        self.forget();
    }

    fn change(&mut self, id: AttemptId, change: impl FnOnce(&mut Attempt, u64)) {
        self.moment += 1;
        let moment = self.moment;
        let found = self.places.values_mut().flatten().find(|attempt| attempt.id == id);
        if let Some(attempt) = found {
            change(attempt, moment);
        }
    }

    /// What may be found at `path`; after a power loss, more.
    pub(crate) fn acceptable(&self, path: &str, after_power_loss: bool) -> Vec<State> {
        match self.places.get(path) {
            None => vec![State::Absent],
            Some(attempts) => {
                acceptable(attempts, after_power_loss).flat_map(|it| it.states.clone()).collect()
            }
        }
    }

    /// Whether nobody is about to change what is at `path`.
    pub(crate) fn is_still(&self, path: &str) -> bool {
        let is_over = |attempt: &Attempt| attempt.ended.is_some();
        self.places.get(path).is_none_or(|attempts| attempts.iter().all(is_over))
    }

    /// The one state that `path` has, if that is certain and nobody is about to change it.
    pub(crate) fn certain(&self, path: &str) -> Option<State> {
        if !self.is_still(path) {
            return None;
        }
        match &*self.acceptable(path, false) {
            [state] => Some(*state),
            _ => None,
        }
    }

    /// Whether a power loss takes nothing away from the bytes at `path`.
    pub(crate) fn is_durable(&self, path: &str) -> bool {
        self.places.get(path).is_none_or(|attempts| !is_at_risk(attempts))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.places.keys()
    }

    /// Compares what was found with what may be.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(
        &self,
        found: &BTreeMap<String, VersionId>,
        contents: &Contents,
        after_power_loss: bool,
    ) -> Result<(), String> {
        for path in self.places.keys().chain(found.keys()) {
            if after_power_loss && self.places.get(path).is_some_and(|attempts| is_at_risk(attempts)) {
                continue;
            }
            let states = self.acceptable(path, after_power_loss);
            let state = state_of(found.get(path));
            if !states.contains(&state) {
                let wanted: Vec<_> = states.iter().map(|state| describe(*state, contents)).collect();
                let found = explain(state, &states, contents);
                return Err(format!("{path}: found {found}, where may be: {}", wanted.join("; ")));
            }
        }
        Ok(())
    }

    /// The power was lost, and this was found: it is all on disk now.
    pub(crate) fn settle(&mut self, found: &BTreeMap<String, VersionId>) {
        self.moment += 1;
        let moment = self.moment;
        for (path, attempts) in &mut self.places {
            let states = vec![state_of(found.get(path))];
            attempts.retain(|attempt| matches!(attempt.course, Course::Running | Course::Interrupted));
            attempts.iter_mut().for_each(|attempt| attempt.course = Course::Interrupted);
            let course = Course::Acknowledged;
            let id = AttemptId(moment);
            let now = Attempt { id, states, began: moment, ended: Some(moment), course, is_durable: true };
            attempts.insert(0, now);
        }
    }

    /// Forgets what could never be found again, not even after a power loss.
    fn forget(&mut self) {
        for attempts in self.places.values_mut() {
            let kept: Vec<AttemptId> = acceptable(attempts, true).map(|attempt| attempt.id).collect();
            attempts.retain(|attempt| attempt.ended.is_none() || kept.contains(&attempt.id));
        }
    }
}

impl Attempt {
    /// There was nothing in the beginning.
    fn nothing() -> Self {
        let (id, states) = (AttemptId(0), vec![State::Absent]);
        Self { id, states, began: 0, ended: Some(0), course: Course::Acknowledged, is_durable: true }
    }
}

/// Whether a power loss may have left anything here: without `--fsync` names and bytes reach the disk in any order.
fn is_at_risk(attempts: &[Attempt]) -> bool {
    let is_file = |state: &State| *state != State::Absent;
    acceptable(attempts, true).any(|attempt| !attempt.is_durable && attempt.states.iter().any(is_file))
}

fn acceptable(attempts: &[Attempt], after_power_loss: bool) -> impl Iterator<Item = &Attempt> {
    let counts = move |attempt: &&Attempt| {
        attempt.course == Course::Acknowledged && (attempt.is_durable || !after_power_loss)
    };
    let last = attempts.iter().filter(counts).map(|attempt| attempt.began).max().unwrap_or(0);
    attempts.iter().filter(move |attempt| attempt.ended.is_none_or(|ended| ended >= last))
}

fn state_of(version: Option<&VersionId>) -> State {
    version.map_or(State::Absent, |version| State::File(*version))
}

/// What was found, and how it differs from what it might have been.
fn explain(found: State, states: &[State], contents: &Contents) -> String {
    let State::File(found_version) = found else { return describe(found, contents) };
    let bytes = contents.bytes(found_version);
    for state in states {
        let State::File(version) = state else { continue };
        let wanted = contents.bytes(*version);
        if wanted == bytes {
            return format!("its bytes with {:?}", contents.kept(found_version));
        }
        if wanted.len() == bytes.len() {
            let differing = bytes.iter().zip(wanted.iter()).filter(|(a, b)| a != b).count();
            let first = bytes.iter().zip(wanted.iter()).position(|(a, b)| a != b);
            return format!("{} bytes, of which {differing} differ, from {first:?} on", bytes.len());
        }
    }
    describe(found, contents)
}

fn describe(state: State, contents: &Contents) -> String {
    match state {
        State::Absent => "nothing".into(),
        State::File(version) => {
            format!("{version:?} of {} bytes, {:?}", contents.bytes(version).len(), contents.kept(version))
        }
    }
}
