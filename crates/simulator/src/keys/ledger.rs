//! What was said about the keys of one database, on one connection at a time; what was answered; and what may therefore be
//! found there by a server that is started anew.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use xferd_kv::{Fsync, Keyspace, commands};
use xferd_os::sim::{self, Dice, once_in};
use xferd_wire::resp::{ArgsBuf, Replies, Version, encode_request};

use super::state::{FLEETING, LOOKS, State, any_command, any_fleeting};

/// How old something may be that a power loss takes, if the log is synced every second: that long, until the thread that does
/// so is next awake, and as long as syncing takes.
const UNSYNCED_NS: u64 = 2_100_000_000;

/// One database.
#[derive(Debug)]
pub(crate) struct Ledger {
    database: u8,
    /// What was there when the server was started.
    base: State,
    /// The same after all that was answered.
    now: State,
    /// What was said since, in that order.
    units: Vec<Unit>,
    /// How many of them were answered.
    answered: usize,
    /// The log is to be written anew since this was last asked.
    is_rewritten: bool,
}

/// What is done as a whole: a command, or several between MULTI and EXEC.
#[derive(Debug)]
struct Unit {
    commands: Vec<String>,
    is_transaction: bool,
    said_ns: u64,
    answered_ns: Option<u64>,
    /// It says that it was not done.
    is_refused: bool,
}

/// What has become of a server and its disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    pub(crate) fsync: Fsync,
    /// The power was lost since somebody was answered last.
    pub(crate) has_lost_power: bool,
    /// No disk has failed.
    pub(crate) is_disk_sound: bool,
    /// When the server came to its end.
    pub(crate) ended_ns: u64,
}

/// What a server has in one database.
#[derive(Debug)]
pub(crate) struct Found {
    looks: Vec<u8>,
    fleeting: Option<String>,
    keys: u64,
}

impl Ledger {
    pub(crate) fn new(database: u8) -> Self {
        let (base, now) = (State::default(), State::default());
        Self { database, base, now, units: Vec::new(), answered: 0, is_rewritten: false }
    }

    /// Whether all was answered, so that somebody can go on on another connection.
    pub(crate) fn is_settled(&self) -> bool {
        self.answered == self.units.len() && !self.is_doubtful()
    }

    /// How much was said that has no answer.
    pub(crate) fn waiting(&self) -> usize {
        self.units.len() - self.answered
    }

    /// Whether somebody has just had the log be written anew.
    pub(crate) fn take_rewritten(&mut self) -> bool {
        std::mem::take(&mut self.is_rewritten)
    }

    /// Chooses the database.
    pub(crate) fn begin(&mut self, words: &mut Vec<u8>) {
        self.add(vec![format!("SELECT {}", self.database)], false, words);
    }

    /// Says something.
    pub(crate) fn say(&mut self, dice: &mut Dice, words: &mut Vec<u8>) {
        let is_transaction = dice.chance(once_in(5));
        let commands = if is_transaction {
            (0..dice.between(1, 6)).map(|_| any_command(dice)).collect()
        } else if dice.chance(once_in(12)) {
            vec![any_fleeting(dice)]
        } else if dice.chance(once_in(30)) {
            self.is_rewritten = true;
            vec![REWRITE.to_owned()]
        } else {
            vec![any_command(dice)]
        };
        self.add(commands, is_transaction, words);
    }

    fn add(&mut self, commands: Vec<String>, is_transaction: bool, words: &mut Vec<u8>) {
        let mut encode = |command: &str| {
            let args: Vec<&str> = command.split(' ').collect();
            encode_request(args, words);
        };
        if is_transaction {
            encode("MULTI");
        }
        commands.iter().for_each(|command| encode(command));
        if is_transaction {
            encode("EXEC");
        }
        let said_ns = sim::now_ns();
        self.units.push(Unit { commands, is_transaction, said_ns, answered_ns: None, is_refused: false });
    }

