import { setTimeout as sleep } from 'node:timers/promises'
import { Address, DEFAULT_PORT } from './address.js'
import { Completions } from './completions.js'
import { errorFrom, XferdError } from './error.js'
import {
  type NativeServer,
  native,
  type RawBackend,
  type RawError,
  type RawServerEvent,
  type RawServerStats,
  type WritePathCounts,
} from './native.js'

export interface ServeOptions {
  /** The directory to serve. Nothing outside of it is ever read or changed. */
  root: string
  /**
   * `xfer://HOST[:PORT]`; port 0 takes a free one. `['xfer://127.0.0.1:7400']` unless given.
   *
   * `xfer+unix:///PATH` is a Unix socket, which is a file: one that a server has left behind is replaced, and it is removed when
   * this one is closed. Only the user who serves may connect, unless `?mode=0660&user=UID&group=GID` after it, or some of
   * that, says otherwise.
   */
  listen?: string[]
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

export interface ServerStats extends RawServerStats {
  backend: RawBackend['name']
}

/** Something that happened: a connection `accepted` or `closed`, a file `stored` or `sent`, or either `failed`. */
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
  const addresses = await Promise.all(listen.map(Address.ofServer))
  const calls = new Completions()
  const { server, error } = native().startServer({ ...options, listen: addresses }, calls.wake)
  if (!server) throw error ? errorFrom(error) : new XferdError('INTERNAL', 'the addon started no server')
  calls.attach(server)
  return new Server(server, calls)
}

/** A running server. It keeps the process alive until it is closed or {@link unref} is called. */
export class Server implements AsyncDisposable {
  /** Where it listens, as `xfer://HOST:PORT` with the real port, or `xfer+unix:///PATH`. */
  readonly addresses: readonly [string, ...string[]]
  /** What waits for its sockets; with `auto`, the `reason` says why that is not io_uring. */
  readonly backend: Readonly<RawBackend>
  readonly #server: NativeServer
  readonly #calls: Completions
  readonly #ended = new AbortController()

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
