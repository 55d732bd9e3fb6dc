//! Keys for who runs the server, in the same process.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex};

use xferd_engine::{Failure, lock};
use xferd_os::clock;
use xferd_os::net::Peer;
use xferd_wire::ErrorCode;
use xferd_wire::resp::RequestParser;

use super::Kv;
use super::clients::Cut;
use super::conversation::{Conversation, Way, misconf};

/// Calls of one [`Keys`] that may wait for the log. Further ones are refused.
pub const CALLS_WAITING_MAX: usize = 65_536;

/// Bytes of their replies. With so many, further calls are refused.
pub const CALLS_WAITING_BYTES_MAX: usize = 64 << 20;

/// Bytes of the replies to one call; after the one that reaches them no further request of it is carried out.
pub const CALL_REPLIES_BYTES_MAX: usize = 256 << 20;

/// A client of the key-value store without a connection, in RESP3. Nobody asks it for a password.
///
/// Clones are one client: what one says after MULTI or SELECT concerns all. It ends with the last of them.
#[derive(Clone)]
pub struct Keys(Arc<Inside>);

struct Inside {
    state: Mutex<State>,
}

struct State {
    conversation: Conversation,
    parser: RequestParser,
    /// Calls that are carried out, whose replies wait until what they say is recorded.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Somebody sees to that, or is telling of it.
    is_committing: bool,
}

struct Held {
    replies: Vec<u8>,
    result: Result<(), Failure>,
    /// Up to where the log is to be safe before they are told.
    until: u64,
    on_replies: OnReplies,
}

type OnReplies = Box<dyn FnOnce(Vec<u8>, Result<(), Failure>) + Send>;

/// What came to a client unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushes {
    /// RESP3 values, one after another: messages, and what MONITOR tells.
    pub values: Vec<u8>,
    /// Why nothing comes any more, if that is so.
    pub end: Option<Failure>,
}

impl Keys {
    pub(crate) fn new(kv: Arc<Kv>, on_push: impl Fn() + Send + Sync + 'static) -> Self {
        let conversation = Conversation::new(kv, Peer::SameProcess, Way::Inside);
        conversation.client.on_told(on_push);
        Self(Arc::new(Inside {
            state: Mutex::new(State {
                conversation,
                parser: RequestParser::new(),
                held: VecDeque::new(),
                held_bytes: 0,
                is_committing: false,
            }),
        }))
    }

    /// Carries out `requests`, one after another as on a connection, on this thread and without waiting for anything but the
    /// keys. `on_replies` gets their replies, in their order, and why there are not as many as requests, if that is so.
    ///
    /// It is called once what they say is as safe as was asked for: at once, or later on a thread of the server, where it must
    /// not block. What one thread has carried out is answered in that order; a call that is refused is told so at once.
    pub fn call(
        &self,
        requests: &[u8],
        on_replies: impl FnOnce(Vec<u8>, Result<(), Failure>) + Send + 'static,
    ) {
        let mut state = lock(&self.0.state);
        if let Some(failure) = state.refused() {
            drop(state);
            return on_replies(Vec::new(), Err(failure));
        }
        let (replies, result) = state.carry_out(requests);
        let until = state.position();
        if !state.is_committing && state.is_committed(until) {
            drop(state);
            return on_replies(replies, result);
        }
        state.held_bytes += replies.len();
        state.held.push_back(Held { replies, result, until, on_replies: Box::new(on_replies) });
        let waits = mem::replace(&mut state.is_committing, true);
        drop(state);
        if !waits {
            self.0.clone().commit(until);
        }
    }

    /// What came unasked since this was last called. What was given to [`Server::keys`](crate::Server::keys) is called when there
    /// is something again.
    pub fn pushes(&self) -> Pushes {
        let state = lock(&self.0.state);
        if state.is_committing {
            // What it is told after it was answered may not come before the answer.
            return Pushes { values: Vec::new(), end: None };
        }
        let (values, cut) = state.conversation.client.take();
        Pushes { values, end: cut.map(ended).or_else(|| state.ended()) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys")
    }
}

impl Inside {
    /// Has the calls that wait answered once the log has come to `position`.
    fn commit(self: Arc<Self>, position: u64) {
        let commits = lock(&self.state).conversation.kv.commits.clone();
        commits.wait(position, move |result| self.on_committed(result));
    }

