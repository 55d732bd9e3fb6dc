import { connect } from '../client.js'
import { KvClient } from './client.js'
import { openKvTransport } from './native-transport.js'
import type { KvTransport } from './transport.js'

export interface ConnectKvOptions {
  /** What the server asks for by AUTH. */
  password?: string
  /** Which of its databases. 0 unless given. */
  database?: number
  /** Connections that are shared, 1 to 256. 1 unless given, which keeps the order of all commands. */
  connections?: number
  /** What CLIENT LIST calls them. */
  name?: string
  /** How long the server may be silent that was asked for something, and how long commands wait for a lost connection. */
  timeoutMs?: number
  /** What waits for this side's sockets; see `ServeOptions.backend`. */
  backend?: 'auto' | 'mio' | 'uring'
  signal?: AbortSignal
}

/**
 * Connects to the keys at `address`: `kv://HOST[:PORT]` or, on this machine, `kv+unix:///PATH`; `xfer://HOST[:PORT]` and
 * `xfer+unix:///PATH` are where files are served, too.
 *
 * A connection that is lost is made anew. What was sent on it rejects with `CONNECTION_LOST`, because nobody knows what came of it; what
 * was not is sent on the next.
 *
 * @throws {XferdError} `CONNECTION_REFUSED`, `NOT_FOUND` for a host without an address, `PERMISSION` for a wrong password, `UNSUPPORTED`
 * where files are served and no keys, `TIMEOUT`, `INVALID_ARGUMENT`, `ABORTED` …
 */
export async function connectKv(
  address: string,
  { signal, ...options }: ConnectKvOptions = {},
): Promise<KvClient> {
  const client = new KvClient(await openTransport(address, options, signal))
  try {
    await client.with({ signal }).ping()
    return client
  } catch (error) {
    await client.close()
    throw error
  }
}

/** The way to the keys at any such address. */
export async function openTransport(
  address: string,
  options: Omit<ConnectKvOptions, 'signal'>,
  signal?: AbortSignal,
): Promise<KvTransport> {
  if (!/^xfer(\+unix)?:/.test(address)) return openKvTransport(address, options)
  const { timeoutMs, backend } = options
  const files = await connect(address, {
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(backend === undefined ? {} : { backend }),
    ...(signal === undefined ? {} : { signal }),
  })
  const keys = files.kvTransport(options)
  return {
    call: (...call) => keys.call(...call),
    lease: (signal) => keys.lease(signal),
    close: async () => {
      await keys.close()
      await files.close()
    },
  }
}
