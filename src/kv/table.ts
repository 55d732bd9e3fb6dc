/** How each method is said as a command, and how its reply is read. */
import { XferdError } from '../error.js'
import { doubleOf, type KvArg, pairs, type Texts } from './codec.js'
import type {
  CopyOptions,
  ExpireOptions,
  Expiry,
  Fields,
  GetexOptions,
  Key,
  KillOptions,
  KvCommands,
  LimitOptions,
  Scored,
  Scores,
  SetOptions,
  Value,
  ZaddOptions,
  ZrangeOptions,
} from './commands.js'

/** A method. Unless it says otherwise its name is the command, its arguments follow, and the reply is what it returns. */
interface Row {
  // biome-ignore lint/suspicious/noExplicitAny: which arguments there are says KvCommands
  say?: (...args: any[]) => KvArg[]
  // biome-ignore lint/suspicious/noExplicitAny: so it does for replies
  read?: (reply: any, args: readonly KvArg[]) => unknown
  /** It replies words, which are no buffers. */
  isText?: boolean
}

/** A command on its way: what is said, and how the reply is read. */
export interface Said {
  args: KvArg[]
  read?: (reply: unknown, args: readonly KvArg[]) => unknown
  isText?: boolean
  /** How each value of the reply is read, if that is an array of what several commands replied. */
  each?: readonly Texts[]
}

const plain: Row = {}
const number: Row = { read: toNumber }
const numberOrNull: Row = { read: (value) => (value === null ? null : toNumber(value)) }
const list: Row = { read: toList }
const text: Row = { isText: true }

