//! What commands take, as people write it: words in capitals as they are, others for what is meant; `[maybe]`, `<one|of these>`,
//! `again [again ...]`.

/// What the command of that name takes.
pub(super) fn usage(name: &str) -> &'static str {
    match name {
        "append" | "getset" | "setnx" => "key value",
        "copy" => "source destination [DB database] [REPLACE]",
        "decr" | "expiretime" | "get" | "getdel" | "hgetall" | "hkeys" | "hlen" | "hvals" | "incr"
        | "llen" | "persist" | "pexpiretime" | "pttl" | "scard" | "smembers" | "strlen" | "ttl" | "type"
        | "zcard" => "key",
        "decrby" => "key decrement",
        "del" | "delete" | "exists" | "mget" | "touch" | "unlink" | "watch" => "key [key ...]",
        "echo" => "message",
        "expire" => "key seconds [NX|XX|GT|LT]",
        "expireat" => "key unix-time-seconds [NX|XX|GT|LT]",
        "flushall" | "flushdb" => "[ASYNC|SYNC]",
        "getex" => {
            "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]"
        }
        "getrange" | "substr" => "key start end",
        "hdel" | "hmget" => "key field [field ...]",
        "hexists" | "hget" | "hstrlen" => "key field",
        "hincrby" => "key field increment",
        "hmset" | "hset" => "key field value [field value ...]",
        "hsetnx" => "key field value",
        "incrby" | "incrbyfloat" => "key increment",
        "keys" => "pattern",
        "lcs" => "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        "lindex" => "key index",
        "lpop" | "rpop" | "spop" | "srandmember" | "zpopmax" | "zpopmin" => "key [count]",
        "lpush" | "lpushx" | "rpush" | "rpushx" => "key element [element ...]",
        "lrange" | "ltrim" => "key start stop",
        "lrem" => "key count element",
        "lset" => "key index element",
        "memory" => "<USAGE key [SAMPLES count]|HELP>",
        "mset" | "msetnx" => "key value [key value ...]",
        "object" => "<ENCODING key|FREQ key|IDLETIME key|REFCOUNT key|HELP>",
        "pexpire" => "key milliseconds [NX|XX|GT|LT]",
        "pexpireat" => "key unix-time-milliseconds [NX|XX|GT|LT]",
        "psetex" => "key milliseconds value",
        "rename" | "renamenx" => "key newkey",
        "sadd" | "smismember" | "srem" | "zmscore" | "zrem" => "key member [member ...]",
        "scan" => "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        "set" => {
            "key value [NX|XX] [GET] \
             [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]"
        }
        "setex" => "key seconds value",
        "setrange" => "key offset value",
        "sismember" | "zrank" | "zrevrank" | "zscore" => "key member",
        "zadd" => "key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]",
        "zcount" => "key min max",
        "zincrby" => "key increment member",
        "zrange" => "key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        "zrangebyscore" => "key min max [WITHSCORES] [LIMIT offset count]",

        "auth" => "[username] password",
        "bgsave" => "[SCHEDULE]",
        "client" => {
            "<GETNAME|ID|INFO|KILL option value [option value ...]|LIST [TYPE type] [ID id [id ...]]|NO-EVICT <ON|OFF>\
             |SETINFO <LIB-NAME name|LIB-VER version>|SETNAME name|HELP>"
        }
        "command" => "[COUNT|DOCS [name ...]|INFO [name ...]|LIST|HELP]",
        "config" => "<GET pattern [pattern ...]|SET parameter value [parameter value ...]|RESETSTAT|HELP>",
        "hello" => "[protover [AUTH username password] [SETNAME name]]",
        "info" => "[section ...]",
        "latency" => "<HISTOGRAM [command ...]|LATEST|HISTORY event|RESET [event ...]|DOCTOR|HELP>",
        "ping" => "[message]",
        "psubscribe" => "pattern [pattern ...]",
        "publish" => "channel message",
        "pubsub" => "<CHANNELS [pattern]|NUMPAT|NUMSUB [channel ...]|HELP>",
        "punsubscribe" => "[pattern ...]",
        "select" => "index",
        "shutdown" => "[NOSAVE|SAVE] [NOW] [FORCE]",
        "slowlog" => "<GET [count]|LEN|RESET|HELP>",
        "subscribe" => "channel [channel ...]",
        "unsubscribe" => "[channel ...]",
        _ => "",
    }
}

