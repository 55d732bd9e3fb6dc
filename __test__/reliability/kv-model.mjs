// A database of keys in a few lines of its own: what commands make of it and are answered, to hold a server against. Only what the kill
// loop says is known here, and every key holds only what its commands are for.

/** A deadline that a server took from its own clock may be so much earlier or later than by ours. */
const CLOCKS_APART_MS = 1000

/**
 * What commands do to the value under a key, `undefined` if there is none, and what they are answered. A string is a string, a list an
 * array, a set a Set, a hash a Map to strings, a sorted set a Map to numbers.
 */
const COMMANDS = {
  SET: (_, text) => [text, 'OK'],
  APPEND: (old = '', text) => [old + text, old.length + text.length],
  INCR: (old = '0') => [`${Number(old) + 1}`, Number(old) + 1],
  LPUSH: (old = [], ...items) => [[...items.reverse(), ...old], old.length + items.length],
  RPUSH: (old = [], ...items) => [[...old, ...items], old.length + items.length],
  RPOP: (old = []) => [old.slice(0, -1), old.at(-1) ?? null],
  SADD: (old = new Set(), ...members) => grown(old, new Set([...old, ...members])),
  HSET: (old = new Map(), ...pairs) => grown(old, new Map([...old, ...entriesOf(pairs)])),
  ZADD: (old = new Map(), ...pairs) =>
    grown(old, new Map([...old, ...entriesOf(pairs).map(([score, member]) => [member, Number(score)])])),
}
/** They leave a key without the deadline that it had. */
const ENDS_DEADLINE = ['SET']

export class Model {
  #entries = new Map()

  copy() {
    const copy = new Model()
    // Values are never changed, only replaced.
    copy.#entries = new Map(this.#entries)
    return copy
  }

  /** Carries out a command at some time between `fromMs` and `toMs`, and returns its reply. */
  apply([name, key, ...args], fromMs, toMs) {
    const entry = this.#entries.get(key)
    if (name === 'FLUSHDB') {
      this.#entries.clear()
      return 'OK'
    }
    if (name === 'DEL') return this.#entries.delete(key) ? 1 : 0
    if (name === 'EXPIRE' || name === 'PEXPIREAT') {
      if (!entry) return 0
      const [number] = args.map(Number)
      const deadline = name === 'EXPIRE' ? [fromMs + 1000 * number, toMs + 1000 * number] : [number, number]
      this.#entries.set(key, { ...entry, deadline })
      return 1
    }
    if (name === 'RENAME') {
      if (!entry) return 'ERR no such key'
      this.#entries.delete(key)
      this.#entries.set(args[0], entry)
      return 'OK'
    }
    const [value, reply] = COMMANDS[name](entry?.value, ...args)
    if (value.length === 0 && Array.isArray(value)) this.#entries.delete(key)
    else this.#entries.set(key, { ...(ENDS_DEADLINE.includes(name) ? {} : entry), value })
    return reply
  }

  /** What is different in what was `found`: keys with their values as {@link textOf} has them, and their deadlines, -1 for none. */
  differenceTo(found) {
    for (const [key, { value, deadline }] of this.#entries) {
      const there = found.get(key)
      if (there === undefined) return `${key} is missing`
      if (there.text !== textOf(value))
        return `${key} is ${shortened(there.text)}, not ${shortened(textOf(value))}`
      const [from, to] = deadline ?? [-1, -1]
      const slackMs = from === to ? 0 : CLOCKS_APART_MS
      if (there.deadlineMs < from - slackMs || there.deadlineMs > to + slackMs)
        return `${key} lives until ${there.deadlineMs}, not ${from} to ${to}`
    }
    for (const key of found.keys()) if (!this.#entries.has(key)) return `${key} should not be there`
    return undefined
  }
}

/** Of values, which are looked at again and again. */
const texts = new WeakMap()

/** The same text for the same value, in whatever order a set, a hash or a sorted set is told. */
export function textOf(value) {
  if (typeof value === 'string') return value
  if (!texts.has(value)) texts.set(value, JSON.stringify(sorted(value)))
  return texts.get(value)
}

function sorted(value) {
  if (value instanceof Set) return [...value].sort()
  if (value instanceof Map) return [...value].sort(([one], [other]) => (one < other ? -1 : 1))
  return value
}

/** The pairs of a list of their halves. */
export function entriesOf(list) {
  return list.flatMap((item, index) => (index % 2 === 0 ? [[item, list[index + 1]]] : []))
}

function grown(before, after) {
  return [after, after.size - before.size]
}

function shortened(text) {
  return text.length <= 80 ? text : `${text.slice(0, 60)}… (${text.length})`
}
