//! Commands whose second word is a command again.

use xferd_wire::resp::{Args, Replies};

use super::{Command, is_word};
use crate::refused::Refused;

/// Their names and how many arguments they take, as [`Command::arity`] has it.
const SUBCOMMANDS: &[(&str, &[(&str, i8)])] = &[
    (
        "client",
        &[
            ("getname", 2),
            ("help", 2),
            ("id", 2),
            ("info", 2),
            ("kill", -3),
            ("list", -2),
            ("no-evict", 3),
            ("setinfo", 4),
            ("setname", 3),
        ],
    ),
    ("command", &[("count", 2), ("docs", -2), ("help", 2), ("info", -2), ("list", -2)]),
    ("config", &[("get", -3), ("help", 2), ("resetstat", 2), ("set", -4)]),
    (
        "latency",
        &[("doctor", 2), ("help", 2), ("histogram", -2), ("history", 3), ("latest", 2), ("reset", -2)],
    ),
    ("memory", &[("help", 2), ("usage", -3)]),
    ("object", &[("encoding", 3), ("freq", 3), ("help", 2), ("idletime", 3), ("refcount", 3)]),
    ("pubsub", &[("channels", -2), ("help", 2), ("numpat", 2), ("numsub", -2)]),
    ("slowlog", &[("get", -2), ("help", 2), ("len", 2), ("reset", 2)]),
];

impl Command {
    /// Whether so many arguments, its name among them, are what it, and the subcommand if it has some, takes.
    ///
    /// # Errors
    /// [`Refused::Arity`], or there is no such subcommand.
    pub fn admit(&self, args: Args<'_>) -> Result<(), Refused> {
        if !takes(self.arity, args.len()) {
            return Err(self.arity_refused());
        }
        let Some((name, subcommands)) = SUBCOMMANDS.iter().find(|(name, _)| *name == self.name) else {
            return Ok(());
        };
        let Some(word) = args.get(1) else { return Ok(()) };
        match subcommands.iter().find(|(subcommand, _)| is_word(word, subcommand)) {
            Some((_, arity)) if takes(*arity, args.len()) => Ok(()),
            Some((subcommand, _)) => Err(Refused::Arity(format!("{name}|{subcommand}"))),
            None => Err(Refused::unknown_subcommand(&name.to_uppercase(), word)),
        }
    }
}

/// Answers HELP of a command: its subcommands, and what each is for.
pub fn help(replies: &mut Replies<'_>, command: &str, subcommands: &[(&str, &str)]) {
    replies.array(2 * subcommands.len() + 3);
    replies.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (subcommand, meaning) in subcommands {
        replies.simple(subcommand);
        replies.simple(&format!("    {meaning}"));
    }
    replies.simple("HELP");
    replies.simple("    Print this help.");
}

pub(super) fn takes(arity: i8, args: usize) -> bool {
    let least = usize::from(arity.unsigned_abs());
    if arity < 0 { args >= least } else { args == least }
}