const TABLE: Record<keyof KvCommands, Row> = {
  append: plain,
  decr: number,
  decrby: number,
  get: plain,
  getdel: plain,
  getex: {
    say: (key: Key, options: GetexOptions = {}) => [
      'GETEX',
      key,
      ...expiry(options),
      ...when(options.persist, 'PERSIST'),
    ],
  },
  getrange: plain,
  getset: plain,
  incr: number,
  incrby: number,
  incrbyfloat: { ...number, isText: true },
  lcs: plain,
  lcsLen: { say: (a: Key, b: Key) => ['LCS', a, b, 'LEN'] },
  lcsIdx: {
    say: (a: Key, b: Key, { minMatchLength }: { minMatchLength?: number } = {}) => [
      ...['LCS', a, b, 'IDX', 'WITHMATCHLEN'],
      ...given('MINMATCHLEN', minMatchLength),
    ],
    read: (reply: Map<string, unknown>) => ({
      matches: (reply.get('matches') as [unknown, unknown, number][]).map(([a, b, length]) => ({
        a,
        b,
        length,
      })),
      length: reply.get('len'),
    }),
    isText: true,
  },
  mget: plain,
  mset: { say: (strings: Fields) => ['MSET', ...flat(strings)] },
  msetnx: { say: (strings: Fields) => ['MSETNX', ...flat(strings)] },
  psetex: plain,
  set: {
    say: (key: Key, value: Value, options: SetOptions = {}) => [
      ...['SET', key, value],
      ...expiry(options),
      ...when(options.keepTtl, 'KEEPTTL'),
      ...conditions(options.onlyIf, PRESENCE),
      ...when(options.get, 'GET'),
    ],
  },
  setex: plain,
  setnx: plain,
  setrange: plain,
  strlen: plain,
  substr: plain,

  copy: {
    say: (from: Key, to: Key, { database, replace }: CopyOptions = {}) => [
      ...['COPY', from, to],
      ...given('DB', database),
      ...when(replace, 'REPLACE'),
    ],
  },
  del: plain,
  delete: { say: words('DEL') },
  exists: plain,
  expire: expiring('EXPIRE', 1000),
  expireat: expiring('EXPIREAT', 1000),
  expiretime: plain,
  keys: plain,
  objectEncoding: { say: words('OBJECT', 'ENCODING'), ...text },
  objectFreq: { say: words('OBJECT', 'FREQ') },
  objectIdletime: { say: words('OBJECT', 'IDLETIME') },
  objectRefcount: { say: words('OBJECT', 'REFCOUNT') },
  persist: plain,
  pexpire: expiring('PEXPIRE', 1),
  pexpireat: expiring('PEXPIREAT', 1),
  pexpiretime: number,
  pttl: number,
  randomkey: plain,
  rename: plain,
  renamenx: plain,
  touch: plain,
  ttl: plain,
  type: plain,
  unlink: plain,

  lindex: plain,
  llen: plain,
  lpop: plain,
  lpush: plain,
  lpushx: plain,
  lrange: plain,
  lrem: plain,
  lset: plain,
  ltrim: plain,
  rpop: plain,
  rpush: plain,
  rpushx: plain,

  sadd: plain,
  scard: plain,
  sismember: plain,
  smembers: list,
  smismember: plain,
  spop: list,
  srandmember: list,
  srem: plain,

  hdel: plain,
  hexists: plain,
  hget: plain,
  hgetall: plain,
  hincrby: number,
  hkeys: plain,
  hlen: plain,
  hmget: plain,
  hmset: { say: (key: Key, fields: Fields) => ['HMSET', key, ...flat(fields)] },
  hset: {
    say: (key: Key, field: Key | Fields, value?: Value) => [
      ...['HSET', key],
      ...(value === undefined ? flat(field as Fields) : [field as Key, value]),
    ],
  },
  hsetnx: plain,
  hstrlen: plain,
  hvals: plain,

  zadd: {
    say: (key: Key, scores: Scores, options: ZaddOptions = {}) => [
      ...['ZADD', key],
      ...adding(options),
      ...[...entries<number>(scores)].flatMap(([member, score]) => [score, member]),
    ],
  },
  zaddIncr: {
    say: (key: Key, by: number, member: Value, options: ZaddOptions = {}) => [
      ...['ZADD', key],
      ...adding(options),
      ...['INCR', by, member],
    ],
  },
  zcard: plain,
  zcount: plain,
  zincrby: number,
  zmscore: plain,
  zpopmax: { read: toScored },
  zpopmin: { read: toScored },
  zrange: {
    say: (key: Key, start: Key | number, stop: Key | number, options: ZrangeOptions & Scoring = {}) => [
      ...['ZRANGE', key, start, stop],
      ...when(options.by === 'score', 'BYSCORE'),
      ...when(options.by === 'lex', 'BYLEX'),
      ...when(options.reverse, 'REV'),
      ...ranging(options),
    ],
    read: toScoredIfNested,
  },
  zrangebyscore: {
    say: (key: Key, min: Key | number, max: Key | number, options: LimitOptions & Scoring = {}) => [
      ...['ZRANGEBYSCORE', key, min, max],
      ...ranging(options),
    ],
    read: toScoredIfNested,
  },
  zrank: plain,
  zrem: plain,
  zrevrank: plain,
  zscore: numberOrNull,

  command: { say: (...args: KvArg[]) => stateless(args) },
  publish: plain,
  pubsubChannels: { say: (pattern?: Key) => ['PUBSUB', 'CHANNELS', ...maybe(pattern)] },
  pubsubNumpat: { say: words('PUBSUB', 'NUMPAT') },
  pubsubNumsub: {
    say: words('PUBSUB', 'NUMSUB'),
    read: (reply: unknown[]) => new Map(pairs(reply)),
  },

  bgrewriteaof: plain,
  bgsave: plain,
  clientKill: {
    say: ({ id, address, type, user, skipMe }: KillOptions) => [
      ...['CLIENT', 'KILL'],
      ...given('ID', id),
      ...given('ADDR', address),
      ...given('TYPE', type),
      ...given('USER', user),
      ...given('SKIPME', skipMe === undefined ? undefined : skipMe ? 'yes' : 'no'),
    ],
  },
  clientList: { say: words('CLIENT', 'LIST'), ...text },
  commandCount: { say: words('COMMAND', 'COUNT') },
  commandDocs: { say: words('COMMAND', 'DOCS'), ...text },
  commandInfo: { say: words('COMMAND', 'INFO'), ...text },
  commandList: { say: words('COMMAND', 'LIST'), ...text },
  configGet: { say: words('CONFIG', 'GET'), ...text },
  configResetstat: { say: words('CONFIG', 'RESETSTAT') },
  configSet: { say: (parameters: Fields) => ['CONFIG', 'SET', ...flat(parameters)] },
  dbsize: plain,
  echo: plain,
  flushall: plain,
  flushdb: plain,
  info: text,
  lastsave: plain,
  latencyHistogram: {
    say: words('LATENCY', 'HISTOGRAM'),
    read: (reply: Map<string, Map<string, unknown>>) =>
      new Map(
        [...reply].map(([name, told]) => [
          name,
          { calls: told.get('calls'), histogramUsec: told.get('histogram_usec') },
        ]),
      ),
    isText: true,
  },
  memoryUsage: { say: words('MEMORY', 'USAGE') },
  ping: { say: (message?: Value) => ['PING', ...maybe(message)] },
  save: plain,
  slowlogGet: {
    say: (count?: number) => ['SLOWLOG', 'GET', ...maybe(count)],
    read: (reply: [number, number, number, string[], string, string][]) =>
      reply.map(([id, seconds, microseconds, args, peer, name]) => ({
        id,
        at: new Date(seconds * 1000),
        microseconds,
        args,
        peer,
        name,
      })),
    isText: true,
  },
  slowlogLen: { say: words('SLOWLOG', 'LEN') },
  slowlogReset: { say: words('SLOWLOG', 'RESET') },
  time: {
    read: ([seconds, microseconds]: [string, string]) => ({
      seconds: Number(seconds),
      microseconds: Number(microseconds),
    }),
    isText: true,
  },
}

