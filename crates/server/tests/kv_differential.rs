//! What Redis answers, our server answers.
//!
//! `KV_SEED` and `KV_COMMANDS` in the environment say with which seed to begin and how many commands to say.

#![allow(clippy::unwrap_used)]

mod kv;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use kv::generator::{CONNECTIONS, Generator};
use kv::redis::Redis;
use kv::rules::Rule;
use kv::{Client, Store, decoded, eventually, request, shown};
use xferd_wire::resp::Value;

/// Where we answer otherwise than Redis, and why. `*` stands for anything.
const WANTED: &[(&str, &str, &str, &str)] = &[
    ("*", "-ERR *\\\\xef\\\\xbf\\\\xbd*", "-ERR *", "error texts are UTF-8, also if what they quote is not"),
    ("client", "-ERR syntax error", "-ERR client-id should*", "options are counted before they are read"),
    ("*", "-ERR *\\\\x00*", "-ERR *", "Redis stops quoting at a zero"),
    ("client", "-ERR the name of a client has at most 256 bytes", "+OK", "there are limits to what is kept"),
    ("hello", "-ERR Syntax error*", "-WRONGPASS*", "options are read before a password is looked at"),
    ("hello", "-ERR the name of a client has at most 256 bytes", "*", "the same"),
    ("memory", "-ERR syntax error", "-ERR value is not an integer*", "the same"),
    ("object", ":1", ":*", "nothing is shared between keys, nor with what waits for EXEC"),
    (
        "scan",
        "-ERR invalid cursor",
        "*",
        "a cursor is a number; Redis takes nothing, and less than 0, for one",
    ),
];

/// Commands of one seed. A difference ends it, so that more seeds find more.
const COMMANDS_OF_A_SEED: usize = 5_000;
/// Commands in all, unless the environment says otherwise.
const COMMANDS: usize = 110_000;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// The same connections to both.
struct Pair {
    ours: Vec<Client>,
    theirs: Vec<Client>,
}

type Args = Vec<Vec<u8>>;

fn line(args: &Args) -> String {
    let shown = |arg: &Vec<u8>| match arg.len() {
        0..=80 => format!("\"{}\"", arg.escape_ascii()),
        len => format!("\"{}...\" ({len} bytes)", arg[..40].escape_ascii()),
    };
    args.iter().map(shown).collect::<Vec<_>>().join(" ")
}

impl Pair {
    fn new(store: &Store, redis: &Redis) -> Self {
        let ours = (0..CONNECTIONS).map(|_| Client::unix(&store.path())).collect();
        let theirs = (0..CONNECTIONS).map(|_| redis.client()).collect();
        Self { ours, theirs }
    }

    fn ask(&mut self, connection: usize, commands: &[Args]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bytes: Vec<u8> = commands.iter().flat_map(|args| request(args)).collect();
        self.ours[connection].say(&bytes);
        self.theirs[connection].say(&bytes);
        let next = |client: &mut Client| match client.try_raw() {
            Ok(reply) => reply.unwrap_or_else(|| b"-closed\r\n".to_vec()),
            Err(error) => format!("-{error}\r\n").into_bytes(),
        };
        // Behind what differs nothing more may come.
        let mut differ = false;
        let replies = (0..commands.len()).map_while(|_| {
            let (ours, theirs) = (next(&mut self.ours[connection]), next(&mut self.theirs[connection]));
            let goes_on = !differ;
            differ = [&ours, &theirs]
                .iter()
                .any(|reply| reply.starts_with(b"-closed") || reply.starts_with(b"-Resource"));
            goes_on.then_some((ours, theirs))
        });
        replies.collect()
    }

