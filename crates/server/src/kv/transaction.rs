//! MULTI, EXEC and WATCH.

use std::mem;
use std::sync::atomic::Ordering;

use xferd_kv::{Command, Flags, Persistence, Refused, Watched};
use xferd_os::scaled;
use xferd_wire::resp::{Args, ArgsBuf, Replies, Version};

use super::conversation::Conversation;

/// Commands that may wait for EXEC on one connection.
pub const QUEUED_COMMANDS_MAX: usize = 60_000;
/// Bytes of them.
pub const QUEUED_BYTES_MAX: usize = scaled(64 << 20) as usize;
/// Keys that one connection may watch.
pub const WATCHED_MAX: usize = 10_000;

/// What a connection has said since MULTI, and what it watches.
#[derive(Default)]
pub(super) struct Transaction {
    queue: Option<Box<Queue>>,
    watched: Vec<Watched>,
    /// What waits until the stripes are free that EXEC has locked: a snapshot, and to forget what was counted.
    pub(super) rewrites: bool,
    pub(super) resets: bool,
}

#[derive(Default)]
struct Queue {
    commands: Vec<(&'static Command, ArgsBuf)>,
    bytes: usize,
    /// One of them could not be understood: EXEC is refused.
    is_spoilt: bool,
}

impl Transaction {
    pub(super) fn is_open(&self) -> bool {
        self.queue.is_some()
    }

    /// As CLIENT LIST tells it: `u16::MAX` without MULTI.
    pub(super) fn len(&self) -> u16 {
        let len = self.queue.as_ref().map(|queue| queue.commands.len());
        len.map_or(u16::MAX, |len| u16::try_from(len).unwrap_or(u16::MAX - 1))
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// EXEC is to be refused.
    pub(super) fn spoil(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.is_spoilt = true;
        }
    }

    pub(super) fn queue(&mut self, command: &'static Command, args: Args<'_>, out: &mut Vec<u8>) {
        /// What remembering a command, and each of its arguments, takes beside their bytes.
        const COMMAND_BYTES: usize = 80;
        const ARG_BYTES: usize = 8;
        let mut replies = Replies::new(out, Version::Resp2);
        let Some(queue) = &mut self.queue else { return };
        let bytes = args.iter().map(|arg| arg.len() + ARG_BYTES).sum::<usize>() + COMMAND_BYTES;
        if queue.commands.len() >= QUEUED_COMMANDS_MAX || queue.bytes + bytes > QUEUED_BYTES_MAX {
            queue.is_spoilt = true;
            return replies.error("ERR too much is waiting for EXEC; say EXEC more often");
        }
        queue.bytes += bytes;
        queue.commands.push((command, args.iter().collect()));
        replies.simple("QUEUED");
    }
}

impl Conversation {
    pub(super) fn multi(&mut self) -> Result<(), Refused> {
        if self.transaction.is_open() {
            return Err(Refused::Other("ERR MULTI calls can not be nested"));
        }
        self.transaction.queue = Some(Box::default());
        Ok(())
    }

    pub(super) fn discard(&mut self) -> Result<(), Refused> {
        self.transaction.queue.take().ok_or(Refused::Other("ERR DISCARD without MULTI"))?;
        self.unwatch();
        Ok(())
    }

    /// An EXEC that is refused ends what it would have carried out.
    pub(super) fn abort_exec(&mut self, refused: &Refused) -> Refused {
        self.transaction.queue = None;
        self.client.queued.store(u16::MAX, Ordering::Relaxed);
        self.unwatch();
        let why = refused.to_string();
        let why = why.strip_prefix("ERR ").unwrap_or(&why);
        Refused::Told(format!("EXECABORT Transaction discarded because of: {why}"))
    }

    pub(super) fn watch(&mut self, keys: Args<'_>, now_ms: u64) -> Result<(), Refused> {
        if self.transaction.is_open() {
            return Err(Refused::Other("ERR WATCH inside MULTI is not allowed"));
        }
        if self.transaction.watched.len() + keys.len() > WATCHED_MAX {
            return Err(Refused::Other("ERR too many keys are watched; say UNWATCH"));
        }
        for key in keys.iter() {
            self.transaction.watched.push(self.kv.keyspace.watch(self.database, key, now_ms));
        }
        Ok(())
    }

    pub(super) fn unwatch(&mut self) {
        for watched in mem::take(&mut self.transaction.watched) {
            self.kv.keyspace.unwatch(watched);
        }
    }

    pub(super) fn exec(&mut self, now_ms: u64, out: &mut Vec<u8>) -> Result<(), Refused> {
        let queue = self.transaction.queue.take().ok_or(Refused::Other("ERR EXEC without MULTI"))?;
        self.client.queued.store(u16::MAX, Ordering::Relaxed);
        if queue.is_spoilt {
            self.unwatch();
            return Err(Refused::Other("EXECABORT Transaction discarded because of previous errors."));
        }
        let keyspace = self.kv.keyspace.clone();
        for (command, args) in &queue.commands {
            if let Err(refused) = command.check(&keyspace, now_ms, args.args()) {
                self.unwatch();
                return Err(Refused::Told(format!("EXECABORT Transaction discarded because of: {refused}")));
            }
        }
        let watched = mem::take(&mut self.transaction.watched);
        let named = queue.commands.iter().flat_map(|(command, args)| command.keys.of(args.args()));
        let mut locked = match queue.commands.iter().any(|(command, _)| command.flags.has(Flags::EVERY_KEY)) {
            true => keyspace.lock_all(self.database, now_ms),
            false => keyspace.lock(named.chain(watched.iter().map(Watched::key)), self.database, now_ms),
        };
        if watched.iter().any(|watched| watched.has_changed(&mut locked)) {
            Replies::new(out, self.version).null_array();
        } else {
            Replies::new(out, self.version).array(queue.commands.len());
            locked.gather_records();
            for (command, args) in &queue.commands {
                self.execute(command, args.args(), now_ms, Some(&mut locked), out);
            }
            locked.record_together();
        }
        drop(locked);
        if mem::take(&mut self.transaction.rewrites) {
            // It was said that it will be; that it cannot be is told by INFO.
            let _ = self.kv.persistence.as_ref().map(Persistence::rewrite);
        }
        if mem::take(&mut self.transaction.resets) {
            self.kv.reset_stats();
        }
        watched.into_iter().for_each(|watched| keyspace.unwatch(watched));
        Ok(())
    }
}
