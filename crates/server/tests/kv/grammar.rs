//! What can be said to a key-value store, and dice that choose from it.
//!
//! A sentence is words with blanks between. Words of one capital letter stand for arguments ([`Speaker::argument`]);
//! `( a | b )` is one of them, `[ a | b ]` is one or none, a `*` behind the bracket makes it up to three, a `+` one to three.

/// Numbers that come the same from the same seed (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    /// So often of a thousand times.
    pub(crate) fn hits(&mut self, of_thousand: usize) -> bool {
        self.below(1000) < of_thousand
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Commands with how often each is said, what kind of key they are about, and what follows their name.
pub(crate) const SENTENCES: &[(&str, u32, char, &str)] = &[
    ("append", 8, 's', "K V"),
    ("decr", 4, 's', "K"),
    ("decrby", 4, 's', "K N"),
    ("get", 10, 's', "K"),
    ("getdel", 3, 's', "K"),
    ("getex", 8, 's', "K [ EX R | PX P | EXAT A | PXAT B | PERSIST | EX N PERSIST | NX | PERSIST EX R ]"),
    ("getrange", 8, 's', "K I I"),
    ("getset", 4, 's', "K V"),
    ("incr", 6, 's', "K"),
    ("incrby", 6, 's', "K N"),
    // Sums of numbers beyond what people count are rounded otherwise: these have keys of their own.
    ("incrbyfloat", 8, 'f', "K F"),
    ("incrbyfloat", 3, 's', "K ( x | inf | nan )"),
    ("set", 4, 'f', "K F"),
    ("get", 3, 'f', "K"),
    (
        "lcs",
        4,
        's',
        "K K [ LEN | IDX | IDX MINMATCHLEN I | IDX WITHMATCHLEN | IDX LEN | WITHMATCHLEN | MINMATCHLEN ]*",
    ),
    ("mget", 6, 's', "( K | J )+"),
    ("mset", 5, 's', "( K V )+"),
    ("msetnx", 4, 's', "( K V )+"),
    ("psetex", 4, 's', "K P V"),
    (
        "set",
        25,
        's',
        "K V [ EX R | PX P | EXAT A | PXAT B | KEEPTTL | NX | XX | GET | NX GET | XX GET KEEPTTL ]*",
    ),
    ("set", 25, 's', "K V"),
    ("setex", 4, 's', "K R V"),
    ("setnx", 4, 's', "K V"),
    ("setrange", 8, 's', "K I V"),
    ("strlen", 5, 's', "K"),
    ("substr", 2, 's', "K I I"),
    ("copy", 8, '?', "K K [ REPLACE | DB D | DB N ]*"),
    ("del", 8, '?', "J+"),
    ("exists", 6, '?', "J+"),
    ("expire", 8, '?', "K ( R | N0 )"),
    ("expire", 3, '?', "K R [ NX | XX | GT | LT | GT XX | NX GT | GT LT ]*"),
    ("expireat", 8, '?', "K A [ NX | XX | GT | LT | LT XX | NX LT | GT LT ]*"),
    ("expiretime", 4, '?', "K"),
    ("keys", 1, '?', "Q"),
    ("object", 8, '?', "ENCODING K"),
    ("object", 3, '?', "( REFCOUNT K | ENCODING | ENCODING K K | FROB K | REFCOUNT )"),
    ("persist", 5, '?', "K"),
    ("pexpire", 4, '?', "K ( P | N0 ) [ NX | XX | GT | LT ]"),
    ("pexpireat", 6, '?', "K B [ NX | XX | GT | LT ]*"),
    ("pexpiretime", 4, '?', "K"),
    ("pttl", 6, '?', "K"),
    ("randomkey", 1, '?', ""),
    ("rename", 6, '?', "K J"),
    ("renamenx", 5, '?', "K J"),
    (
        "scan",
        3,
        '?',
        "( 0 | N | V ) [ MATCH Q | COUNT 100000 | COUNT 0 | COUNT V | TYPE string | TYPE zset | FROB 1 | MATCH ]*",
    ),
    ("touch", 3, '?', "J+"),
    ("ttl", 8, '?', "K"),
    ("type", 6, '?', "K"),
    ("unlink", 4, '?', "J+"),
    ("dbsize", 3, '?', ""),
    ("flushall", 1, '?', "[ ASYNC | SYNC | FROB | SYNC ASYNC ]"),
    ("flushdb", 1, '?', "[ ASYNC | SYNC | FROB ]"),
    (
        "memory",
        1,
        '?',
        "( USAGE | FROB | USAGE K SAMPLES V | USAGE K FROB 1 | USAGE K SAMPLES -1 | USAGE nokey )",
    ),
    ("move", 2, '?', "K ( D | N )"),
    ("swapdb", 1, '?', "( 0 1 | 1 2 | D D | N V )"),
    ("auth", 1, '?', "( V | default V | V V )"),
    (
        "client",
        2,
        '?',
        "( ID | GETNAME | SETNAME M | SETNAME V | FROB | SETNAME | GETNAME V | ID V | NO-EVICT V | KILL ID 0 | KILL ID V | KILL nobody:1 | KILL FROB 1 )",
    ),
    ("echo", 2, '?', "V"),
    (
        "hello",
        1,
        '?',
        "[ 2 | 3 | 3 SETNAME M | 2 SETNAME | 4 | N | V | 3 AUTH default V | 3 AUTH M V | 3 FROB | 2 SETNAME M AUTH default V ]",
    ),
    ("ping", 3, '?', "[ V ]"),
    ("reset", 1, '?', ""),
    ("select", 12, '?', "( D | D | D | D | N | V )"),
    ("command", 1, '?', "( FROB | INFO frob | COUNT V V )"),
    (
        "config",
        1,
        '?',
        "( GET databases | GET nothing-of-the-kind | SET | GET | FROB | RESETSTAT V | SET frob 1 | SET maxmemory frob | SET databases 5 )",
    ),
    ("slowlog", 1, '?', "( FROB | GET x | GET -2 | LEN V )"),
    ("time", 1, '?', "V"),
    ("publish", 2, '?', "W V"),
    (
        "pubsub",
        3,
        '?',
        "( CHANNELS | CHANNELS Q | NUMSUB W* | NUMSUB W W | NUMPAT | NUMPAT V | FROB | CHANNELS V V )",
    ),
    ("discard", 1, '?', ""),
    ("exec", 1, '?', ""),
    ("multi", 4, '?', ""),
    ("unwatch", 2, '?', ""),
    ("watch", 5, '?', "J+"),
    ("frobnicate", 1, '?', "V*"),
    ("blpop", 1, 'l', "frob"),
    // Lists.
    ("lindex", 6, 'l', "K I"),
    ("linsert", 5, 'l', "K ( BEFORE | AFTER | FROB ) M M"),
    ("llen", 5, 'l', "K"),
    ("lmove", 4, 'l', "K K ( LEFT | RIGHT | FROB ) ( LEFT | RIGHT )"),
    ("lpop", 6, 'l', "K [ C ]"),
    ("lpos", 4, 'l', "K M [ RANK C | COUNT C | MAXLEN C ]*"),
    ("lpush", 10, 'l', "K ( M | V )+"),
    ("lpushx", 4, 'l', "K M+"),
    ("lrange", 10, 'l', "K I I"),
    ("lrem", 6, 'l', "K C M"),
    ("lset", 6, 'l', "K I ( M | V )"),
    ("ltrim", 5, 'l', "K I I"),
    ("rpop", 6, 'l', "K [ C ]"),
    ("rpoplpush", 4, 'l', "K K"),
    ("rpush", 10, 'l', "K ( M | V )+"),
    ("rpushx", 4, 'l', "K M+"),
    // Sets.
    ("sadd", 16, 't', "K ( M | N | V )+"),
    ("scard", 5, 't', "K"),
    ("sdiff", 3, 't', "K+"),
    ("sdiffstore", 3, 't', "K K+"),
    ("sinter", 3, 't', "K+"),
    ("sinterstore", 3, 't', "K K+"),
    ("sismember", 5, 't', "K M"),
    ("smembers", 8, 't', "K"),
    ("smismember", 5, 't', "K M+"),
    ("smove", 4, 't', "K K M"),
    // What these choose is determined only if they take all.
    ("spop", 3, 't', "K ( 100000 | 0 | -1 | x )"),
    ("srandmember", 4, 't', "K ( 100000 | 0 | x )"),
    ("srem", 8, 't', "K ( M | N )+"),
    ("sscan", 3, 't', "K 0 COUNT 100000 [ MATCH Q ]"),
    ("sunion", 3, 't', "K+"),
    ("sunionstore", 3, 't', "K K+"),
    // Hashes.
    ("hdel", 8, 'h', "K M+"),
    ("hexists", 5, 'h', "K M"),
    ("hget", 8, 'h', "K M"),
    ("hgetall", 8, 'h', "K"),
    ("hincrby", 6, 'h', "K M N"),
    ("hincrbyfloat", 5, 'h', "K M F"),
    ("hkeys", 4, 'h', "K"),
    ("hlen", 5, 'h', "K"),
    ("hmget", 6, 'h', "K M+"),
    ("hmset", 5, 'h', "K ( M V )+"),
    ("hscan", 3, 'h', "K 0 COUNT 100000 [ MATCH Q ]"),
    ("hset", 14, 'h', "K ( M V | M N )+"),
    ("hsetnx", 5, 'h', "K M V"),
    ("hstrlen", 5, 'h', "K M"),
    ("hvals", 4, 'h', "K"),
    // Sorted sets.
    ("zadd", 16, 'z', "K ( S M )+"),
    ("zadd", 10, 'z', "K [ NX | XX | GT | LT | CH | INCR ]* ( S M )+"),
    ("zcard", 5, 'z', "K"),
    ("zcount", 6, 'z', "K X X"),
    ("zincrby", 8, 'z', "K S M"),
    ("zlexcount", 4, 'y', "K L L"),
    ("zmscore", 5, 'z', "K M+"),
    ("zpopmax", 5, 'z', "K [ C ]"),
    ("zpopmin", 5, 'z', "K [ C ]"),
    ("zrange", 10, 'z', "K I I [ WITHSCORES | REV | REV WITHSCORES ]"),
    ("zrange", 10, 'z', "K X X BYSCORE [ WITHSCORES | REV | LIMIT I C | LIMIT V ]*"),
    ("zadd", 6, 'y', "K ( 0 M )+"),
    // By name only what has the same score: else Redis does not say what comes.
    ("zrem", 2, 'y', "K M"),
    ("zrange", 6, 'y', "K L L BYLEX [ REV | LIMIT I C | WITHSCORES ]*"),
    ("zrange", 3, 'y', "K ( I I | X X | L L ) [ BYSCORE | BYLEX | REV | LIMIT I C | WITHSCORES ]*"),
    ("zrangebylex", 4, 'y', "K L L [ LIMIT I C ]"),
    ("zrangebyscore", 6, 'z', "K X X [ WITHSCORES | LIMIT I C | FROB ]*"),
    ("zrank", 6, 'z', "K M"),
    ("zrem", 8, 'z', "K M+"),
    ("zremrangebylex", 3, 'y', "K L L"),
    ("zremrangebyrank", 3, 'z', "K I I"),
    ("zremrangebyscore", 3, 'z', "K X X"),
    ("zrevrange", 5, 'z', "K I I [ WITHSCORES ]"),
    ("zrevrangebyscore", 5, 'z', "K X X [ WITHSCORES | LIMIT I C ]*"),
    ("zrevrank", 6, 'z', "K M"),
    ("zscore", 8, 'z', "K M"),
];

/// Makes sentences of what [`SENTENCES`] allow.
pub(crate) struct Speaker {
    pub(crate) dice: Dice,
    /// Deadlines that were said as a time from now on: each is far from each other.
    deadlines: u64,
}

impl Speaker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed), deadlines: 0 }
    }

    /// The words of a sentence about keys of a kind.
    pub(crate) fn speak(&mut self, sentence: &str, kind: char) -> Vec<Vec<u8>> {
        let words: Vec<&str> = sentence.split(' ').filter(|word| !word.is_empty()).collect();
        let mut said = Vec::new();
        self.phrase(&words, kind, &mut said);
        said
    }

    fn phrase(&mut self, mut words: &[&str], kind: char, said: &mut Vec<Vec<u8>>) {
        while let Some((word, rest)) = words.split_first() {
            if !["(", "["].contains(word) {
                words = rest;
                let times = self.times(word.get(1..).filter(|_| word.as_bytes()[0].is_ascii_uppercase()), 1);
                for _ in 0..times {
                    let argument = self.argument(word, kind);
                    said.push(argument);
                }
                continue;
            }
            let end = closing(rest);
            let choices = choices(&rest[..end]);
            let least = usize::from(*word == "(");
            for _ in 0..self.times(rest[end].get(1..), least) {
                let choice = choices[self.dice.below(choices.len())];
                self.phrase(choice, kind, said);
            }
            words = &rest[end + 1..];
        }
    }

    fn times(&mut self, suffix: Option<&str>, least: usize) -> usize {
        match suffix {
            Some("*") => self.dice.below(4),
            Some("+") => 1 + self.dice.below(3),
            _ if least == 0 => self.dice.below(2),
            _ => 1,
        }
    }

    fn argument(&mut self, word: &str, kind: char) -> Vec<u8> {
        const INTEGERS: &[&str] = &[
            "0",
            "1",
            "-1",
            "2",
            "10",
            "15",
            "16",
            "99",
            "255",
            "12345",
            "-7",
            "9999",
            "10000",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "+1",
            "01",
            "-0",
            "1.0",
            "",
            " 1",
            "1 ",
            "0x10",
            "99999999999999999999999",
            "4611686018427387904",
        ];
        const INDEXES: &[&str] = &[
            "0",
            "1",
            "2",
            "3",
            "5",
            "7",
            "10",
            "40",
            "200",
            "-1",
            "-2",
            "-3",
            "-10",
            "-300",
            "9223372036854775807",
            "-9223372036854775808",
            "536870912",
            "4294967296",
            "x",
        ];
        const COUNTS: &[&str] = &["0", "1", "1", "2", "3", "10", "-1", "-2", "9223372036854775807", "x"];
        const FLOATS: &[&str] = &[
            "0", "1", "-1", "0.5", "2.25", "-3.75", "10.5", "1e2", "5.0e3", "0.1", "+2", ".5", "3.", "x", "",
            "1 ", "inf", "nan", "-0", "100000",
        ];
        const SCORES: &[&str] = &[
            "0",
            "1",
            "2",
            "3",
            "-1",
            "1.5",
            "2.25",
            "-2.5",
            "1e3",
            "inf",
            "-inf",
            "+inf",
            "nan",
            "x",
            "",
            "0.1",
            "1e-5",
            "3.0000000000000004",
            "9007199254740993",
            "1e300",
        ];
        const BOUNDS: &[&str] = &[
            "-inf", "+inf", "0", "(0", "1", "(1", "2", "(2.25", "3", "-2", "(1e3", "inf", "x", "(", "",
            "(nan",
        ];
        const LEXES: &[&str] = &["-", "+", "[a", "(a", "[f", "(m3", "[m5", "[", "(", "a", "", "[z"];
        const PATTERNS: &[&str] =
            &["*", "s*", "?1", "[st]*", "[^s]*", "*1", "s[1-3]", "", "\\*", "[a-", "*\\", "n?thing", "m*"];
        const CHANNELS: &[&str] = &["ch1", "ch2", "ch3", "news", "a b"];
        const MEMBERS: &[&str] = &[
            "a", "b", "f", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "1", "2", "3", "", "-5",
            "z\0\r\n",
        ];
        let name = if word.as_bytes()[0].is_ascii_uppercase() { &word[..1] } else { word };
        if word.trim_end_matches(['+', '*']).len() > 1 && word != "N0" {
            return word.into();
        }
        match name {
            "K" => self.key(kind),
            "J" => self.key('?'),
            "V" => self.value(),
            "N" if word == "N0" => {
                self.dice.pick(&["0", "-1", "-100000", "9223372036854775807", "x", ""]).into()
            }
            "N" => self.dice.pick(INTEGERS).into(),
            "I" => self.dice.pick(INDEXES).into(),
            "C" => self.dice.pick(COUNTS).into(),
            "F" => self.dice.pick(FLOATS).into(),
            "S" => self.dice.pick(SCORES).into(),
            "X" => self.dice.pick(BOUNDS).into(),
            "L" => self.dice.pick(LEXES).into(),
            "Q" => self.dice.pick(PATTERNS).into(),
            "W" => self.dice.pick(CHANNELS).into(),
            "M" => self.dice.pick(MEMBERS).into(),
            "D" => self.dice.below(3).to_string().into(),
            "R" => self.relative(1).into(),
            "P" => self.relative(1000).into(),
            "A" => self.absolute(1).into(),
            "B" => self.absolute(1000).into(),
            _ => word.into(),
        }
    }

    pub(crate) fn key(&mut self, kind: char) -> Vec<u8> {
        const OTHERS: &[&str] = &["", "a key", "{tag}", "0", "nothing"];
        if ['f', 'y'].contains(&kind) {
            return format!("{kind}{}", 1 + self.dice.below(3)).into();
        }
        let kind = if kind == '?' || self.dice.hits(60) {
            self.dice.pick(&['s', 's', 'l', 't', 'h', 'z'])
        } else {
            kind
        };
        match self.dice.below(40) {
            0 => self.dice.pick(OTHERS).into(),
            1 => b"\xff\0\r\n\x80".to_vec(),
            _ => format!("{kind}{}", 1 + self.dice.below(5)).into(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        const VALUES: &[&str] = &[
            "hello",
            "world",
            "ohmytext",
            "mynewtext",
            "1",
            "0",
            "-5",
            "10",
            "3.5",
            "10000",
            "9999",
            "",
            "9223372036854775806",
            "-9223372036854775807",
            "EX",
            "NX",
            "a b",
            "two words",
            "012",
            "1e5",
            "3.0e3",
            "x\r\ny",
        ];
        match self.dice.below(12) {
            0 => (0..self.dice.below(60)).map(|_| self.dice.below(256) as u8).collect(),
            1 => {
                let (byte, len) =
                    (self.dice.pick(b"abc"), self.dice.pick(&[43, 44, 45, 64, 65, 200, 1023, 1024, 1025]));
                vec![byte; len]
            }
            _ => self.dice.pick(VALUES).into(),
        }
    }

    fn relative(&mut self, unit: u64) -> String {
        const WRONG: &[&str] =
            &["0", "-1", "-100000", "x", "", "9223372036854775807", "-9223372036854775808", "1.5"];
        if self.dice.hits(120) {
            return self.dice.pick(WRONG).into();
        }
        self.deadlines += 1;
        ((10_000 + 100 * self.deadlines) * unit).to_string()
    }

    fn absolute(&mut self, unit: u64) -> String {
        const WRONG: &[&str] =
            &["0", "-1", "x", "", "9223372036854775807", "9223372036854775", "1", "1000000"];
        if self.dice.hits(200) {
            return self.dice.pick(WRONG).into();
        }
        ((10_000_000_000 + self.dice.below(20) as u64) * unit).to_string()
    }
}

/// Where the bracket closes that was open before `words`.
fn closing(words: &[&str]) -> usize {
    let mut depth = 0;
    let closes = |word: &&str| {
        depth += usize::from(["(", "["].contains(word));
        let ends = word.starts_with([')', ']']);
        let is_it = ends && depth == 0;
        depth -= usize::from(ends && depth > 0);
        is_it
    };
    words.iter().position(closes).unwrap()
}

/// What bars part, outside of brackets.
fn choices<'a, 'b>(words: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (index, word) in words.iter().enumerate() {
        depth += i32::from(["(", "["].contains(word)) - i32::from(word.starts_with([')', ']']));
        if depth == 0 && *word == "|" {
            parts.push(&words[start..index]);
            start = index + 1;
        }
    }
    parts.push(&words[start..]);
    parts
}
