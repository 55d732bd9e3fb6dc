/** The commands as methods: what they take, and what Redis replies to them. */
import type { KvArg, KvValue } from './codec.js'

/** The name of a key, of a field or of a channel. */
export type Key = string | Uint8Array
export type Value = KvArg
/** Some, one after another or in arrays. */
export type Some<T> = (T | readonly T[])[]
/** Names and what belongs to them: an object, a Map, or pairs. */
export type Fields = Readonly<Record<string, Value>> | Iterable<readonly [Key, Value]>
/** Members and their scores: an object, a Map, or pairs. */
export type Scores = Readonly<Record<string, number>> | Iterable<readonly [Key, number]>
/** A score, `'(1.5'` for one that is itself left out, `'-inf'`, `'+inf'`; for `by: 'lex'`, `'[a'`, `'(a'`, `'-'`, `'+'`. */
export type Bound = number | Key

/** Until when a key lives. At most one of them. */
export interface Expiry {
  /** Seconds from now on. */
  ex?: number
  /** Milliseconds from now on. */
  px?: number
  /** A time, in seconds since 1970 or as a date. */
  exAt?: number | Date
  /** A time, in milliseconds since 1970 or as a date. */
  pxAt?: number | Date
}

export interface SetOptions extends Expiry {
  /** The key keeps its deadline, which it loses otherwise. */
  keepTtl?: boolean
  /** Sets it only if the key is not there, or only if it is. */
  onlyIf?: 'absent' | 'present'
  /** Replies the string that was there before, whether or not it is set. */
  get?: boolean
}

export interface GetexOptions extends Expiry {
  /** The key lives until it is removed. */
  persist?: boolean
}

export interface ExpireOptions {
  /** Only if the key has no deadline; has one; has an earlier one; has a later one or none. */
  onlyIf?: ExpireCondition | ExpireCondition[]
}
export type ExpireCondition = 'persistent' | 'expiring' | 'later' | 'sooner'

export interface CopyOptions {
  /** The database to copy to. */
  database?: number
  /** Replaces the key that is there. */
  replace?: boolean
}

export interface ZaddOptions {
  /** Only members that are not there; that are; whose score grows thereby; or shrinks. */
  onlyIf?: ZaddCondition | ZaddCondition[]
  /** Counts members whose score has changed, too. */
  countChanged?: boolean
}
export type ZaddCondition = 'absent' | 'present' | 'greater' | 'less'

export interface LimitOptions {
  /** Leaves out so many, and tells at most so many. */
  limit?: { offset: number; count: number }
}

export interface ZrangeOptions extends LimitOptions {
  /** What the bounds are: ranks unless given. */
  by?: 'score' | 'lex'
  /** From the highest on; the first bound is the higher one then. */
  reverse?: boolean
}

export interface WithScores {
  withScores: true
}

/** A member of a sorted set. */
export interface Scored<B> {
  member: B
  score: number
}

export interface LcsMatch {
  /** The first and the last byte in each of the strings. */
  a: [first: number, last: number]
  b: [first: number, last: number]
  length: number
}

export interface ScanOptions {
  /** A pattern as `user:*`. */
  match?: Key
  /** How many keys are looked at for each request. */
  count?: number
  type?: KeyType | (string & {})
}

export type KeyType = 'string' | 'list' | 'set' | 'hash' | 'zset'

export interface SlowCommand {
  id: number
  at: Date
  microseconds: number
  args: string[]
  peer: string
  /** Of the connection; empty if it has none. */
  name: string
}

export interface CommandHistogram {
  calls: number
  /** How many calls took at most so many microseconds. */
  histogramUsec: Map<number, number>
}

export interface KillOptions {
  id?: number
  address?: string
  type?: 'normal' | 'pubsub'
  user?: string
  /** Whether the connection that says so is spared, as it is unless this is false. */
  skipMe?: boolean
}

