//! The client's end of RESP, as a state machine that does no I/O.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use xferd_engine::{Effects, End, Event, Failure, Reach, Reachable, Session};
use xferd_os::clock;
use xferd_wire::ErrorCode;
use xferd_wire::resp::encode_request;

use super::berth::Berth;
use super::call::Call;
use super::client::CLOSED;
use super::dialer::Dialer;
use super::framing::Framing;
use super::lease::LINE_CLOSED;
use crate::unreachable::{SERVE_KEYS, unreachable};

/// How long a server may take to connect and let us in, at most.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection of the pool is kept that nobody uses.
const IDLE_PATIENCE: Duration = Duration::from_secs(3600);

/// How long one is kept that was given back.
const SPARE_PATIENCE: Duration = Duration::from_secs(60);

/// One connection to a server of keys.
pub(crate) struct KvSession {
    dialer: Arc<Dialer>,
    /// None if nobody uses it.
    berth: Option<Berth>,
    phase: Phase,
    reach: Option<Reach>,
    /// What was sent, in the order in which it is answered.
    calls: VecDeque<Call>,
    framing: Framing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connecting, or waiting for so many answers to our greeting.
    Greeting(usize),
    Open,
    /// What comes until this is confirmed was meant for somebody who has left.
    Resetting,
    Closed,
}

type Fx = Effects<()>;

impl Session for KvSession {
    type Outcome = ();
    type Command = Berth;

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Fx) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.phase != Phase::Closed {
            if let Err(failure) = self.take_in(&mut rest, effects) {
                self.give_up(&failure, effects);
            }
        }
        bytes.len()
    }

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        self.reach = Some(place.reach());
    }

    fn on_event(&mut self, event: Event<(), Berth>, effects: &mut Fx) {
        match event {
            Event::Connected => effects.send_encoded(|out| self.dialer.greeting.write(out)),
            Event::Command(berth) => {
                self.berth = Some(berth);
                if self.phase == Phase::Open {
                    self.open(effects);
                }
            }
            Event::Nudged | Event::Drained => self.go_on(effects),
            Event::Stalled => self.on_stalled(effects),
            Event::Draining => effects.abort(),
            Event::Closed(end) => self.on_closed(end),
            Event::Worked { .. }
            | Event::Written { .. }
            | Event::Received { .. }
            | Event::Sent { .. }
            | Event::SourceShort { .. } => {}
        }
    }

    fn wants_bytes(&self) -> bool {
        self.berth.as_ref().and_then(Berth::lease).is_none_or(|lease| lease.wants_more())
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.berth.is_none()
    }

    fn patience(&self) -> Duration {
        let lease = self.berth.as_ref().map(Berth::lease);
        match (self.phase, lease) {
            (Phase::Greeting(_), _) => self.dialer.patience.min(GREETING_PATIENCE),
            _ if !self.wants_bytes() => IDLE_PATIENCE,
            _ if !self.calls.is_empty() => self.dialer.patience,
            (Phase::Open, None) => SPARE_PATIENCE.min(self.dialer.patience),
            (Phase::Open, Some(Some(lease))) if !lease.listens() => IDLE_PATIENCE,
            (Phase::Open, Some(None)) => IDLE_PATIENCE,
            _ => self.dialer.patience,
        }
    }

    fn reads_while_sending(&self) -> bool {
        // Replies to what was sent before may be all that keeps the server from taking more.
        true
    }

    fn rest(&mut self) -> bool {
        if self.calls.is_empty() {
            self.calls = VecDeque::new();
        }
        true
    }
}

