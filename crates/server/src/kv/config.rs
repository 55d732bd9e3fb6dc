//! CONFIG: what can be asked for and changed while the server runs.

use std::time::Duration;

use xferd_kv::commands::{help, is_word};
use xferd_kv::{DATABASES, Fsync, Refused, STRING_BYTES_MAX, matches};
use xferd_wire::resp::{Args, Replies};

use super::Kv;

/// Changes a parameter, or says why not.
type Set = fn(&Kv, &str) -> Result<(), String>;

/// A parameter, as Redis names it.
struct Parameter {
    name: &'static str,
    get: fn(&Kv) -> String,
    /// `None`: it is what it was when the server started.
    set: Option<Set>,
}

const fn fixed(name: &'static str, get: fn(&Kv) -> String) -> Parameter {
    Parameter { name, get, set: None }
}

const fn variable(name: &'static str, get: fn(&Kv) -> String, set: Set) -> Parameter {
    Parameter { name, get, set: Some(set) }
}

static PARAMETERS: &[Parameter] = &[
    variable(
        "appendfsync",
        |kv| kv.persistence.as_ref().map_or(Fsync::default(), |kept| kept.log().fsync()).name().into(),
        |kv, value| {
            let fsync = Fsync::named(value)
                .ok_or("argument(s) must be one of the following: always, everysec, no")?;
            let persistence = kv.persistence.as_ref().ok_or("keys are kept in memory only")?;
            persistence.log().set_fsync(fsync);
            Ok(())
        },
    ),
    fixed("appendonly", |kv| if kv.persistence.is_some() { "yes" } else { "no" }.into()),
    fixed("databases", |_| DATABASES.to_string()),
    fixed("maxclients", |kv| kv.connections_max.to_string()),
    variable(
        "maxmemory",
        |kv| kv.keyspace.limits().memory_max.unwrap_or(0).to_string(),
        |kv, value| {
            let bytes = parse_bytes(value).ok_or("argument must be a memory value")?;
            let mut limits = kv.keyspace.limits();
            limits.memory_max = (bytes > 0).then_some(bytes);
            kv.keyspace.set_limits(limits);
            Ok(())
        },
    ),
    variable(
        "maxmemory-policy",
        |kv| kv.keyspace.limits().policy.name().into(),
        |kv, value| {
            let mut limits = kv.keyspace.limits();
            limits.policy = value.parse().map_err(|error: xferd_kv::UnknownPolicy| error.to_string())?;
            kv.keyspace.set_limits(limits);
            Ok(())
        },
    ),
    fixed("proto-max-bulk-len", |_| STRING_BYTES_MAX.to_string()),
    fixed("save", |_| String::new()),
    variable(
        "slowlog-log-slower-than",
        |kv| kv.slowlog.threshold_us().to_string(),
        |kv, value| {
            kv.slowlog
                .set_threshold_us(value.parse().map_err(|_| "argument couldn't be parsed into an integer")?);
            Ok(())
        },
    ),
    variable(
        "slowlog-max-len",
        |kv| kv.slowlog.len_max().to_string(),
        |kv, value| {
            kv.slowlog.set_len_max(value.parse().map_err(|_| "argument couldn't be parsed into an integer")?);
            Ok(())
        },
    ),
    variable(
        "timeout",
        |kv| kv.idle().map_or(0, |idle| idle.as_secs()).to_string(),
        |kv, value| {
            let seconds: u32 = value.parse().map_err(|_| "argument couldn't be parsed into an integer")?;
            kv.set_idle((seconds > 0).then(|| Duration::from_secs(seconds.into())));
            Ok(())
        },
    ),
];

pub(super) fn config(kv: &Kv, args: Args<'_>, replies: &mut Replies<'_>) -> Result<(), Refused> {
    let word = args.get(1).unwrap_or_default();
    if is_word(word, "get") && args.len() > 2 {
        let wanted = |parameter: &&Parameter| {
            args.skip(2)
                .iter()
                .any(|pattern| matches(&pattern.to_ascii_lowercase(), parameter.name.as_bytes()))
        };
        let found: Vec<_> = PARAMETERS.iter().filter(wanted).collect();
        replies.map(found.len());
        for parameter in found {
            replies.bulk(parameter.name);
            replies.bulk((parameter.get)(kv));
        }
    } else if is_word(word, "set") {
        if args.len() % 2 != 0 {
            return Err(Refused::Syntax);
        }
        set(kv, args.skip(2))?;
        replies.simple("OK");
    } else if is_word(word, "resetstat") {
        kv.reset_stats();
        replies.simple("OK");
    } else if is_word(word, "help") {
        help(
            replies,
            "CONFIG",
            &[
                ("GET <pattern> [<pattern> ...]", "Parameters and what they are."),
                ("SET <directive> <value> [<directive> <value> ...]", "Changes parameters, all or none."),
                ("RESETSTAT", "Begins to count anew."),
            ],
        );
    } else {
        return Err(Refused::subcommand_arguments("CONFIG", word));
    }
    Ok(())
}

/// Changes all of them, or puts back what was.
fn set(kv: &Kv, pairs: Args<'_>) -> Result<(), Refused> {
    let refused = |name: &str, why: &str| {
        Refused::Told(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    };
    let text = |index| String::from_utf8_lossy(pairs.get(index).unwrap_or_default()).into_owned();
    let mut before: Vec<(&Parameter, String)> = Vec::new();
    for index in (0..pairs.len()).step_by(2) {
        let (name, value) = (text(index), text(index + 1));
        let parameter = PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(&name));
        let done = match parameter {
            None => Err(Refused::Told(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            ))),
            Some(Parameter { set: None, .. }) => Err(refused(&name, "can't set immutable config")),
            Some(parameter @ Parameter { set: Some(set), .. }) => {
                before.push((parameter, (parameter.get)(kv)));
                set(kv, &value).map_err(|why| refused(&name, &why))
            }
        };
        if done.is_err() {
            for (parameter, value) in before.into_iter().rev() {
                // It was that a now_ms ago.
                let _ = parameter.set.map(|set| set(kv, &value));
            }
            return done;
        }
    }
    Ok(())
}

/// A number of bytes, with one of Redis's units: `1gb` is 2³⁰ bytes, `1g` 10⁹.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_redis_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("1kb", Some(1024)),
            ("1K", Some(1000)),
            ("2gb", Some(2 << 30)),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
        for text in ["", "x", "-1", "1tb", "99999999999gb"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn parameters_are_in_the_order_of_their_names() {
        assert!(PARAMETERS.is_sorted_by_key(|parameter| parameter.name));
    }
}
