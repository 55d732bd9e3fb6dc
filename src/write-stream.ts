import { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { WritableStream } from 'node:stream/web'
import type { Completions } from './completions.js'
import { aborted } from './error.js'
import type { NativeClient } from './native.js'
import { type Receipt, receiptFrom } from './receipt.js'

export interface WriteStreamOptions {
  /** Synchronises the file to disk before it is acknowledged. */
  durable?: boolean
  digest?: 'crc64nvme' | 'blake3' | 'none'
  signal?: AbortSignal
}

/**
 * A remote file being written, accepted only as fast as it is sent.
 *
 * The file appears, whole, when the stream finishes. If the stream is destroyed before, nothing of it remains.
 */
export class WriteStream extends Writable {
  /** Set when the stream has finished. */
  receipt: Receipt | undefined
  readonly #client: NativeClient
  readonly #calls: Completions
  readonly #opened: Promise<unknown>
  #id: number | undefined

  /** @internal Comes from `client.writeStream`. */
  constructor(
    client: NativeClient,
    calls: Completions,
    path: string,
    { signal, ...options }: WriteStreamOptions,
  ) {
    super({ highWaterMark: CHUNKS_BEHIND_BYTES })
    this.#client = client
    this.#calls = calls
    this.#opened = calls.call(() => {
      this.#id = client.openWrite(path, options)
      return this.#id
    }, signal)
    this.#opened.catch((error) => this.destroy(error))
    const abort = (): void => void this.destroy(aborted(signal?.reason))
    signal?.addEventListener('abort', abort, { once: true })
    this.once('close', () => signal?.removeEventListener('abort', abort))
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#call((id) => this.#client.writeChunk(id, chunk)).then(() => callback(), callback)
  }

  /** Many small chunks that had to wait go over as one. */
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    const data = Buffer.concat(chunks.map(({ chunk }) => chunk))
    this.#call((id) => this.#client.writeChunk(id, data)).then(() => callback(), callback)
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#call((id) => this.#client.finishWrite(id))
      .then((completion) => {
        this.receipt = receiptFrom(completion)
      })
      .then(() => callback(), callback)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (this.#id !== undefined && !this.receipt) this.#client.cancel(this.#id)
    callback(error)
  }

  /** The same file as a web stream; `Writable.toWeb` would queue up to 262,144 chunks of any size. */
  toWeb(): WritableStream<Uint8Array> {
    return new WritableStream({
      start: (controller) => void this.once('error', (error) => controller.error(error)),
      write: (chunk) =>
        new Promise((resolve, reject) => this.write(chunk, (error) => (error ? reject(error) : resolve()))),
      close: () => finished(this.end()),
      abort: () => void this.destroy(),
    })
  }

  async #call(begin: (id: number) => number): ReturnType<Completions['call']> {
    await this.#opened
    return this.#calls.call(() => begin(this.#id as number))
  }
}

/** What may wait here while a chunk is under way. */
const CHUNKS_BEHIND_BYTES = 256 * 1024
