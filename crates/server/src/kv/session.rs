//! The server's end of RESP, as a state machine that does no I/O.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use xferd_engine::{Effects, Event, Reachable, Session};
use xferd_kv::{EXPECTED_MAX, Persistence};
use xferd_os::net::Peer;
use xferd_os::{clock, scaled};
use xferd_wire::ErrorCode;
use xferd_wire::resp::{Replies, RequestParser};

use super::Kv;
use super::clients::Cut;
use super::conversation::{Conversation, Way, misconf};
use crate::connection::ServerOutcome;
use crate::log::HappeningKind;

/// Bytes of requests that have not come whole, on all connections of a server. Past it whoever sends more of one is cut.
pub const PENDING_BYTES_MAX: u64 = scaled(1 << 30);

/// Bytes of replies that wait for a peer before it is asked for no more requests: enough to keep a socket busy.
pub const REPLIES_BYTES_MAX: usize = scaled(256 << 10) as usize;

/// Room for replies that is made before they are known.
const REPLIES_BYTES_KEPT: usize = 4 << 10;

/// Memory that a request in parts may leave behind for the next one.
const PARTIAL_BYTES_KEPT: usize = 16 << 10;

/// One connection of a client that speaks RESP.
pub(crate) struct KvSession {
    conversation: Conversation,
    parser: RequestParser,
    /// What has come of a request that is not whole.
    partial: Vec<u8>,
    /// Replies that wait until what they say is recorded.
    held: Vec<u8>,
    /// Up to where the log is to be safe before they are sent.
    held_until: u64,
    /// Somebody sees to that.
    is_committing: bool,
    /// There are too many connections.
    is_refused: bool,
    /// Bytes that were answered the last time: about as many will be the next.
    answered: usize,
}

impl KvSession {
    pub(crate) fn new(kv: Arc<Kv>, peer: Peer) -> Self {
        let conversation = Conversation::new(kv, peer, Way::Resp);
        let mut parser = RequestParser::new();
        parser.set_authenticated(conversation.is_authenticated);
        Self {
            conversation,
            parser,
            partial: Vec::new(),
            held: Vec::new(),
            held_until: 0,
            is_committing: false,
            is_refused: false,
            answered: 0,
        }
    }

    /// A session that only says that there are too many.
    pub(crate) fn refusing(kv: Arc<Kv>, peer: Peer) -> Self {
        Self { is_refused: true, ..Self::new(kv, peer) }
    }

    /// Parses requests and carries them out until there is none, or enough was answered. How many bytes they were.
    fn serve(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut parser = mem::take(&mut self.parser);
        let (mut taken, start) = (0, out.len());
        let now_ms = self.conversation.kv.keyspace.now_ms();
        let mut clock = clock::now();
        let mut expected = 0;
        while taken < bytes.len() && !self.conversation.is_closing && out.len() - start < REPLIES_BYTES_MAX {
            let rest = bytes.get(taken..).unwrap_or_default();
            if taken >= expected {
                expected = taken + self.look_ahead(rest);
            }
            let mut request = mem::take(&mut self.partial);
            let before = request.len();
            // Most come whole, and are looked at where they are.
            let parsed = if before == 0 {
                parser.parse(rest)
            } else {
                let more = parser.wants(before).min(rest.len());
                request.extend_from_slice(rest.get(..more).unwrap_or_default());
                taken += more;
                parser.parse(&request)
            };
            match parsed {
                Ok(Some(len)) => {
                    let whole = if before == 0 { rest.get(..len).unwrap_or_default() } else { &request };
                    self.conversation.command(parser.args(whole), now_ms, &mut clock, out);
                    parser.set_authenticated(self.conversation.is_authenticated);
                    if before == 0 {
                        taken += len;
                    }
                    request.clear();
                    request.shrink_to(PARTIAL_BYTES_KEPT);
                    self.partial = request;
                    self.count_pending(before, 0);
                }
                Ok(None) => {
                    if before == 0 {
                        request.extend_from_slice(rest);
                        taken = bytes.len();
                    }
                    self.count_pending(before, request.len());
                    self.partial = request;
                    if self.conversation.kv.pending_bytes.load(Ordering::Relaxed) > PENDING_BYTES_MAX {
                        self.break_off("too much of requests that are not whole is kept", out);
                    }
                }
                Err(error) => {
                    self.count_pending(before, 0);
                    self.conversation.report(ErrorCode::Protocol, format!("connection closed: {error}"));
                    error.write(out);
                    self.conversation.is_closing = true;
                }
            }
        }
        self.parser = parser;
        if self.conversation.is_closing { bytes.len() } else { taken }
    }

