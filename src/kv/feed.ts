import { setTimeout as sleep } from 'node:timers/promises'
import { aborted, XferdError } from '../error.js'
import { asStrings, encode, type KvArg, Replies, type Texts } from './codec.js'
import type { KvLine, KvTransport } from './transport.js'

/** What makes a feed. */
interface Source<T> {
  transport: KvTransport
  /** What the server is told on a connection, which it replies to once. */
  begin: readonly (readonly KvArg[])[]
  texts: Texts
  /** What was told, if it is something for who listens. */
  read(told: unknown): T | undefined
  signal?: AbortSignal | undefined
}

/**
 * What a server tells without being asked, on a connection of its own: iterate it.
 *
 * It begins when it is made, as {@link ready} tells. If the connection is lost it connects again, for as long as that takes, and goes on;
 * what was said meanwhile is lost. Leaving the loop ends it. For one reader, who is waited for: one that is too slow is cut off by the
 * server when the limit of its output is reached, and that counts as a connection lost.
 */
export class KvFeed<T> implements AsyncIterable<T>, AsyncDisposable {
  /** Resolves when the server has begun to tell; rejects if that cannot be had. */
  readonly ready: Promise<void>
  readonly #source: Source<T>
  readonly #closed = new AbortController()
  #line: Promise<KvLine>
  #reconnections = 0

  /** @internal Feeds come from a `KvClient`. */
  constructor(source: Source<T>) {
    this.#source = source
    const { signal } = source
    const close = (): void => void this.#end(aborted(signal?.reason))
    if (signal?.aborted) close()
    else signal?.addEventListener('abort', close, { once: true, signal: this.#closed.signal })
    this.#line = this.#connect()
    this.ready = this.#line.then(() => {})
    // Whoever iterates is told, too.
    this.ready.catch(() => {})
  }

  /** How often the connection was lost and made anew. What was said in between is missing. */
  get reconnections(): number {
    return this.#reconnections
  }

  /** Throws `ABORTED` if the signal was aborted, and what keeps it from beginning; a connection that is lost is no error. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (let line = await this.#line; ; line = await this.#reconnect()) {
        try {
          for await (const bytes of line.pushes()) yield* this.#told(bytes)
          break
        } catch (error) {
          if (!isLost(error) || this.#closed.signal.aborted) throw error
        }
      }
    } catch (error) {
      if (!this.#closed.signal.aborted) throw error
    } finally {
      await this.close()
    }
    const { reason } = this.#closed.signal
    if (reason instanceof XferdError) throw reason
  }

  /** Ends it, and with it who iterates. */
  async close(): Promise<void> {
    await this.#end('closed')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  *#told(bytes: Buffer): Generator<T, void> {
    const values = new Replies(bytes)
    while (!values.isAtEnd) {
      const item = this.#source.read(values.next(this.#source.texts))
      if (item !== undefined) yield item
    }
  }

  async #connect(): Promise<KvLine> {
    const { transport, begin } = this.#source
    const { signal } = this.#closed
    const line = await transport.lease(signal)
    try {
      const { replies, error } = await line.call(encode(...begin), 1, signal)
      if (error) throw error
      const reply = new Replies(replies).next(asStrings)
      if (reply instanceof XferdError) throw reply
      return line
    } catch (error) {
      await line.close()
      throw error
    }
  }

  async #reconnect(): Promise<KvLine> {
    const { signal } = this.#closed
    await this.#line.then((line) => line.close()).catch(() => {})
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      try {
        this.#line = this.#connect()
        const line = await this.#line
        this.#reconnections += 1
        return line
      } catch (error) {
        if (!(error instanceof XferdError && error.retryable)) throw error
      }
      await sleep(pauseMs, undefined, { signal })
    }
  }

  async #end(reason: unknown): Promise<void> {
    this.#closed.abort(reason)
    await this.#line?.then((line) => line.close()).catch(() => {})
  }
}

function isLost(error: unknown): boolean {
  return error instanceof XferdError && error.code === 'CONNECTION_LOST'
}

/** How long it waits before it tries again to connect: twice as long each time. */
const PAUSE_MS_MIN = 50
const PAUSE_MS_MAX = 2_000
