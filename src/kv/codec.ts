/** Commands and replies as bytes: commands as RESP arrays of strings, replies as RESP3 values. */
import { XferdError } from '../error.js'

/** A part of a command. A number is written as Redis reads it. */
export type KvArg = string | number | bigint | Uint8Array

/**
 * What a server replies: `B` is what strings of any bytes become. Whole numbers that a `number` cannot hold exactly are `bigint`;
 * an error is one only within something else, as in the replies to EXEC.
 */
export type KvValue<B = string> =
  | B
  | string
  | number
  | bigint
  | boolean
  | null
  | XferdError
  | KvValue<B>[]
  | Map<KvValue<B>, KvValue<B>>
  | Set<KvValue<B>>

/** Bytes of one argument, and arguments of one command, that a server takes. One that takes less would end the connection. */
export const ARG_BYTES_MAX = 512 * 1024 * 1024
export const ARGS_MAX = 1024 * 1024
/** Aggregates of a reply in each other. */
export const REPLY_DEPTH_MAX = 32

/** Commands, one after another. */
export class Requests {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES)
  #length = 0
  #count = 0

  /** How many commands. */
  get count(): number {
    return this.#count
  }

  /** How many bytes they take. */
  get length(): number {
    return this.#length
  }

  /**
   * Adds a command; what it is made of is copied.
   *
   * @throws {XferdError} `INVALID_ARGUMENT` for what cannot be said, and nothing of it was added
   */
  push(args: readonly KvArg[]): void {
    const begin = this.#length
    try {
      if (args.length === 0 || args.length > ARGS_MAX)
        throw invalid(`a command has 1 to ${ARGS_MAX} words, not ${args.length}`)
      this.#header(STAR, args.length)
      for (const arg of args) this.#argument(arg)
      this.#count += 1
    } catch (error) {
      this.#length = begin
      throw error
    }
  }

  /** All of them. Nothing is to be added any more. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  #argument(arg: KvArg): void {
    const part = typeof arg === 'string' || arg instanceof Uint8Array ? arg : wordOf(arg)
    const length = typeof part === 'string' ? Buffer.byteLength(part) : part.byteLength
    if (length > ARG_BYTES_MAX) throw invalid(`an argument has at most ${ARG_BYTES_MAX} bytes, not ${length}`)
    this.#header(DOLLAR, length)
    this.#reserve(length + 2)
    if (typeof part === 'string') this.#bytes.write(part, this.#length)
    else this.#bytes.set(part, this.#length)
    this.#length += length
    this.#endLine()
  }

  /** Byte by byte: a call for a few of them costs more than they do. */
  #header(kind: number, number: number): void {
    this.#reserve(HEADER_BYTES_MAX)
    this.#bytes[this.#length++] = kind
    if (number < 10) this.#bytes[this.#length++] = ZERO + number
    else this.#length += this.#bytes.write(`${number}`, this.#length, 'latin1')
    this.#endLine()
  }

  #endLine(): void {
    this.#bytes[this.#length++] = CR
    this.#bytes[this.#length++] = LF
  }

  #reserve(more: number): void {
    const needed = this.#length + more
    if (needed <= this.#bytes.length) return
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}

/** The bytes of these commands. */
export function encode(...commands: (readonly KvArg[])[]): Buffer {
  const requests = new Requests()
  for (const command of commands) requests.push(command)
  return requests.bytes()
}

/** What text of a reply is: `bulk` may be any bytes, `double` is a number. */
export type TextKind = 'simple' | 'bulk' | 'verbatim' | 'double'

/** What text becomes, which is `[begin, end)` of the replies: what is kept of those keeps all of them. */
export type Texts = (replies: Buffer, begin: number, end: number, kind: TextKind) => unknown

/** Bulk strings become strings. */
export const asStrings: Texts = (replies, begin, end, kind) => {
  const text = replies.toString('utf8', begin, end)
  return kind === 'double' ? doubleOf(text) : text
}

