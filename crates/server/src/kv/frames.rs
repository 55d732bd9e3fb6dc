//! Keys on a connection that transfers files.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use xferd_engine::{Effects, Failure, Reach};
use xferd_os::clock;
use xferd_os::net::Peer;
use xferd_wire::limits::KV_REQUEST_BYTES_MAX;
use xferd_wire::resp::limits::{UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_BYTES_MAX};
use xferd_wire::{ErrorCode, Fault, KvArgs, KvPart, encode_kv, opcode};

use super::Kv;
use super::clients::Cut;
use super::conversation::{Conversation, Way, misconf};
use super::session::{PENDING_BYTES_MAX, REPLIES_BYTES_MAX};
use crate::connection::ServerOutcome;

/// Bytes of a request from somebody who has not said who he is: as many arguments as he may send, with their lengths.
const UNAUTHENTICATED_BYTES_MAX: usize = 4 + UNAUTHENTICATED_ARGS_MAX * (4 + UNAUTHENTICATED_BULK_BYTES_MAX);

/// One connection's part in the key-value store. It does no I/O; whoever has the connection calls it.
pub(crate) struct KvFrames {
    conversation: Conversation,
    reach: Option<Reach>,
    args: KvArgs,
    /// The request whose parts are coming, and what has come of it.
    partial: Option<(u32, Vec<u8>)>,
    /// Frames that answer what was said since the last [`KvFrames::answer`], bytes of that, and when it began: in milliseconds
    /// since 1970, and by the clock.
    out: Vec<u8>,
    said_bytes: usize,
    clock: Option<(u64, Instant)>,
    /// Frames that wait until what they say is recorded.
    held: Vec<u8>,
    /// Up to where the log is to be safe before they are sent.
    held_until: u64,
    /// Somebody sees to that, and says when it is done.
    is_committing: bool,
    is_done: Arc<AtomicBool>,
}

impl KvFrames {
    /// `reach` is how others reach the connection.
    pub(crate) fn new(kv: Arc<Kv>, peer: Peer, reach: Option<Reach>) -> Self {
        Self {
            conversation: converse(kv, peer, reach.clone()),
            reach,
            args: KvArgs::default(),
            partial: None,
            out: Vec::new(),
            said_bytes: 0,
            clock: None,
            held: Vec::new(),
            held_until: 0,
            is_committing: false,
            is_done: Arc::default(),
        }
    }

    /// Takes a part of a request, and carries that out if it is whole.
    ///
    /// # Errors
    /// Why the connection cannot go on.
    pub(crate) fn on_part(&mut self, request: u32, part: KvPart) -> Result<(), Failure> {
        let bytes = match self.partial.take() {
            None => part.bytes,
            Some((open, mut bytes)) if open == request => {
                self.count_pending(bytes.len(), 0);
                if bytes.len() + part.bytes.len() > KV_REQUEST_BYTES_MAX {
                    return Err(refused(&Fault::KvRequest));
                }
                bytes.extend_from_slice(&part.bytes);
                bytes
            }
            Some((open, bytes)) => {
                self.partial = Some((open, bytes));
                let message = format!("request {request} begins while parts of request {open} are to come");
                return Err(Failure::protocol(message));
            }
        };
        if !self.conversation.is_authenticated && bytes.len() > UNAUTHENTICATED_BYTES_MAX {
            return Err(too_much_of_a_stranger());
        }
        if !part.more {
            return self.command(request, &bytes);
        }
        self.count_pending(0, bytes.len());
        self.partial = Some((request, bytes));
        if self.conversation.kv.pending_bytes.load(Ordering::Relaxed) > PENDING_BYTES_MAX {
            let message = "too much of requests that are not whole is kept; try again later";
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        Ok(())
    }

    fn command(&mut self, request: u32, bytes: &[u8]) -> Result<(), Failure> {
        let args = self.args.read(bytes).map_err(|fault| refused(&fault))?;
        let is_long = args.len() > UNAUTHENTICATED_ARGS_MAX
            || args.iter().any(|arg| arg.len() > UNAUTHENTICATED_BULK_BYTES_MAX);
        if is_long && !self.conversation.is_authenticated {
            return Err(too_much_of_a_stranger());
        }
        let keyspace = &self.conversation.kv.keyspace;
        let (now_ms, clock) = self.clock.get_or_insert_with(|| (keyspace.now_ms(), clock::now()));
        encode_kv(opcode::KV_REPLY, request, &mut self.out, |out| {
            let start = out.len();
            self.conversation.command(args, *now_ms, clock, out);
            if out.len() == start {
                // SHUTDOWN says nothing, where nobody has to be told apart from others.
                out.extend_from_slice(b"+OK\r\n");
            }
        });
        self.said_bytes += bytes.len();
        if self.conversation.is_closing {
            self.begin_anew();
        }
        Ok(())
    }

    /// The conversation has ended, and the connection goes on.
    fn begin_anew(&mut self) {
        self.conversation.count(0, 0);
        let (kv, peer) = (self.conversation.kv.clone(), self.conversation.client.peer);
        mem::replace(&mut self.conversation, converse(kv, peer, self.reach.clone())).end();
    }

    /// Whether what was answered is to be sent before more is taken.
    pub(crate) fn has_enough(&self) -> bool {
        self.out.len() >= REPLIES_BYTES_MAX
    }

    /// Sends what was answered, once it is as safe as it is to be.
    pub(crate) fn answer(&mut self, effects: &mut Effects<ServerOutcome>) {
        self.clock = None;
        if self.out.is_empty() {
            return;
        }
        self.conversation.count(mem::take(&mut self.said_bytes), self.out.len());
        if let Some(persistence) = &self.conversation.kv.persistence {
            // Whoever only reads has to wait as well: he may be told of what somebody else has just written.
            let position = persistence.log().position();
            if self.is_committing || !persistence.log().is_committed(position) {
                self.held.append(&mut self.out);
                self.held_until = position;
                return self.commit();
            }
        }
        effects.send_bytes(mem::take(&mut self.out).into());
    }

    /// The work of a connection is done in its order, and files would wait for this. So another thread does it.
    fn commit(&mut self) {
        if !mem::replace(&mut self.is_committing, true) {
            let (is_done, reach) = (self.is_done.clone(), self.reach.clone());
            self.conversation.kv.commits.wait(self.held_until, move |_| {
                is_done.store(true, Ordering::Release);
                reach.iter().for_each(Reach::nudge);
            });
        }
    }

    /// Sends what has become safe, and what others had for it.
    ///
    /// # Errors
    /// Why the connection is to end.
    pub(crate) fn on_news(&mut self, effects: &mut Effects<ServerOutcome>) -> Result<(), Failure> {
        if self.is_done.swap(false, Ordering::Acquire) {
            self.is_committing = false;
            self.on_committed(effects)?;
        }
        let is_congested = effects.is_congested();
        match self.conversation.client.end() {
            Some(Cut::TooSlow) => {
                let message = "connection closed: it does not read what it has subscribed to";
                return Err(Failure::new(ErrorCode::Timeout, message));
            }
            // What it does not read would be waited for.
            Some(Cut::Killed) if is_congested || !self.is_committing => {
                return Err(Failure::new(ErrorCode::Aborted, "the connection was ended by CLIENT KILL"));
            }
            None if is_congested => return Ok(()),
            // What it is told after it was answered may not come before the answer.
            _ if self.is_committing => return Ok(()),
            _ => {}
        }
        let (messages, _) = self.conversation.client.take();
        if !messages.is_empty() {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&messages);
            effects.send_encoded(|out| encode_kv(opcode::KV_PUSH, 0, out, write));
        }
        Ok(())
    }

