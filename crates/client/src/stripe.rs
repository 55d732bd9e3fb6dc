//! Large files that the connections of one copy send together, and that outlive each of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use xferd_engine::{DiskOutcome, EXTENT_BYTES, Failure, OpenSource, lock};
use xferd_os::scaled;
use xferd_store::{Runs, StoreError};
use xferd_wire::{
    Committed, Digest, DigestAlgorithm, ErrorCode, Frame, Have, Put, RemotePath, Run, TransferId,
};

use crate::job::Job;
use crate::task::Channel;

/// From this size on a file is worth more than one connection: below it, the others would come too late.
pub(crate) const STRIPE_BYTES_MIN: u64 = scaled(64 << 20);

/// Extents that one connection has taken and not heard of: while one is on the wire the next is being hashed.
const EXTENTS_TAKEN_MAX: usize = 2;

/// One file, and what the server holds of it.
///
/// Connections [join](Self::join) it and take extents, in the order of the file. What one of them did not bring home goes
/// to the others.
pub(crate) struct Stripe {
    put: Put,
    size: u64,
    source: Arc<OpenSource>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    held: Runs,
    /// What is neither held nor taken by a connection: the byte after the last, by the first.
    gaps: BTreeMap<u64, u64>,
    /// Bytes that count as moved.
    counted: u64,
    was_open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The server does not know of it, or not any more.
    Unopened,
    /// A connection has put it and waits for the answer.
    Opening,
    Open(TransferId),
    /// A connection has all that is held committed.
    Committing(TransferId),
    /// Stored, or failed.
    Over,
}

/// How a connection can help with a file.
enum Joining {
    Put,
    Attach(TransferId),
}

impl Stripe {
    /// The file that `put` announces. `None` if its digest does not combine.
    pub(crate) fn new(put: Put, source: Arc<OpenSource>) -> Option<Self> {
        let size = put.size.unwrap_or_default();
        let state = State {
            phase: Phase::Unopened,
            held: Runs::new(put.digest)?,
            gaps: BTreeMap::new(),
            counted: 0,
            was_open: false,
        };
        Some(Self { put, size, source, state: Mutex::new(state) })
    }

    pub(crate) fn path(&self) -> &RemotePath {
        &self.put.path
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.state).phase == Phase::Over
    }

    /// It is stored, or has failed.
    pub(crate) fn end(&self) {
        lock(&self.state).phase = Phase::Over;
    }

    /// Joins a connection, if there is something for it to do.
    pub(crate) fn join(self: &Arc<Self>, channel: &mut Channel<'_>) -> Option<Striper> {
        let joining = {
            let mut state = lock(&self.state);
            match state.phase {
                Phase::Unopened => {
                    state.phase = Phase::Opening;
                    Joining::Put
                }
                Phase::Open(id) if !state.gaps.is_empty() => Joining::Attach(id),
                _ => return None,
            }
        };
        let (request, phase) = match joining {
            Joining::Put => (channel.request(&Frame::Put(self.put.clone())), StriperPhase::Opening),
            Joining::Attach(id) => (channel.request(&Frame::Attach(id)), StriperPhase::Attaching(id)),
        };
        Some(Striper {
            stripe: self.clone(),
            request,
            phase,
            extents: VecDeque::new(),
            has_rest: false,
            has_gained: false,
        })
    }

    /// The server has a new transfer of it.
    fn opened(&self, have: Have, job: &Job) -> Result<TransferId, Failure> {
        let mut state = lock(&self.state);
        state.held = Runs::new(self.put.digest).ok_or_else(|| self.unexpected())?;
        for run in have.runs {
            state.held.add(run).map_err(|_| self.unexpected())?;
        }
        state.gaps = state.held.gaps(self.size).into_iter().collect();
        state.phase = Phase::Open(have.transfer);
        if !std::mem::replace(&mut state.was_open, true) {
            job.resumed(state.held.bytes());
        }
        state.count(job);
        Ok(have.transfer)
    }

    /// The server holds more than it did.
    fn learn(&self, id: TransferId, runs: &[Run], job: &Job) -> Result<(), Failure> {
        let mut state = lock(&self.state);
        if state.is_of(id) {
            runs.iter().try_for_each(|run| state.held.learn(*run)).map_err(|_| self.unexpected())?;
            state.count(job);
        }
        Ok(())
    }

    /// The next extent to send.
    fn take(&self, id: TransferId) -> Option<(u64, u64)> {
        let mut state = lock(&self.state);
        while state.phase == Phase::Open(id) {
            let (start, gap_end) = state.gaps.pop_first()?;
            let end = gap_end.min(start + EXTENT_BYTES);
            if end < gap_end {
                state.gaps.insert(end, gap_end);
            }
            if !state.held.covers(start, end) {
                return Some((start, end));
            }
        }
        None
    }

    fn give_back(&self, id: TransferId, extents: impl Iterator<Item = (u64, u64)>) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open(id) {
            state.gaps.extend(extents);
        }
    }

    fn holds(&self, start: u64, end: u64) -> bool {
        lock(&self.state).held.covers(start, end)
    }

    /// The digest of the whole, once all of it is held: to the one who is to commit it.
    fn complete(&self, id: TransferId) -> Option<Digest> {
        let mut state = lock(&self.state);
        let digest = state.held.digest(self.size).filter(|_| state.phase == Phase::Open(id))?;
        state.phase = Phase::Committing(id);
        Some(digest)
    }

    /// Nobody knows any more what the server holds.
    fn reopen(&self, from: impl FnOnce(Phase) -> bool) {
        let mut state = lock(&self.state);
        if from(state.phase) {
            state.phase = Phase::Unopened;
        }
    }

    fn unexpected(&self) -> Failure {
        Failure::protocol(format!("{}: the server holds what nobody sent", self.put.path))
    }
}