    /// How many replies come to what was said first of what has none.
    pub(crate) fn replies(&self) -> usize {
        let unit = self.units.get(self.answered);
        unit.map_or(0, |unit| if unit.is_transaction { unit.commands.len() + 2 } else { 1 })
    }

    /// Takes them. Whether it was done. A server that may refuse what it cannot record cannot record what expires, either.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn hear(&mut self, replies: &[Vec<u8>], may_refuse: bool) -> Result<bool, String> {
        let Some(unit) = self.units.get_mut(self.answered) else { return Err("nobody has asked".into()) };
        self.answered += 1;
        unit.answered_ns = Some(sim::now_ns());
        let last = replies.last().map_or(&[][..], |reply| reply);
        let is_misconf = |reply: &Vec<u8>| reply.starts_with(b"-MISCONF");
        if replies.iter().any(is_misconf) || last.starts_with(b"-EXECABORT") {
            unit.is_refused = true;
            return Ok(false);
        }
        if unit.commands == [REWRITE] {
            return Ok(true);
        }
        if unit.commands == [format!("GET {FLEETING}")] {
            match text_of(last) {
                Some(text) if self.now.fleeting.contains(&text) => {
                    self.now.fleeting = BTreeSet::from([text]);
                    return Ok(true);
                }
                None if last == b"$-1\r\n" && may_refuse => return Ok(true),
                None if last == b"$-1\r\n" => {
                    // From now on it is gone for good.
                    unit.commands = vec![format!("DEL {FLEETING}")];
                    self.now.fleeting.clear();
                    return Ok(true);
                }
                _ => {}
            }
        }
        let expected = unit.apply(&mut self.now);
        let replies = replies.concat();
        if replies != expected {
            let commands = unit.commands.join("; ");
            return Err(format!("{commands}: answered {}, not {}", show(&replies), show(&expected)));
        }
        Ok(true)
    }

    /// Whether what was said to be refused last may have been done: who cannot record what he has done says the same, and nothing
    /// after that.
    fn is_doubtful(&self) -> bool {
        self.answered > 0 && self.units[self.answered - 1].is_refused
    }

    /// How much of what was said may have been done, from its beginning on, for `found` to be there.
    ///
    /// # Errors
    /// That this cannot be.
    pub(crate) fn check(&self, found: &Found, fate: Fate) -> Result<RangeInclusive<usize>, String> {
        let outlives = |unit: &Unit| {
            !unit.is_refused
                && unit.answered_ns.is_some_and(|answered_ns| match fate.fsync {
                    _ if !fate.has_lost_power => true,
                    Fsync::Always => true,
                    Fsync::EverySecond => fate.is_disk_sound && answered_ns + UNSYNCED_NS < fate.ended_ns,
                    Fsync::No => false,
                })
        };
        let least = self.units.iter().rposition(outlives).map_or(0, |last| last + 1);
        let doubtful = self.is_doubtful().then(|| self.answered - 1);
        let mut state = self.base.clone();
        let (mut possible, mut earlier) = (None, None);
        for done in 0..=self.units.len() {
            if let Some(index) = done.checked_sub(1) {
                let unit = &self.units[index];
                if unit.is_refused && doubtful != Some(index) {
                    continue;
                }
                unit.apply(&mut state);
            }
            if found.is(&mut state) {
                let place = if done < least { &mut earlier } else { &mut possible };
                *place = Some((place.map_or(done, |(first, _)| first), done));
            }
        }
        match possible {
            Some((first, last)) => Ok(first..=last),
            None => {
                let (said, database) = (self.units.len(), self.database);
                Err(format!(
                    "database {database}: of {said} things said {least} must have been done ({fate:?}), but found is what was \
                     there after {earlier:?}: {}, {:?}, {} keys",
                    show(&found.looks),
                    found.fleeting,
                    found.keys
                ))
            }
        }
    }

    /// When the last of the first `done` was said.
    pub(crate) fn said_ns(&self, done: usize) -> u64 {
        done.checked_sub(1).and_then(|last| self.units.get(last)).map_or(0, |unit| unit.said_ns)
    }

    /// How many were done, as all that were answered before `ns` were.
    pub(crate) fn done_by(&self, ns: u64) -> usize {
        let is_before =
            |unit: &Unit| !unit.is_refused && unit.answered_ns.is_some_and(|answered_ns| answered_ns < ns);
        self.units.iter().rposition(is_before).map_or(0, |last| last + 1)
    }

    /// So much of what was said was done, and is there to stay: of what that may be all but [`FLEETING`] is the same. Nobody was told
    /// that that is gone if it is.
    pub(crate) fn settle(&mut self, done: &RangeInclusive<usize>) {
        let doubtful = self.is_doubtful().then(|| self.answered - 1);
        let mut fleeting = BTreeSet::new();
        for (index, unit) in self.units.drain(..).enumerate().take(*done.end()) {
            if index >= *done.start() {
                fleeting.extend(self.base.fleeting.iter().cloned());
            }
            if !unit.is_refused || doubtful == Some(index) {
                unit.apply(&mut self.base);
            }
        }
        self.base.fleeting.extend(fleeting);
        self.now = self.base.clone();
        self.answered = 0;
    }

    /// Looks at what a server has.
    pub(crate) fn look(&self, keyspace: &Keyspace) -> Found {
        let ask = |command: &str, out: &mut Vec<u8>| {
            let args: ArgsBuf = command.split(' ').map(str::as_bytes).collect();
            let command = args.args().get(0).and_then(commands::find).expect("commands that there are");
            let mut replies = Replies::new(out, Version::Resp2);
            command.execute(keyspace, self.database, keyspace.now_ms(), args.args(), &mut replies);
        };
        let (mut looks, mut fleeting) = (Vec::new(), Vec::new());
        LOOKS.iter().for_each(|look| ask(look, &mut looks));
        ask(&format!("GET {FLEETING}"), &mut fleeting);
        let keys = keyspace.stats().keys[usize::from(self.database)];
        Found { looks, fleeting: text_of(&fleeting), keys }
    }
}

