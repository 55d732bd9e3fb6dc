import { Address } from '../address.js'
import { Completions, failure } from '../completions.js'
import { errorFrom, XferdError } from '../error.js'
import {
  type NativeClient,
  type NativeKvClient,
  type NativeServer,
  native,
  type OpenedKvClient,
  type RawBackend,
  type RawKvClientOptions,
} from '../native.js'
import type { KvAnswer, KvLine, KvTransport } from './transport.js'

/**
 * Opens the way to the keys at `address`, `kv://HOST[:PORT]` or `kv+unix:///PATH`. It connects when something is called.
 *
 * @throws {XferdError} `INVALID_ARGUMENT`, `NOT_FOUND` for a host without an address
 */
export async function openKvTransport(
  address: string,
  options: RawKvClientOptions = {},
): Promise<NativeTransport> {
  const store = await Address.ofStore(address)
  return opened((wake) => native().openKvClient(store, options, wake))
}

/**
 * The way to the keys of a server that a client is connected to for files: the connections are the same. It ends with the client.
 *
 * @throws {XferdError} `INVALID_ARGUMENT`, `ABORTED` if the client is closed
 */
export function openSharedTransport(client: NativeClient, options: RawKvClientOptions = {}): NativeTransport {
  return opened((wake) => client.openKv(options, wake))
}

/**
 * The way to the keys of a server in this process, which has no connection: commands are carried out where they are called.
 *
 * @throws {XferdError} `UNSUPPORTED` if it keeps none
 */
export function openInsideTransport(server: NativeServer): NativeTransport {
  return opened((wake) => server.openKv(wake))
}

function opened(open: (wake: () => void) => OpenedKvClient): NativeTransport {
  const calls = new Completions()
  const { client, backend, error } = open(calls.wake)
  if (!(client && backend))
    throw error ? errorFrom(error) : new XferdError('INTERNAL', 'the addon opened no client of keys')
  calls.attach(client)
  return new NativeTransport(client, backend, calls)
}

/** The addon's client of keys: connections that are shared, made anew when they break, and leased. */
export class NativeTransport implements KvTransport {
  /** What waits for its sockets; with `auto`, the `reason` says why that is not io_uring. */
  readonly backend: Readonly<RawBackend>
  readonly #client: NativeKvClient
  readonly #calls: Completions
  #closed: Promise<unknown> | undefined

  constructor(client: NativeKvClient, backend: RawBackend, calls: Completions) {
    this.backend = backend
    this.#client = client
    this.#calls = calls
  }

  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer> {
    return answer(this.#calls, () => this.#client.call(ANY_LINE, requests, count), signal)
  }

  async lease(signal?: AbortSignal): Promise<KvLine> {
    const { id } = await this.#calls.call(() => this.#client.lease(), signal)
    return new NativeLine(this.#client, this.#calls, id)
  }

  async close(): Promise<void> {
    this.#closed ??= this.#calls.call(() => this.#client.close()).finally(() => this.#calls.close())
    await this.#closed
  }
}

/** A connection of the addon's client that is somebody's alone. */
class NativeLine implements KvLine {
  readonly #client: NativeKvClient
  readonly #calls: Completions
  readonly #line: number

  constructor(client: NativeKvClient, calls: Completions, line: number) {
    this.#client = client
    this.#calls = calls
    this.#line = line
  }

  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer> {
    return answer(this.#calls, () => this.#client.call(this.#line, requests, count), signal)
  }

  async *pushes(): AsyncGenerator<Buffer, void> {
    for (;;) {
      const { chunk } = await this.#calls.call(() => this.#client.nextPushes(this.#line))
      if (!chunk) return
      yield chunk
    }
  }

  async close(): Promise<void> {
    this.#client.closeLine(this.#line)
  }
}

async function answer(calls: Completions, begin: () => number, signal?: AbortSignal): Promise<KvAnswer> {
  try {
    const completion = await calls.answer(begin, signal)
    const replies = completion.chunk ?? NOTHING
    return completion.error ? { replies, error: failure(completion, completion.error, signal) } : { replies }
  } catch (error) {
    // The signal was aborted before, or the transport is closed.
    if (error instanceof XferdError) return { replies: NOTHING, error }
    throw error
  }
}

/** As the addon calls whichever connection has the least to do. */
const ANY_LINE = 0

const NOTHING = Buffer.alloc(0)
