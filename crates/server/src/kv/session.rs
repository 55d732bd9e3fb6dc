//! The server's end of RESP, as a state machine that does no I/O.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use xferd_engine::{Effects, Event, Failure, Reachable, Session};
use xferd_kv::commands::{self, COMMANDS};
use xferd_kv::{Command, Flags, Locked, Persistence, Refused};
use xferd_os::net::Peer;
use xferd_os::{clock, scaled};
use xferd_wire::ErrorCode;
use xferd_wire::resp::{Args, Replies, RequestParser, Version, is_http};

use super::Kv;
use super::clients::{Client, Cut};
use super::metrics::Batch;
use super::pubsub::Subscriptions;
use super::transaction::Transaction;
use crate::connection::ServerOutcome;
use crate::log::HappeningKind;

/// Bytes of requests that have not come whole, on all connections of a server. Past it whoever sends more of one is cut.
pub const PENDING_BYTES_MAX: u64 = scaled(1 << 30);

/// Bytes of replies that wait for a peer before it is asked for no more requests: enough to keep a socket busy.
pub const REPLIES_BYTES_MAX: usize = scaled(256 << 10) as usize;

/// Memory that a request in parts may leave behind for the next one.
const PARTIAL_BYTES_KEPT: usize = 16 << 10;

/// How long the rest of a request may take, and a peer to read what was sent.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection of a client that speaks RESP.
pub(crate) struct KvSession {
    pub(super) kv: Arc<Kv>,
    pub(super) client: Arc<Client>,
    parser: RequestParser,
    /// What has come of a request that is not whole.
    partial: Vec<u8>,
    pub(super) version: Version,
    pub(super) database: u8,
    pub(super) is_authenticated: bool,
    pub(super) transaction: Transaction,
    pub(super) subscriptions: Subscriptions,
    /// What it says from here on is of no interest.
    pub(super) is_closing: bool,
    /// Replies that wait until what they say is recorded.
    held: Vec<u8>,
    /// Up to where the log is to be safe before they are sent.
    held_until: u64,
    /// Somebody sees to that.
    is_committing: bool,
    /// There are too many connections.
    is_refused: bool,
    batch: Batch,
}

