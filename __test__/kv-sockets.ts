/** Connections to a server of keys, made of Node's own sockets. */
import { connect as dial, type Socket } from 'node:net'
import { join } from 'node:path'
import { XferdError } from 'xferd'
import type { KvAnswer, KvLine, KvTransport } from '../src/kv/transport.js'
import { REPOSITORY } from './fixture.js'

const codec: typeof import('../src/kv/codec.js') = require(join(REPOSITORY, 'dist/kv/codec.js'))

export class Sockets implements KvTransport {
  #port: number
  #lines = new Set<Line>()
  #shared: Promise<Line> | undefined
  sent = 0
  constructor(port: number) {
    this.#port = port
  }
  async call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer> {
    this.sent += 1
    this.#shared ??= this.lease().then((line) => line as Line)
    const line = await this.#shared
    if (line.lost) {
      this.#shared = undefined
      return this.call(requests, count, signal)
    }
    return line.call(requests, count, signal)
  }
  async lease(signal?: AbortSignal): Promise<KvLine> {
    if (signal?.aborted) throw new XferdError('ABORTED', 'aborted')
    const socket = dial(this.#port, '127.0.0.1')
    const line = new Line(socket)
    this.#lines.add(line)
    await line.call(codec.encode(['HELLO', 3]), 1)
    return line
  }
  async close(): Promise<void> {
    for (const line of this.#lines) await line.close()
  }
}

class Line implements KvLine {
  #socket: Socket
  #bytes = Buffer.alloc(0)
  #waiting: { count: number; replies: Buffer[]; resolve: (a: KvAnswer) => void }[] = []
  #pushes: Buffer[] = []
  #wake = () => {}
  #closed = false
  lost = false
  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data) => this.#take(data))
    socket.on('error', () => {})
    socket.on('close', () => {
      this.lost = true
      for (const { replies, resolve } of this.#waiting.splice(0))
        resolve({ replies: Buffer.concat(replies), error: lost() })
      this.#wake()
    })
  }
  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer> {
    if (this.lost) return Promise.reject(lost())
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new XferdError('ABORTED', 'withdrawn')))
      this.#waiting.push({ count, replies: [], resolve })
      this.#socket.write(requests)
    })
  }
  async *pushes(): AsyncIterable<Buffer> {
    for (;;) {
      yield* this.#pushes.splice(0)
      if (this.#closed) return
      if (this.lost) throw lost()
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
  async close(): Promise<void> {
    this.#closed = true
    this.#socket.destroy()
    this.#wake()
  }
  #take(data: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, data])
    for (;;) {
      const length = this.#first()
      if (length === 0) return
      const value = this.#bytes.subarray(0, length)
      this.#bytes = this.#bytes.subarray(length)
      const waiting = this.#waiting[0]
      if (value[0] === 0x3e || !waiting) {
        this.#pushes.push(value)
        this.#wake()
        continue
      }
      waiting.replies.push(value)
      if (waiting.replies.length === waiting.count) {
        this.#waiting.shift()
        waiting.resolve({ replies: Buffer.concat(waiting.replies) })
      }
    }
  }
  #first(): number {
    for (let end = this.#bytes.indexOf('\r\n') + 2; end > 1; ) {
      const replies = new codec.Replies(this.#bytes.subarray(0, end))
      try {
        replies.next(codec.asStrings)
        return end
      } catch {
        const next = this.#bytes.indexOf('\r\n', end)
        end = next < 0 ? 0 : next + 2
      }
    }
    return 0
  }
}

function lost(): XferdError {
  return new XferdError('CONNECTION_LOST', 'the connection was lost', { retryable: true })
}