/// Has the log be written anew, which changes no key.
const REWRITE: &str = "BGREWRITEAOF";

impl Unit {
    /// Does it, and tells what it is answered.
    fn apply(&self, state: &mut State) -> Vec<u8> {
        if self.commands == [REWRITE] {
            return Vec::new();
        }
        let replies: Vec<u8> = self.commands.iter().flat_map(|command| state.apply(command)).collect();
        if !self.is_transaction {
            return replies;
        }
        let count = self.commands.len();
        let mut all = b"+OK\r\n".to_vec();
        all.extend(b"+QUEUED\r\n".repeat(count));
        all.extend(format!("*{count}\r\n").into_bytes());
        all.extend(replies);
        all
    }
}

impl Found {
    /// Whether `state` is what was found.
    fn is(&self, state: &mut State) -> bool {
        let is_fleeting_right = self.fleeting.as_ref().is_none_or(|text| state.fleeting.contains(text));
        is_fleeting_right
            && self.keys == state.len() + u64::from(self.fleeting.is_some())
            && self.looks == state.look()
    }
}

/// The string that a reply is, if it is one.
fn text_of(reply: &[u8]) -> Option<String> {
    let (len, text) = std::str::from_utf8(reply).ok()?.strip_prefix('$')?.split_once("\r\n")?;
    (len != "-1").then(|| text.trim_end().to_owned())
}

