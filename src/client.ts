import { Readable } from 'node:stream'
import type { ReadableStream, WritableStream } from 'node:stream/web'
import { Address, isSocket } from './address.js'
import { Completions } from './completions.js'
import { type Entry, entryFrom } from './entry.js'
import { errorFrom, XferdError } from './error.js'
import { KvClient } from './kv/client.js'
import { openSharedTransport } from './kv/native-transport.js'
import type { KvTransport } from './kv/transport.js'
import { type NativeClient, native, type RawBackend, type RawKvClientOptions } from './native.js'
import { ReadStream, type ReadStreamOptions } from './read-stream.js'
import { Transfer } from './transfer.js'
import { WriteStream, type WriteStreamOptions } from './write-stream.js'

export interface ConnectOptions {
  /** How long the server may take to answer a connection attempt, or stay silent while something is expected of it. */
  timeoutMs?: number
  /** Threads that move this side's bytes. */
  ioThreads?: number
  /** Threads for this side's file work; 0 does it between network events. */
  workers?: number
  /** What waits for this side's sockets; see {@link ServeOptions.backend}. */
  backend?: 'auto' | 'mio' | 'uring'
  /** How {@link Client.kv} reaches the server's keys. */
  kv?: ClientKvOptions
  signal?: AbortSignal
}

export interface ClientKvOptions {
  /** What the server asks for by AUTH. */
  password?: string
  /** Which of its databases. 0 unless given. */
  database?: number
  /** What CLIENT LIST calls it. */
  name?: string
}

export interface CallOptions {
  /** Cancels the call, which then rejects with `ABORTED` and the signal's reason as its `cause`. */
  signal?: AbortSignal
}

export interface TransferOptions extends CallOptions {
  /** Transfers this many copies at once, each under its own name: `{n}` in the name, or `.0`, `.1` … after it. */
  clients?: number
  /** Connections that share out the files of one tree; a push shares out the parts of large files, too. */
  streams?: number
  /** `crc64nvme` unless given; `none` leaves only the checks of TCP. */
  digest?: 'crc64nvme' | 'blake3' | 'none'
  /** Synchronises every file to disk before it is acknowledged. */
  durable?: boolean
  /** Globs of what to transfer; all unless given. */
  include?: string[]
  /** Globs of what to leave out; stronger than `include`. */
  exclude?: string[]
  /**
   * Tells by digests what is there already, and not by size and time. Without it, a file whose size and modification time
   * are those of the one at the target is left out.
   */
  checksum?: boolean
  /** Transfers everything, whether or not it is there already. */
  ignoreTimes?: boolean
  /** Finds out what would be transferred, and transfers nothing. */
  dryRun?: boolean
}

export interface PushOptions extends TransferOptions {
  /**
   * Goes on where a push of the same files to the same place was cut off, whatever ended it, and leaves behind what the next
   * one can go on with. A file that changed meanwhile starts over. Not with `blake3`, whose parts do not combine.
   */
  resume?: boolean
  /** Sends from one shared mapping of the file instead of reading it. */
  mmap?: boolean
}

export type PullOptions = TransferOptions

/**
 * Connects to the server at `address`, `xfer://HOST[:PORT]` or, on this machine, `xfer+unix:///PATH`.
 *
 * @throws {XferdError} `CONNECTION_REFUSED`, `NOT_FOUND` for a host without an address, `TIMEOUT`, `VERSION`, `INVALID_ARGUMENT`, `ABORTED` …
 */
export async function connect(
  address: string,
  { signal, kv, ...options }: ConnectOptions = {},
): Promise<Client> {
  const server = await Address.ofServer(address)
  const calls = new Completions()
  const { client, backend, error } = native().openClient(server, options, calls.wake)
  if (!(client && backend))
    throw error ? errorFrom(error) : new XferdError('INTERNAL', 'the addon opened no client')
  calls.attach(client)
  try {
    await calls.call(() => client.connect(), signal)
  } catch (error) {
    await calls.call(() => client.close())
    calls.close()
    throw error
  }
  return new Client(isSocket(address) ? address : Address.parse(address).server, client, backend, calls, kv)
}

/**
 * A connection to one server. Any number of calls may be under way at once.
 *
 * Paths on the server are relative to its root, with `/` between names. It keeps the process alive only while calls are
 * under way.
 */
export class Client implements AsyncDisposable {
  /** The server: `xfer://HOST:PORT`, or `xfer+unix:///PATH`. */
  readonly address: string
  /** What waits for its sockets; with `auto`, the `reason` says why that is not io_uring. */
  readonly backend: Readonly<RawBackend>
  readonly #client: NativeClient
  readonly #calls: Completions
  readonly #kvOptions: ClientKvOptions | undefined
  #kv: KvClient | undefined
  #closed: Promise<unknown> | undefined