/**
 * One method for each command, under its name in lower case; of commands in two words, in camel case. Options that are words in
 * Redis are fields of an object.
 *
 * Each rejects with an `XferdError` whose code is the first word of what the server said: `WRONGTYPE`, `OOM`, `NOAUTH`, mostly `ERR`.
 * `B` is what strings of any bytes are replied as, `string` or `Buffer`. Whole numbers beyond 2^53 are the nearest that a `number` can
 * be; `command` replies them exactly.
 */
export interface KvCommands<B extends string | Buffer = string> {
  // Strings

  /** Appends to a string, or begins one. How many bytes it has then. */
  append(key: Key, value: Value): Promise<number>
  /** Subtracts one. What is left. */
  decr(key: Key): Promise<number>
  /** Subtracts a whole number. What is left. */
  decrby(key: Key, by: number | bigint): Promise<number>
  /** The string; `null` if the key is not there. */
  get(key: Key): Promise<B | null>
  /** The string, which is removed. */
  getdel(key: Key): Promise<B | null>
  /** The string, and sets until when it lives. */
  getex(key: Key, options?: GetexOptions): Promise<B | null>
  /** The bytes from `start` to `end`, that one included; negative ones are counted from the end. */
  getrange(key: Key, start: number, end: number): Promise<B>
  /** Sets a string. The old one. */
  getset(key: Key, value: Value): Promise<B | null>
  /** Adds one. The sum. */
  incr(key: Key): Promise<number>
  /** Adds a whole number. The sum. */
  incrby(key: Key, by: number | bigint): Promise<number>
  /** Adds a number with a fraction. The sum. */
  incrbyfloat(key: Key, by: number): Promise<number>
  /** The longest common subsequence of two strings. */
  lcs(a: Key, b: Key): Promise<B>
  /** How long that is. */
  lcsLen(a: Key, b: Key): Promise<number>
  /** Where that is in both, from the end on. */
  lcsIdx(
    a: Key,
    b: Key,
    options?: { minMatchLength?: number },
  ): Promise<{ matches: LcsMatch[]; length: number }>
  /** Several strings; `null` for each key that is not there, or is no string. */
  mget(...keys: Some<Key>): Promise<(B | null)[]>
  /** Sets several strings at once. */
  mset(strings: Fields): Promise<'OK'>
  /** The same if none of the keys is there; 0 if one is. */
  msetnx(strings: Fields): Promise<0 | 1>
  /** Sets a string that lives for so many milliseconds. */
  psetex(key: Key, milliseconds: number, value: Value): Promise<'OK'>
  /** Sets a string; `null` if `onlyIf` was against it. */
  set(key: Key, value: Value, options?: SetOptions & { get?: false }): Promise<'OK' | null>
  /** Sets a string. The old one. */
  set(key: Key, value: Value, options: SetOptions & { get: true }): Promise<B | null>
  /** Sets a string that lives for so many seconds. */
  setex(key: Key, seconds: number, value: Value): Promise<'OK'>
  /** Sets a string if the key is not there; 0 if it is. */
  setnx(key: Key, value: Value): Promise<0 | 1>
  /** Overwrites bytes from `offset` on. How many it has then. */
  setrange(key: Key, offset: number, value: Value): Promise<number>
  /** How many bytes a string has; 0 if it is not there. */
  strlen(key: Key): Promise<number>
  /** As {@link getrange}, under its old name. */
  substr(key: Key, start: number, end: number): Promise<B>

  // Keys

