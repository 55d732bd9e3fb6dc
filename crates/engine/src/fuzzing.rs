//! What fuzz targets need to play the shard, and nobody else: only there with `--cfg fuzzing`.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use xferd_os::Sink;
use xferd_os::net::Address;
use xferd_reactor::{Driver, Job, Limits, MioDriver};
use xferd_store::Hasher;
use xferd_wire::limits::EXTENT_BYTES_MAX;

use crate::mailbox::{Mailbox, Message};
use crate::session::{Effect, Effects, End, Event, SendSource, Session};
use crate::work::{Backlog, Batch};

/// Connections that one played shard opens; commands that need more are dropped.
const CONNECTIONS_MAX: usize = 32;

/// One connection whose shard, workers, kernel and peer are played by hand: what its session asks for waits here until
/// it is let happen, in any order that a real shard could let it happen in.
///
/// Each step returns whether there was anything to do. What no session may do is asserted.
pub trait Connection {
    /// The peer says this.
    fn hear(&mut self, bytes: &[u8]);
    /// At most `max` of the bytes that the peer said reach the session, or whatever they are for.
    fn feed(&mut self, max: usize) -> bool;
    /// The extent that has come whole is in its file, or could not be written.
    fn land(&mut self, failed: bool) -> bool;
    /// The next batch of work is done.
    fn work(&mut self) -> bool;
    /// The session hears of it.
    fn report(&mut self) -> bool;
    /// At most `max` bytes leave; they are appended to `wire`.
    fn leave(&mut self, max: usize, wire: &mut Vec<u8>) -> bool;
    /// Nothing has moved for too long.
    fn stall(&mut self);
    /// Something shared has changed.
    fn nudge(&mut self);
    /// The process is about to stop.
    fn drain(&mut self);
    /// The peer says nothing more.
    fn hang_up(&mut self);
    /// The connection is gone. What work was asked for is still done.
    fn end(&mut self, end: End);
    /// Whether it is closed, or closes once everything has left.
    fn is_over(&self) -> bool;
    /// Bytes that the peer said and that nobody took.
    fn unheard_bytes(&self) -> usize;
    /// Bytes for the peer that have not left.
    fn queued_bytes(&self) -> u64;
}

/// [`Connection`] with a session of any kind.
pub struct Played<S: Session> {
    session: S,
    effects: Effects<S::Outcome>,
    input: VecDeque<u8>,
    intake: Option<Intake>,
    discard: u64,
    works: Backlog<S::Outcome>,
    outcomes: Option<Batch<S::Outcome>>,
    outbox: VecDeque<Outgoing>,
    queued_bytes: u64,
    congested: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Sends what is queued, takes nothing any more.
    Flushing,
    Ended,
}

struct Intake {
    key: u32,
    sink: Arc<Sink>,
    offset: u64,
    left: u64,
    hasher: Option<Hasher>,
}

enum Outgoing {
    Bytes(VecDeque<u8>),
    Extent { key: u32, source: SendSource, offset: u64, left: u64 },
    Zeros(u64),
}

impl<S: Session> Played<S> {
    /// A connection that is up.
    pub fn connected(session: S) -> Self {
        let mut played = Self {
            session,
            effects: Effects::default(),
            input: VecDeque::new(),
            intake: None,
            discard: 0,
            works: Backlog::default(),
            outcomes: None,
            outbox: VecDeque::new(),
            queued_bytes: 0,
            congested: false,
            phase: Phase::Open,
        };
        played.tell(Event::Connected);
        played
    }

    /// The session.
    pub fn session(&self) -> &S {
        &self.session
    }

    fn tell(&mut self, event: Event<S::Outcome, S::Command>) {
        if self.phase == Phase::Open {
            self.effects.queued_bytes = self.queued_bytes;
            self.session.on_event(event, &mut self.effects);
            self.apply();
        }
    }