impl State {
    fn is_of(&self, id: TransferId) -> bool {
        matches!(self.phase, Phase::Open(open) | Phase::Committing(open) if open == id)
    }

    /// What is held counts as moved, and what is not held any more does not.
    fn count(&mut self, job: &Job) {
        let held = self.held.bytes();
        job.moved(held.saturating_sub(self.counted));
        job.unmoved(self.counted.saturating_sub(held));
        self.counted = held;
    }
}

/// One connection's part in a [`Stripe`].
pub(crate) struct Striper {
    stripe: Arc<Stripe>,
    request: u32,
    phase: StriperPhase,
    extents: VecDeque<Taken>,
    /// Something of it is just being sent by a connection that is gone: it is to be tried again after a while.
    has_rest: bool,
    /// An extent was acknowledged.
    has_gained: bool,
}

#[derive(Clone, Copy)]
enum StriperPhase {
    Opening,
    Attaching(TransferId),
    Attached(TransferId),
    /// The source is looked at once more before this digest is said.
    Verifying(TransferId, Digest),
    Committing(TransferId, Digest),
}

/// An extent between its being taken and its acknowledgement.
struct Taken {
    start: u64,
    end: u64,
    is_sent: bool,
}

/// What a step of a [`Striper`] came to.
pub(crate) enum Step {
    /// It goes on.
    Going,
    /// There is nothing to do for this connection now; the request has ended, or is to be cancelled.
    Idle { is_open: bool },
    /// What another connection has begun is to be tried again after a while; the request is to be cancelled.
    Rest,
    /// The server is to be asked again after a while, or that is why the file fails; the request has ended.
    Refused(Failure),
    /// The file is stored.
    Stored(Committed),
    /// The file cannot be stored; the request has ended, or is to be cancelled.
    Failed { failure: Failure, is_open: bool },
}

impl Striper {
    pub(crate) fn request(&self) -> u32 {
        self.request
    }

    /// Whether this connection was of any use.
    pub(crate) fn has_gained(&self) -> bool {
        self.has_gained
    }

    pub(crate) fn stripe(&self) -> &Arc<Stripe> {
        &self.stripe
    }

    pub(crate) fn on_have(
        &mut self,
        have: Have,
        job: &Job,
        channel: &mut Channel<'_>,
    ) -> Result<Step, Failure> {
        let stripe = self.stripe.clone();
        let id = match self.phase {
            StriperPhase::Opening => {
                let id = stripe.opened(have, job)?;
                self.phase = StriperPhase::Attached(id);
                // There is something to do for the others now.
                job.nudge();
                id
            }
            StriperPhase::Attaching(id) if have.transfer == id => {
                stripe.learn(id, &have.runs, job)?;
                self.phase = StriperPhase::Attached(id);
                id
            }
            StriperPhase::Attached(id) if have.transfer == id => {
                stripe.learn(id, &have.runs, job)?;
                let answered = |taken: &Taken| (taken.start, taken.end) == (have.start, have.end);
                let at = self.extents.iter().position(answered).ok_or_else(|| stripe.unexpected())?;
                self.extents.remove(at);
                if stripe.holds(have.start, have.end) {
                    self.has_gained = true;
                } else {
                    stripe.give_back(id, [(have.start, have.end)].into_iter());
                    self.has_rest = true;
                }
                id
            }
            _ => return Err(stripe.unexpected()),
        };
        self.fill(id, channel);
        Ok(self.conclude(id, channel))
    }

