import { setTimeout as sleep } from 'node:timers/promises'
import { Address, DEFAULT_PORT } from './address.js'
import { Completions } from './completions.js'
import { errorFrom, XferdError } from './error.js'
import { KvClient } from './kv/client.js'
import { openInsideTransport } from './kv/native-transport.js'
import {
  type NativeServer,
  native,
  type RawBackend,
  type RawError,
  type RawKvMetrics,
  type RawServerEvent,
  type RawServerStats,
  type WritePathCounts,
} from './native.js'

export interface ServeOptions {
  /** The directory to serve. Nothing outside of it is ever read or changed. Needed unless only keys are served. */
  root?: string
  /**
   * `xfer://HOST[:PORT]`; port 0 takes a free one. `['xfer://127.0.0.1:7400']` unless given.
   *
   * `xfer+unix:///PATH` is a Unix socket, which is a file: one that a server has left behind is replaced, and it is removed when
   * this one is closed. Only the user who serves may connect, unless `?mode=0660&user=UID&group=GID` after it, or some of
   * that, says otherwise.
   *
   * `kv://HOST[:PORT]` and `kv+unix:///PATH` serve keys to any Redis client; port 6390 unless given. All of them share
   * one store.
   */
  listen?: string[]
  /** How to keep keys. There are some if this is given, or if one of the addresses is for them. */
  kv?: KvOptions
  /** Threads that move bytes. */
  ioThreads?: number
  /** Threads for file work that blocks; 0 does it on the threads that move bytes. */
  workers?: number
  /**
   * What waits for sockets: `mio` is epoll or kqueue, `uring` is io_uring, which Linux 6.1 and later have unless it is
   * forbidden. `auto`, the default, takes the better one that can be had; {@link Server.backend} tells which that was.
   */
  backend?: 'auto' | 'mio' | 'uring'
  /** Synchronises every file to disk before it is acknowledged. */
  durable?: boolean
  /**
   * The way that files above 256 KiB take to the disk. `auto`, the default: through the page cache (`cached`) while the kernel
   * lets that much wait for the disk, beyond that around it. `uncached` writes to disk at once and keeps nothing cached,
   * `direct` goes past the page cache altogether, `paced` empties it behind the writer. What a file system cannot do is
   * replaced by the next of these, in the end by `cached`.
   */
  writePath?: keyof WritePathCounts | 'auto'
  /** Refuses every change. */
  readOnly?: boolean
  /** Allows addresses that other machines can reach; anybody there may then read and change the root. */
  insecure?: boolean
  maxConnections?: number
}

/** How to keep keys. */
export interface KvOptions {
  /** Bytes of memory that keys may take. As much as there is unless given. */
  maxMemory?: number
  /**
   * What happens when they are used up: `noeviction`, the default, refuses what needs more; `allkeys-lru` and `allkeys-lfu` remove
   * what was not asked for the longest, or is the least; `volatile-ttl` removes what would expire soonest.
   */
  policy?: 'noeviction' | 'allkeys-lru' | 'allkeys-lfu' | 'volatile-ttl'
  /** What clients have to say by AUTH. */
  password?: string
  /** For how long a client may say nothing. For ever unless given. */
  idleMs?: number
  /**
   * A directory in which changes are recorded, and from which they are loaded at the start. Redis 7 can read it. Unless given, keys
   * live as long as the server.
   */
  dir?: string
  /**
   * When what was recorded is synchronised to disk: `always` before it is acknowledged, `everysec`, the default, once a second, `no`
   * when the system does so. Whichever it is, what was acknowledged survives the end of the process.
   */
  fsync?: 'always' | 'everysec' | 'no'
}

/** What a server measures of itself. */
export interface ServerMetrics {
  /** The key-value store, if there is one. */
  kv?: RawKvMetrics
}

export interface ServerStats extends RawServerStats {
  backend: RawBackend['name']
}

/**
 * Something that happened: a connection `accepted` or `closed`, a file `stored` or `sent`, or either `failed`. `stop-asked`: a client of the
 * key-value store has said SHUTDOWN; it is for you to close the server, or not.
 */
export type ServerEvent = Omit<RawServerEvent, 'error'> & { error?: XferdError }

/**
 * Serves a directory.
 *
 * @throws {XferdError} `NOT_FOUND` or `NOT_A_DIRECTORY` for the root; `INVALID_ARGUMENT` for an address that others can reach,
 * unless `insecure`; `PERMISSION` or `IO` if it can't be bound
 */