    fn on_committed(self: Arc<Self>, result: Result<(), String>) {
        loop {
            let mut state = lock(&self.state);
            let Some(Held { until, .. }) = state.held.front() else {
                state.is_committing = false;
                // What has come meanwhile was not told.
                if state.conversation.client.has_news() {
                    let client = state.conversation.client.clone();
                    drop(state);
                    client.nudge();
                }
                return;
            };
            let until = *until;
            if result.is_ok() && !state.is_committed(until) {
                drop(state);
                return self.commit(until);
            }
            let Some(held) = state.held.pop_front() else { return };
            state.held_bytes -= held.replies.len();
            drop(state);
            match &result {
                Ok(()) => (held.on_replies)(held.replies, held.result),
                // Nobody knows what the disk has of what was to be answered.
                Err(error) => {
                    (held.on_replies)(Vec::new(), Err(Failure::new(ErrorCode::Io, misconf(error))));
                }
            }
        }
    }
}

impl State {
    /// Why nothing is carried out now.
    fn refused(&self) -> Option<Failure> {
        if self.held.len() >= CALLS_WAITING_MAX || self.held_bytes >= CALLS_WAITING_BYTES_MAX {
            let message = "too many calls wait until what they changed is on the disk; wait for some of them";
            return Some(Failure::new(ErrorCode::Busy, message));
        }
        self.conversation.client.end().map(ended).or_else(|| self.ended())
    }

    fn ended(&self) -> Option<Failure> {
        if self.conversation.kv.commits.is_closed() {
            return Some(Failure::new(ErrorCode::ShuttingDown, "the server has stopped"));
        }
        self.conversation.is_closing.then(closed)
    }

    fn carry_out(&mut self, requests: &[u8]) -> (Vec<u8>, Result<(), Failure>) {
        let (mut replies, mut taken) = (Vec::new(), 0);
        let now_ms = self.conversation.kv.keyspace.now_ms();
        let mut clock = clock::now();
        let result = loop {
            let rest = requests.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            if self.conversation.is_closing {
                break Err(closed());
            }
            if replies.len() >= CALL_REPLIES_BYTES_MAX {
                let message =
                    format!("the replies to one call have {} bytes; ask for less at a time", replies.len());
                break Err(Failure::new(ErrorCode::Limit, message));
            }
            match self.parser.parse(rest) {
                Ok(Some(len)) => {
                    let args = self.parser.args(rest.get(..len).unwrap_or_default());
                    self.conversation.command(args, now_ms, &mut clock, &mut replies);
                    taken += len;
                }
                Ok(None) => {
                    self.parser = RequestParser::new();
                    break Err(Failure::new(ErrorCode::InvalidArgument, "the last request is not whole"));
                }
                Err(error) => {
                    self.parser = RequestParser::new();
                    break Err(Failure::new(ErrorCode::InvalidArgument, error.to_string()));
                }
            }
        };
        self.conversation.count(taken, replies.len());
        (replies, result)
    }

    /// Where the log ends. Whoever only reads has to wait for it as well: he may be told of what somebody else has just written.
    fn position(&self) -> u64 {
        self.conversation.kv.persistence.as_ref().map_or(0, |persistence| persistence.log().position())
    }

    fn is_committed(&self, position: u64) -> bool {
        let persistence = self.conversation.kv.persistence.as_ref();
        persistence.is_none_or(|persistence| persistence.log().is_committed(position))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.conversation.end();
    }
}

fn ended(cut: Cut) -> Failure {
    match cut {
        Cut::Killed => closed(),
        Cut::TooSlow => {
            let message = "the client was ended: it did not take what it has subscribed to";
            Failure::new(ErrorCode::Timeout, message)
        }
    }
}

fn closed() -> Failure {
    Failure::new(ErrorCode::ConnectionLost, "the client was ended by QUIT, CLIENT KILL or SHUTDOWN")
}

#[cfg(test)]
mod tests;