/** All methods of {@link KvCommands}, each of which is said to a function. */
class Commands {
  readonly #run: (said: Said) => Promise<unknown>

  constructor(run: (said: Said) => Promise<unknown>) {
    this.#run = run
  }

  static {
    for (const [name, { say = words(name.toUpperCase()), ...row }] of Object.entries<Row>(TABLE)) {
      const value = function (this: Commands, ...args: never[]): Promise<unknown> {
        try {
          return this.#run({ args: say(...args), ...row })
        } catch (error) {
          return Promise.reject(error)
        }
      }
      Object.defineProperty(value, 'name', { value: name })
      Object.defineProperty(Commands.prototype, name, { value, writable: true, configurable: true })
    }
  }
}

/** As a class whose methods the compiler knows. */
export const CommandsOf = Commands as unknown as new <B extends string | Buffer>(
  run: (said: Said) => Promise<unknown>,
) => KvCommands<B>

interface Scoring {
  withScores?: boolean
}

/** These words, and then all arguments. */
function words(...begin: string[]): (...args: (KvArg | readonly KvArg[])[]) => KvArg[] {
  return (...args) => [...begin, ...args.flat()]
}

/** A command that sets a deadline; a date becomes its time in so many milliseconds. */
function expiring(name: string, unitMs: number): Row {
  return {
    say: (key: Key, time: number | Date, { onlyIf }: ExpireOptions = {}) => [
      ...[name, key, timeIn(unitMs, time)],
      ...conditions(onlyIf, DEADLINES),
    ],
  }
}

function expiry({ ex, px, exAt, pxAt }: Expiry): KvArg[] {
  return [
    ...given('EX', ex),
    ...given('PX', px),
    ...given('EXAT', exAt === undefined ? undefined : timeIn(1000, exAt)),
    ...given('PXAT', pxAt === undefined ? undefined : timeIn(1, pxAt)),
  ]
}

function timeIn(unitMs: number, time: number | Date): number {
  return time instanceof Date ? Math.floor(time.getTime() / unitMs) : time
}

function adding({ onlyIf, countChanged }: ZaddOptions): KvArg[] {
  return [...conditions(onlyIf, SCORES), ...when(countChanged, 'CH')]
}