    fn on_committed(&mut self, effects: &mut Effects<ServerOutcome>) -> Result<(), Failure> {
        let Some(persistence) = &self.conversation.kv.persistence else { return Ok(()) };
        let log = persistence.log();
        if log.is_committed(self.held_until) {
            effects.send_bytes(mem::take(&mut self.held).into());
        } else if let Some(failure) = log.failure() {
            // Nobody knows what the disk has of what was answered.
            self.held = Vec::new();
            return Err(Failure::new(ErrorCode::Io, misconf(failure)));
        } else {
            self.commit();
        }
        Ok(())
    }

    /// Gives up the request whose parts are coming, if it is this one.
    pub(crate) fn cancel(&mut self, request: u32) -> bool {
        let is_it = self.has_part_of(request);
        if is_it {
            self.lose_partial();
        }
        is_it
    }

    /// Nothing more of a request comes that is not whole.
    pub(crate) fn lose_partial(&mut self) {
        if let Some((_, bytes)) = self.partial.take() {
            self.count_pending(bytes.len(), 0);
        }
    }

    /// Whether a part of it has come, and more is to come.
    pub(crate) fn has_part_of(&self, request: u32) -> bool {
        self.partial.as_ref().is_some_and(|(open, _)| *open == request)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.partial.is_none() && self.out.is_empty() && self.held.is_empty()
    }

    /// Whether it listens, and so may say nothing for as long as it likes.
    pub(crate) fn is_listening(&self) -> bool {
        self.conversation.client.is_listening()
    }

    /// Whether it has said so much that waits for the log that no more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.held.len() >= REPLIES_BYTES_MAX
    }

    /// Bytes that it remembers.
    pub(crate) fn kept_bytes(&self) -> u64 {
        let partial = self.partial.as_ref().map_or(0, |(_, bytes)| bytes.capacity());
        (partial + self.out.capacity() + self.held.capacity() + self.conversation.kept_bytes()) as u64
    }

    /// Gives back memory that is not needed while nothing is said.
    pub(crate) fn rest(&mut self) {
        self.conversation.rest();
        self.args.rest();
        self.out.shrink_to_fit();
        self.held.shrink_to_fit();
    }

    fn count_pending(&self, before: usize, after: usize) {
        self.conversation.kv.count_pending(before, after);
    }
}

impl Drop for KvFrames {
    fn drop(&mut self) {
        self.lose_partial();
        self.conversation.end();
    }
}

fn converse(kv: Arc<Kv>, peer: Peer, reach: Option<Reach>) -> Conversation {
    let conversation = Conversation::new(kv, peer, Way::Frames);
    conversation.client.on_told(move || reach.iter().for_each(Reach::nudge));
    conversation
}

fn refused(fault: &Fault) -> Failure {
    Failure::new(fault.code(), fault.to_string())
}

fn too_much_of_a_stranger() -> Failure {
    let message = format!(
        "before AUTH a command has at most {UNAUTHENTICATED_ARGS_MAX} arguments of at most {UNAUTHENTICATED_BULK_BYTES_MAX} bytes"
    );
    Failure::new(ErrorCode::Limit, message)
}