    /// Has the keys of the requests that come next fetched from memory, if there are several. How many bytes those requests are.
    fn look_ahead(&self, bytes: &[u8]) -> usize {
        let mut keys: SmallVec<[&[u8]; EXPECTED_MAX]> = SmallVec::new();
        let mut len = 0;
        while let Some((request, key)) = bytes.get(len..).and_then(RequestParser::peek) {
            len += request;
            keys.push(key);
            if keys.len() == EXPECTED_MAX {
                break;
            }
        }
        if keys.len() > 1 {
            self.conversation.kv.keyspace.expect(keys);
        }
        len
    }

    fn count_pending(&self, before: usize, after: usize) {
        self.conversation.kv.count_pending(before, after);
    }

    fn break_off(&mut self, why: &str, out: &mut Vec<u8>) {
        self.conversation.report(ErrorCode::Busy, format!("connection closed: {why}"));
        Replies::new(out, self.conversation.version).error(format!("ERR {why}"));
        self.conversation.is_closing = true;
    }

    /// Sends what was answered, once it is as safe as it is to be, and ends the connection then if that is wanted.
    fn answer_with(&mut self, out: Vec<u8>, effects: &mut Effects<ServerOutcome>) {
        if let Some(persistence) = &self.conversation.kv.persistence {
            // Whoever only reads has to wait as well: he may be told of what somebody else has just written.
            let position = persistence.log().position();
            if self.is_committing || !persistence.log().is_committed(position) {
                self.held.extend_from_slice(&out);
                self.held_until = position;
                return self.commit(effects);
            }
        }
        if !out.is_empty() {
            effects.send_bytes(out.into());
        }
        if self.conversation.is_closing {
            effects.close();
        }
    }

    fn commit(&mut self, effects: &mut Effects<ServerOutcome>) {
        let Some(persistence) = &self.conversation.kv.persistence else { return };
        if !std::mem::replace(&mut self.is_committing, true) {
            let (log, position) = (persistence.log().clone(), self.held_until);
            effects.work(0, move || ServerOutcome::Committed(log.commit(position)));
        }
    }

    fn on_committed(&mut self, result: std::io::Result<()>, effects: &mut Effects<ServerOutcome>) {
        self.is_committing = false;
        if let Err(error) = result {
            // Nobody knows what the disk has of what was answered.
            self.held = Vec::new();
            let message = misconf(&error.to_string());
            self.conversation.report(ErrorCode::Io, format!("connection closed: {message}"));
            let mut out = Vec::new();
            Replies::new(&mut out, self.conversation.version).error(message);
            effects.send_bytes(out.into());
            self.conversation.is_closing = true;
            return effects.close();
        }
        let log = self.conversation.kv.persistence.as_ref().map(Persistence::log);
        if log.is_some_and(|log| !log.is_committed(self.held_until)) {
            return self.commit(effects);
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            effects.send_bytes(held.into());
        }
        if self.conversation.is_closing {
            return effects.close();
        }
        self.read_inbox(effects);
    }

    /// Sends what others had for it.
    fn read_inbox(&mut self, effects: &mut Effects<ServerOutcome>) {
        let is_congested = effects.is_congested();
        match self.conversation.client.end() {
            Some(Cut::TooSlow) => {
                let message = "connection closed: it does not read what it has subscribed to";
                self.conversation.report(ErrorCode::Timeout, message.into());
                return effects.abort();
            }
            // What it does not read would be waited for.
            Some(Cut::Killed) if is_congested => return effects.abort(),
            None if is_congested => return,
            // What it is told after it was answered may not come before the answer.
            _ if self.is_committing => return,
            Some(Cut::Killed) | None => {}
        }
        let (messages, end) = self.conversation.client.take();
        if !messages.is_empty() {
            effects.send_bytes(messages.into());
        }
        if end.is_some() {
            effects.close();
        }
    }
}