function ranging({ limit, withScores }: LimitOptions & Scoring): KvArg[] {
  return [...(limit ? ['LIMIT', limit.offset, limit.count] : []), ...when(withScores, 'WITHSCORES')]
}

function conditions(
  onlyIf: string | readonly string[] | undefined,
  known: Readonly<Record<string, string>>,
): string[] {
  return [onlyIf ?? []].flat().map((condition) => {
    const word = Object.hasOwn(known, condition) ? known[condition] : undefined
    if (word !== undefined) return word
    const message = `onlyIf takes ${Object.keys(known).join(', ')}, not ${JSON.stringify(condition)}`
    throw new XferdError('INVALID_ARGUMENT', message)
  })
}

/** What changes the state of a connection would surprise whoever comes next on it. */
function stateless(args: KvArg[]): KvArg[] {
  const [name, word] = args.slice(0, 2).map((arg) => `${arg}`.toUpperCase())
  const remedy =
    STATEFUL[name ?? ''] ?? (name === 'CLIENT' && word === 'REPLY' ? 'await the replies' : undefined)
  if (remedy === undefined) return args
  throw new XferdError(
    'INVALID_ARGUMENT',
    `${name} concerns a connection, and commands share those: ${remedy}`,
  )
}

function when(wanted: boolean | undefined, word: string): string[] {
  return wanted ? [word] : []
}

function maybe(value: KvArg | undefined): KvArg[] {
  return value === undefined ? [] : [value]
}

function given(word: string, value: KvArg | undefined): KvArg[] {
  return value === undefined ? [] : [word, value]
}

function flat(fields: Fields): KvArg[] {
  return [...entries<Value>(fields)].flat()
}

function entries<V>(
  fields: Readonly<Record<string, V>> | Iterable<readonly [Key, V]>,
): Iterable<readonly [Key, V]> {
  if (typeof fields !== 'object' || fields === null)
    throw new XferdError('INVALID_ARGUMENT', `fields are an object, a Map or pairs, not ${fields}`)
  return Symbol.iterator in fields ? (fields as Iterable<readonly [Key, V]>) : Object.entries(fields)
}

/** Sums are `bigint` if they have to be, or words. */
function toNumber(value: unknown): number {
  return typeof value === 'string' ? doubleOf(value) : Number(value)
}

function toList(value: unknown): unknown {
  return value instanceof Set ? [...value] : value
}

/** Without a count, one comes as a member and its score, or nothing. */
function toScored(reply: unknown[], args: readonly KvArg[]): unknown {
  if (args.length > 2) return scored(reply as [unknown, number][])
  return reply.length === 0 ? null : scored([reply as [unknown, number]])[0]
}

function toScoredIfNested(reply: unknown[]): unknown[] {
  return Array.isArray(reply[0]) ? scored(reply as [unknown, number][]) : reply
}

function scored(reply: [unknown, number][]): Scored<unknown>[] {
  return reply.map(([member, score]) => ({ member, score }))
}

const PRESENCE = { absent: 'NX', present: 'XX' }
const DEADLINES = { persistent: 'NX', expiring: 'XX', later: 'GT', sooner: 'LT' }
const SCORES = { ...PRESENCE, greater: 'GT', less: 'LT' }

const TRANSACT = 'call transaction()'
const LISTEN = 'call subscribe() or psubscribe(), and leave the loop to end it'
const STATEFUL: Record<string, string> = {
  AUTH: 'give the password to connectKv',
  HELLO: 'give the password to connectKv',
  SELECT: 'give the database to connectKv',
  MULTI: TRANSACT,
  EXEC: TRANSACT,
  DISCARD: TRANSACT,
  WATCH: TRANSACT,
  UNWATCH: TRANSACT,
  SUBSCRIBE: LISTEN,
  UNSUBSCRIBE: LISTEN,
  PSUBSCRIBE: LISTEN,
  PUNSUBSCRIBE: LISTEN,
  MONITOR: 'call monitor()',
  QUIT: 'call close()',
  EXIT: 'call close()',
  RESET: 'it is not needed',
}
