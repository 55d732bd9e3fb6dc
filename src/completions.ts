import { aborted, errorFrom, type XferdError } from './error.js'
import type { RawCompletion } from './native.js'

/** The native object whose calls are answered here. */
interface Source {
  drain(): RawCompletion[]
  cancel?(id: number): void
}

/** Matches the completions of one native object to the calls that wait for them. */
export class Completions {
  #source: Source | undefined
  readonly #calls = new Map<number, (completion: RawCompletion) => void>()

  /** Hands out what has been completed. The native side calls it whenever something has. */
  readonly wake = (): void => {
    for (const completion of this.#source?.drain() ?? []) {
      const answer = this.#calls.get(completion.id)
      this.#calls.delete(completion.id)
      answer?.(completion)
    }
  }

  /** Names the object to drain. It exists only after it was given {@link wake}. */
  attach(source: Source): void {
    this.#source = source
  }

  /**
   * Begins a native call and waits for its completion.
   *
   * An aborted `signal` cancels the call natively. The rejection follows when the native side has let go of it, so that
   * nothing of it is left then.
   */
  async call(begin: () => number, signal?: AbortSignal): Promise<RawCompletion> {
    if (signal?.aborted) throw aborted(signal.reason)
    const id = begin()
    const cancel = (): void => this.#source?.cancel?.(id)
    signal?.addEventListener('abort', cancel, { once: true })
    const completion = await new Promise<RawCompletion>((resolve) => this.#calls.set(id, resolve))
    signal?.removeEventListener('abort', cancel)
    if (completion.error) throw failure(completion.error, signal)
    return completion
  }
}

function failure(error: NonNullable<RawCompletion['error']>, signal?: AbortSignal): XferdError {
  return error.code === 'ABORTED' && signal?.aborted ? aborted(signal.reason) : errorFrom(error)
}