impl KvSession {
    pub(crate) fn new(kv: Arc<Kv>, peer: Peer) -> Self {
        let client = kv.clients.add(peer);
        let is_authenticated = !kv.auth.is_required();
        let mut parser = RequestParser::new();
        parser.set_authenticated(is_authenticated);
        Self {
            kv,
            client,
            parser,
            partial: Vec::new(),
            version: Version::default(),
            database: 0,
            is_authenticated,
            transaction: Transaction::default(),
            subscriptions: Subscriptions::default(),
            is_closing: false,
            held: Vec::new(),
            held_until: 0,
            is_committing: false,
            is_refused: false,
            batch: Batch::default(),
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
        let now_ms = self.kv.keyspace.now_ms();
        let mut clock = clock::now();
        while taken < bytes.len() && !self.is_closing && out.len() - start < REPLIES_BYTES_MAX {
            let rest = bytes.get(taken..).unwrap_or_default();
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
                    self.command(parser.args(whole), now_ms, &mut clock, out);
                    parser.set_authenticated(self.is_authenticated);
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
                    if self.kv.pending_bytes.load(Ordering::Relaxed) > PENDING_BYTES_MAX {
                        self.break_off("too much of requests that are not whole is kept", out);
                    }
                }
                Err(error) => {
                    self.count_pending(before, 0);
                    self.report(ErrorCode::Protocol, format!("connection closed: {error}"));
                    error.write(out);
                    self.is_closing = true;
                }
            }
        }
        self.parser = parser;
        if self.is_closing { bytes.len() } else { taken }
    }

    fn count_pending(&self, before: usize, after: usize) {
        if before != after {
            self.kv.pending_bytes.fetch_add((after as u64).wrapping_sub(before as u64), Ordering::Relaxed);
        }
    }

    fn break_off(&mut self, why: &str, out: &mut Vec<u8>) {
        self.report(ErrorCode::Busy, format!("connection closed: {why}"));
        Replies::new(out, self.version).error(format!("ERR {why}"));
        self.is_closing = true;
    }

    /// Answers one request at `now_ms`, in milliseconds since 1970 as deadlines are meant, and notes how long that took from `clock` on.
    fn command(&mut self, args: Args<'_>, now_ms: u64, clock: &mut Instant, out: &mut Vec<u8>) {
        let Some(name) = args.get(0) else { return };
        let index = commands::position(name);
        let command = index.and_then(|index| COMMANDS.get(index));
        let admitted =
            command.ok_or_else(|| unknown_command(args)).and_then(|command| self.admit(command, args));
        let (index, command) = match admitted {
            Ok(command) => (index.unwrap_or_default(), command),
            Err(_) if is_http(args) => {
                self.is_closing = true;
                return self.report(
                    ErrorCode::Protocol,
                    "connection closed: this is an HTTP request, and here is the key-value store".into(),
                );
            }
            Err(refused) => {
                let is_exec = command.is_some_and(|command| command.name == "exec");
                let refused = if is_exec { self.abort_exec(&refused) } else { refused };
                return self.refuse(refused, out);
            }
        };
        let start = out.len();
        if self.transaction.is_open() && !command.flags.has(Flags::NO_MULTI) {
            self.transaction.queue(command, args, out);
            self.client.queued.store(self.transaction.len(), Ordering::Relaxed);
            return;
        }
        self.kv.clients.tell_monitors(|| self.monitor_line(args));
        self.execute(command, args, now_ms, None, out);
        let now = clock::now();
        let took = now.saturating_duration_since(mem::replace(clock, now));
        self.client.note_command(command.name, now_ms);
        self.batch.add(index, took, out.get(start) == Some(&b'-'));
        if self.kv.slowlog.wants(took) && command.name != "exec" {
            let name = self.client.name().unwrap_or_default();
            self.kv.slowlog.note(took, args, self.client.peer.to_string(), name.into());
        }
    }

    /// Whether the connection may say this now.
    fn admit(&self, command: &'static Command, args: Args<'_>) -> Result<&'static Command, Refused> {
        command.admit(args)?;
        if let (true, Some(persistence)) = (command.flags.has(Flags::WRITE), &self.kv.persistence) {
            if let Some(failure) = persistence.log().failure() {
                return Err(Refused::Told(misconf(failure)));
            }
        }
        if !self.is_authenticated && !command.flags.has(Flags::NO_AUTH) {
            return Err(Refused::Other("NOAUTH Authentication required."));
        }
        if self.version == Version::Resp2 && self.subscriptions.len() > 0 && !is_for_listeners(command.name) {
            return Err(Refused::Told(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                command.name
            )));
        }
        Ok(command)
    }

    fn refuse(&mut self, refused: Refused, out: &mut Vec<u8>) {
        self.transaction.spoil();
        self.kv.metrics.errors.fetch_add(1, Ordering::Relaxed);
        Replies::new(out, self.version).error(refused.to_string());
    }

    /// Carries out a command: on its own, or on what is locked already for several.
    pub(super) fn execute(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        now_ms: u64,
        locked: Option<&mut Locked<'_>>,
        out: &mut Vec<u8>,
    ) {
        match (command.run.is_some(), locked) {
            (true, None) => {
                let mut replies = Replies::new(out, self.version);
                command.execute(&self.kv.keyspace, self.database, now_ms, args, &mut replies);
            }
            (true, Some(locked)) => {
                command.execute_locked(locked, args, &mut Replies::new(out, self.version))
            }
            (false, locked) => {
                let start = out.len();
                if let Err(refused) = self.connection_command(command, args, now_ms, locked, out) {
                    out.truncate(start);
                    Replies::new(out, self.version).error(refused.to_string());
                }
            }
        }
    }

    /// Tells who runs the server.
    pub(super) fn report(&self, code: ErrorCode, message: String) {
        let failure = Failure::new(code, message);
        self.kv.log.record(self.client.peer, HappeningKind::Failed { path: None, failure });
    }

    /// As MONITOR tells it.
    fn monitor_line(&self, args: Args<'_>) -> Vec<u8> {
        let since = clock::system_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mut line = format!(
            "+{}.{:06} [{} {}]",
            since.as_secs(),
            since.subsec_micros(),
            self.database,
            self.client.peer
        )
        .into_bytes();
        for arg in args.iter() {
            line.extend_from_slice(b" \"");
            line.extend(arg.iter().flat_map(|byte| byte.escape_ascii()));
            line.push(b'"');
        }
        line.extend_from_slice(b"\r\n");
        line
    }

    /// Sends what was answered, once it is as safe as it is to be, and ends the connection then if that is wanted.
    fn answer_with(&mut self, out: Vec<u8>, effects: &mut Effects<ServerOutcome>) {
        if let Some(persistence) = &self.kv.persistence {
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
        if self.is_closing {
            effects.close();
        }
    }

    fn commit(&mut self, effects: &mut Effects<ServerOutcome>) {
        let Some(persistence) = &self.kv.persistence else { return };
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
            self.report(ErrorCode::Io, format!("connection closed: {message}"));
            let mut out = Vec::new();
            Replies::new(&mut out, self.version).error(message);
            effects.send_bytes(out.into());
            self.is_closing = true;
            return effects.close();
        }
        let log = self.kv.persistence.as_ref().map(Persistence::log);
        if log.is_some_and(|log| !log.is_committed(self.held_until)) {
            return self.commit(effects);
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            effects.send_bytes(held.into());
        }
        if self.is_closing {
            return effects.close();
        }
        self.read_inbox(effects);
    }

    /// Sends what others had for it.
    fn read_inbox(&mut self, effects: &mut Effects<ServerOutcome>) {
        let is_congested = effects.is_congested();
        match self.client.end() {
            Some(Cut::TooSlow) => {
                let message = "connection closed: it does not read what it has subscribed to";
                self.report(ErrorCode::Timeout, message.into());
                return effects.abort();
            }
            // What it does not read would be waited for.
            Some(Cut::Killed) if is_congested => return effects.abort(),
            None if is_congested => return,
            // What it is told after it was answered may not come before the answer.
            _ if self.is_committing => return,
            Some(Cut::Killed) | None => {}
        }
        let (messages, end) = self.client.take();
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
        self.client.set_reach(place.reach());
    }

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Effects<ServerOutcome>) -> usize {
        let mut out = Vec::new();
        let taken = self.serve(bytes, &mut out);
        let metrics = &self.kv.metrics;
        metrics.bytes_in.fetch_add(taken as u64, Ordering::Relaxed);
        metrics.bytes_out.fetch_add(out.len() as u64, Ordering::Relaxed);
        metrics.count(self.client.id, &mut self.batch);
        self.answer_with(out, effects);
        taken
    }

    fn on_end(&mut self, effects: &mut Effects<ServerOutcome>) {
        // What it asked for before is still answered.
        self.is_closing = true;
        self.answer_with(Vec::new(), effects);
    }

    fn on_event(&mut self, event: Event<ServerOutcome, Self::Command>, effects: &mut Effects<ServerOutcome>) {
        match event {
            Event::Connected => {
                self.kv.metrics.connections.fetch_add(1, Ordering::Relaxed);
                self.kv.log.record(self.client.peer, HappeningKind::Accepted);
                if self.is_refused {
                    self.kv.metrics.refused.fetch_add(1, Ordering::Relaxed);
                    let mut out = Vec::new();
                    Replies::new(&mut out, self.version).error("ERR max number of clients reached");
                    effects.send_bytes(out.into());
                    self.is_closing = true;
                    effects.close();
                }
            }
            Event::Nudged | Event::Drained => self.read_inbox(effects),
            Event::Draining => {
                self.is_closing = true;
                self.answer_with(Vec::new(), effects);
            }
            Event::Stalled => {
                self.report(ErrorCode::Timeout, "connection closed: nothing was heard for too long".into());
                effects.abort();
            }
            Event::Closed(_) => {
                self.unsubscribe_all();
                self.unwatch();
                self.kv.clients.remove(&self.client);
                self.kv.log.record(self.client.peer, HappeningKind::Closed);
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
        !self.is_closing && self.held.len() < REPLIES_BYTES_MAX
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        match self.kv.idle() {
            _ if !self.partial.is_empty() => PATIENCE,
            Some(idle) if self.subscriptions.len() == 0 => idle,
            _ => Duration::MAX,
        }
    }

    fn patience_while_sending(&self) -> Duration {
        PATIENCE
    }

    fn kept_bytes(&self) -> u64 {
        (self.partial.capacity() + self.held.capacity() + self.transaction.bytes()) as u64
    }

    fn rest(&mut self) -> bool {
        self.parser.rest();
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        self.batch = Batch::default();
        true
    }
}

/// What may be said in RESP2 while listening to channels: replies and messages could not be told apart.
fn is_for_listeners(name: &str) -> bool {
    ["subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit", "exit", "reset"]
        .contains(&name)
}

/// As Redis refuses to write.
fn misconf(failure: &str) -> String {
    format!("MISCONF Errors writing to the AOF file: {failure}")
}

fn unknown_command(args: Args<'_>) -> Refused {
    /// Bytes of what was said that are said again.
    const SAID_BYTES_MAX: usize = 128;
    let shown = |arg: &[u8]| String::from_utf8_lossy(arg.get(..SAID_BYTES_MAX).unwrap_or(arg)).into_owned();
    let name = args.get(0).map(shown).unwrap_or_default();
    let mut said = String::new();
    for arg in args.iter().skip(1) {
        let left = SAID_BYTES_MAX.saturating_sub(said.len());
        if left == 0 {
            break;
        }
        said.push_str(&format!("'{}' ", String::from_utf8_lossy(arg.get(..left).unwrap_or(arg))));
    }
    Refused::Told(format!("ERR unknown command '{name}', with args beginning with: {said}"))
}