/// An argument of a command, or several that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    /// What is meant; of a word that stands for itself, that in lower case.
    pub name: String,
    /// The word in front of it, or that it is.
    pub token: Option<&'static str>,
    /// Whether it may be missing.
    pub is_optional: bool,
    /// Whether there may be more of it.
    pub is_multiple: bool,
    /// What it is made of.
    pub parts: Parts,
}

/// What an argument is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parts {
    /// One word that is meant.
    #[default]
    Word,
    /// Nothing but its token.
    Token,
    /// One of these.
    OneOf(Vec<Argument>),
    /// All of these.
    Block(Vec<Argument>),
}

/// What the command of that name takes, taken apart.
pub fn arguments(name: &str) -> Vec<Argument> {
    let usage = usage(name);
    let mut words = Words { rest: usage };
    words.sequence()
}

struct Words {
    rest: &'static str,
}

impl Words {
    /// The next word, or one of `[ ] < > |`.
    fn next(&mut self) -> Option<&'static str> {
        let rest = self.rest.trim_start();
        let is_mark = |letter: char| "[]<>|".contains(letter);
        let end = rest.find(|letter: char| is_mark(letter) || letter == ' ').unwrap_or(rest.len());
        let end = if rest.starts_with(is_mark) { 1 } else { end };
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn is_next(&self, mark: char) -> bool {
        self.rest.trim_start().starts_with(mark)
    }

    /// Arguments one behind the other, up to what closes them.
    fn sequence(&mut self) -> Vec<Argument> {
        let mut arguments: Vec<Argument> = Vec::new();
        while !["]", ">", "|"].iter().any(|mark| self.rest.trim_start().starts_with(mark)) {
            match self.next() {
                None => break,
                Some("[") => {
                    let mut group = self.alternatives();
                    group.is_optional = true;
                    if !std::mem::take(&mut group.is_multiple) {
                        arguments.push(group);
                        continue;
                    }
                    let named = group.name.clone();
                    let count = if let Parts::Block(parts) = &group.parts { parts.len() } else { 1 };
                    let again = arguments.split_off(arguments.len().saturating_sub(count));
                    let mut before = combined(again.clone());
                    if before.name == named {
                        before.is_multiple = true;
                        arguments.push(before);
                    } else {
                        // There may be none of it, too.
                        arguments.extend(again);
                        arguments.push(Argument { is_multiple: true, ..group });
                    }
                }
                Some("<") => arguments.push(self.alternatives()),
                Some("...") => {
                    let mut again = combined(std::mem::take(&mut arguments));
                    again.is_multiple = true;
                    arguments.push(again);
                }
                Some(word) if word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '-') => {
                    let name = word.to_ascii_lowercase();
                    let token = Some(word);
                    arguments.push(Argument { name, token, parts: Parts::Token, ..Argument::default() });
                }
                Some(word) => arguments.push(Argument { name: word.into(), ..Argument::default() }),
            }
        }
        arguments
    }

    /// What is between two marks, the second of which is taken.
    fn alternatives(&mut self) -> Argument {
        let mut all = vec![combined(self.sequence())];
        while self.is_next('|') {
            self.next();
            all.push(combined(self.sequence()));
        }
        self.next();
        match all.len() {
            1 => all.remove(0),
            _ => Argument { name: "choice".into(), parts: Parts::OneOf(all), ..Argument::default() },
        }
    }
}