  /** Copies a key; 0 if it is not there, or the other one is. */
  copy(from: Key, to: Key, options?: CopyOptions): Promise<0 | 1>
  /** Removes keys. How many there were. */
  del(...keys: Some<Key>): Promise<number>
  /** As {@link del}. */
  delete(...keys: Some<Key>): Promise<number>
  /** How many of the keys are there. */
  exists(...keys: Some<Key>): Promise<number>
  /** Sets for how many seconds a key lives; 0 if it is not there, or `onlyIf` was against it. */
  expire(key: Key, seconds: number, options?: ExpireOptions): Promise<0 | 1>
  /** Sets until when a key lives, in seconds since 1970. */
  expireat(key: Key, at: number | Date, options?: ExpireOptions): Promise<0 | 1>
  /** Until when a key lives, in seconds since 1970; -1: for ever; -2: it is not there. */
  expiretime(key: Key): Promise<number>
  /** All keys that a pattern describes. Of many, `scan` has the server do other things meanwhile. */
  keys(pattern: Key): Promise<B[]>
  /** How a value is kept; `null` if the key is not there. */
  objectEncoding(key: Key): Promise<string | null>
  /** How often a key was asked for, logarithmically, with the policy allkeys-lfu. */
  objectFreq(key: Key): Promise<number | null>
  /** For how many seconds a key was not asked for, with other policies. */
  objectIdletime(key: Key): Promise<number | null>
  /** How many refer to a value. */
  objectRefcount(key: Key): Promise<number | null>
  /** Has a key live until it is removed; 0 if it does already, or is not there. */
  persist(key: Key): Promise<0 | 1>
  /** Sets for how many milliseconds a key lives. */
  pexpire(key: Key, milliseconds: number, options?: ExpireOptions): Promise<0 | 1>
  /** Sets until when a key lives, in milliseconds since 1970. */
  pexpireat(key: Key, at: number | Date, options?: ExpireOptions): Promise<0 | 1>
  /** Until when a key lives, in milliseconds since 1970; -1: for ever; -2: it is not there. */
  pexpiretime(key: Key): Promise<number>
  /** For how many milliseconds a key lives; -1: for ever; -2: it is not there. */
  pttl(key: Key): Promise<number>
  /** Any key; `null` if there is none. */
  randomkey(): Promise<B | null>
  /** Renames a key, over the other if that is there. */
  rename(from: Key, to: Key): Promise<'OK'>
  /** Renames a key; 0 if the other is there. */
  renamenx(from: Key, to: Key): Promise<0 | 1>
  /** Counts as having asked for keys. How many are there. */
  touch(...keys: Some<Key>): Promise<number>
  /** For how many seconds a key lives; -1: for ever; -2: it is not there. */
  ttl(key: Key): Promise<number>
  /** What a key holds. */
  type(key: Key): Promise<KeyType | 'none'>
  /** As {@link del}. */
  unlink(...keys: Some<Key>): Promise<number>

  // Lists

  /** An element; negative indexes are counted from the end. */
  lindex(key: Key, index: number): Promise<B | null>
  /** How many elements a list has. */
  llen(key: Key): Promise<number>
  /** Takes the first element; `null` if there is none. */
  lpop(key: Key): Promise<B | null>
  /** Takes the first elements; `null` if the key is not there. */
  lpop(key: Key, count: number): Promise<B[] | null>
  /** Puts elements in front of a list, one after another. How many it has then. */
  lpush(key: Key, ...elements: Some<Value>): Promise<number>
  /** The same if there is such a list. */
  lpushx(key: Key, ...elements: Some<Value>): Promise<number>
  /** The elements from `start` to `end`, that one included; negative ones are counted from the end. */
  lrange(key: Key, start: number, end: number): Promise<B[]>
  /** Removes the first so many elements that are equal to one; the last ones if negative; all for 0. How many there were. */
  lrem(key: Key, count: number, element: Value): Promise<number>
  /** Replaces an element. */
  lset(key: Key, index: number, element: Value): Promise<'OK'>
  /** Removes all elements but those from `start` to `end`. */
  ltrim(key: Key, start: number, end: number): Promise<'OK'>
  /** Takes the last element; `null` if there is none. */
  rpop(key: Key): Promise<B | null>
  /** Takes the last elements; `null` if the key is not there. */
  rpop(key: Key, count: number): Promise<B[] | null>
  /** Puts elements behind a list, one after another. How many it has then. */
  rpush(key: Key, ...elements: Some<Value>): Promise<number>
  /** The same if there is such a list. */
  rpushx(key: Key, ...elements: Some<Value>): Promise<number>

  // Sets