    fn apply(&mut self) {
        for effect in self.effects.take() {
            match effect {
                Effect::Send(bytes) => {
                    let bytes = bytes.remaining();
                    self.count(bytes.len() as u64);
                    self.outbox.push_back(Outgoing::Bytes(bytes.to_vec().into()));
                }
                Effect::SendExtent { key, source, offset, len } => {
                    assert!((1..=EXTENT_BYTES_MAX).contains(&len), "an extent of {len} bytes");
                    self.count(len);
                    self.outbox.push_back(Outgoing::Extent { key, source, offset, left: len });
                }
                Effect::Receive { key, sink, offset, len, hasher } => {
                    assert!(self.intake.is_none() && self.discard == 0, "one extent at a time");
                    assert!((1..=EXTENT_BYTES_MAX).contains(&len), "an extent of {len} bytes");
                    self.intake = Some(Intake { key, sink, offset, left: len, hasher });
                }
                Effect::Discard { len } => {
                    assert!(self.intake.is_none() && self.discard == 0, "one extent at a time");
                    self.discard += len;
                }
                Effect::Work { key, work } => self.works.push(key, work),
                Effect::Close { flush: true } if self.phase == Phase::Open => {
                    self.phase = Phase::Flushing;
                    self.intake = None;
                    self.discard = 0;
                }
                Effect::Close { flush: true } => {}
                Effect::Close { flush: false } => self.end(End::Closed),
            }
        }
    }

    fn count(&mut self, bytes: u64) {
        self.queued_bytes += bytes;
        self.congested |= self.queued_bytes >= Effects::<()>::SEND_QUEUE_HIGH_BYTES;
    }

    fn takes_bytes(&self) -> bool {
        self.phase == Phase::Open
            && self.held_bytes() < Effects::<()>::SEND_QUEUE_HIGH_BYTES as usize
            && !self.works.is_full(false)
            && self.session.wants_bytes()
    }

    fn held_bytes(&self) -> usize {
        let held = |part: &Outgoing| match part {
            Outgoing::Bytes(bytes) => bytes.len(),
            Outgoing::Extent { .. } | Outgoing::Zeros(_) => 0,
        };
        self.outbox.iter().map(held).sum()
    }
}

impl<S: Session> Connection for Played<S> {
    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
    }

    fn feed(&mut self, max: usize) -> bool {
        let mut bytes: Vec<u8> = self.input.iter().copied().take(max).collect();
        if self.phase != Phase::Open || bytes.is_empty() {
            return false;
        }
        if self.discard > 0 {
            bytes.truncate(usize::try_from(self.discard).unwrap_or(usize::MAX));
            self.discard -= bytes.len() as u64;
        } else if let Some(intake) = &mut self.intake {
            if intake.left == 0 {
                return false;
            }
            bytes.truncate(usize::try_from(intake.left).unwrap_or(usize::MAX));
            // Whether it could be written is said by `land`.
            let _ = intake.sink.write_all_at(&bytes, intake.offset);
            if let Some(hasher) = &mut intake.hasher {
                hasher.update(&bytes);
            }
            intake.offset += bytes.len() as u64;
            intake.left -= bytes.len() as u64;
            let (key, written) = (intake.key, bytes.len() as u64);
            self.tell(Event::Written { key, bytes: written });
        } else if self.takes_bytes() {
            self.effects.queued_bytes = self.queued_bytes;
            let taken = self.session.on_bytes(&bytes, &mut self.effects);
            assert!((1..=bytes.len()).contains(&taken), "a session that wants bytes takes some");
            bytes.truncate(taken);
            self.apply();
        } else {
            return false;
        }
        self.input.drain(..bytes.len());
        true
    }

    fn land(&mut self, failed: bool) -> bool {
        let Some(Intake { key, hasher, .. }) = self.intake.take_if(|intake| intake.left == 0) else {
            return false;
        };
        let result = if failed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        self.tell(Event::Received { key, hasher, result });
        true
    }

    fn work(&mut self) -> bool {
        if self.outcomes.is_some() || self.works.is_empty() {
            return false;
        }
        let mut batch = self.works.next_batch();
        batch.run();
        self.outcomes = Some(batch);
        true
    }

    fn report(&mut self) -> bool {
        let Some(batch) = self.outcomes.take() else { return false };
        for (key, outcome) in batch.done {
            self.tell(Event::Worked { key, outcome });
        }
        true
    }

    fn leave(&mut self, max: usize, wire: &mut Vec<u8>) -> bool {
        if self.phase == Phase::Ended {
            return false;
        }
        let Some(front) = self.outbox.front_mut() else {
            if self.phase == Phase::Flushing {
                self.end(End::Closed);
                return true;
            }
            return false;
        };
        let (left, event) = match front {
            Outgoing::Bytes(bytes) => {
                let moved = max.min(bytes.len());
                wire.extend(bytes.drain(..moved));
                self.queued_bytes -= moved as u64;
                (bytes.len() as u64, None)
            }
            Outgoing::Extent { key, source, offset, left } => {
                let key = *key;
                let mut bytes = vec![0; max.min(usize::try_from(*left).unwrap_or(usize::MAX))];
                let moved = match source {
                    SendSource::File(file) => file.read_at(&mut bytes, *offset).unwrap_or(0),
                    SendSource::Mapping(_) => unreachable!("nothing is mapped here"),
                };
                wire.extend_from_slice(&bytes[..moved]);
                self.queued_bytes -= moved as u64;
                *offset += moved as u64;
                *left -= moved as u64;
                let left = *left;
                if moved == 0 {
                    *front = Outgoing::Zeros(left);
                    (left, Some(Event::SourceShort { key }))
                } else {
                    (left, Some(Event::Sent { key, bytes: moved as u64 }))
                }
            }
            Outgoing::Zeros(left) => {
                let moved = max.min(usize::try_from(*left).unwrap_or(usize::MAX));
                wire.resize(wire.len() + moved, 0);
                self.queued_bytes -= moved as u64;
                *left -= moved as u64;
                (*left, None)
            }
        };
        if left == 0 {
            self.outbox.pop_front();
        }
        if let Some(event) = event {
            self.tell(event);
        }
        if self.congested && self.queued_bytes < Effects::<()>::SEND_QUEUE_LOW_BYTES {
            self.congested = false;
            self.tell(Event::Drained);
        }
        true
    }

    fn stall(&mut self) {
        self.tell(Event::Stalled);
    }

    fn nudge(&mut self) {
        self.tell(Event::Nudged);
    }

    fn drain(&mut self) {
        self.tell(Event::Draining);
    }

    fn hang_up(&mut self) {
        if self.phase == Phase::Open {
            self.intake = None;
            self.effects.queued_bytes = self.queued_bytes;
            self.session.on_end(&mut self.effects);
            self.apply();
        }
    }

    fn end(&mut self, end: End) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.effects.list.clear();
        self.session.on_event(Event::Closed(end), &mut self.effects);
        for effect in self.effects.take() {
            if let Effect::Work { key, work } = effect {
                self.works.push(key, work);
            }
        }
        self.intake = None;
        self.outbox.clear();
    }

    fn is_over(&self) -> bool {
        self.phase != Phase::Open
    }

    fn unheard_bytes(&self) -> usize {
        self.input.len()
    }

    fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }
}

