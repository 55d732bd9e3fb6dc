// One connection of the kill loop of keys: it says random commands, many at a time, in a database of its own, and knows what was
// answered and what was not.
import { isDeepStrictEqual } from 'node:util'
import { Redis } from 'ioredis'
import { Choices } from './harness.mjs'
import { entriesOf, Model, textOf } from './kv-model.mjs'

/** Keys of each kind, and fields and members of one. */
const NAMES = 20
/** Commands and transactions that are said before any answer is waited for. */
const TOGETHER_MAX = 40
const BLOCK_MAX = 6
/** Once in so many a text is long enough for the system to write it in parts. */
const LONG_EVERY = 300
const LONG_BYTES = 300_000
const FLUSH_EVERY = 1000
const FAR_SECONDS = 1_000_000

/** What is said to keys of each kind, how they are asked for, and what the answer means. */
const KINDS = {
  text: {
    says: [(it) => ['SET', it.text()], (it) => ['APPEND', it.text()]],
    read: ['GET'],
    value: (reply) => reply,
  },
  number: { says: [() => ['INCR']], read: ['GET'], value: (reply) => reply },
  list: {
    says: [(it) => ['LPUSH', ...it.texts()], (it) => ['RPUSH', ...it.texts()], () => ['RPOP']],
    read: ['LRANGE', 0, -1],
    value: (reply) => reply,
  },
  set: { says: [(it) => ['SADD', ...it.texts()]], read: ['SMEMBERS'], value: (reply) => new Set(reply) },
  hash: {
    says: [(it) => ['HSET', ...it.texts().flatMap((text) => [it.name(), text])]],
    read: ['HGETALL'],
    value: (reply) => new Map(entriesOf(reply)),
  },
  sorted: {
    says: [(it) => ['ZADD', ...it.texts().flatMap(() => [`${it.below(1000) / 4}`, it.name()])]],
    read: ['ZRANGE', 0, -1, 'WITHSCORES'],
    value: (reply) => new Map(entriesOf(reply).map(([member, score]) => [member, Number(score)])),
  },
}

class Words extends Choices {
  name() {
    return `${this.below(NAMES)}`
  }

  text() {
    const bytes = this.below(LONG_EVERY) === 0 ? this.below(LONG_BYTES) : this.below(100)
    return `${this.below(1_000_000)}`.padEnd(bytes, '-')
  }

  texts() {
    return Array.from({ length: 1 + this.below(4) }, () => this.text())
  }

  /** A command to one key, or to all of them. */
  command() {
    if (this.below(FLUSH_EVERY) === 0) return ['FLUSHDB']
    const kind = this.oneOf(Object.keys(KINDS))
    const key = () => `${kind}:${this.name()}`
    switch (this.below(16)) {
      case 0:
        return ['DEL', key()]
      case 1:
        return ['RENAME', key(), key()]
      case 2:
        return ['EXPIRE', key(), `${FAR_SECONDS * (1 + this.below(100))}`]
      case 3:
        return ['PEXPIREAT', key(), `${Date.now() + 1000 * FAR_SECONDS + this.below(FAR_SECONDS)}`]
      default: {
        const [name, ...args] = this.oneOf(KINDS[kind].says)(this)
        return [name, key(), ...args]
      }
    }
  }

  /** A command alone, or several as a transaction. */
  unit() {
    const commands = Array.from({ length: 1 + this.below(BLOCK_MAX) }, () => this.command())
    return this.below(4) === 0 ? { commands, isBlock: true } : { commands: commands.slice(0, 1) }
  }
}

export class Writer {
  #words
  #database
  #redis
  #isStopping = false
  #writing = Promise.resolve()
  /** What there is to be, after what was answered; and said since then, in its order. */
  #model = new Model()
  #unanswered = []
  /** What there was when it was last looked at, and what was answered since. */
  #before = new Model()
  #answered = []
  acknowledged = 0
  /** What was answered otherwise than it had to be. */
  wrongReplies = []

  constructor(database, seed) {
    this.#database = database
    this.#words = new Words(seed)
  }

  async connect(port) {
    this.#redis = connectTo(port, this.#database)
    await this.#redis.connect()
  }