impl KvSession {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        let phase = Phase::Greeting(dialer.greeting.answers());
        Self { dialer, berth: None, phase, reach: None, calls: VecDeque::new(), framing: Framing::default() }
    }

    /// As [`Session::on_reachable`].
    pub(crate) fn set_reach(&mut self, reach: Option<Reach>) {
        self.reach = reach;
    }

    /// Whether the connection is somebody's alone.
    pub(crate) fn is_leased(&self) -> bool {
        self.berth.as_ref().and_then(Berth::lease).is_some()
    }

    /// Takes the next reply that has come, or the beginning of one.
    fn take_in(&mut self, bytes: &mut &[u8], effects: &mut Fx) -> Result<(), Failure> {
        let reply = self.framing.next(bytes).map_err(|error| {
            Failure::protocol(format!("{} does not answer as a key-value store: {error}", self.dialer.url()))
        })?;
        match reply {
            Some(reply) => self.on_value(reply, effects),
            None if self.framing.partial_bytes() > self.dialer.replies_bytes_max => Err(self.too_much()),
            None => Ok(()),
        }
    }

    fn on_value(&mut self, value: Cow<'_, [u8]>, effects: &mut Fx) -> Result<(), Failure> {
        let is_push = value.first() == Some(&b'>');
        match self.phase {
            Phase::Open if !is_push => self.on_reply(value),
            Phase::Open => self.on_unasked(&value),
            Phase::Greeting(left) => {
                let left = left.saturating_sub(1);
                let judged = self.dialer.greeting.judge(&value, left, &self.dialer.url());
                judged.inspect_err(|failure| self.dialer.note(failure))?;
                self.phase = Phase::Greeting(left);
                if left == 0 {
                    self.open(effects);
                }
                Ok(())
            }
            Phase::Resetting => {
                if *value == *b"+RESET\r\n" {
                    self.phase = Phase::Greeting(self.dialer.greeting.answers());
                }
                Ok(())
            }
            Phase::Closed => Ok(()),
        }
    }

    fn on_reply(&mut self, reply: Cow<'_, [u8]>) -> Result<(), Failure> {
        let Some(call) = self.calls.front_mut() else { return self.on_unasked(&reply) };
        if !call.take(reply, self.dialer.replies_bytes_max) {
            return Err(self.too_much());
        }
        if call.is_answered() {
            if let Some(call) = self.calls.pop_front() {
                self.settle(&call);
                call.finish();
            }
        }
        Ok(())
    }

    fn on_unasked(&mut self, value: &[u8]) -> Result<(), Failure> {
        match self.berth.as_ref().map(Berth::lease) {
            Some(Some(lease)) => lease.hear(value),
            // Somebody has subscribed to something without leasing a connection for it; nobody listens.
            Some(None) if value.first() == Some(&b'>') => {}
            _ => {
                let said = String::from_utf8_lossy(value.get(..SAID_BYTES_MAX).unwrap_or(value))
                    .trim_end()
                    .to_owned();
                let message = format!("{}: the server answered what nobody asked: {said}", self.dialer.url());
                return Err(Failure::protocol(message));
            }
        }
        Ok(())
    }

    /// The server has let us in, or somebody takes over a connection that is open.
    fn open(&mut self, effects: &mut Fx) {
        self.phase = Phase::Open;
        match &self.berth {
            Some(berth) if !berth.open(self.reach.clone()) => self.berth = None,
            _ => self.go_on(effects),
        }
    }

    /// Sends what waits, or lets go of who has left.
    fn go_on(&mut self, effects: &mut Fx) {
        if self.phase != Phase::Open {
            return;
        }
        if self.berth.as_ref().is_some_and(Berth::is_over) {
            return self.reset(effects);
        }
        while !effects.is_congested() {
            let Some(mut call) = self.berth.as_ref().and_then(Berth::line).and_then(|line| line.next())
            else {
                return;
            };
            effects.send_bytes(call.send().into());
            if call.is_answered() {
                // It is answered by pushes, if at all.
                self.settle(&call);
                call.finish();
            } else {
                self.calls.push_back(call);
            }
        }
    }

    /// Makes the connection as good as a new one.
    fn reset(&mut self, effects: &mut Fx) {
        let failure = Failure::new(ErrorCode::Aborted, LINE_CLOSED);
        for call in mem::take(&mut self.calls) {
            call.cut(&failure);
        }
        self.berth = None;
        self.phase = Phase::Resetting;
        effects.send_encoded(|out| {
            encode_request(["RESET"], out);
            self.dialer.greeting.write(out);
        });
    }

    fn settle(&self, call: &Call) {
        if let Some(line) = self.berth.as_ref().and_then(Berth::line) {
            line.done(call);
        }
    }

    fn on_stalled(&mut self, effects: &mut Fx) {
        let listens = self.berth.as_ref().and_then(Berth::lease).map(|lease| lease.listens());
        match (self.phase, listens) {
            (Phase::Open, _) if !self.wants_bytes() => {}
            (Phase::Open, Some(true)) if self.calls.is_empty() => {
                // Who only listens would never hear that the server is gone.
                let mut ping = Vec::new();
                encode_request(["PING"], &mut ping);
                let mut ping = Call::of_our_own(ping, clock::now());
                effects.send_bytes(ping.send().into());
                self.calls.push_back(ping);
            }
            (Phase::Open, Some(false)) if self.calls.is_empty() => {}
            (Phase::Open | Phase::Resetting, None) if self.calls.is_empty() => effects.abort(),
            _ => {
                let seconds = self.patience().as_secs_f64();
                let message = format!("{}: nothing was heard for {seconds} s; try again", self.dialer.url());
                self.give_up(&Failure::new(ErrorCode::Timeout, message), effects);
            }
        }
    }

    fn too_much(&self) -> Failure {
        let message = format!(
            "{}: a call was answered by more than {} bytes; ask for less at once",
            self.dialer.url(),
            self.dialer.replies_bytes_max
        );
        Failure::new(ErrorCode::Limit, message)
    }

    fn give_up(&mut self, failure: &Failure, effects: &mut Fx) {
        if failure.code == ErrorCode::Limit {
            self.fail_first(failure);
        } else {
            self.fail(failure);
        }
        effects.abort();
    }

    /// Fails because of the call that is answered next, or would be.
    pub(crate) fn fail_first(&mut self, failure: &Failure) {
        let call = self.calls.pop_front();
        self.fail_because_of(call, failure);
    }

    /// Fails because of the call that was sent last.
    pub(crate) fn fail_last(&mut self, failure: &Failure) {
        let call = self.calls.pop_back();
        self.fail_because_of(call, failure);
    }

    /// The others only lose their connection by it.
    fn fail_because_of(&mut self, call: Option<Call>, failure: &Failure) {
        self.fail(&self.lost("it was closed because of another call"));
        if let Some(call) = call {
            call.cut(failure);
        }
    }

    fn lost(&self, why: &str) -> Failure {
        let message = format!(
            "the connection to {} was lost ({why}); whatever was not answered may have been done or not",
            self.dialer.url()
        );
        Failure::new(ErrorCode::ConnectionLost, message)
    }

    fn on_closed(&mut self, end: End) {
        let was_open = self.phase == Phase::Open;
        let url = self.dialer.url();
        let failure = match end {
            End::Stopped => Failure::new(ErrorCode::Aborted, CLOSED),
            End::Closed => self.lost("the server closed it"),
            End::Broken(error) if was_open => self.lost(&error.to_string()),
            End::Broken(error) => unreachable(&url, SERVE_KEYS, &error),
        };
        self.fail(&failure);
    }

    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.phase = Phase::Closed;
        // Whoever is told and calls again gets another connection.
        if let Some(berth) = self.berth.take() {
            berth.lose(failure);
        }
        for call in mem::take(&mut self.calls) {
            call.cut(failure);
        }
    }
}

/// Bytes of what nobody asked for that are told of it.
const SAID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