  /** @internal Clients come from {@link connect}. */
  constructor(
    address: string,
    client: NativeClient,
    backend: RawBackend,
    calls: Completions,
    kv?: ClientKvOptions,
  ) {
    this.address = address
    this.backend = backend
    this.#client = client
    this.#calls = calls
    this.#kvOptions = kv
  }

  /** The server's keys, on the connections that move files. If it has none, commands reject with `UNSUPPORTED`. */
  get kv(): KvClient {
    this.#kv ??= new KvClient(this.kvTransport(this.#kvOptions))
    return this.#kv
  }

  /** @internal The same as it carries bytes. */
  kvTransport(options?: RawKvClientOptions): KvTransport {
    return openSharedTransport(this.#client, options)
  }

  /**
   * Sends files or folders.
   *
   * A `target` that ends with a slash, or is empty, is a directory to put them in; so it is if there are several sources.
   * Otherwise it is the new name itself. Missing directories are made, and existing files replaced once their successors
   * are whole.
   */
  push(source: string | string[], target: string, { signal, ...options }: PushOptions = {}): Transfer {
    const sources = [source].flat()
    const isDirectory = sources.length !== 1 || target === '' || target.endsWith('/')
    return this.#transfer(() => this.#client.push(sources, target, isDirectory, options), signal)
  }

  /**
   * Fetches files or folders.
   *
   * A `destination` that ends with a slash or is an existing directory gets them put into it; so it is if there are
   * several paths. Otherwise it is the new name itself.
   */
  pull(path: string | string[], destination: string, { signal, ...options }: PullOptions = {}): Transfer {
    return this.#transfer(() => this.#client.pull([path].flat(), destination, options), signal)
  }

  /** Reads a file, or a part of it, as a Node stream. */
  readStream(path: string, options: ReadStreamOptions = {}): ReadStream {
    return new ReadStream(this.#client, this.#calls, path, options)
  }

  /** Writes a file as a Node stream. It is stored when the stream has finished. */
  writeStream(path: string, options: WriteStreamOptions = {}): WriteStream {
    return new WriteStream(this.#client, this.#calls, path, options)
  }

  /** Reads a file, or a part of it, as a web stream. */
  readableStream(path: string, options: ReadStreamOptions = {}): ReadableStream<Uint8Array> {
    // One chunk ahead: the default counts 65,536 chunks of any size as the high-water mark (nodejs/node#46347).
    return Readable.toWeb(this.readStream(path, options), { strategy: { highWaterMark: 1 } })
  }

  /** Writes a file as a web stream. It is stored when `close()` has resolved. */
  writableStream(path: string, options: WriteStreamOptions = {}): WritableStream<Uint8Array> {
    return this.writeStream(path, options).toWeb()
  }

  /**
   * What is in a directory; the server's root unless given.
   *
   * @throws {XferdError} `PARTIAL` if something in it has no place in a listing, such as a name that is not UTF-8; the rest is
   * in `error.entries`
   */
  async list(
    directory = '',
    { recursive = false, signal }: CallOptions & { recursive?: boolean } = {},
  ): Promise<Entry[]> {
    const { entries = [] } = await this.#calls.call(() => this.#client.list(directory, recursive), signal)
    return entries.map(entryFrom)
  }

  async stat(path: string, { signal }: CallOptions = {}): Promise<Entry> {
    const { entry } = await this.#calls.call(() => this.#client.stat(path), signal)
    if (!entry) throw new XferdError('INTERNAL', `the native side answered stat of ${path} without an entry`)
    return entryFrom(entry)
  }

  /** Removes a file, a link or an empty directory; with `recursive`, a directory and all that is in it. */
  async remove(
    path: string,
    { recursive = false, signal }: CallOptions & { recursive?: boolean } = {},
  ): Promise<void> {
    await this.#calls.call(() => this.#client.remove(path, recursive), signal)
  }

  async rename(from: string, to: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#calls.call(() => this.#client.rename(from, to), signal)
  }

  /** Makes a directory and those above it; one that exists is fine. */
  async makeDir(path: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#calls.call(() => this.#client.makeDir(path), signal)
  }

  /** Ends what is under way, with `ABORTED`, and disconnects. */
  async close(): Promise<void> {
    this.#closed ??= this.#calls.call(() => this.#client.close()).finally(() => this.#calls.close())
    await this.#closed
    await this.#kv?.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #transfer(begin: () => number, signal?: AbortSignal): Transfer {
    return new Transfer(this.#client, this.#calls, begin, signal)
  }
}
