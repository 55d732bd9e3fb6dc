//! Doing again what was recorded.

use std::fmt;

use xferd_wire::resp::{Args, Replies, RequestParser, Version, parse_integer};

use crate::commands::{self, Flags, is_word};
use crate::keyspace::Keyspace;
use crate::{DATABASES, KEY_BYTES_MAX};

/// Carries out requests that were recorded.
///
/// No time passes meanwhile: what had expired was recorded as removed, and what had not was there when the next request came.
#[derive(Debug)]
pub(crate) struct Replay<'k> {
    keyspace: &'k Keyspace,
    database: u8,
    /// Requests since MULTI.
    queued: Option<Vec<u8>>,
    replies: Vec<u8>,
    /// How many were carried out.
    pub(crate) requests: u64,
}

/// Why a request is not carried out: it was never recorded like that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

/// A time before which nothing expires.
const BEGINNING_MS: u64 = 0;

impl<'k> Replay<'k> {
    pub(crate) fn new(keyspace: &'k Keyspace) -> Self {
        Self { keyspace, database: 0, queued: None, replies: Vec::new(), requests: 0 }
    }

    pub(crate) fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// A file begins: what was said in another does not count.
    pub(crate) fn begin(&mut self) {
        (self.database, self.queued) = (0, None);
    }

    /// Whether MULTI came, and no EXEC.
    pub(crate) fn is_gathering(&self) -> bool {
        self.queued.is_some()
    }

    /// Carries out a request, or keeps it until EXEC; `bytes` are all of it.
    pub(crate) fn take(&mut self, args: Args<'_>, bytes: &[u8]) -> Result<(), Refusal> {
        let name = args.get(0).unwrap_or_default();
        if is_word(name, "multi") {
            if self.queued.replace(Vec::new()).is_some() {
                return Err(Refusal("MULTI within MULTI".into()));
            }
        } else if is_word(name, "exec") {
            let queued = self.queued.take().ok_or(Refusal("EXEC without MULTI".into()))?;
            let (mut parser, mut rest) = (RequestParser::new(), &queued[..]);
            // They were parsed before.
            while let Ok(Some(len)) = parser.parse(rest) {
                self.carry_out(parser.args(rest))?;
                rest = rest.get(len..).unwrap_or_default();
            }
        } else if let Some(queued) = &mut self.queued {
            queued.extend_from_slice(bytes);
        } else {
            self.carry_out(args)?;
        }
        Ok(())
    }

    /// Carries out a request.
    pub(crate) fn carry_out(&mut self, args: Args<'_>) -> Result<(), Refusal> {
        let name = args.get(0).unwrap_or_default();
        if is_word(name, "select") {
            let number = args.get(1).and_then(parse_integer).and_then(|number| u8::try_from(number).ok());
            let database = number.filter(|number| usize::from(*number) < DATABASES && args.len() == 2);
            self.database =
                database.ok_or_else(|| Refusal(format!("there are {DATABASES} databases, not {args:?}")))?;
            return Ok(());
        }
        let command = commands::find(name);
        let command = command.filter(|command| command.flags.has(Flags::WRITE));
        let (Some(command), true) = (command, command.is_some_and(|command| command.run.is_some())) else {
            return Err(Refusal(format!("{} is no command that changes keys", shown(name))));
        };
        if !command.takes(args.len()) {
            return Err(Refusal(command.arity_refused().to_string()));
        }
        let mut locked = if command.flags.has(Flags::EVERY_KEY) {
            self.keyspace.lock_all(self.database, BEGINNING_MS)
        } else {
            if command.keys.of(args).any(|key| key.len() > KEY_BYTES_MAX) {
                return Err(Refusal(crate::Refused::KeyTooLong.to_string()));
            }
            self.keyspace.lock(command.keys.of(args), self.database, BEGINNING_MS)
        };
        self.replies.clear();
        command.execute_locked(&mut locked, args, &mut Replies::new(&mut self.replies, Version::Resp2));
        self.requests += 1;
        match self.replies.strip_prefix(b"-") {
            Some(refused) => Err(Refusal(shown(refused.trim_ascii_end()).to_string())),
            None => Ok(()),
        }
    }
}

/// Bytes that may be any, as a message has them.
fn shown(bytes: &[u8]) -> impl fmt::Display {
    bytes.get(..100).unwrap_or(bytes).escape_ascii().to_string()
}
