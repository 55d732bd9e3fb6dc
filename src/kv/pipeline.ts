import { aborted, XferdError } from '../error.js'
import { Replies, Requests, type Texts } from './codec.js'
import type { Said } from './table.js'
import type { KvAnswer } from './transport.js'

/** Sends commands: a {@link KvTransport}, or one of its connections. */
export interface Sender {
  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer>
}

/** Commands of one batch, and bytes of it, from where on it is sent without waiting for the end of the turn. */
export const BATCH_COMMANDS_MAX = 1024
export const BATCH_BYTES_MAX = 256 * 1024

/** Sends all commands of one turn of the event loop as one batch. */
export class Pipeline {
  readonly #sender: Sender
  #batch: Batch | undefined

  constructor(sender: Sender) {
    this.#sender = sender
  }

  /** What is replied to a command; rejects with the error that is. */
  call(said: Said, texts: Texts, signal?: AbortSignal): Promise<unknown> {
    if (signal?.aborted) return Promise.reject(aborted(signal.reason))
    const batch = this.#batch ?? new Batch()
    const reply = batch.add(said, texts, signal)
    if (!this.#batch && batch.count > 0) {
      this.#batch = batch
      // Behind all that happens in this turn: what was read from the network is handed out before.
      setImmediate(() => this.#send(batch))
    }
    if (batch.isFull) this.#send(batch)
    return reply
  }

  /** The same for several that follow each other and nothing else comes between. */
  callTogether(saids: readonly Said[], texts: Texts, signal?: AbortSignal): Promise<unknown>[] {
    this.flush()
    if (signal?.aborted) return saids.map(() => Promise.reject(aborted(signal.reason)))
    const batch = new Batch()
    const replies = saids.map((said) => batch.add(said, texts, signal))
    void batch.send(this.#sender)
    return replies
  }

  /** Sends what waits for the end of the turn. */
  flush(): void {
    if (this.#batch) this.#send(this.#batch)
  }

  #send(batch: Batch): void {
    if (this.#batch !== batch) return
    this.#batch = undefined
    void batch.send(this.#sender)
  }
}

/** Who waits for a reply. */
interface Waiting {
  said: Said
  texts: Texts
  resolve(value: unknown): void
  reject(error: unknown): void
}

class Batch {
  readonly #requests = new Requests()
  readonly #waiting: Waiting[] = []
  /** Who waits with a signal, by that. */
  readonly #followers = new Map<AbortSignal, { rejects: Waiting['reject'][]; abort: () => void }>()
  /** Aborted when nobody waits for any reply. */
  #abandoned: AbortController | undefined
  #abortedCalls = 0

  get count(): number {
    return this.#requests.count
  }

  get isFull(): boolean {
    return this.#requests.count >= BATCH_COMMANDS_MAX || this.#requests.length >= BATCH_BYTES_MAX
  }

  add(said: Said, texts: Texts, signal?: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#requests.push(said.args)
      this.#waiting.push({ said, texts, resolve, reject })
      if (signal) this.#follow(signal, reject)
    })
  }

  async send(sender: Sender): Promise<void> {
    try {
      const { replies, error } = await sender.call(
        this.#requests.bytes(),
        this.count,
        this.#abandoned?.signal,
      )
      this.#answer(new Replies(replies), error)
    } catch (error) {
      for (const { reject } of this.#waiting) reject(error)
    }
    for (const [signal, { abort }] of this.#followers) signal.removeEventListener('abort', abort)
  }

  /** Settles all; those that were aborted are settled already. */
  #answer(replies: Replies, error?: XferdError): void {
    for (const { said, texts, resolve, reject } of this.#waiting) {
      if (replies.isAtEnd) {
        reject(error ?? new XferdError('PROTOCOL', 'there are fewer replies than commands'))
        continue
      }
      const reply = said.each ? replies.nextEach(said.each) : replies.next(texts)
      if (reply instanceof XferdError) reject(reply)
      else if (said.read === undefined) resolve(reply)
      else settle(said, reply, resolve, reject)
    }
  }

  /** Rejects a call when its signal says so. What the command does it may still do, once it is sent. */
  #follow(signal: AbortSignal, reject: Waiting['reject']): void {
    this.#abandoned ??= new AbortController()
    const known = this.#followers.get(signal)
    if (known) return void known.rejects.push(reject)
    const rejects = [reject]
    const abort = (): void => {
      for (const reject of rejects) reject(aborted(signal.reason))
      this.#abortedCalls += rejects.length
      if (this.#abortedCalls === this.#waiting.length) this.#abandoned?.abort(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
    this.#followers.set(signal, { rejects, abort })
  }
}

function settle(
  { read, args }: Said,
  reply: unknown,
  resolve: Waiting['resolve'],
  reject: Waiting['reject'],
): void {
  try {
    resolve(read?.(reply, args))
  } catch (cause) {
    reject(new XferdError('PROTOCOL', `${args[0]} was not replied to as it should be`, { cause }))
  }
}