    /// The same keys are there, as a scan that nobody disturbs finds them.
    fn have_the_same_keys(&mut self, options: &Args) -> Result<(), String> {
        let scan = |client: &mut Client| {
            let (mut cursor, mut keys) = (b"0".to_vec(), BTreeSet::new());
            loop {
                let args: Args =
                    [b"SCAN".to_vec(), cursor].into_iter().chain(options.iter().cloned()).collect();
                client.send(&args);
                let reply = decoded(&client.raw().unwrap());
                let Value::Array(parts) = &reply else { return Err(shown(&reply)) };
                let [Value::Bulk(next), Value::Array(found)] = parts.as_slice() else {
                    return Err(shown(&reply));
                };
                keys.extend(found.iter().map(shown));
                if next == b"0" {
                    return Ok(keys);
                }
                cursor = next.clone();
            }
        };
        let (ours, theirs) = (scan(&mut self.ours[0]), scan(&mut self.theirs[0]));
        if ours == theirs {
            Ok(())
        } else {
            Err(format!("SCAN {}: ours {ours:?}, theirs {theirs:?}", line(options)))
        }
    }
}

/// Whether replies to a command say the same, or what differs is wanted. `queued` is what an EXEC carries out.
fn agree(args: &Args, ours: &Value, theirs: &Value, queued: &[Args]) -> bool {
    if args[0].eq_ignore_ascii_case(b"exec") {
        if let (Value::Array(ours), Value::Array(theirs)) = (ours, theirs) {
            let as_many = ours.len() == theirs.len() && ours.len() == queued.len();
            let mut all = ours.iter().zip(theirs).zip(queued);
            return as_many && all.all(|((ours, theirs), args)| agree(args, ours, theirs, &[]));
        }
    }
    if Rule::of(args).holds(ours, theirs) {
        return true;
    }
    let (name, ours, theirs) =
        (String::from_utf8_lossy(&args[0]).to_ascii_lowercase(), shown(ours), shown(theirs));
    let fits = |pattern: &str, text: &str| xferd_kv::matches(pattern.as_bytes(), text.as_bytes());
    WANTED
        .iter()
        .any(|(command, our, their, _)| fits(command, &name) && fits(our, &ours) && fits(their, &theirs))
}

/// Says `commands` commands from `seed` to both.
fn compare(
    store: &Store,
    redis: &Redis,
    known: &BTreeSet<String>,
    seed: u64,
    commands: usize,
) -> Result<(), String> {
    let mut pair = Pair::new(store, redis);
    let mut generator = Generator::new(seed, known);
    let mut queued: [Vec<Args>; CONNECTIONS] = Default::default();
    let mut history: Vec<(usize, Args)> = Vec::new();
    let mut versions = vec![vec![b"flushall".to_vec()]];
    if seed % 2 == 1 {
        versions.push(vec![b"hello".to_vec(), b"3".to_vec()]);
    }
    for connection in 0..CONNECTIONS {
        pair.ask(connection, &versions);
    }
    while history.len() < commands {
        let (connection, len) = generator.batch();
        let said: Vec<Args> = (0..len).flat_map(|_| generator.commands(connection)).collect();
        let replies = pair.ask(connection, &said);
        for (args, (ours, theirs)) in said.into_iter().zip(replies) {
            let index = history.len();
            if ours != theirs {
                let (our, their) = (decoded(&ours), decoded(&theirs));
                let is_null_of_other_kind = our == Value::Null && their == Value::Null;
                if is_null_of_other_kind || !agree(&args, &our, &their, &queued[connection]) {
                    let mut what = difference(seed, index, connection, &args, &ours, &theirs, &history);
                    if let (Value::Array(ours), Value::Array(theirs)) = (&our, &their) {
                        for ((ours, theirs), args) in ours.iter().zip(theirs).zip(&queued[connection]) {
                            if !agree(args, ours, theirs, &[]) {
                                what += &format!(
                                    " in it: {}\n  ours {}, theirs {}\n",
                                    line(args),
                                    shown(ours),
                                    shown(theirs)
                                );
                            }
                        }
                    }
                    return Err(what);
                }
            }
            if theirs == b"+QUEUED\r\n" {
                queued[connection].push(args.clone());
            } else if args[0].eq_ignore_ascii_case(b"exec") || !theirs.starts_with(b"-") {
                queued[connection].clear();
            }
            history.push((connection, args));
        }
        if generator.dice().hits(4) {
            let end: Args = vec![b"discard".to_vec()];
            (0..CONNECTIONS).for_each(|connection| drop(pair.ask(connection, std::slice::from_ref(&end))));
            queued = Default::default();
            let options = generator.phrase("[ MATCH Q | COUNT 3 | COUNT 1000 | TYPE string | TYPE hash ]");
            pair.have_the_same_keys(&options)
                .map_err(|what| format!("seed {seed}, command {}: {what}", history.len()))?;
        }
    }
    Ok(())
}

