//! Commands that concern a connection, and those that are only told about here and done elsewhere.

use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use xferd_kv::commands::{help, is_word, parse_database};
use xferd_kv::{Command, Locked, Persistence, Refused};
use xferd_os::clock;
use xferd_wire::ErrorCode;
use xferd_wire::resp::{Args, Replies, Version, parse_integer};

use super::auth::Verdict;
use super::channels::Kind;
use super::conversation::Conversation;
use super::{config, documentation, info};
use crate::log::HappeningKind;

/// Redis's version whose commands and replies these are. Clients decide by it what they can say.
pub(super) const REDIS_VERSION: &str = "7.0.15";

type Done = Result<(), Refused>;

impl Conversation {
    /// Carries out what no function on keys does. `locked` is what EXEC has locked.
    pub(super) fn connection_command(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        now_ms: u64,
        locked: Option<&mut Locked<'_>>,
        out: &mut Vec<u8>,
    ) -> Done {
        match command.name {
            "hello" => return self.hello(args, out),
            "exec" => return self.exec(now_ms, out),
            "subscribe" => return self.subscribe(Kind::Channel, args.skip(1), out),
            "psubscribe" => return self.subscribe(Kind::Pattern, args.skip(1), out),
            "unsubscribe" => self.unsubscribe(Kind::Channel, args.skip(1), out),
            "punsubscribe" => self.unsubscribe(Kind::Pattern, args.skip(1), out),
            _ => {
                let mut replies = Replies::new(out, self.version);
                return self.answer(command, args, now_ms, locked, &mut replies);
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        command: &'static Command,
        args: Args<'_>,
        now_ms: u64,
        locked: Option<&mut Locked<'_>>,
        replies: &mut Replies<'_>,
    ) -> Done {
        let ok = |done: Done, replies: &mut Replies<'_>| done.map(|()| replies.simple("OK"));
        match command.name {
            "ping" => self.ping(args, replies),
            "echo" => {
                replies.bulk(args.get(1).unwrap_or_default());
                Ok(())
            }
            "select" => ok(self.select(args, locked), replies),
            "auth" => ok(self.auth(args), replies),
            "quit" | "exit" => {
                self.is_closing = true;
                replies.simple("OK");
                Ok(())
            }
            "reset" => {
                self.reset();
                replies.simple("RESET");
                Ok(())
            }
            "client" => self.client_command(args, now_ms, replies),
            "multi" => ok(self.multi(), replies),
            "discard" => ok(self.discard(), replies),
            "watch" => ok(self.watch(args.skip(1), now_ms), replies),
            "unwatch" => {
                self.unwatch();
                replies.simple("OK");
                Ok(())
            }
            "publish" => {
                let part = |index| args.get(index).unwrap_or_default();
                replies.integer(self.kv.channels.publish(part(1), part(2), &self.kv.clients) as i64);
                Ok(())
            }
            "pubsub" => self.pubsub(args, replies),
            "monitor" => {
                self.kv.clients.set_monitor(&self.client, true);
                replies.simple("OK");
                Ok(())
            }
            "time" => {
                let since = clock::system_now().duration_since(UNIX_EPOCH).unwrap_or_default();
                replies.array(2);
                replies.bulk(since.as_secs().to_string());
                replies.bulk(since.subsec_micros().to_string());
                Ok(())
            }
            "command" => documentation::command(args, replies),
            "config" if locked.is_some() && is_word(args.get(1).unwrap_or_default(), "resetstat") => {
                self.transaction.resets = true;
                replies.simple("OK");
                Ok(())
            }
            "config" => config::config(&self.kv, args, replies),
            "info" => {
                let stats = match locked {
                    Some(locked) => locked.stats(),
                    None => self.kv.keyspace.stats(),
                };
                replies.verbatim(*b"txt", info::info(&self.kv, &stats, args.skip(1)));
                Ok(())
            }
            "bgrewriteaof" | "bgsave" if locked.is_some() => {
                self.persistence()?;
                self.transaction.rewrites = true;
                let what = if command.name == "bgsave" { "saving" } else { "append only file rewriting" };
                replies.simple(&format!("Background {what} scheduled"));
                Ok(())
            }
            "bgrewriteaof" => {
                self.persistence()?.rewrite()?;
                replies.simple("Background append only file rewriting started");
                Ok(())
            }
            "bgsave" => {
                self.persistence()?.rewrite()?;
                replies.simple("Background saving started");
                Ok(())
            }
            "save" => ok(self.persistence()?.save(), replies),
            "lastsave" => {
                replies.integer(self.kv.saved_s() as i64);
                Ok(())
            }
            "slowlog" => self.slowlog(args, replies),
            "latency" => self.latency(args, replies),
            "shutdown" => {
                self.kv.log.record(self.client.peer, HappeningKind::StopAsked);
                self.is_closing = true;
                Ok(())
            }
            name => Err(Refused::Told(format!("ERR '{name}' is not served here"))),
        }
    }

    fn persistence(&self) -> Result<&Persistence, Refused> {
        let none = Refused::Other(
            "ERR keys are kept in memory only; start the server with --kv-dir to have them saved",
        );
        self.kv.persistence.as_ref().ok_or(none)
    }

    fn ping(&self, args: Args<'_>, replies: &mut Replies<'_>) -> Done {
        if args.len() > 2 {
            return Err(Refused::Arity("ping".into()));
        }
        let said = args.get(1);
        if self.version == Version::Resp2 && self.subscriptions.len() > 0 {
            replies.array(2);
            replies.bulk("pong");
            replies.bulk(said.unwrap_or_default());
        } else {
            match said {
                Some(said) => replies.bulk(said),
                None => replies.simple("PONG"),
            }
        }
        Ok(())
    }

    fn select(&mut self, args: Args<'_>, locked: Option<&mut Locked<'_>>) -> Done {
        self.database = parse_database(args.get(1).unwrap_or_default())?;
        self.client.database.store(self.database, Ordering::Relaxed);
        if let Some(locked) = locked {
            locked.select(self.database);
        }
        Ok(())
    }

    fn auth(&mut self, args: Args<'_>) -> Done {
        match args.len() {
            2 if !self.kv.auth.is_required() => Err(Refused::Other(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            )),
            2 => self.authenticate(b"default", args.get(1).unwrap_or_default()),
            3 => self.authenticate(args.get(1).unwrap_or_default(), args.get(2).unwrap_or_default()),
            _ => Err(Refused::Syntax),
        }
    }

    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> Done {
        const WRONG: Refused =
            Refused::Other("WRONGPASS invalid username-password pair or user is disabled.");
        if user != b"default" {
            return Err(WRONG);
        }
        if !self.kv.auth.is_required() {
            self.is_authenticated = true;
            return Ok(());
        }
        match self.kv.auth.judge(self.client.peer, password) {
            Verdict::Right => {
                self.is_authenticated = true;
                Ok(())
            }
            Verdict::Wrong => {
                self.report(ErrorCode::Permission, "wrong password".into());
                Err(WRONG)
            }
            Verdict::TooMany => {
                self.report(ErrorCode::Permission, "connection closed: too many wrong passwords".into());
                self.is_closing = true;
                Err(Refused::Other("ERR too many wrong passwords; try again in a minute"))
            }
        }
    }

    fn hello(&mut self, args: Args<'_>, out: &mut Vec<u8>) -> Done {
        const NO_VERSION: Refused = Refused::Other("NOPROTO unsupported protocol version");
        let mut version = self.version;
        if let Some(number) = args.get(1) {
            let number = parse_integer(number)
                .ok_or(Refused::Other("ERR Protocol version is not an integer or out of range"))?;
            version = match number {
                2 => Version::Resp2,
                3 => Version::Resp3,
                _ => return Err(NO_VERSION),
            };
        }
        if !self.way.speaks(version) {
            return Err(NO_VERSION);
        }
        let (mut index, mut name, mut login) = (2, None, None);
        while let Some(word) = args.get(index) {
            if is_word(word, "auth") && args.len() > index + 2 {
                login =
                    Some((args.get(index + 1).unwrap_or_default(), args.get(index + 2).unwrap_or_default()));
                index += 3;
            } else if is_word(word, "setname") && args.len() > index + 1 {
                name = Some(parse_name(args.get(index + 1).unwrap_or_default())?);
                index += 2;
            } else {
                let word = String::from_utf8_lossy(word);
                return Err(Refused::Told(format!("ERR Syntax error in HELLO option '{word}'")));
            }
        }
        if let Some((user, password)) = login {
            self.authenticate(user, password)?;
        }
        if !self.is_authenticated {
            return Err(Refused::Other(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
            ));
        }
        if let Some(name) = name {
            self.client.set_name(name);
        }
        self.version = version;
        self.client.set_version(version);
        let mut replies = Replies::new(out, version);
        replies.map(7);
        replies.bulk("server");
        replies.bulk("redis");
        replies.bulk("version");
        replies.bulk(REDIS_VERSION);
        replies.bulk("proto");
        replies.integer(if version == Version::Resp3 { 3 } else { 2 });
        replies.bulk("id");
        replies.integer(self.client.id as i64);
        replies.bulk("mode");
        replies.bulk("standalone");
        replies.bulk("role");
        replies.bulk("master");
        replies.bulk("modules");
        replies.array(0);
        Ok(())
    }

    fn reset(&mut self) {
        let _ = self.discard();
        self.unwatch();
        self.unsubscribe_all();
        self.kv.clients.hush(&self.client);
        self.client.queued.store(u16::MAX, Ordering::Relaxed);
        self.client.set_name(None);
        self.database = 0;
        self.client.database.store(0, Ordering::Relaxed);
        self.version = self.way.version();
        self.client.set_version(self.version);
        self.forget_password();
    }

    fn client_command(&mut self, args: Args<'_>, now_ms: u64, replies: &mut Replies<'_>) -> Done {
        let word = args.get(1).unwrap_or_default();
        if is_word(word, "id") {
            replies.integer(self.client.id as i64);
        } else if is_word(word, "getname") {
            match self.client.name() {
                Some(name) => replies.bulk(name.as_bytes()),
                None => replies.null(),
            }
        } else if is_word(word, "setname") {
            self.client.set_name(parse_name(args.get(2).unwrap_or_default())?);
            replies.simple("OK");
        } else if is_word(word, "setinfo") {
            self.set_info(args)?;
            replies.simple("OK");
        } else if is_word(word, "info") {
            let line = format!("{}\n", self.client.line(now_ms));
            replies.verbatim(*b"txt", line);
        } else if is_word(word, "list") {
            self.list(args.skip(2), now_ms, replies)?;
        } else if is_word(word, "kill") {
            self.kill(args.skip(2), replies)?;
        } else if is_word(word, "no-evict") {
            let on = parse_switch(args.get(2).unwrap_or_default())?;
            self.client.never_evicted.store(on, Ordering::Relaxed);
            replies.simple("OK");
        } else if is_word(word, "help") {
            help(
                replies,
                "CLIENT",
                &[
                    ("GETNAME", "The name of this connection."),
                    ("ID", "The number of this connection."),
                    ("INFO", "What is known of this connection."),
                    ("KILL <addr>", "Ends the connection from there."),
                    (
                        "KILL <option> <value> [<option> <value> ...]",
                        "Ends connections: ADDR, TYPE (normal|pubsub), USER, SKIPME (yes|no), ID.",
                    ),
                    ("LIST [TYPE (normal|pubsub)] [ID <id> ...]", "What is known of all connections."),
                    ("NO-EVICT (ON|OFF)", "Whether this connection is never cut to save memory."),
                    ("SETINFO <LIB-NAME|LIB-VER> <value>", "Which library it is that says this."),
                    ("SETNAME <name>", "Names this connection."),
                ],
            );
        } else {
            return Err(Refused::subcommand_arguments("CLIENT", word));
        }
        Ok(())
    }

    fn set_info(&self, args: Args<'_>) -> Done {
        let value = args.get(3).unwrap_or_default();
        if value.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
            return Err(Refused::Other(
                "ERR lib-name and lib-ver cannot contain spaces, newlines or special characters.",
            ));
        }
        /// As much as names of connections have.
        const BYTES_MAX: usize = NAME_BYTES_MAX;
        let value = String::from_utf8_lossy(value.get(..BYTES_MAX).unwrap_or(value)).into_owned();
        let word = args.get(2).unwrap_or_default();
        if is_word(word, "lib-name") {
            self.client.set_library(|library| library.name = value);
        } else if is_word(word, "lib-ver") {
            self.client.set_library(|library| library.version = value);
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(Refused::Told(format!("ERR Unrecognized option '{word}'")));
        }
        Ok(())
    }

    fn list(&self, options: Args<'_>, now_ms: u64, replies: &mut Replies<'_>) -> Done {
        let mut clients = self.kv.clients.all();
        match options.get(0) {
            None => {}
            Some(word) if is_word(word, "type") && options.len() == 2 => {
                let wants_listeners = parse_type(options.get(1).unwrap_or_default())?;
                clients
                    .retain(|client| wants_listeners.is_some_and(|wanted| wanted == client.is_listening()));
            }
            Some(word) if is_word(word, "id") && options.len() > 1 => {
                let ids: Option<Vec<i64>> = options.skip(1).iter().map(parse_integer).collect();
                let ids = ids.ok_or(Refused::Other("ERR Invalid client ID"))?;
                clients.retain(|client| ids.contains(&(client.id as i64)));
            }
            Some(_) => return Err(Refused::Syntax),
        }
        let lines: String = clients.iter().map(|client| client.line(now_ms) + "\n").collect();
        replies.verbatim(*b"txt", lines);
        Ok(())
    }

    fn kill(&mut self, options: Args<'_>, replies: &mut Replies<'_>) -> Done {
        let mut clients = self.kv.clients.all();
        let is_old = options.len() == 1;
        let mut spares_me = !is_old;
        if is_old {
            let address = String::from_utf8_lossy(options.get(0).unwrap_or_default()).into_owned();
            clients.retain(|client| client.peer.to_string() == address);
        } else if options.len() % 2 != 0 {
            return Err(Refused::Syntax);
        }
        let mut index = 0;
        while let (false, Some(word), Some(value)) = (is_old, options.get(index), options.get(index + 1)) {
            index += 2;
            if is_word(word, "id") {
                let id = parse_integer(value).filter(|id| *id > 0);
                let id = id.ok_or(Refused::Other("ERR client-id should be greater than 0"))?;
                clients.retain(|client| client.id as i64 == id);
            } else if is_word(word, "addr") {
                let address = String::from_utf8_lossy(value).into_owned();
                clients.retain(|client| client.peer.to_string() == address);
            } else if is_word(word, "type") {
                let wants_listeners = parse_type(value)?;
                clients
                    .retain(|client| wants_listeners.is_some_and(|wanted| wanted == client.is_listening()));
            } else if is_word(word, "user") {
                let all = value == b"default";
                clients.retain(|_| all);
            } else if is_word(word, "skipme") {
                spares_me = if is_word(value, "yes") {
                    true
                } else if is_word(value, "no") {
                    false
                } else {
                    return Err(Refused::Syntax);
                };
            } else {
                return Err(Refused::Syntax);
            }
        }
        clients.retain(|client| client.id != self.client.id || !spares_me);
        for client in &clients {
            if client.id == self.client.id {
                self.is_closing = true;
            } else {
                client.kill();
            }
        }
        match (is_old, clients.len()) {
            (true, 0) => return Err(Refused::Other("ERR No such client")),
            (true, _) => replies.simple("OK"),
            (false, killed) => replies.integer(killed as i64),
        }
        Ok(())
    }

    fn slowlog(&self, args: Args<'_>, replies: &mut Replies<'_>) -> Done {
        /// Entries that are told of unless somebody asks for more.
        const COUNT: usize = 10;
        let word = args.get(1).unwrap_or_default();
        if is_word(word, "get") && args.len() <= 3 {
            let count = match args.get(2) {
                None => COUNT,
                Some(number) => match parse_integer(number) {
                    Some(-1) => usize::MAX,
                    number => number
                        .and_then(|number| usize::try_from(number).ok())
                        .ok_or(Refused::Other("ERR count should be greater than or equal to -1"))?,
                },
            };
            let slow = self.kv.slowlog.last(count);
            replies.array(slow.len());
            for entry in slow {
                replies.array(6);
                replies.integer(entry.id as i64);
                replies.integer(entry.at_seconds());
                replies.integer(i64::try_from(entry.took.as_micros()).unwrap_or(i64::MAX));
                replies.array(entry.args.args().len());
                entry.args.args().iter().for_each(|arg| replies.bulk(arg));
                replies.bulk(&entry.peer);
                replies.bulk(&entry.name);
            }
        } else if is_word(word, "len") {
            replies.integer(self.kv.slowlog.len() as i64);
        } else if is_word(word, "reset") {
            self.kv.slowlog.clear();
            replies.simple("OK");
        } else if is_word(word, "help") {
            help(
                replies,
                "SLOWLOG",
                &[
                    ("GET [<count>]", "The commands that took long, the last ones first."),
                    ("LEN", "How many are kept."),
                    ("RESET", "Forgets them."),
                ],
            );
        } else {
            return Err(Refused::subcommand_arguments("SLOWLOG", word));
        }
        Ok(())
    }

    fn latency(&self, args: Args<'_>, replies: &mut Replies<'_>) -> Done {
        let word = args.get(1).unwrap_or_default();
        if is_word(word, "histogram") {
            let mut wanted = self.kv.metrics.by_command();
            if args.len() > 2 {
                wanted.retain(|metrics| args.skip(2).iter().any(|name| is_word(name, metrics.name)));
            }
            replies.map(wanted.len());
            for metrics in wanted {
                replies.bulk(metrics.name);
                replies.map(2);
                replies.bulk("calls");
                replies.integer(metrics.calls as i64);
                replies.bulk("histogram_usec");
                // In powers of two, as Redis has it; what is above the last one is in the number of calls.
                replies.map(metrics.by_microseconds.len());
                for (microseconds, calls) in metrics.by_microseconds {
                    replies.integer(microseconds as i64);
                    replies.integer(calls as i64);
                }
            }
        } else if (is_word(word, "latest")) || (is_word(word, "history")) {
            // Nothing but commands is measured.
            replies.array(0);
        } else if is_word(word, "reset") {
            replies.integer(0);
        } else if is_word(word, "doctor") {
            replies.verbatim(
                *b"txt",
                "See LATENCY HISTOGRAM and SLOWLOG GET: how long each command took, and which took long.\n",
            );
        } else if is_word(word, "help") {
            help(
                replies,
                "LATENCY",
                &[
                    ("DOCTOR", "Says where to look."),
                    ("HISTOGRAM [<command> ...]", "How many calls took how long."),
                    ("HISTORY <event>", "Nothing: no event but commands is measured."),
                    ("LATEST", "Nothing, likewise."),
                    (
                        "RESET [<event> ...]",
                        "Forgets nothing, likewise; CONFIG RESETSTAT forgets histograms.",
                    ),
                ],
            );
        } else {
            return Err(Refused::subcommand_arguments("LATENCY", word));
        }
        Ok(())
    }
}

/// Bytes of the name of a connection.
const NAME_BYTES_MAX: usize = 256;

/// A name of a connection; none if it is empty.
fn parse_name(name: &[u8]) -> Result<Option<Box<str>>, Refused> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Refused::Other("ERR the name of a client has at most 256 bytes"));
    }
    match std::str::from_utf8(name) {
        Ok(name) if name.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) => {
            Ok((!name.is_empty()).then(|| name.into()))
        }
        _ => Err(Refused::Other("ERR Client names cannot contain spaces, newlines or special characters.")),
    }
}

fn parse_switch(word: &[u8]) -> Result<bool, Refused> {
    match () {
        () if is_word(word, "on") => Ok(true),
        () if is_word(word, "off") => Ok(false),
        () => Err(Refused::Syntax),
    }
}

/// Whether connections of that type listen to channels; `None`: there are none of it.
fn parse_type(word: &[u8]) -> Result<Option<bool>, Refused> {
    match () {
        () if is_word(word, "normal") => Ok(Some(false)),
        () if is_word(word, "pubsub") => Ok(Some(true)),
        () if ["master", "replica", "slave"].iter().any(|name| is_word(word, name)) => Ok(None),
        () => Err(Refused::Told(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word)))),
    }
}
