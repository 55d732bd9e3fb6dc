//! What one client has said and may say: commands are carried out and answered here, however they come in.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use xferd_engine::Failure;
use xferd_kv::commands::{self, COMMANDS};
use xferd_kv::{Command, Flags, Locked, Refused};
use xferd_os::clock;
use xferd_os::net::Peer;
use xferd_wire::ErrorCode;
use xferd_wire::resp::{Args, Replies, Version, is_http};

use super::Kv;
use super::clients::Client;
use super::metrics::Batch;
use super::pubsub::Subscriptions;
use super::transaction::Transaction;
use crate::log::HappeningKind;

/// How a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On a connection that speaks RESP, in the version that it asks for.
    Resp,
    /// In frames on a connection that transfers files.
    Frames,
    /// In this process, which has nobody to say who it is to.
    Inside,
}

impl Way {
    /// What is spoken before somebody says HELLO.
    pub(super) fn version(self) -> Version {
        if self == Self::Resp { Version::Resp2 } else { Version::Resp3 }
    }

    /// Whether another version may be asked for.
    pub(super) fn speaks(self, version: Version) -> bool {
        self == Self::Resp || version == self.version()
    }
}

/// One client's.
pub(crate) struct Conversation {
    pub(super) kv: Arc<Kv>,
    pub(super) client: Arc<Client>,
    pub(super) way: Way,
    pub(super) version: Version,
    pub(super) database: u8,
    pub(super) is_authenticated: bool,
    pub(super) transaction: Transaction,
    pub(super) subscriptions: Subscriptions,
    /// What it says from here on is of no interest.
    pub(super) is_closing: bool,
    batch: Batch,
}

impl Conversation {
    pub(crate) fn new(kv: Arc<Kv>, peer: Peer, way: Way) -> Self {
        let client = kv.clients.add(peer);
        client.set_version(way.version());
        let mut conversation = Self {
            kv,
            client,
            way,
            version: way.version(),
            database: 0,
            is_authenticated: false,
            transaction: Transaction::default(),
            subscriptions: Subscriptions::default(),
            is_closing: false,
            batch: Batch::default(),
        };
        conversation.forget_password();
        conversation
    }

    /// From here on the password has to be said, if there is one and somebody to say it.
    pub(super) fn forget_password(&mut self) {
        self.is_authenticated = self.way == Way::Inside || !self.kv.auth.is_required();
    }

    /// Answers one request at `now_ms`, in milliseconds since 1970 as deadlines are meant, and notes how long that took from `clock` on.
    pub(super) fn command(&mut self, args: Args<'_>, now_ms: u64, clock: &mut Instant, out: &mut Vec<u8>) {
        let Some(name) = args.get(0) else { return };
        let index = commands::position(name);
        let command = index.and_then(|index| COMMANDS.get(index));
        let admitted =
            command.ok_or_else(|| unknown_command(args)).and_then(|command| self.admit(command, args));
        let (index, command) = match admitted {
            Ok(command) => (index.unwrap_or_default(), command),
            Err(_) if self.way == Way::Resp && is_http(args) => {
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
            if ["save", "shutdown"].contains(&command.name) {
                return self.refuse(Refused::Other("ERR Command not allowed inside a transaction"), out);
            }
            self.transaction.queue(command, args, out);
            self.client.queued.store(self.transaction.len(), Ordering::Relaxed);
            return;
        }
        self.kv.clients.tell_monitors(|| self.monitor_line(args));
        self.execute(command, args, now_ms, None, out);
        let now = clock::now();
        let took = now.saturating_duration_since(mem::replace(clock, now));
        self.client.note_command(index, now_ms);
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
            arg.iter().for_each(|byte| escape(*byte, &mut line));
            line.push(b'"');
        }
        line.extend_from_slice(b"\r\n");
        line
    }

    /// Counts what was done since the last time, and the bytes in which it was asked for and answered.
    pub(super) fn count(&mut self, bytes_in: usize, bytes_out: usize) {
        self.kv.metrics.count(self.client.id, &mut self.batch, bytes_in as u64, bytes_out as u64);
    }

    /// Bytes that it remembers.
    pub(super) fn kept_bytes(&self) -> usize {
        self.transaction.bytes()
    }

    /// Gives back memory that is not needed while nothing is said.
    pub(super) fn rest(&mut self) {
        self.batch = Batch::default();
    }

    /// Nothing more is said.
    pub(super) fn end(&mut self) {
        self.unsubscribe_all();
        self.unwatch();
        self.kv.clients.remove(&self.client);
    }
}

/// What may be said in RESP2 while listening to channels: replies and messages could not be told apart.
fn is_for_listeners(name: &str) -> bool {
    ["subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit", "exit", "reset"]
        .contains(&name)
}

/// Writes a byte as MONITOR of Redis does.
fn escape(byte: u8, line: &mut Vec<u8>) {
    match byte {
        b'\'' => line.push(byte),
        7 => line.extend_from_slice(b"\\a"),
        8 => line.extend_from_slice(b"\\b"),
        _ => line.extend(byte.escape_ascii()),
    }
}

/// As Redis refuses to write.
pub(super) fn misconf(failure: &str) -> String {
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
