import { entryFrom } from './entry.js'
import { aborted, errorFrom, XferdError } from './error.js'
import type { RawCompletion, RawError } from './native.js'

/** The native object whose calls are answered here, and which may have more to tell. */
interface Source {
  drain(): RawCompletion[]
  cancel?(id: number): void
}

/** Matches the completions of one native object to the calls that wait for them. */
export class Completions {
  #source: Source | undefined
  #closed = false
  readonly #calls = new Map<number, (completion: RawCompletion) => void>()
  #waiting: (() => void)[] = []

  /** Hands out what has been completed. The native side calls it whenever something has, or it has something else to tell. */
  readonly wake = (): void => {
    for (const completion of this.#source?.drain() ?? []) {
      const answer = this.#calls.get(completion.id)
      this.#calls.delete(completion.id)
      answer?.(completion)
    }
    this.#goOn()
    this.#letGo()
  }

  /** Names the object to drain. It exists only after it was given {@link wake}. */
  attach(source: Source): void {
    this.#source = source
  }

  /** The object was closed: no call begins any more, and it is let go once all are answered. */
  close(): void {
    this.#closed = true
    this.#goOn()
    this.#letGo()
  }

  /** Waits until the native side calls, for whatever reason, or the object is closed. */
  woken(): Promise<void> {
    return this.#closed ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve))
  }

  #goOn(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** The addon holds on to {@link wake} for good, and with it to what it leads to. */
  #letGo(): void {
    if (this.#closed && this.#calls.size === 0) this.#source = undefined
  }

  /**
   * Begins a native call and waits for its completion.
   *
   * An aborted `signal` cancels the call natively. The rejection follows when the native side has let go of it, so that
   * nothing of it is left then.
   */
  async call(begin: () => number, signal?: AbortSignal): Promise<RawCompletion> {
    const completion = await this.answer(begin, signal)
    if (completion.error) throw failure(completion, completion.error, signal)
    return completion
  }

  /** The same, but a failure of the call is in the completion: there may be something beside it. */
  async answer(begin: () => number, signal?: AbortSignal): Promise<RawCompletion> {
    if (signal?.aborted) throw aborted(signal.reason)
    if (this.#closed) throw new XferdError('ABORTED', 'it was closed before')
    const id = begin()
    const cancel = (): void => this.#source?.cancel?.(id)
    signal?.addEventListener('abort', cancel, { once: true })
    const completion = await new Promise<RawCompletion>((resolve) => this.#calls.set(id, resolve))
    signal?.removeEventListener('abort', cancel)
    return completion
  }
}

/** What a completed call has failed with. */
export function failure({ entries }: RawCompletion, error: RawError, signal?: AbortSignal): XferdError {
  if (error.code === 'ABORTED' && signal?.aborted) return aborted(signal.reason)
  return errorFrom(error, entries && { entries: entries.map(entryFrom) })
}