  /** Puts members into a set. How many are new. */
  sadd(key: Key, ...members: Some<Value>): Promise<number>
  /** How many members a set has. */
  scard(key: Key): Promise<number>
  /** Whether a set has a member. */
  sismember(key: Key, member: Value): Promise<0 | 1>
  /** All members. */
  smembers(key: Key): Promise<B[]>
  /** Which of these a set has. */
  smismember(key: Key, ...members: Some<Value>): Promise<(0 | 1)[]>
  /** Takes any member out; `null` if there is none. */
  spop(key: Key): Promise<B | null>
  /** Takes so many out. */
  spop(key: Key, count: number): Promise<B[]>
  /** Any member; `null` if there is none. */
  srandmember(key: Key): Promise<B | null>
  /** So many different members; if negative, so many that may be the same. */
  srandmember(key: Key, count: number): Promise<B[]>
  /** Removes members. How many there were. */
  srem(key: Key, ...members: Some<Value>): Promise<number>

  // Hashes

  /** Removes fields. How many there were. */
  hdel(key: Key, ...fields: Some<Key>): Promise<number>
  /** Whether a hash has a field. */
  hexists(key: Key, field: Key): Promise<0 | 1>
  /** The value of a field; `null` if it is not there. */
  hget(key: Key, field: Key): Promise<B | null>
  /** All fields and their values; of a key that is not there, none. */
  hgetall(key: Key): Promise<Map<B, B>>
  /** Adds a whole number to the value of a field. The sum. */
  hincrby(key: Key, field: Key, by: number | bigint): Promise<number>
  /** All fields. */
  hkeys(key: Key): Promise<B[]>
  /** How many fields a hash has. */
  hlen(key: Key): Promise<number>
  /** The values of several fields; `null` for each that is not there. */
  hmget(key: Key, ...fields: Some<Key>): Promise<(B | null)[]>
  /** As {@link hset}, under its old name. */
  hmset(key: Key, fields: Fields): Promise<'OK'>
  /** Sets fields. How many are new. */
  hset(key: Key, fields: Fields): Promise<number>
  /** Sets a field; 1 if it is new. */
  hset(key: Key, field: Key, value: Value): Promise<number>
  /** Sets a field if it is not there; 0 if it is. */
  hsetnx(key: Key, field: Key, value: Value): Promise<0 | 1>
  /** How many bytes the value of a field has. */
  hstrlen(key: Key, field: Key): Promise<number>
  /** The values of all fields. */
  hvals(key: Key): Promise<B[]>

  // Sorted sets

  /** Sets scores of members. How many are new. */
  zadd(key: Key, scores: Scores, options?: ZaddOptions): Promise<number>
  /** Adds to the score of a member. The sum; `null` if `onlyIf` was against it. */
  zaddIncr(key: Key, by: number, member: Value, options?: ZaddOptions): Promise<number | null>
  /** How many members a sorted set has. */
  zcard(key: Key): Promise<number>
  /** How many members have scores from `min` to `max`. */
  zcount(key: Key, min: Bound, max: Bound): Promise<number>
  /** Adds to the score of a member. The sum. */
  zincrby(key: Key, by: number, member: Value): Promise<number>
  /** The scores of several members; `null` for each that is not there. */
  zmscore(key: Key, ...members: Some<Value>): Promise<(number | null)[]>
  /** Takes out the member with the highest score; `null` if there is none. */
  zpopmax(key: Key): Promise<Scored<B> | null>
  /** Takes out so many members, the highest scores first. */
  zpopmax(key: Key, count: number): Promise<Scored<B>[]>
  /** Takes out the member with the lowest score; `null` if there is none. */
  zpopmin(key: Key): Promise<Scored<B> | null>
  /** Takes out so many members, the lowest scores first. */
  zpopmin(key: Key, count: number): Promise<Scored<B>[]>
  /** The members from `start` to `stop`, that one included; ranks, negative ones counted from the end, unless `by` says otherwise. */
  zrange(key: Key, start: Bound, stop: Bound, options?: ZrangeOptions & { withScores?: false }): Promise<B[]>
  /** The same with their scores. */
  zrange(key: Key, start: Bound, stop: Bound, options: ZrangeOptions & WithScores): Promise<Scored<B>[]>
  /** The members with scores from `min` to `max`. */
  zrangebyscore(
    key: Key,
    min: Bound,
    max: Bound,
    options?: LimitOptions & { withScores?: false },
  ): Promise<B[]>
  /** The same with their scores. */
  zrangebyscore(key: Key, min: Bound, max: Bound, options: LimitOptions & WithScores): Promise<Scored<B>[]>
  /** How many members are before one; `null` if it is not there. */
  zrank(key: Key, member: Value): Promise<number | null>
  /** Removes members. How many there were. */
  zrem(key: Key, ...members: Some<Value>): Promise<number>
  /** How many members are behind one; `null` if it is not there. */
  zrevrank(key: Key, member: Value): Promise<number | null>
  /** The score of a member; `null` if it is not there. */
  zscore(key: Key, member: Value): Promise<number | null>

