//! The table of commands.

use super::{Command, Flags, Group, KeyPositions, Run, hashes, keys, lists, sets, sorted_sets, strings};

const NO_FLAGS: Flags = Flags::NONE;
const FAST: Flags = Flags::FAST;
const W: Flags = Flags::WRITE;
const R: Flags = Flags::READONLY;
/// Writes, and may need memory.
const M: Flags = Flags::WRITE.and(Flags::DENYOOM);
const RF: Flags = R.and(Flags::FAST);
const WF: Flags = W.and(Flags::FAST);
const MF: Flags = M.and(Flags::FAST);

const NONE: KeyPositions = KeyPositions::NONE;
const ONE: KeyPositions = KeyPositions::ONE;
const TWO: KeyPositions = KeyPositions::TWO;
const ALL: KeyPositions = KeyPositions::ALL;
const PAIRS: KeyPositions = KeyPositions::PAIRS;
const SECOND: KeyPositions = KeyPositions::SECOND;

const fn data(
    group: Group,
    name: &'static str,
    arity: i8,
    flags: Flags,
    keys: KeyPositions,
    run: Run,
    summary: &'static str,
) -> Command {
    Command { name, arity, flags, keys, group, summary, run: Some(run) }
}

/// One that concerns connections, messages or the server.
const fn other(group: Group, name: &'static str, arity: i8, flags: Flags, summary: &'static str) -> Command {
    Command { name, arity, flags, keys: NONE, group, summary, run: None }
}