/// For messages.
fn show(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 400;
    bytes.get(..SHOWN_BYTES).unwrap_or(bytes).escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: Fate = Fate { fsync: Fsync::No, has_lost_power: false, is_disk_sound: true, ended_ns: 0 };

    /// A ledger of which so much was answered of what was said.
    fn ledger(said: &[&str], answered: usize) -> Ledger {
        sim::begin(1);
        let mut ledger = Ledger::new(1);
        for commands in said {
            let commands: Vec<String> = commands.split("; ").map(str::to_owned).collect();
            let is_transaction = commands.len() > 1;
            ledger.add(commands, is_transaction, &mut Vec::new());
        }
        let mut state = State::default();
        for index in 0..answered {
            let reply = ledger.units[index].apply(&mut state);
            assert!(ledger.hear(&[reply], false).expect("what is said here"));
        }
        ledger
    }

    fn found(commands: &[&str]) -> Found {
        let mut state = State::default();
        commands.iter().for_each(|command| drop(state.apply(command)));
        Found { keys: state.len(), looks: state.look(), fleeting: None }
    }

    #[test]
    fn what_was_answered_is_to_be_found_and_what_was_only_said_may_be() {
        let ledger = ledger(&["SET t0 a", "SET t0 b", "SET t0 c"], 2);
        assert!(ledger.check(&found(&["SET t0 a"]), KILLED).is_err());
        assert_eq!(ledger.check(&found(&["SET t0 b"]), KILLED), Ok(2..=2));
        assert_eq!(ledger.check(&found(&["SET t0 c"]), KILLED), Ok(3..=3));
        assert!(ledger.check(&found(&["SET t0 d"]), KILLED).is_err());
    }

    #[test]
    fn a_power_loss_may_take_the_end_of_what_was_not_synced() {
        let ledger = ledger(&["SET t0 a", "SET t1 b"], 2);
        let lost = Fate { has_lost_power: true, ..KILLED };
        assert_eq!(ledger.check(&found(&["SET t0 a"]), lost), Ok(1..=1));
        assert!(ledger.check(&found(&["SET t1 b"]), lost).is_err(), "that came after the other");
        let always = Fate { fsync: Fsync::Always, ..lost };
        assert!(ledger.check(&found(&["SET t0 a"]), always).is_err());
        let second = Fate { fsync: Fsync::EverySecond, ..lost };
        assert_eq!(ledger.check(&found(&["SET t0 a"]), second), Ok(1..=1));
        let late = Fate { ended_ns: UNSYNCED_NS + 1_000_000, ..second };
        assert!(ledger.check(&found(&["SET t0 a"]), late).is_err());
    }

    #[test]
    fn a_transaction_is_found_whole_or_not_at_all() {
        let ledger = ledger(&["SET t0 a; SET t1 b"], 0);
        assert_eq!(ledger.check(&found(&[]), KILLED), Ok(0..=0));
        assert_eq!(ledger.check(&found(&["SET t0 a", "SET t1 b"]), KILLED), Ok(1..=1));
        assert!(ledger.check(&found(&["SET t0 a"]), KILLED).is_err());
    }

    #[test]
    fn what_was_refused_is_not_found_once_something_else_was_answered() {
        let mut ledger = ledger(&["SET t0 a", "SET t1 b", "STRLEN t0"], 1);
        let refusal = b"-MISCONF Errors writing to the AOF file: no space\r\n".to_vec();
        assert_eq!(ledger.hear(&[refusal], true), Ok(false));
        let both = found(&["SET t0 a", "SET t1 b"]);
        assert!(ledger.check(&both, KILLED).is_ok(), "it may have been done, and could not be recorded");
        assert_eq!(ledger.hear(&[b":1\r\n".to_vec()], true), Ok(true));
        assert!(ledger.check(&both, KILLED).is_err());
        assert!(ledger.check(&found(&["SET t0 a"]), KILLED).is_ok());
    }

    #[test]
    fn another_answer_than_there_may_be_is_told() {
        let mut ledger = ledger(&["SET t0 a", "STRLEN t0"], 1);
        assert!(ledger.hear(&[b":2\r\n".to_vec()], false).is_err());
    }
}
