import { XferdError } from '../error.js'
import { asBuffers, asStrings, Push, type Texts } from './codec.js'
import type { Key, KvCommands, ScanOptions, Some } from './commands.js'
import { KvFeed } from './feed.js'
import { type KvMonitored, monitoredFrom } from './monitored.js'
import { Pipeline } from './pipeline.js'
import { CommandsOf } from './table.js'
import { type Replied, type TransactionOptions, transact, type Wanted } from './transaction.js'
import type { KvTransport } from './transport.js'

/** How a client is looked at. */
export interface KvView {
  /** Strings that may be any bytes are replied as buffers. */
  buffers?: boolean
  /**
   * Cancels all that was not replied to, which then rejects with `ABORTED` and the signal's reason as its `cause`. A command that was
   * sent may be carried out nevertheless.
   */
  signal?: AbortSignal | undefined
}

/** Something that was said on a channel. */
export interface KvMessage<B extends string | Buffer = string> {
  channel: B
  /** The pattern that describes the channel, if that is what was listened to. */
  pattern?: B
  message: B
}

/**
 * Keys on a server, which has them for any Redis client.
 *
 * Commands that are given in one turn of the event loop are sent together. They are carried out in the order in which they were
 * given; with more than one connection only those of one turn are, so await what is to come before.
 */
export class KvClient<B extends string | Buffer = string> extends CommandsOf<B> implements AsyncDisposable {
  readonly #transport: KvTransport
  readonly #pipeline: Pipeline
  readonly #texts: Texts
  readonly #signal: AbortSignal | undefined

  /** @internal Clients come from `connectKv`. */
  constructor(
    transport: KvTransport,
    texts: Texts = asStrings,
    pipeline = new Pipeline(transport),
    signal?: AbortSignal,
  ) {
    super((said) => pipeline.call(said, said.isText ? asStrings : texts, signal))
    this.#transport = transport
    this.#pipeline = pipeline
    this.#texts = texts
    this.#signal = signal
  }