/// All commands there are.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    data(Group::String, "append", 3, MF, ONE, strings::append, "Appends to a string, or begins one."),
    data(Group::String, "decr", 2, MF, ONE, strings::decr, "Subtracts one."),
    data(Group::String, "decrby", 3, MF, ONE, strings::decrby, "Subtracts a number."),
    data(Group::String, "get", 2, RF, ONE, strings::get, "Tells a string."),
    data(Group::String, "getdel", 2, WF, ONE, strings::getdel, "Tells a string and removes it."),
    data(Group::String, "getex", -2, WF, ONE, strings::getex, "Tells a string and sets until when it lives."),
    data(Group::String, "getrange", 4, R, ONE, strings::getrange, "Tells a part of a string."),
    data(Group::String, "getset", 3, MF, ONE, strings::getset, "Sets a string and tells the old one."),
    data(Group::String, "incr", 2, MF, ONE, strings::incr, "Adds one."),
    data(Group::String, "incrby", 3, MF, ONE, strings::incrby, "Adds a number."),
    data(Group::String, "incrbyfloat", 3, MF, ONE, strings::incrbyfloat, "Adds a number with a fraction."),
    data(Group::String, "lcs", -3, R, TWO, strings::lcs, "Tells the longest common subsequence of two strings."),
    data(Group::String, "mget", -2, RF, ALL, strings::mget, "Tells several strings."),
    data(Group::String, "mset", -3, M, PAIRS, strings::mset, "Sets several strings."),
    data(Group::String, "msetnx", -3, M, PAIRS, strings::msetnx, "Sets several strings if none of the keys is there."),
    data(Group::String, "psetex", 4, M, ONE, strings::psetex, "Sets a string that lives for some milliseconds."),
    data(Group::String, "set", -3, M, ONE, strings::set, "Sets a string."),
    data(Group::String, "setex", 4, M, ONE, strings::setex, "Sets a string that lives for some seconds."),
    data(Group::String, "setnx", 3, MF, ONE, strings::setnx, "Sets a string if the key is not there."),
    data(Group::String, "setrange", 4, M, ONE, strings::setrange, "Overwrites a part of a string."),
    data(Group::String, "strlen", 2, RF, ONE, strings::strlen, "Tells how long a string is."),
    data(Group::String, "substr", 4, R, ONE, strings::getrange, "Tells a part of a string."),

    data(Group::Generic, "copy", -3, M, TWO, keys::copy, "Copies a key."),
    data(Group::Generic, "del", -2, W, ALL, keys::del, "Removes keys."),
    data(Group::Generic, "delete", -2, W, ALL, keys::del, "Removes keys."),
    data(Group::Generic, "exists", -2, RF, ALL, keys::exists, "Tells how many of the keys are there."),
    data(Group::Generic, "expire", -3, WF, ONE, keys::expire, "Sets for how many seconds a key lives."),
    data(Group::Generic, "expireat", -3, WF, ONE, keys::expireat, "Sets until when a key lives."),
    data(Group::Generic, "expiretime", 2, RF, ONE, keys::expiretime, "Tells until when a key lives."),
    data(Group::Generic, "keys", 2, R.and(Flags::EVERY_KEY), NONE, keys::keys, "Tells all keys that a pattern describes."),
    data(Group::Generic, "object", -2, R, SECOND, keys::object, "Tells how a key is kept."),
    data(Group::Generic, "persist", 2, WF, ONE, keys::persist, "Has a key live until it is removed."),
    data(Group::Generic, "pexpire", -3, WF, ONE, keys::pexpire, "Sets for how many milliseconds a key lives."),
    data(Group::Generic, "pexpireat", -3, WF, ONE, keys::pexpireat, "Sets until when a key lives, in milliseconds."),
    data(Group::Generic, "pexpiretime", 2, RF, ONE, keys::pexpiretime, "Tells until when a key lives, in milliseconds."),
    data(Group::Generic, "pttl", 2, RF, ONE, keys::pttl, "Tells for how many milliseconds a key lives."),
    data(Group::Generic, "randomkey", 1, R.and(Flags::EVERY_KEY), NONE, keys::randomkey, "Tells any key."),
    data(Group::Generic, "rename", 3, W, TWO, keys::rename, "Renames a key."),
    data(Group::Generic, "renamenx", 3, WF, TWO, keys::renamenx, "Renames a key if the other is not there."),
    data(Group::Generic, "scan", -2, R.and(Flags::EVERY_KEY), NONE, keys::scan, "Tells some of the keys, and where to go on."),
    data(Group::Generic, "touch", -2, RF, ALL, keys::touch, "Counts as having asked for keys."),
    data(Group::Generic, "ttl", 2, RF, ONE, keys::ttl, "Tells for how many seconds a key lives."),
    data(Group::Generic, "type", 2, RF, ONE, keys::type_of, "Tells what a key holds."),
    data(Group::Generic, "unlink", -2, WF, ALL, keys::del, "Removes keys."),

    data(Group::List, "lindex", 3, R, ONE, lists::lindex, "Tells an element of a list."),
    data(Group::List, "llen", 2, RF, ONE, lists::llen, "Tells how many elements a list has."),
    data(Group::List, "lpop", -2, WF, ONE, lists::lpop, "Takes elements off the beginning of a list."),
    data(Group::List, "lpush", -3, MF, ONE, lists::lpush, "Puts elements in front of a list, or begins one."),
    data(Group::List, "lpushx", -3, MF, ONE, lists::lpushx, "Puts elements in front of a list if it is there."),
    data(Group::List, "lrange", 4, R, ONE, lists::lrange, "Tells a part of a list."),
    data(Group::List, "lrem", 4, W, ONE, lists::lrem, "Removes elements that are equal to one."),
    data(Group::List, "lset", 4, M, ONE, lists::lset, "Replaces an element of a list."),
    data(Group::List, "ltrim", 4, W, ONE, lists::ltrim, "Removes all but a part of a list."),
    data(Group::List, "rpop", -2, WF, ONE, lists::rpop, "Takes elements off the end of a list."),
    data(Group::List, "rpush", -3, MF, ONE, lists::rpush, "Puts elements behind a list, or begins one."),
    data(Group::List, "rpushx", -3, MF, ONE, lists::rpushx, "Puts elements behind a list if it is there."),

    data(Group::Set, "sadd", -3, MF, ONE, sets::sadd, "Puts members into a set, or begins one."),
    data(Group::Set, "scard", 2, RF, ONE, sets::scard, "Tells how many members a set has."),
    data(Group::Set, "sismember", 3, RF, ONE, sets::sismember, "Tells whether a set has a member."),
    data(Group::Set, "smembers", 2, R, ONE, sets::smembers, "Tells all members of a set."),
    data(Group::Set, "smismember", -3, RF, ONE, sets::smismember, "Tells which members a set has."),
    data(Group::Set, "spop", -2, WF, ONE, sets::spop, "Takes any members out of a set."),
    data(Group::Set, "srandmember", -2, R, ONE, sets::srandmember, "Tells any members of a set."),
    data(Group::Set, "srem", -3, WF, ONE, sets::srem, "Removes members of a set."),

    data(Group::Hash, "hdel", -3, WF, ONE, hashes::hdel, "Removes fields of a hash."),
    data(Group::Hash, "hexists", 3, RF, ONE, hashes::hexists, "Tells whether a hash has a field."),
    data(Group::Hash, "hget", 3, RF, ONE, hashes::hget, "Tells the value of a field."),
    data(Group::Hash, "hgetall", 2, R, ONE, hashes::hgetall, "Tells all fields of a hash and their values."),
    data(Group::Hash, "hincrby", 4, MF, ONE, hashes::hincrby, "Adds a number to the value of a field."),
    data(Group::Hash, "hkeys", 2, R, ONE, hashes::hkeys, "Tells all fields of a hash."),
    data(Group::Hash, "hlen", 2, RF, ONE, hashes::hlen, "Tells how many fields a hash has."),
    data(Group::Hash, "hmget", -3, RF, ONE, hashes::hmget, "Tells the values of several fields."),
    data(Group::Hash, "hmset", -4, MF, ONE, hashes::hmset, "Sets fields of a hash, or begins one."),
    data(Group::Hash, "hset", -4, MF, ONE, hashes::hset, "Sets fields of a hash, or begins one."),
    data(Group::Hash, "hsetnx", 4, MF, ONE, hashes::hsetnx, "Sets a field of a hash if it is not there."),
    data(Group::Hash, "hstrlen", 3, RF, ONE, hashes::hstrlen, "Tells how long the value of a field is."),
    data(Group::Hash, "hvals", 2, R, ONE, hashes::hvals, "Tells the values of all fields of a hash."),

    data(Group::SortedSet, "zadd", -4, MF, ONE, sorted_sets::zadd, "Sets scores of members, or begins a sorted set."),
    data(Group::SortedSet, "zcard", 2, RF, ONE, sorted_sets::zcard, "Tells how many members a sorted set has."),
    data(Group::SortedSet, "zcount", 4, RF, ONE, sorted_sets::zcount, "Tells how many members have scores in a range."),
    data(Group::SortedSet, "zincrby", 4, MF, ONE, sorted_sets::zincrby, "Adds a number to the score of a member."),
    data(Group::SortedSet, "zmscore", -3, RF, ONE, sorted_sets::zmscore, "Tells the scores of several members."),
    data(Group::SortedSet, "zpopmax", -2, WF, ONE, sorted_sets::zpopmax, "Takes out the members with the highest scores."),
    data(Group::SortedSet, "zpopmin", -2, WF, ONE, sorted_sets::zpopmin, "Takes out the members with the lowest scores."),
    data(Group::SortedSet, "zrange", -4, R, ONE, sorted_sets::zrange, "Tells a part of a sorted set."),
    data(Group::SortedSet, "zrangebyscore", -4, R, ONE, sorted_sets::zrangebyscore, "Tells the members with scores in a range."),
    data(Group::SortedSet, "zrank", 3, RF, ONE, sorted_sets::zrank, "Tells how many members are before one."),
    data(Group::SortedSet, "zrem", -3, WF, ONE, sorted_sets::zrem, "Removes members of a sorted set."),
    data(Group::SortedSet, "zrevrank", 3, RF, ONE, sorted_sets::zrevrank, "Tells how many members are behind one."),
    data(Group::SortedSet, "zscore", 3, RF, ONE, sorted_sets::zscore, "Tells the score of a member."),

    data(Group::Server, "dbsize", 1, RF.and(Flags::EVERY_KEY), NONE, keys::dbsize, "Tells how many keys there are."),
    data(Group::Server, "flushall", -1, W.and(Flags::EVERY_KEY), NONE, keys::flushall, "Removes every key of every database."),
    data(Group::Server, "flushdb", -1, W.and(Flags::EVERY_KEY), NONE, keys::flushdb, "Removes every key of a database."),
    data(Group::Server, "memory", -2, R, SECOND, keys::memory, "Tells how much memory a key takes."),

    other(Group::Connection, "auth", -2, FAST.and(Flags::NO_AUTH), "Gives the password."),
    other(Group::Connection, "client", -2, NO_FLAGS, "Tells and sets what concerns connections."),
    other(Group::Connection, "echo", 2, FAST, "Tells what it was told."),
    other(Group::Connection, "exit", -1, FAST.and(Flags::NO_AUTH).and(Flags::NO_MULTI), "Ends the connection."),
    other(Group::Connection, "hello", -1, FAST.and(Flags::NO_AUTH), "Chooses the version of the protocol."),
    other(Group::Connection, "ping", -1, FAST, "Answers."),
    other(Group::Connection, "quit", -1, FAST.and(Flags::NO_AUTH).and(Flags::NO_MULTI), "Ends the connection."),
    other(Group::Connection, "reset", 1, FAST.and(Flags::NO_AUTH).and(Flags::NO_MULTI), "Has the connection be as new."),
    other(Group::Connection, "select", 2, FAST, "Chooses a database."),

    other(Group::Server, "bgrewriteaof", 1, Flags::ADMIN, "Writes the log anew, as short as it can be."),
    other(Group::Server, "bgsave", -1, Flags::ADMIN, "Writes the log anew, as short as it can be."),
    other(Group::Server, "command", -1, NO_FLAGS, "Tells of commands."),
    other(Group::Server, "config", -2, Flags::ADMIN, "Tells and sets how the server behaves."),
    other(Group::Server, "info", -1, Flags::EVERY_KEY, "Tells of the server in numbers."),
    other(Group::Server, "lastsave", 1, FAST, "Tells when the log was last written anew."),
    other(Group::Server, "latency", -2, Flags::ADMIN, "Tells how long commands took."),
    other(Group::Server, "monitor", 1, Flags::ADMIN, "Tells every command that comes from now on."),
    other(Group::Server, "save", 1, Flags::ADMIN, "Writes the log anew, as short as it can be."),
    other(Group::Server, "shutdown", -1, Flags::ADMIN, "Ends the server."),
    other(Group::Server, "slowlog", -2, Flags::ADMIN, "Tells which commands took long."),
    other(Group::Server, "time", 1, FAST, "Tells what time it is."),

    other(Group::Pubsub, "psubscribe", -2, Flags::PUBSUB, "Listens to channels that patterns describe."),
    other(Group::Pubsub, "publish", 3, Flags::PUBSUB.and(FAST), "Says something on a channel."),
    other(Group::Pubsub, "pubsub", -2, Flags::PUBSUB, "Tells of channels."),
    other(Group::Pubsub, "punsubscribe", -1, Flags::PUBSUB, "Listens no longer to what patterns describe."),
    other(Group::Pubsub, "subscribe", -2, Flags::PUBSUB, "Listens to channels."),
    other(Group::Pubsub, "unsubscribe", -1, Flags::PUBSUB, "Listens no longer to channels."),

    other(Group::Transactions, "discard", 1, FAST.and(Flags::NO_MULTI), "Forgets the commands since MULTI."),
    other(Group::Transactions, "exec", 1, Flags::NO_MULTI, "Carries out the commands since MULTI, together."),
    other(Group::Transactions, "multi", 1, FAST.and(Flags::NO_MULTI), "Keeps the commands that follow until EXEC."),
    other(Group::Transactions, "unwatch", 1, FAST, "Watches no key any more."),
    Command { keys: ALL, ..other(Group::Transactions, "watch", -2, FAST.and(Flags::NO_MULTI), "Has EXEC do nothing if one of the keys has changed.") },
];