    /// An extent was hashed, or could not be.
    pub(crate) fn on_hashed(
        &mut self,
        result: Result<Option<Digest>, StoreError>,
        channel: &mut Channel<'_>,
    ) -> Step {
        match result {
            Ok(Some(digest)) => self.send(digest, channel),
            Ok(None) => {}
            Err(error) => return Step::Failed { failure: error.into(), is_open: true },
        }
        Step::Going
    }

    pub(crate) fn on_source_short(&self) -> Step {
        Step::Failed { failure: self.stripe.source.source().changed().into(), is_open: true }
    }

    /// The source was looked at once more.
    pub(crate) fn on_verified(&mut self, result: Result<(), StoreError>, channel: &mut Channel<'_>) -> Step {
        if let Err(error) = result {
            return Step::Failed { failure: error.into(), is_open: true };
        }
        if let StriperPhase::Verifying(id, digest) = self.phase {
            self.phase = StriperPhase::Committing(id, digest);
            channel.effects.send(self.request, &Frame::Digest(digest));
            channel.effects.send(self.request, &Frame::Commit { size: self.stripe.size });
        }
        Step::Going
    }

    pub(crate) fn on_committed(&mut self, committed: Committed) -> Result<Step, Failure> {
        match self.phase {
            StriperPhase::Committing(_, digest)
                if committed.size == self.stripe.size && committed.digest == digest =>
            {
                Ok(Step::Stored(committed))
            }
            _ => Err(Failure::protocol(format!(
                "{}: the server acknowledged something else",
                self.stripe.path()
            ))),
        }
    }

    /// The server has ended the request.
    pub(crate) fn on_refused(&mut self, failure: Failure) -> Step {
        self.leave();
        match (self.phase, failure.code) {
            // Another server, or all connections were lost for a moment: whoever joins next puts it again.
            (StriperPhase::Attaching(id), ErrorCode::NotFound) => {
                self.stripe.reopen(|phase| phase == Phase::Open(id));
                Step::Idle { is_open: false }
            }
            (_, ErrorCode::Busy | ErrorCode::ShuttingDown) => Step::Refused(failure),
            _ => Step::Failed { failure, is_open: false },
        }
    }

    /// Gives back what it has taken: the connection is gone, or done with it.
    pub(crate) fn leave(&mut self) {
        let stripe = &self.stripe;
        let taken = self.extents.drain(..).map(|taken| (taken.start, taken.end));
        match self.phase {
            StriperPhase::Opening => stripe.reopen(|phase| phase == Phase::Opening),
            StriperPhase::Attaching(_) => {}
            StriperPhase::Attached(id) => stripe.give_back(id, taken),
            // Whether it was committed, nobody knows. If it was, it is sent once more.
            StriperPhase::Verifying(id, _) | StriperPhase::Committing(id, _) => {
                stripe.reopen(|phase| phase == Phase::Committing(id));
            }
        }
    }

    fn fill(&mut self, id: TransferId, channel: &mut Channel<'_>) {
        while self.extents.len() < EXTENTS_TAKEN_MAX && !self.has_rest {
            let Some((start, end)) = self.stripe.take(id) else { return };
            self.extents.push_back(Taken { start, end, is_sent: false });
            let algorithm = self.stripe.put.digest;
            if algorithm == DigestAlgorithm::None {
                self.send(Digest::NONE, channel);
                continue;
            }
            let source = self.stripe.source.clone();
            channel.effects.work(self.request, move || {
                DiskOutcome::Hashed(source.source().digest(algorithm, start, end).map(Some)).into()
            });
        }
    }

    /// Sends the first extent that was not sent yet; they are hashed in their order.
    fn send(&mut self, digest: Digest, channel: &mut Channel<'_>) {
        let Some(taken) = self.extents.iter_mut().find(|taken| !taken.is_sent) else { return };
        taken.is_sent = true;
        let (start, len) = (taken.start, taken.end - taken.start);
        channel.effects.send(self.request, &Frame::Digest(digest));
        channel.effects.send_extent(self.request, self.stripe.source.send_source(), start, len);
    }

    fn conclude(&mut self, id: TransferId, channel: &mut Channel<'_>) -> Step {
        if !self.extents.is_empty() {
            return Step::Going;
        }
        if let Some(digest) = self.stripe.complete(id) {
            self.phase = StriperPhase::Verifying(id, digest);
            let source = self.stripe.source.clone();
            channel
                .effects
                .work(self.request, move || DiskOutcome::Verified(source.source().verify_unchanged()).into());
            return Step::Going;
        }
        if self.has_rest { Step::Rest } else { Step::Idle { is_open: true } }
    }
}
