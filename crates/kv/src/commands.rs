//! The commands: what they are called, which keys they use, and what carries them out.

mod collections;
mod hashes;
mod keys;
mod lists;
mod sets;
mod sorted_sets;
mod strings;
mod subcommands;
mod table;
mod usage;

use std::sync::LazyLock;

use xferd_wire::resp::{Args, Replies};

pub use keys::parse_database;
pub use subcommands::help;
pub use table::COMMANDS;
pub use usage::{Argument, Parts, arguments};

use crate::KEY_BYTES_MAX;
use crate::keyspace::Keyspace;
use crate::locked::Locked;
use crate::refused::Refused;

/// A command, as COMMAND tells of it.
#[derive(Debug)]
pub struct Command {
    /// In lower case.
    pub name: &'static str,
    /// Arguments with its name; if negative, at least so many.
    pub arity: i8,
    /// What it does.
    pub flags: Flags,
    /// Which of its arguments are keys.
    pub keys: KeyPositions,
    /// What it is about.
    pub group: Group,
    /// In one sentence.
    pub summary: &'static str,
    /// What carries it out, unless that concerns connections and not keys.
    pub run: Option<Run>,
}

/// What carries out a command on keys. It answers, or is refused before it has changed or answered anything.
pub type Run = fn(&mut Call<'_, '_>, &mut Replies<'_>) -> Result<(), Refused>;

/// What a command does, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Nothing of the following.
    pub const NONE: Self = Self(0);
    /// It may change something.
    pub const WRITE: Self = Self(1);
    /// It only looks.
    pub const READONLY: Self = Self(2);
    /// It may need memory.
    pub const DENYOOM: Self = Self(4);
    /// It takes constant or logarithmic time.
    pub const FAST: Self = Self(8);
    /// It is for who runs the server.
    pub const ADMIN: Self = Self(16);
    /// It is about messages.
    pub const PUBSUB: Self = Self(32);
    /// It is carried out before a password was given.
    pub const NO_AUTH: Self = Self(64);
    /// It is carried out at once even after MULTI.
    pub const NO_MULTI: Self = Self(128);
    /// It looks at, or changes, keys that it does not name.
    pub const EVERY_KEY: Self = Self(256);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As COMMAND names them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Flags, &str); 8] = [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::FAST, "fast"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::NO_MULTI, "no_multi"),
        ];
        NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// Which arguments are keys: every `step`th from `first` on to `last`, which counts from the end if it is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPositions {
    /// The first; 0 if there are none.
    pub first: i8,
    /// The last.
    pub last: i8,
    /// How far they are apart.
    pub step: i8,
}

impl KeyPositions {
    /// It names none.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0 };
    /// The first argument.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1 };
    /// The first two.
    pub const TWO: Self = Self { first: 1, last: 2, step: 1 };
    /// All.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1 };
    /// Every second one.
    pub const PAIRS: Self = Self { first: 1, last: -1, step: 2 };
    /// The second argument.
    pub const SECOND: Self = Self { first: 2, last: 2, step: 1 };

    /// The keys among `args`.
    pub fn of(self, args: Args<'_>) -> impl Iterator<Item = &[u8]> {
        let last = if self.last < 0 {
            args.len().saturating_add_signed(self.last.into())
        } else {
            self.last as usize
        };
        let keys = if self.first == 0 { 0 } else { (last + 1).saturating_sub(self.first as usize) };
        args.skip(self.first as usize).iter().take(keys).step_by(self.step.max(1) as usize)
    }
}

/// What a command is about, as COMMAND DOCS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `string`
    String,
    /// `generic`
    Generic,
    /// `list`
    List,
    /// `set`
    Set,
    /// `hash`
    Hash,
    /// `sorted-set`
    SortedSet,
    /// `connection`
    Connection,
    /// `server`
    Server,
    /// `pubsub`
    Pubsub,
    /// `transactions`
    Transactions,
}

impl Group {
    /// As COMMAND DOCS names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Generic => "generic",
            Self::List => "list",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::SortedSet => "sorted-set",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Pubsub => "pubsub",
            Self::Transactions => "transactions",
        }
    }
}

/// A command that is carried out.
pub struct Call<'c, 'k> {
    /// Its name and arguments; as many as the command demands.
    pub args: Args<'c>,
    /// The keys that it names, or what it takes to look at all.
    pub keys: &'c mut Locked<'k>,
}

impl<'c> Call<'c, '_> {
    /// An argument that the arity of the command says is there.
    pub(crate) fn arg(&self, index: usize) -> &'c [u8] {
        self.args.get(index).unwrap_or_default()
    }

    /// The arguments from one on.
    pub(crate) fn rest(&self, from: usize) -> Args<'c> {
        self.args.skip(from)
    }
}

impl Command {
    /// Whether so many arguments, its name among them, are what it takes.
    pub fn takes(&self, args: usize) -> bool {
        subcommands::takes(self.arity, args)
    }

    /// What is said to too many or too few.
    pub fn arity_refused(&self) -> Refused {
        Refused::Arity(self.name.into())
    }

    /// Locks what it uses and carries it out.
    pub fn execute(
        &self,
        keyspace: &Keyspace,
        database: u8,
        now_ms: u64,
        args: Args<'_>,
        replies: &mut Replies<'_>,
    ) {
        let Some(run) = self.run else { return };
        if let Err(refused) = self.check(keyspace, now_ms, args) {
            return replies.error(refused.to_string());
        }
        let mut locked = match (self.flags.has(Flags::EVERY_KEY), self.flags.has(Flags::WRITE)) {
            // What most are: no list of keys has to be gone through.
            (false, _) if self.keys == KeyPositions::ONE => keyspace.lock(args.get(1), database, now_ms),
            (false, _) => keyspace.lock(self.keys.of(args), database, now_ms),
            // What is recorded about all keys has to be about all at one time.
            (true, true) => keyspace.lock_all(database, now_ms),
            (true, false) => keyspace.unlocked(database, now_ms),
        };
        carry_out(run, &mut locked, args, replies);
    }