/// Several as one; a token in front belongs to what follows it.
fn combined(mut arguments: Vec<Argument>) -> Argument {
    let has_token = arguments.len() > 1 && arguments.first().is_some_and(|first| first.parts == Parts::Token);
    let token = has_token.then(|| arguments.remove(0)).and_then(|first| first.token);
    if let (1, Some(only)) = (arguments.len(), arguments.first()) {
        if token.is_none() || (only.token.is_none() && !only.is_optional && !only.is_multiple) {
            let only = arguments.remove(0);
            return Argument { token: token.or(only.token), ..only };
        }
    }
    let name = match token {
        Some(token) => token.to_ascii_lowercase(),
        None => arguments.iter().map(|part| &*part.name).collect::<Vec<_>>().join("-"),
    };
    Argument { name, token, parts: Parts::Block(arguments), ..Argument::default() }
}

#[cfg(test)]
mod tests {
    use super::super::COMMANDS;
    use super::*;

    /// The fewest words that it can be.
    fn least(argument: &Argument) -> usize {
        if argument.is_optional {
            return 0;
        }
        let token = usize::from(argument.token.is_some());
        match &argument.parts {
            Parts::Word => token + 1,
            Parts::Token => 1,
            Parts::OneOf(parts) => token + parts.iter().map(least).min().unwrap_or(0),
            Parts::Block(parts) => token + parts.iter().map(least).sum::<usize>(),
        }
    }

    fn is_fixed(argument: &Argument) -> bool {
        !argument.is_optional && !argument.is_multiple && argument.parts == Parts::Word
    }

    /// As it was written.
    fn written(argument: &Argument) -> String {
        let join = |parts: &[Argument], mark: &str| parts.iter().map(written).collect::<Vec<_>>().join(mark);
        let text = match &argument.parts {
            Parts::Word => argument.name.clone(),
            Parts::Token => String::new(),
            Parts::OneOf(parts) if argument.is_optional && argument.token.is_none() => join(parts, "|"),
            Parts::OneOf(parts) => format!("<{}>", join(parts, "|")),
            Parts::Block(parts) => join(parts, " "),
        };
        let words = [argument.token.unwrap_or_default(), &text];
        let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        match (argument.is_optional, argument.is_multiple) {
            (true, true) => format!("[{text} ...]"),
            (true, false) => format!("[{text}]"),
            (false, true) => format!("{text} [{text} ...]"),
            (false, false) => text,
        }
    }

    #[test]
    fn every_command_takes_as_many_words_as_its_arity_says() {
        for command in COMMANDS {
            let arguments = arguments(command.name);
            let words = 1 + arguments.iter().map(least).sum::<usize>();
            assert_eq!(words, usize::from(command.arity.unsigned_abs()), "{}", command.name);
            let is_silent = ["exit", "quit"].contains(&command.name);
            assert!(arguments.iter().all(is_fixed) == (command.arity > 0) || is_silent, "{}", command.name);
        }
    }

    #[test]
    fn what_was_taken_apart_is_what_was_written() {
        for command in COMMANDS {
            let arguments = arguments(command.name);
            let again = arguments.iter().map(written).collect::<Vec<_>>().join(" ");
            assert_eq!(again, usage(command.name), "{}", command.name);
        }
    }

    #[test]
    fn tokens_belong_to_what_follows_them() {
        let set = arguments("set");
        let Parts::OneOf(expiry) = &set[4].parts else { panic!("{set:?}") };
        assert_eq!((expiry[0].token, &*expiry[0].name), (Some("EX"), "seconds"));
        assert_eq!((expiry[4].token, &expiry[4].parts), (Some("KEEPTTL"), &Parts::Token));
        let zadd = arguments("zadd");
        let pairs = zadd.last().expect("it has some");
        assert!(pairs.is_multiple && matches!(&pairs.parts, Parts::Block(parts) if parts.len() == 2));
    }
}