export async function serve({
  listen = [`xfer://127.0.0.1:${DEFAULT_PORT}`],
  ...options
}: ServeOptions): Promise<Server> {
  const addresses = await Promise.all(listen.map(Address.ofListener))
  if (options.root === undefined && addresses.some((address) => address.startsWith('xfer'))) {
    throw new XferdError(
      'INVALID_ARGUMENT',
      'files are to be served, but no root is given; give one, or listen on kv:// only',
    )
  }
  const calls = new Completions()
  const { server, error } = native().startServer({ ...options, listen: addresses }, calls.wake)
  if (!server) throw error ? errorFrom(error) : new XferdError('INTERNAL', 'the addon started no server')
  calls.attach(server)
  return new Server(server, calls)
}

/** A running server. It keeps the process alive until it is closed or {@link unref} is called. */
export class Server implements AsyncDisposable {
  /** Where it listens, as `xfer://HOST:PORT` with the real port, or `xfer+unix:///PATH`; for keys as `kv://HOST:PORT` or `kv+unix:///PATH`. */
  readonly addresses: readonly [string, ...string[]]
  /** What waits for its sockets; with `auto`, the `reason` says why that is not io_uring. */
  readonly backend: Readonly<RawBackend>
  readonly #server: NativeServer
  readonly #calls: Completions
  readonly #ended = new AbortController()
  #kv: KvClient | undefined

  /** @internal Servers come from {@link serve}. */
  constructor(server: NativeServer, calls: Completions) {
    this.addresses = server.addresses() as [string, ...string[]]
    this.backend = server.backend()
    this.#server = server
    this.#calls = calls
  }

  /** Counters since the start, and the connections open now. */
  stats(): ServerStats {
    return { backend: this.backend.name, ...this.#server.stats() }
  }

  /**
   * The keys that are served, in this process: without a connection, and without a password.
   *
   * @throws {XferdError} `UNSUPPORTED` if there are none
   */
  get kv(): KvClient {
    this.#kv ??= new KvClient(openInsideTransport(this.#server))
    return this.#kv
  }

  /** How often each command was carried out and how long that took, and what is in the key-value store. */
  metrics(): ServerMetrics {
    const kv = this.#server.kvMetrics()
    return kv ? { kv } : {}
  }

  /**
   * What happens, until the server is closed. For one reader: an event is delivered once. A reader who falls 1,024 events
   * behind loses the oldest.
   */
  async *events(): AsyncGenerator<ServerEvent, void, undefined> {
    for await (const batch of this.batches()) yield* batch
  }

  /** As {@link events}, in arrays of what has happened meanwhile: for who handles 50,000 events a second, or 10,000 at once. */
  async *batches(): AsyncGenerator<ServerEvent[], void, undefined> {
    const { signal } = this.#ended
    for (;;) {
      const last = signal.aborted
      const batch: (Omit<RawServerEvent, 'error'> & { error?: RawError | XferdError })[] =
        this.#server.events()
      for (const event of batch) if (event.error) event.error = errorFrom(event.error)
      if (batch.length > 0) yield batch as ServerEvent[]
      if (last) return
      if (batch.length === 0) await this.#calls.woken()
      else await sleep(GATHER_MS, undefined, { ref: false, signal }).catch(() => {})
    }
  }

  /**
   * Stops accepting, lets transfers finish for `graceMs` (10,000 unless given), cuts off what is left then. Call it again
   * with 0 to cut the grace period short.
   */
  async close({ graceMs = 10_000 }: { graceMs?: number } = {}): Promise<void> {
    if (this.#ended.signal.aborted) return
    await this.#calls.call(() => this.#server.close(graceMs))
    await this.#kv?.close()
    this.#ended.abort()
    this.#calls.close()
  }

  /** Keeps the process alive while the server runs, which is how it starts. */
  ref(): this {
    this.#server.ref()
    return this
  }

  /** Lets the process exit although the server runs. */
  unref(): this {
    this.#server.unref()
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/**
 * How long more is gathered after something has happened: at up to some 50,000 small files a second, fetching each event by itself
 * would take a processor from those who move bytes. The log holds 1,024, so that it is not overrun meanwhile.
 */
const GATHER_MS = 5