fn difference(
    seed: u64,
    index: usize,
    connection: usize,
    args: &Args,
    ours: &[u8],
    theirs: &[u8],
    history: &[(usize, Args)],
) -> String {
    let short = |bytes: &[u8]| bytes[..bytes.len().min(1500)].escape_ascii().to_string();
    let (ours, theirs) = (short(ours), short(theirs));
    let on_key = history.iter().enumerate().filter(|(_, (said_on, said))| match args.get(1) {
        Some(key) if args.len() > 1 => {
            said.iter().skip(1).any(|arg| arg == key) || said[0].eq_ignore_ascii_case(b"select")
        }
        _ => *said_on == connection,
    });
    let mut before: Vec<String> = on_key
        .rev()
        .take(20)
        .map(|(index, (connection, said))| format!("  {index} [{connection}] {}", line(said)))
        .collect();
    before.reverse();
    format!(
        "seed {seed}, command {index} on connection {connection}: {}\n  ours:   {ours}\n  theirs: {theirs}\n before:\n{}\n",
        line(args),
        before.join("\n")
    )
}

/// Commands that our server has.
fn known(store: &Store) -> BTreeSet<String> {
    let names: BTreeSet<&str> = kv::grammar::SENTENCES.iter().map(|(name, ..)| *name).collect();
    let mut client = store.client();
    let said: Vec<&str> = ["COMMAND", "INFO"].into_iter().chain(names.iter().copied()).collect();
    client.send(&said);
    let Value::Array(told) = decoded(&client.raw().unwrap()) else {
        panic!("COMMAND INFO tells of commands")
    };
    let is_known = |(name, told): (&str, Value)| (told != Value::Null).then(|| name.to_owned());
    names.into_iter().zip(told).filter_map(is_known).collect()
}

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let store = Store::new();
    let known = known(&store);
    // How long a command took is not to be compared.
    assert_eq!(store.client().ask(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"]), "+OK");
    let (first, commands) = (number("KV_SEED", 1), number("KV_COMMANDS", COMMANDS as u64) as usize);
    let mut differences = Vec::new();
    for seed in first..first + commands.div_ceil(COMMANDS_OF_A_SEED) as u64 {
        differences.extend(compare(&store, &redis, &known, seed, COMMANDS_OF_A_SEED.min(commands)).err());
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn commands_take_as_many_arguments_and_have_their_keys_where_redis_has_them() {
    let Some(redis) = Redis::start() else { return };
    let store = Store::new();
    let (mut ours, mut theirs) = (store.client(), redis.client());
    let tell = |client: &mut Client| -> BTreeMap<String, String> {
        client.send(&["COMMAND"]);
        let Value::Array(commands) = decoded(&client.raw().unwrap()) else {
            panic!("COMMAND tells of commands")
        };
        let told = commands.iter().map(|command| {
            let Value::Array(parts) = command else { panic!("a command is told of as an array") };
            // Name, arity, flags, first key, last key, step.
            let told = [&parts[1], &parts[3], &parts[4], &parts[5]].map(shown).join(" ");
            (shown(&parts[0]), told)
        });
        told.collect()
    };
    let theirs = tell(&mut theirs);
    // Which of the subcommands have a key Redis tells with each of them.
    let is_plain = |name: &str| !["$memory", "$object"].contains(&name);
    for (name, told) in tell(&mut ours).into_iter().filter(|(name, _)| is_plain(name)) {
        if let Some(their) = theirs.get(&name) {
            assert_eq!(told, *their, "{name}");
        }
    }
}

#[test]
fn what_is_no_request_is_answered_as_redis_answers_it() {
    let Some(redis) = Redis::start() else { return };
    let store = Store::new();
    for said in [
        &b"PING\r\n"[..],
        b"\r\n\r\nPING\r\n",
        b"ping \"a b\" c\r\n",
        b"ECHO 'it\\'s'\r\n",
        b"ECHO \"\\x41\\n\\q\"\r\n",
        b"ECHO \"a\"b\r\n",
        b"ECHO \"a\r\n",
        b"SET k v\nGET k\n",
        b"*0\r\nPING\r\n",
        b"*-1\r\nPING\r\n",
        b"*1\r\n$-2\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$9223372036854775808\r\n",
        b"*1\r\n$536870913\r\n",
        b"*x\r\n",
        b"*9223372036854775808\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n:1\r\n",
        b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\nPING\r\n",
        b"*1\r\n$0\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\nPING\r\n",
        b"Host: x\r\nPING\r\n",
    ] {
        let answer = |mut client: Client| {
            client.say(said);
            // The connection ends at the latest here.
            let _ = client.stream.write_all(b"\r\nQUIT\r\n");
            client.rest().escape_ascii().to_string()
        };
        let (ours, theirs) = (answer(Client::unix(&store.path())), answer(redis.client()));
        assert_eq!(ours, theirs, "{}", said.escape_ascii());
    }
}

#[test]
fn listeners_are_told_what_redis_tells_them() {
    const WORDS: &[&str] = &[
        "SUBSCRIBE W W*",
        "PSUBSCRIBE Q Q*",
        "UNSUBSCRIBE W W*",
        "PUNSUBSCRIBE Q Q*",
        "PING [ V ]",
        "GET x",
        "SUBSCRIBE",
        "PUNSUBSCRIBE",
        "UNSUBSCRIBE",
    ];
    let Some(redis) = Redis::start() else { return };
    let store = Store::new();
    for seed in 0..20 {
        let mut generator = Generator::new(seed, &BTreeSet::new());
        let mut sides = [Client::unix(&store.path()), redis.client()].map(|client| (client, Vec::new()));
        let mut publishers = [store.client(), redis.client()];
        if seed % 2 == 1 {
            sides.iter_mut().for_each(|(client, _)| {
                client.send(&["HELLO", "3"]);
                client.raw().unwrap();
            });
        }
        for round in 0..100 {
            let words = generator.dice().pick(WORDS);
            let (said, message) = (generator.phrase(words), generator.phrase("PUBLISH W V"));
            let marker = format!("marker-{round}");
            let told = sides.each_mut().map(|(client, messages)| {
                client.send(&said);
                client.send(&["PING", &marker]);
                let mut replies = Vec::new();
                loop {
                    let reply = client.next();
                    if reply.contains("message $") {
                        messages.push(reply);
                        continue;
                    }
                    if reply.contains(&marker) {
                        break replies;
                    }
                    replies.push(reply);
                }
            });
            // Which one it stops listening to first is not said if it is to all.
            let told = told.map(|mut replies| {
                if said.len() == 1 {
                    replies = replies.iter().flat_map(|reply| reply.split(' ').map(str::to_owned)).collect();
                    replies.sort();
                }
                replies
            });
            assert_eq!(told[0], told[1], "seed {seed}, round {round}: {}", line(&said));
            let heard = publishers.each_mut().map(|client| client.ask(&message));
            assert_eq!(heard[0], heard[1], "seed {seed}, round {round}: {}", line(&message));
        }
        for ((client, _), publisher) in sides.iter_mut().zip(&mut publishers) {
            client.send(&["SUBSCRIBE", "end"]);
            eventually("it listens", || publisher.ask(&["PUBSUB", "NUMSUB", "end"]) == "[$end :1]");
            publisher.ask(&["PUBLISH", "end", "end"]);
        }
        for (client, messages) in &mut sides {
            loop {
                let reply = client.next();
                if reply.contains("[$message $end $end]") {
                    break;
                }
                if reply.contains("message $") {
                    messages.push(reply);
                }
            }
        }
        // Which of several patterns comes first is not said.
        let [ours, theirs] = sides.map(|(client, mut messages)| {
            drop(client);
            messages.sort();
            messages
        });
        assert_eq!(ours, theirs, "seed {seed}");
        // The next seed's messages are not to be for them.
        for publisher in &mut publishers {
            eventually("they have gone", || publisher.ask(&["PUBSUB", "NUMPAT"]) == ":0");
            eventually("they have gone", || publisher.ask(&["PUBSUB", "CHANNELS"]) == "[]");
        }
    }
}
