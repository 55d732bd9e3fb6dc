import { setTimeout as sleep } from 'node:timers/promises'
import type { Completions } from './completions.js'
import type { NativeClient } from './native.js'
import { completed, Meter, type Progress } from './progress.js'
import { type Receipt, receiptFrom } from './receipt.js'

/**
 * Files on their way. Await it for the receipt, iterate it for progress.
 *
 * It is under way from the moment it exists. Like any promise, one that fails while nobody awaits or iterates it raises
 * `unhandledRejection`; to start one and look away, attach `.then(undefined, …)`.
 *
 * It rejects with an `XferdError`: `PARTIAL` if some files arrived and others did not (see `error.receipt`), `ABORTED` after
 * {@link abort} or the signal, whose reason is then the error's `cause`.
 */
export class Transfer implements PromiseLike<Receipt>, AsyncIterable<Progress>, AsyncDisposable {
  readonly #client: NativeClient
  readonly #receipt: Promise<Receipt>
  readonly #aborting = new AbortController()
  readonly #startMs = performance.now()
  #id = 0

  /** @internal Transfers come from `client.push` and `client.pull`. */
  constructor(client: NativeClient, calls: Completions, begin: () => number, signal?: AbortSignal) {
    this.#client = client
    const follow = (): void => this.abort(signal?.reason)
    if (signal?.aborted) follow()
    signal?.addEventListener('abort', follow, { once: true })
    this.#receipt = calls
      .call(() => {
        this.#id = begin()
        return this.#id
      }, this.#aborting.signal)
      .finally(() => signal?.removeEventListener('abort', follow))
      .then(receiptFrom)
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaited is what a transfer is for
  then<A = Receipt, B = never>(
    onReceipt?: ((receipt: Receipt) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#receipt.then(onReceipt, onError)
  }

  /** Ends the transfer on both sides; nothing of what was under way remains on either. */
  abort(reason?: unknown): void {
    this.#aborting.abort(reason)
  }

  /**
   * Progress, at most ten times a second and only as fast as it is taken. The last one comes after the last commit; a
   * transfer that fails throws its error here too.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void, undefined> {
    const meter = new Meter(this.#startMs)
    const ended = new AbortController()
    const end = (): void => ended.abort()
    this.#receipt.then(end, end)
    while (!ended.signal.aborted) {
      await sleep(SAMPLE_MS, undefined, { signal: ended.signal }).catch(() => {})
      const raw = ended.signal.aborted ? null : this.#client.progress(this.#id)
      if (raw) yield meter.sample(raw)
    }
    yield completed(await this.#receipt)
  }

  /** Ends the transfer if it is still under way, and waits until nothing of it is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.abort()
    await this.#receipt.catch(() => {})
  }
}

const SAMPLE_MS = 100