/** Bulk strings become buffers. */
export const asBuffers: Texts = (replies, begin, end, kind) => {
  if (kind !== 'bulk') return asStrings(replies, begin, end, kind)
  const bytes = replies.subarray(begin, end)
  // A small string is not to keep the whole of a large answer.
  return bytes.length * 2 > replies.length ? bytes : Buffer.from(bytes)
}

/** Something that a server said without being asked. */
export class Push {
  readonly values: readonly unknown[]

  constructor(values: readonly unknown[]) {
    this.values = values
  }
}

/** Takes RESP3 values, one after another, from bytes in which all of them are whole. */
export class Replies {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length
  }

  /**
   * The next value. An error that was replied is returned, not thrown.
   *
   * @throws {XferdError} `PROTOCOL` if there is no whole value
   */
  next(texts: Texts): unknown {
    return this.#value(texts, 0)
  }

  /** The next value, if that is an array, with each of its values read in its own way. */
  nextEach(texts: readonly Texts[]): unknown {
    if (this.#bytes[this.#at] !== STAR) return this.next(asStrings)
    this.#at += 1
    const count = this.#length()
    if (count === undefined) return null
    if (count !== texts.length) return broken(`${count} values come for ${texts.length}`)
    return texts.map((texts) => this.#value(texts, 1))
  }

  #value(texts: Texts, depth: number): unknown {
    const begin = this.#at + 1
    const kind = String.fromCharCode(this.#bytes[this.#at] ?? 0)
    this.#at = begin
    switch (kind) {
      case '$': {
        const string = this.#string()
        return string && texts(this.#bytes, string.begin, string.end, 'bulk')
      }
      case '+':
        return texts(this.#bytes, begin, this.#line(), 'simple')
      case ':':
        return integerOf(this.#text())
      case '_':
        return this.#text() === '' ? null : broken('a null has a value')
      case ',':
        return texts(this.#bytes, begin, this.#line(), 'double')
      case '#':
        return truthOf(this.#text())
      case '(':
        return bigOf(this.#text())
      case '-':
        return replyError(this.#bytes.toString('utf8', begin, this.#line()))
      case '!': {
        const string = this.#string() ?? broken('an error is nothing')
        return replyError(this.#bytes.toString('utf8', string.begin, string.end))
      }
      case '=': {
        // Three letters say what it is, such as `txt:`.
        const string = this.#string()
        if (!string || string.end - string.begin < 4) return broken('text has no format')
        return texts(this.#bytes, string.begin + 4, string.end, 'verbatim')
      }
      case '*':
        return this.#values(texts, depth, 1)
      case '~': {
        const values = this.#values(texts, depth, 1)
        return values && new Set(values)
      }
      case '%': {
        const values = this.#values(texts, depth, 2)
        return values && new Map(pairs(values))
      }
      case '>':
        return new Push(this.#values(texts, depth, 1) ?? [])
      case '|':
        // What is known besides about the value that follows; nobody here asks for that.
        this.#values(texts, depth, 2)
        return this.#value(texts, depth + 1)
      default:
        return broken(
          this.#at > this.#bytes.length ? 'it ends too soon' : `${JSON.stringify(kind)} begins nothing`,
        )
    }
  }

  /** `perItem` values for each of the items that are announced. */
  #values(texts: Texts, depth: number, perItem: number): unknown[] | null {
    if (depth >= REPLY_DEPTH_MAX)
      return broken(`values are in each other on more than ${REPLY_DEPTH_MAX} levels`)
    const items = this.#length()
    if (items === undefined) return null
    // Each takes three bytes at least, so no more is begun than there can be.
    const count = items * perItem
    if (count * 3 > this.#bytes.length - this.#at) return broken('it ends too soon')
    const values: unknown[] = []
    while (values.length < count) values.push(this.#value(texts, depth + 1))
    return values
  }

  /** Where a string is whose length stands in front of it. */
  #string(): { begin: number; end: number } | null {
    const length = this.#length()
    if (length === undefined) return null
    const begin = this.#at
    const end = begin + length
    if (this.#bytes[end] !== CR || this.#bytes[end + 1] !== LF)
      return broken('a string does not end where it should')
    this.#at = end + 2
    return { begin, end }
  }

  /** A length; `undefined` for -1, by which RESP2 says that there is nothing. */
  #length(): number | undefined {
    const text = this.#text()
    if (text === '-1') return undefined
    return /^\d{1,10}$/.test(text)
      ? Number(text)
      : broken(`${JSON.stringify(text.slice(0, 32))} is no length`)
  }

  #text(): string {
    const begin = this.#at
    return this.#bytes.toString('latin1', begin, this.#line())
  }

  /** Where the line ends. */
  #line(): number {
    const end = this.#bytes.indexOf(CR, this.#at)
    if (end < 0 || this.#bytes[end + 1] !== LF) return broken('a line does not end')
    this.#at = end + 2
    return end
  }
}

/** The error that a server replied, in its own words; the first of them, such as `WRONGTYPE`, is the code. */
export function replyError(text: string): XferdError {
  const [code = 'ERR'] = /^[A-Z][A-Z0-9_]*(?= |$)/.exec(text) ?? []
  return new XferdError(code, text, { retryable: RETRYABLE.has(code) })
}

/** `[a, b, c, d]` as `[a, b], [c, d]`. */
export function* pairs<T>(values: readonly T[]): Generator<[T, T], void> {
  for (let index = 0; index + 1 < values.length; index += 2)
    yield [values[index] as T, values[index + 1] as T]
}

function integerOf(text: string): number | bigint {
  if (!/^[+-]?\d{1,20}$/.test(text)) return broken(`${JSON.stringify(text.slice(0, 32))} is no number`)
  const number = Number(text)
  return Number.isSafeInteger(number) ? number : BigInt(text)
}

function truthOf(text: string): boolean {
  return text === 't' ? true : text === 'f' ? false : broken('a truth value is neither t nor f')
}

function bigOf(text: string): bigint {
  return /^[+-]?\d+$/.test(text) && text.length <= BIG_DIGITS_MAX
    ? BigInt(text)
    : broken('a large number is none')
}

/** @throws {XferdError} `PROTOCOL` if it is none */
export function doubleOf(text: string): number {
  const [, sign, infinite] = /^([+-]?)(inf)$/i.exec(text) ?? []
  if (infinite) return sign === '-' ? -Infinity : Infinity
  if (/^[+-]?nan$/i.test(text)) return Number.NaN
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)
    ? Number(text)
    : broken(`${JSON.stringify(text.slice(0, 32))} is no number`)
}

function wordOf(arg: number | bigint): string {
  if (typeof arg === 'bigint') return `${arg}`
  if (typeof arg !== 'number' || Number.isNaN(arg))
    throw invalid(`an argument is a string, a number or bytes, not ${arg}`)
  if (!Number.isFinite(arg)) return arg > 0 ? 'inf' : '-inf'
  return `${arg}`
}

function invalid(message: string): XferdError {
  return new XferdError('INVALID_ARGUMENT', message)
}

function broken(what: string): never {
  throw new XferdError('PROTOCOL', `the server's reply makes no sense: ${what}`)
}

const STAR = 0x2a
const DOLLAR = 0x24
const ZERO = 0x30
const CR = 0x0d
const LF = 0x0a
/** What there is room for at first, and what `*` or `$` with a number and the end of its line take. */
const FIRST_BYTES = 512
const HEADER_BYTES_MAX = 16
/** Reading a number takes the square of its length. */
const BIG_DIGITS_MAX = 10_000
/** What passes without anything being changed here. */
const RETRYABLE = new Set(['BUSY', 'LOADING', 'TRYAGAIN'])