  /** The same client, looked at in another way. It costs next to nothing. */
  with(view: KvView & { buffers: true }): KvClient<Buffer>
  with(view: KvView & { buffers: false }): KvClient
  with(view: { signal?: AbortSignal | undefined }): KvClient<B>
  with({ buffers, signal = this.#signal }: KvView): unknown {
    const texts = buffers === undefined ? this.#texts : buffers ? asBuffers : asStrings
    return new KvClient(this.#transport, texts, this.#pipeline, signal)
  }

  /**
   * Has several commands carried out together, with nothing of anybody else in between. `body` gives them and returns those whose
   * replies are wanted:
   *
   * ```ts
   * const [count, name] = await kv.transaction((t) => [t.incr('count'), t.get('name')])
   * ```
   *
   * With `watch`, it has a connection of its own: what `body` reads by its second argument is what the keys hold, or it is called
   * again.
   *
   * ```ts
   * await kv.transaction(async (t, now) => {
   *   if (Number(await now.get('stock')) > 0) t.decr('stock')
   * }, { watch: ['stock'] })
   * ```
   *
   * It rejects with the first error that was replied to what `body` returned, or, if that is nothing, to any of the commands. The others
   * were carried out nevertheless, as Redis has it; a command that makes no sense is refused before any is.
   *
   * @throws {XferdError} `CONFLICT` if other clients change the keys again and again
   */
  transaction<T extends readonly unknown[]>(
    body: (t: KvCommands<B>, now: KvCommands<B>) => Wanted<T>,
    options?: TransactionOptions,
  ): Promise<Replied<T>>
  transaction(
    body: (t: KvCommands<B>, now: KvCommands<B>) => unknown,
    options?: TransactionOptions,
  ): Promise<unknown[]>
  async transaction(
    body: (t: KvCommands<B>, now: KvCommands<B>) => unknown,
    { watch = [], attempts = ATTEMPTS }: TransactionOptions = {},
  ): Promise<unknown[]> {
    const signal = this.#signal
    if (watch.length === 0) return transact<B>(this.#pipeline, this.#texts, (t) => body(t, this), signal)
    const line = await this.#transport.lease(signal)
    try {
      const pipeline = new Pipeline(line)
      const now = new CommandsOf<B>((said) =>
        pipeline.call(said, said.isText ? asStrings : this.#texts, signal),
      )
      for (let attempt = 1; ; attempt++) {
        await pipeline.call({ args: ['WATCH', ...watch] }, asStrings, signal)
        try {
          return await transact<B>(pipeline, this.#texts, (t) => body(t, now), signal)
        } catch (error) {
          if (!(error instanceof XferdError && error.code === 'CONFLICT') || attempt >= attempts) throw error
        }
      }
    } finally {
      await line.close()
    }
  }

  /** All keys, some after the others. One that is there all the time is told; one that comes or goes may be, and may be told twice. */
  async *scan({ match, count, type }: ScanOptions = {}): AsyncGenerator<B, void, undefined> {
    const options = [
      ...(match === undefined ? [] : ['MATCH', match]),
      ...(count === undefined ? [] : ['COUNT', count]),
      ...(type === undefined ? [] : ['TYPE', type]),
    ]
    let cursor = '0'
    do {
      const [next, keys] = (await this.command('SCAN', cursor, ...options)) as [B, B[]]
      yield* keys
      cursor = `${next}`
    } while (cursor !== '0')
  }

  /** What is said on these channels from now on; on a connection of its own. */
  subscribe(...channels: Some<Key>): KvFeed<KvMessage<B>> {
    return this.#listen('SUBSCRIBE', channels.flat() as Key[])
  }

  /** What is said on channels that these patterns describe. */
  psubscribe(...patterns: Some<Key>): KvFeed<KvMessage<B>> {
    return this.#listen('PSUBSCRIBE', patterns.flat() as Key[])
  }

  /** Every command that any client gives from now on; on a connection of its own. It costs the server more than all the others do. */
  monitor(): KvFeed<KvMonitored<B>> {
    return new KvFeed({
      transport: this.#transport,
      begin: [['MONITOR']],
      texts: asStrings,
      read: (told) => {
        const monitored = typeof told === 'string' ? monitoredFrom(told) : undefined
        if (!monitored) return undefined
        const args = monitored.args.map((arg) => this.#texts(arg, 0, arg.length, 'bulk') as B)
        return { ...monitored, args }
      },
      signal: this.#signal,
    })
  }

  /** Has the server stop, as far as it does when it is asked: it closes all connections. */
  async shutdown(): Promise<void> {
    try {
      await this.command('SHUTDOWN')
    } catch (error) {
      if (!(error instanceof XferdError && error.code === 'CONNECTION_LOST')) throw error
    }
  }

  /** Ends what was not replied to, with `ABORTED`, and disconnects, whichever view of the client is asked. */
  async close(): Promise<void> {
    this.#pipeline.flush()
    await this.#transport.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #listen(name: string, to: readonly Key[]): KvFeed<KvMessage<B>> {
    if (to.length === 0) throw new XferdError('INVALID_ARGUMENT', 'name a channel to listen to')
    return new KvFeed({
      transport: this.#transport,
      // What is replied to SUBSCRIBE comes unasked; what PING is replied to comes behind that.
      begin: [[name, ...to], ['PING']],
      texts: this.#texts,
      read: (told) => (told instanceof Push ? messageFrom<B>(told.values) : undefined),
      signal: this.#signal,
    })
  }
}

/** `message`, channel, message; `pmessage`, pattern, channel, message. */
function messageFrom<B extends string | Buffer>([kind, ...rest]: readonly unknown[]):
  | KvMessage<B>
  | undefined {
  const [first, second, third] = rest as B[]
  switch (`${kind}`) {
    case 'message':
      return { channel: first as B, message: second as B }
    case 'pmessage':
      return { pattern: first as B, channel: second as B, message: third as B }
    default:
      return undefined
  }
}

const ATTEMPTS = 16