  /** Says one thing after the other until it is told to stop or the connection ends. */
  begin() {
    this.#isStopping = false
    this.#writing = this.#write()
  }

  async stop() {
    this.#isStopping = true
    await this.#writing
    this.#redis?.disconnect()
  }

  async #write() {
    while (!this.#isStopping && this.#redis.status === 'ready')
      await Promise.all(
        Array.from({ length: 1 + this.#words.below(TOGETHER_MAX) }, () => this.#say(this.#words.unit())),
      )
  }

  async #say(unit) {
    const said = { unit, fromMs: Date.now() }
    this.#unanswered.push(said)
    const commands = unit.isBlock ? [['MULTI'], ...unit.commands, ['EXEC']] : unit.commands
    try {
      const replies = await Promise.all(commands.map((args) => answerTo(this.#redis, args)))
      said.reply = unit.isBlock ? [replies.at(-1)].flat() : replies
    } catch {
      // The connection has ended, and nobody knows what came of this.
      return
    }
    this.#hear()
  }

  /** Takes what was answered in the order in which it was said. */
  #hear() {
    while (this.#unanswered[0]?.reply) {
      const said = this.#unanswered.shift()
      said.toMs = Date.now()
      const expected = apply(this.#model, said)
      const told = said.reply.map((reply) => (reply instanceof Error ? reply.message : reply))
      if (!isDeepStrictEqual(told, expected))
        this.wrongReplies.push(
          `${JSON.stringify(said)}: ${JSON.stringify(told)} for ${JSON.stringify(expected)}`,
        )
      this.#answered.push(said)
      this.acknowledged += said.unit.commands.length
    }
  }

  /**
   * Looks at the whole database. It has to be what was acknowledged, or that and the first of what was not. `lost` says that it is
   * what was there before, `torn` that it is what never was.
   */
  async check() {
    const found = await this.#read()
    const toMs = Date.now()
    const model = this.#model.copy()
    for (let at = 0; model.differenceTo(found) !== undefined; at++) {
      if (at === this.#unanswered.length) return this.#explain(found)
      apply(model, { toMs, ...this.#unanswered[at] })
    }
    this.#model = model
    this.#before = model.copy()
    this.#unanswered = []
    this.#answered = []
    return {}
  }

  #explain(found) {
    const difference = `database ${this.#database}: ${this.#model.differenceTo(found)}`
    const model = this.#before.copy()
    for (const [at, said] of this.#answered.entries()) {
      if (model.differenceTo(found) === undefined)
        return { lost: `${difference}; the last ${this.#answered.length - at} are missing` }
      apply(model, said)
    }
    return { torn: `${difference}; it has never been like that` }
  }

  async #read() {
    const keys = (await this.#redis.keys('*')).sort()
    const asked = this.#redis.pipeline()
    for (const key of keys) {
      const [name, ...args] = KINDS[kindOf(key)].read
      asked.call(name, key, ...args).call('PEXPIRETIME', key)
    }
    const replies = (await asked.exec()).map(([error, reply]) => {
      if (error) throw error
      return reply
    })
    const entryOf = (key, index) => ({
      text: textOf(KINDS[kindOf(key)].value(replies[2 * index])),
      deadlineMs: replies[2 * index + 1],
    })
    return new Map(keys.map((key, index) => [key, entryOf(key, index)]))
  }
}

/** A connection that ends when the server does. */
export function connectTo(port, database) {
  const redis = new Redis(port, '127.0.0.1', {
    db: database,
    // Everything as lists of texts.
    protocol: 2,
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
  })
  // What was asked for is told of it.
  redis.on('error', () => {})
  return redis
}

/** What the server says, be it that it refuses. */
export async function answerTo(redis, args) {
  try {
    return await redis.call(...args)
  } catch (error) {
    if (error.name === 'ReplyError') return error
    throw error
  }
}

function apply(model, { unit, fromMs, toMs }) {
  return unit.commands.map((args) => model.apply(args, fromMs, toMs))
}

function kindOf(key) {
  return key.slice(0, key.indexOf(':'))
}
