import { XferdError } from '../../src/index.js'
import { asStrings, encode, Replies, type Texts } from '../../src/kv/codec.js'
import type { KvLine, KvTransport } from '../../src/kv/transport.js'
import { asTexts, Text } from './replies.js'

/**
 * What somebody says to a server, one command after another, by one connection that has a state: a database, a transaction. When it
 * is lost the next command goes by another one, in the same database.
 */
export class Talk {
  readonly #transport: KvTransport
  readonly #texts: Texts
  #line: KvLine | undefined
  /** The one that connections begin in, and the one that was chosen. */
  readonly #home: number
  #database: number
  #isInTransaction = false

  constructor(transport: KvTransport, database = 0, texts = asTexts) {
    this.#transport = transport
    this.#texts = texts
    this.#home = database
    this.#database = database
  }

  get database(): number {
    return this.#database
  }

  get isInTransaction(): boolean {
    return this.#isInTransaction
  }

  /**
   * What is replied; an error that is replied is returned.
   *
   * @throws {XferdError} if there is no reply
   */
  async say(words: readonly (string | Buffer)[], signal?: AbortSignal): Promise<unknown> {
    const upper = words.map((word) => `${word}`.toUpperCase())
    if (/^P?UNSUBSCRIBE$/.test(upper[0] ?? ''))
      throw new XferdError('INVALID_ARGUMENT', `${upper[0]} is not needed: nothing is listened to now`)
    try {
      if (!this.#line) {
        this.#line = await this.#connect(signal)
        void this.#watch(this.#line)
      }
      const reply = await ask(this.#line, words, this.#texts, signal)
      await this.#note(upper, reply)
      return reply
    } catch (error) {
      await this.leave()
      throw error
    }
  }

  /** Whether what is said is not only replied to, but followed by what happens. */
  isListening([name]: readonly (string | Buffer)[]): boolean {
    return /^(p?subscribe|monitor)$/i.test(`${name}`) && !this.#isInTransaction
  }

  /** Says that by a connection of its own, and tells what happens until `signal` is aborted, or an error was replied. */
  async *listen(words: readonly (string | Buffer)[], signal: AbortSignal): AsyncGenerator<unknown, void> {
    const line = await this.#connect(signal)
    const leave = (): void => void line.close()
    signal.addEventListener('abort', leave, { once: true })
    try {
      // MONITOR is replied to; what is replied to SUBSCRIBE comes as what happens does.
      const count = /^monitor$/i.test(`${words[0]}`) ? 1 : 0
      const { replies, error } = await line.call(encode(words), count, signal)
      if (error) throw error
      yield* this.#values(replies)
      for await (const bytes of line.pushes()) yield* this.#values(bytes)
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      signal.removeEventListener('abort', leave)
      await line.close()
    }
  }

  /** Ends the connection. What is said next goes by another one. */
  async leave(): Promise<void> {
    const line = this.#line
    this.#line = undefined
    this.#isInTransaction = false
    await line?.close()
  }

  async #connect(signal?: AbortSignal): Promise<KvLine> {
    const line = await this.#transport.lease(signal)
    if (this.#database === this.#home) return line
    const reply = await ask(line, ['SELECT', `${this.#database}`], asStrings, signal)
    if (reply instanceof XferdError) throw reply
    return line
  }

  /** Notices when the connection is lost, so that what is said next goes by another one at once. */
  async #watch(line: KvLine): Promise<void> {
    try {
      for await (const _ of line.pushes());
    } catch {
      if (this.#line === line) await this.leave()
    }
  }

  *#values(bytes: Buffer): Generator<unknown, void> {
    const values = new Replies(bytes)
    while (!values.isAtEnd) yield values.next(this.#texts)
  }

  /** What the server has said OK to. */
  async #note([name, word]: readonly string[], reply: unknown): Promise<void> {
    if (name === 'EXEC' || name === 'DISCARD') this.#isInTransaction = false
    if (!(reply instanceof Text)) return
    if (name === 'MULTI') this.#isInTransaction = true
    if (name === 'SELECT' && !this.#isInTransaction) this.#database = Number(word)
    if (name === 'RESET') {
      // It would have to say again who it is, and which protocol it speaks.
      this.#database = this.#home
      await this.leave()
    }
  }
}

async function ask(
  line: KvLine,
  words: readonly (string | Buffer)[],
  texts: Texts,
  signal?: AbortSignal,
): Promise<unknown> {
  const { replies, error } = await line.call(encode(words), 1, signal)
  if (error) throw error
  return new Replies(replies).next(texts)
}