  /** Any command, and what the server replies to it; a name of two words is two arguments. */
  command(...args: [name: string, ...args: KvArg[]]): Promise<KvValue<B>>

  // Channels

  /** Says something on a channel. How many listened. */
  publish(channel: Key, message: Value): Promise<number>
  /** Channels that somebody listens to. */
  pubsubChannels(pattern?: Key): Promise<B[]>
  /** How many patterns somebody listens to. */
  pubsubNumpat(): Promise<number>
  /** How many listen to each of the channels. */
  pubsubNumsub(...channels: Some<Key>): Promise<Map<B, number>>

  // The server

  /** Begins to write the log anew, as short as it can be. */
  bgrewriteaof(): Promise<string>
  /** As {@link bgrewriteaof}. */
  bgsave(): Promise<string>
  /** Ends connections. How many. */
  clientKill(options: KillOptions): Promise<number>
  /** What is known of all connections, a line each. */
  clientList(): Promise<string>
  /** How many commands there are. */
  commandCount(): Promise<number>
  /** What commands are for; of all unless some are named. */
  commandDocs(...names: Some<string>): Promise<Map<string, Map<string, KvValue>>>
  /** What is known of commands, as Redis tells it; of all unless some are named. */
  commandInfo(...names: Some<string>): Promise<(KvValue[] | null)[]>
  /** The names of all commands. */
  commandList(): Promise<string[]>
  /** Parameters that patterns describe, and what they are. */
  configGet(...patterns: Some<string>): Promise<Map<string, string>>
  /** Begins to count anew. */
  configResetstat(): Promise<'OK'>
  /** Changes parameters, all or none. */
  configSet(parameters: Fields): Promise<'OK'>
  /** How many keys there are in the database. */
  dbsize(): Promise<number>
  /** What it was told. */
  echo(message: Value): Promise<B>
  /** Removes every key of every database. */
  flushall(): Promise<'OK'>
  /** Removes every key of the database. */
  flushdb(): Promise<'OK'>
  /** The server in numbers; all sections unless some are named. */
  info(...sections: Some<string>): Promise<string>
  /** When the log was last written anew, in seconds since 1970. */
  lastsave(): Promise<number>
  /** How long commands took; all unless some are named. */
  latencyHistogram(...names: Some<string>): Promise<Map<string, CommandHistogram>>
  /** How many bytes of memory a key takes; `null` if it is not there. */
  memoryUsage(key: Key): Promise<number | null>
  /** `PONG`. */
  ping(): Promise<'PONG'>
  /** What it was told. */
  ping(message: Value): Promise<B>
  /** Writes the log anew, and replies when that is done. */
  save(): Promise<'OK'>
  /** The commands that took long, the last ones first; 10 unless given, all for -1. */
  slowlogGet(count?: number): Promise<SlowCommand[]>
  /** How many of them are kept. */
  slowlogLen(): Promise<number>
  /** Forgets them. */
  slowlogReset(): Promise<'OK'>
  /** What time it is there. */
  time(): Promise<{ seconds: number; microseconds: number }>
}
