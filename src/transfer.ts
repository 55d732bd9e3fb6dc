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
  readonly #ended = new AbortController()
  readonly #meter = new Meter(performance.now())
  #sample: Promise<Progress | undefined> | undefined
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
      .finally(() => {
        signal?.removeEventListener('abort', follow)
        this.#ended.abort()
      })
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
   * Progress, at most ten times a second, however many iterate, and only as fast as it is taken. The last one comes after
   * the last commit; a transfer that fails throws its error here too.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void, undefined> {
    while (!this.#ended.signal.aborted) {
      const progress = await this.#nextSample()
      if (progress) yield progress
    }
    yield completed(await this.#receipt)
  }

  /** Ends the transfer if it is still under way, and waits until nothing of it is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.abort()
    await this.#receipt.catch(() => {})
  }

  /** All who wait at the same time get the same sample. */
  #nextSample(): Promise<Progress | undefined> {
    this.#sample ??= this.#takeSample().finally(() => {
      this.#sample = undefined
    })
    return this.#sample
  }

  async #takeSample(): Promise<Progress | undefined> {
    const { signal } = this.#ended
    await sleep(SAMPLE_MS, undefined, { signal }).catch(() => {})
    const raw = signal.aborted ? null : this.#client.progress(this.#id)
    return raw ? this.#meter.sample(raw) : undefined
  }
}

const SAMPLE_MS = 100