    /// Makes room if it may need some, and looks at what no command accepts and at whether anything is recorded still.
    ///
    /// # Errors
    /// [`Refused::OutOfMemory`], [`Refused::KeyTooLong`]; `MISCONF` if what changes cannot be recorded.
    pub fn check(&self, keyspace: &Keyspace, now_ms: u64, args: Args<'_>) -> Result<(), Refused> {
        if !self.flags.has(Flags::WRITE) {
            return Ok(());
        }
        keyspace.check_recorder()?;
        if args.total_bytes() > KEY_BYTES_MAX && self.keys.of(args).any(|key| key.len() > KEY_BYTES_MAX) {
            return Err(Refused::KeyTooLong);
        }
        if self.flags.has(Flags::DENYOOM) { keyspace.make_room(now_ms) } else { Ok(()) }
    }

    /// Carries it out on what is locked already, with other commands.
    pub fn execute_locked(&self, locked: &mut Locked<'_>, args: Args<'_>, replies: &mut Replies<'_>) {
        if let Some(run) = self.run {
            carry_out(run, locked, args, replies);
        }
    }
}

fn carry_out(run: Run, locked: &mut Locked<'_>, args: Args<'_>, replies: &mut Replies<'_>) {
    let (changes, said) = (locked.changes(), locked.said());
    if let Err(refused) = run(&mut Call { args, keys: locked }, replies) {
        replies.error(refused.to_string());
    }
    locked.end_command(args, said, locked.changes() != changes);
}

/// The command of that name, in whatever case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    position(name).map(|index| &COMMANDS[index])
}

/// Which of [`COMMANDS`] has that name.
pub fn position(name: &[u8]) -> Option<usize> {
    /// The numbers of names, and which commands those are.
    static PLACES: LazyLock<[Option<(u64, usize)>; PLACES_LEN]> = LazyLock::new(|| {
        let mut places = [None; PLACES_LEN];
        for (index, command) in COMMANDS.iter().enumerate() {
            let number = number_of(command.name.as_bytes());
            let mut place = place_of(number);
            while places[place].is_some() {
                place = (place + 1) % PLACES_LEN;
            }
            places[place] = Some((number, index));
        }
        places
    });
    let number = number_of(name);
    let mut place = place_of(number);
    while let Some((other, index)) = PLACES[place] {
        if other == number
            && (name.len() <= LETTERS || COMMANDS[index].name.as_bytes().eq_ignore_ascii_case(name))
        {
            return Some(index);
        }
        place = (place + 1) % PLACES_LEN;
    }
    None
}

/// More than four times as many places as commands: most names are found at once.
const PLACES_LEN: usize = 1024;

/// Letters that go into the number of a name.
const LETTERS: usize = 7;

/// A name's length and first letters, whose case does not matter: a command that has no more of them is told by that.
fn number_of(name: &[u8]) -> u64 {
    /// In ASCII this bit tells small letters from capital ones.
    const SMALL: u64 = 0x0020_2020_2020_2020;
    let four = |letters: &[u8; 4]| u64::from(u32::from_le_bytes(*letters));
    let letters = match (name.first_chunk::<8>(), name.first_chunk(), name.last_chunk()) {
        (Some(first), ..) => u64::from_le_bytes(*first) & (u64::MAX >> 8),
        // Letters in the middle may be in both.
        (None, Some(first), Some(last)) => four(first) | four(last) << (8 * (name.len() - 4)),
        _ => name.iter().rev().fold(0, |letters, byte| letters << 8 | u64::from(*byte)),
    };
    (letters | SMALL) ^ ((name.len() as u64) << 56)
}

/// Where to begin to look for a number, which a multiplication mixes (Knuth, The Art of Computer Programming 3, 6.4).
fn place_of(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % PLACES_LEN
}

/// Whether an argument is this word, in whatever case.
pub fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use xferd_wire::resp::ArgsBuf;

    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for command in COMMANDS {
            for name in [command.name.to_owned(), command.name.to_uppercase()] {
                assert_eq!(find(name.as_bytes()).map(|found| found.name), Some(command.name));
            }
        }
        // A number tells a name of few letters only if it consists of those whose case is that one bit.
        assert!(COMMANDS.iter().all(|command| command.name.bytes().all(|byte| byte.is_ascii_lowercase())));
        for name in ["", "g", "gett", "ge\0", "get\0", "\x07et", "nothing-of-the-kind"] {
            assert!(find(name.as_bytes()).is_none(), "{name}");
        }
        assert!(COMMANDS.len() * 4 < PLACES_LEN);
    }

    #[test]
    fn keys_are_where_the_command_says() {
        let args: ArgsBuf = ["mset", "a", "1", "b", "2"].into_iter().collect();
        let keys = |positions: KeyPositions| positions.of(args.args()).collect::<Vec<_>>().concat();
        assert_eq!(keys(KeyPositions::NONE), b"");
        assert_eq!(keys(KeyPositions::ONE), b"a");
        assert_eq!(keys(KeyPositions::TWO), b"a1");
        assert_eq!(keys(KeyPositions::ALL), b"a1b2");
        assert_eq!(keys(KeyPositions::PAIRS), b"ab");
        for (args, keys) in [(vec!["mset"], 0), (vec!["mset", "a"], 1)] {
            let args: ArgsBuf = args.into_iter().collect();
            assert_eq!(KeyPositions::TWO.of(args.args()).count(), keys);
        }
    }
}
