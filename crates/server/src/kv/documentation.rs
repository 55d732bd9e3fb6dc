//! COMMAND: what commands there are.

use xferd_kv::commands::{self, Argument, COMMANDS, Parts};
use xferd_kv::commands::{help, is_word};
use xferd_kv::{Command, Refused};
use xferd_wire::resp::{Args, Replies};

pub(super) fn command(args: Args<'_>, replies: &mut Replies<'_>) -> Result<(), Refused> {
    let Some(word) = args.get(1) else {
        replies.array(COMMANDS.len());
        COMMANDS.iter().for_each(|command| info(command, replies));
        return Ok(());
    };
    let named = args.skip(2);
    if is_word(word, "count") {
        replies.integer(COMMANDS.len() as i64);
    } else if is_word(word, "list") && args.len() == 2 {
        replies.array(COMMANDS.len());
        COMMANDS.iter().for_each(|command| replies.bulk(command.name));
    } else if is_word(word, "info") {
        if named.is_empty() {
            replies.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| info(command, replies));
        } else {
            replies.array(named.len());
            for name in named.iter() {
                match commands::find(name) {
                    Some(command) => info(command, replies),
                    None => replies.null_array(),
                }
            }
        }
    } else if is_word(word, "docs") {
        let found: Vec<&Command> = if named.is_empty() {
            COMMANDS.iter().collect()
        } else {
            named.iter().filter_map(commands::find).collect()
        };
        replies.map(found.len());
        for command in found {
            replies.bulk(command.name);
            let arguments = commands::arguments(command.name);
            replies.map(if arguments.is_empty() { 2 } else { 3 });
            replies.bulk("summary");
            replies.bulk(command.summary);
            replies.bulk("group");
            replies.bulk(command.group.name());
            if !arguments.is_empty() {
                replies.bulk("arguments");
                tell_arguments(&arguments, replies);
            }
        }
    } else if is_word(word, "help") {
        help(
            replies,
            "COMMAND",
            &[
                ("(no subcommand)", "What is known of all commands."),
                ("COUNT", "How many commands there are."),
                ("DOCS [<command-name> ...]", "What commands are for."),
                ("INFO [<command-name> ...]", "What is known of these commands."),
                ("LIST", "The names of all commands."),
            ],
        );
    } else {
        return Err(Refused::subcommand_arguments("COMMAND", word));
    }
    Ok(())
}

/// As Redis tells them: clients show them to who types.
fn tell_arguments(arguments: &[Argument], replies: &mut Replies<'_>) {
    replies.array(arguments.len());
    for argument in arguments {
        let (kind, parts) = match &argument.parts {
            Parts::Word => ("string", None),
            Parts::Token => ("pure-token", None),
            Parts::OneOf(parts) => ("oneof", Some(parts)),
            Parts::Block(parts) => ("block", Some(parts)),
        };
        let flags = [(argument.is_optional, "optional"), (argument.is_multiple, "multiple")];
        let flags: Vec<_> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
        let has = [argument.token.is_some(), !flags.is_empty(), parts.is_some()];
        replies.map(2 + has.into_iter().filter(|has| *has).count());
        replies.bulk("name");
        replies.bulk(&argument.name);
        replies.bulk("type");
        replies.bulk(kind);
        if let Some(token) = argument.token {
            replies.bulk("token");
            replies.bulk(token);
        }
        if !flags.is_empty() {
            replies.bulk("flags");
            replies.set(flags.len());
            flags.iter().for_each(|flag| replies.simple(flag));
        }
        if let Some(parts) = parts {
            replies.bulk("arguments");
            tell_arguments(parts, replies);
        }
    }
}

fn info(command: &Command, replies: &mut Replies<'_>) {
    let flags: Vec<_> = command.flags.names().collect();
    replies.array(10);
    replies.bulk(command.name);
    replies.integer(command.arity.into());
    replies.set(flags.len());
    flags.iter().for_each(|flag| replies.simple(flag));
    replies.integer(command.keys.first.into());
    replies.integer(command.keys.last.into());
    replies.integer(command.keys.step.into());
    // Categories of access control, hints, specifications of keys and subcommands: there are none.
    replies.set(0);
    replies.array(0);
    replies.array(0);
    replies.array(0);
}
