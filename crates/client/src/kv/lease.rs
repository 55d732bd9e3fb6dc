//! A connection that is somebody's alone.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use xferd_engine::{Failure, Reach, lock};
use xferd_os::clock;
use xferd_wire::ErrorCode;

use super::call::{Call, KvCall, KvCut};
use super::line::{Line, Pushed};
use super::quota::Quota;

/// Bytes of what came unasked that wait for whoever leased the connection. With as many nothing more is read, and the server
/// feels it.
pub const PUSHES_BYTES_MAX: usize = 1 << 20;

type OnOpen = Box<dyn FnOnce(Result<(), Failure>) + Send>;
type OnPushes = Box<dyn FnOnce(Result<Option<Vec<u8>>, Failure>) + Send>;

/// A connection for what has state: WATCH, SUBSCRIBE, MONITOR. It is not made anew when it breaks; dropped, it is closed.
pub struct KvLine {
    lease: Arc<Lease>,
    quota: Quota,
    patience: Duration,
}

impl KvLine {
    pub(crate) fn new(lease: Arc<Lease>, quota: Quota, patience: Duration) -> Self {
        Self { lease, quota, patience }
    }

    /// As [`KvClient::call`](super::KvClient::call), on this connection.
    pub fn call(
        &self,
        requests: Vec<u8>,
        count: usize,
        on_end: impl FnOnce(Result<Vec<u8>, KvCut>) + Send + 'static,
    ) -> KvCall {
        let deadline = clock::now() + self.patience;
        let (call, handle) = Call::within(&self.quota, requests, count, deadline, on_end);
        if let Some(Pushed::Refused(call)) = call.map(|call| self.lease.line.push(call)) {
            call.cut(&self.lease.why_over());
        }
        handle
    }

    /// Asks for what has come unasked: values of RESP3 one after another, whole ones. `None` once it was closed. One at a time.
    pub fn next(&self, on_pushes: impl FnOnce(Result<Option<Vec<u8>>, Failure>) + Send + 'static) {
        let mut state = self.lease.lock();
        state.on_pushes = Some(Box::new(on_pushes));
        let was_full = state.is_full();
        deliver(state);
        if was_full {
            self.lease.line.nudge();
        }
    }

    /// Gives it back: whatever waits for an answer gets ABORTED.
    pub fn close(&self) {
        self.lease.end(Ok(()));
    }
}

impl Drop for KvLine {
    fn drop(&mut self) {
        self.close();
    }
}

/// What whoever leases a connection shares with it.
pub(crate) struct Lease {
    pub(crate) line: Line,
    state: Mutex<State>,
    /// Something was pushed: somebody listens, who may hear nothing for long.
    listens: AtomicBool,
    _place: Option<Place>,
}

struct State {
    on_open: Option<OnOpen>,
    unasked: Vec<u8>,
    on_pushes: Option<OnPushes>,
    end: Option<Result<(), Failure>>,
}

impl State {
    fn is_full(&self) -> bool {
        self.unasked.len() >= PUSHES_BYTES_MAX
    }
}

impl Lease {
    pub(crate) fn new(on_open: OnOpen, place: Option<Place>) -> Self {
        let state = State { on_open: Some(on_open), unasked: Vec::new(), on_pushes: None, end: None };
        Self {
            line: Line::dialing(),
            state: Mutex::new(state),
            listens: AtomicBool::new(false),
            _place: place,
        }
    }

    /// The connection is there. False: it is not wanted any more.
    pub(crate) fn open(&self, reach: Option<Reach>) -> bool {
        let is_wanted = self.line.open(reach);
        let on_open = self.lock().on_open.take();
        if let Some(on_open) = on_open {
            on_open(Ok(()));
        }
        is_wanted
    }

    /// Something came unasked.
    pub(crate) fn hear(&self, value: &[u8]) {
        if value.starts_with(b">") {
            self.listens.store(true, Ordering::Relaxed);
        }
        let mut state = self.lock();
        if state.end.is_none() {
            state.unasked.extend_from_slice(value);
            deliver(state);
        }
    }

    pub(crate) fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed)
    }

    /// Whether more may come unasked.
    pub(crate) fn wants_more(&self) -> bool {
        !self.lock().is_full()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().end.is_some()
    }

    /// The connection is gone, or was not to be had.
    pub(crate) fn lose(&self, failure: &Failure) {
        let mut failure = failure.clone();
        if failure.retryable && self.lock().on_open.is_none() {
            // Who has it needs to know no more than that there may be another one.
            failure.code = ErrorCode::ConnectionLost;
        }
        self.end(Err(failure));
    }

    fn end(&self, result: Result<(), Failure>) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(result);
        let on_open = state.on_open.take();
        deliver(state);
        let failure = self.why_over();
        for call in self.line.close() {
            call.cut(&failure);
        }
        if let Some(on_open) = on_open {
            on_open(Err(failure));
        }
    }

    fn why_over(&self) -> Failure {
        match &self.lock().end {
            Some(Err(failure)) => failure.clone(),
            _ => Failure::new(ErrorCode::Aborted, LINE_CLOSED),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Hands over what somebody waits for, if it is there. Called back without the lock.
fn deliver(mut state: MutexGuard<'_, State>) {
    let Some(on_pushes) = state.on_pushes.take() else { return };
    let pushes = match &state.end {
        _ if !state.unasked.is_empty() => Ok(Some(mem::take(&mut state.unasked))),
        Some(end) => end.clone().map(|()| None),
        None => {
            state.on_pushes = Some(on_pushes);
            return;
        }
    };
    drop(state);
    on_pushes(pushes);
}

/// One of the connections that may be leased at a time.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// The next one, if fewer than `max` are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let with = |count: usize| (count < max).then_some(count + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with).ok()?;
        Some(Self(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why what a line is asked for that was closed is not done.
pub(crate) const LINE_CLOSED: &str = "the connection was given back before this was done";
