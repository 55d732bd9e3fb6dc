import { Readable } from 'node:stream'
import type { Completions } from './completions.js'
import { aborted } from './error.js'
import type { NativeClient } from './native.js'

export interface ReadStreamOptions {
  /** The first byte wanted; 0 unless given. */
  start?: number
  /** The last byte wanted, itself included as in `fs.createReadStream`; the file's last unless given. */
  end?: number
  signal?: AbortSignal
}

/**
 * A remote file's bytes, fetched only as fast as they are read.
 *
 * It ends after the digest of what was read has been verified; bytes seen before that are not yet proven.
 */
export class ReadStream extends Readable {
  /** How many bytes will come; undefined until the server has opened the file. */
  size: number | undefined
  readonly #client: NativeClient
  readonly #calls: Completions
  readonly #opened: Promise<void>
  #id: number | undefined

  /** @internal Comes from `client.readStream`. */
  constructor(
    client: NativeClient,
    calls: Completions,
    path: string,
    { start = 0, end, signal }: ReadStreamOptions,
  ) {
    super({ highWaterMark: CHUNKS_AHEAD_BYTES })
    this.#client = client
    this.#calls = calls
    this.#opened = this.#open(path, start, end === undefined ? -1 : end + 1, signal)
    this.#opened.catch((error) => this.destroy(error))
    const abort = (): void => void this.destroy(aborted(signal?.reason))
    signal?.addEventListener('abort', abort, { once: true })
    this.once('close', () => signal?.removeEventListener('abort', abort))
  }

  async #open(path: string, start: number, end: number, signal?: AbortSignal): Promise<void> {
    const begin = (): number => {
      this.#id = this.#client.openRead(path, start, end)
      return this.#id
    }
    const { size } = await this.#calls.call(begin, signal)
    this.size = size
  }

  override async _read(): Promise<void> {
    try {
      await this.#opened
      const { chunk } = await this.#calls.call(() => this.#client.readChunk(this.#id as number))
      this.push(chunk ?? null)
    } catch (error) {
      this.destroy(error as Error)
    }
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (this.#id !== undefined && !this.readableEnded) this.#client.cancel(this.#id)
    callback(error)
  }
}

/** One chunk is asked for while less than this waits to be read, so about two are in memory. */
const CHUNKS_AHEAD_BYTES = 256 * 1024