impl Session for KvSession {
    type Outcome = ServerOutcome;
    type Command = std::convert::Infallible;

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        let reach = place.reach();
        self.conversation.client.on_told(move || reach.nudge());
    }

    fn look_ahead<'a>(mut coming: impl Iterator<Item = (&'a Self, &'a [u8])>) {
        // One alone would be waited for all the same.
        let (Some(first), Some(second)) = (coming.next(), coming.next()) else { return };
        let keyspace = &first.0.conversation.kv.keyspace;
        let mut keys = [first, second].into_iter().chain(coming).filter_map(|(session, bytes)| {
            // Who has sent several looks ahead by himself.
            let (len, key) = RequestParser::peek(bytes)?;
            (len == bytes.len() && session.partial.is_empty()).then_some(key)
        });
        while let Some(key) = keys.next() {
            keyspace.expect([key].into_iter().chain(keys.by_ref().take(EXPECTED_MAX - 1)));
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Effects<ServerOutcome>) -> usize {
        let mut out = Vec::with_capacity(self.answered);
        let taken = self.serve(bytes, &mut out);
        self.answered = out.len().min(REPLIES_BYTES_KEPT);
        self.conversation.count(taken, out.len());
        self.answer_with(out, effects);
        taken
    }

    fn on_end(&mut self, effects: &mut Effects<ServerOutcome>) {
        // What it asked for before is still answered.
        self.conversation.is_closing = true;
        self.answer_with(Vec::new(), effects);
    }

    fn on_event(&mut self, event: Event<ServerOutcome, Self::Command>, effects: &mut Effects<ServerOutcome>) {
        match event {
            Event::Connected => {
                self.conversation.kv.metrics.connections.fetch_add(1, Ordering::Relaxed);
                self.conversation.kv.log.record(self.conversation.client.peer, HappeningKind::Accepted);
                if self.is_refused {
                    self.conversation.kv.metrics.refused.fetch_add(1, Ordering::Relaxed);
                    let mut out = Vec::new();
                    Replies::new(&mut out, self.conversation.version)
                        .error("ERR max number of clients reached");
                    effects.send_bytes(out.into());
                    self.conversation.is_closing = true;
                    effects.close();
                }
            }
            Event::Nudged | Event::Drained => self.read_inbox(effects),
            Event::Draining => {
                self.conversation.is_closing = true;
                self.answer_with(Vec::new(), effects);
            }
            Event::Stalled => {
                self.conversation
                    .report(ErrorCode::Timeout, "connection closed: nothing was heard for too long".into());
                effects.abort();
            }
            Event::Closed(_) => {
                self.conversation.end();
                self.conversation.kv.log.record(self.conversation.client.peer, HappeningKind::Closed);
                self.count_pending(self.partial.len(), 0);
            }
            Event::Command(never) => match never {},
            Event::Worked { outcome: ServerOutcome::Committed(result), .. } => {
                self.on_committed(result, effects)
            }
            Event::Worked { .. }
            | Event::Written { .. }
            | Event::Received { .. }
            | Event::Sent { .. }
            | Event::SourceShort { .. } => {}
        }
    }

    fn wants_bytes(&self) -> bool {
        !self.conversation.is_closing && self.held.len() < REPLIES_BYTES_MAX
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        match self.conversation.kv.idle() {
            _ if !self.partial.is_empty() => self.conversation.kv.patience,
            Some(idle) if self.conversation.subscriptions.len() == 0 => idle,
            _ => Duration::MAX,
        }
    }

    fn patience_while_sending(&self) -> Duration {
        self.conversation.kv.patience
    }

    fn kept_bytes(&self) -> u64 {
        (self.partial.capacity() + self.held.capacity() + self.conversation.kept_bytes()) as u64
    }

    fn rest(&mut self) -> bool {
        self.parser.rest();
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        self.conversation.rest();
        true
    }
}