/// A mailbox whose shard is played by [`read_mail`].
///
/// # Errors
/// What the kernel answers to making a driver, which is only there to be woken.
pub fn mailbox<S: Session>() -> io::Result<Mailbox<S>> {
    let driver = MioDriver::<Batch<S::Outcome>>::new(Limits::default(), None)?;
    Ok(Mailbox::new(driver.waker(), Arc::default()))
}

/// Does what a shard does with its mail. What is to be done later is done now: time is whatever a target makes it.
pub fn read_mail<S: Session>(mailbox: &Mailbox<S>, connections: &mut Vec<Played<S>>) {
    while let Some(message) = mailbox.take() {
        match message {
            Message::Adopt(..) => unreachable!("there are no sockets here"),
            Message::Dispatch(command, address, fresh) => dispatch(command, address, *fresh, connections),
            Message::DispatchAfter(_, command, address, fresh) if S::is_wanted(&command) => {
                dispatch(command, address, *fresh, connections);
            }
            Message::DispatchAfter(..) => {}
        }
    }
    if mailbox.take_nudge() {
        connections.iter_mut().for_each(Connection::nudge);
    }
}

/// Does what a shard does with its mail when it ends.
pub fn end_mail<S: Session>(mailbox: &Mailbox<S>) {
    mailbox.close();
}

fn dispatch<S: Session>(command: S::Command, _: Address, fresh: S, connections: &mut Vec<Played<S>>) {
    let takes = |played: &&mut Played<S>| {
        let is_free = S::is_beside(&command) || played.session.is_idle();
        played.phase == Phase::Open && is_free && played.session.takes(&command)
    };
    if let Some(taker) = connections.iter_mut().find(takes) {
        return taker.tell(Event::Command(command));
    }
    if connections.len() < CONNECTIONS_MAX {
        let mut played = Played::connected(fresh);
        played.tell(Event::Command(command));
        connections.push(played);
    }
}
