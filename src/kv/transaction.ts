import { XferdError } from '../error.js'
import { asStrings, type KvArg, type Texts } from './codec.js'
import type { Key, KvCommands } from './commands.js'
import type { Pipeline } from './pipeline.js'
import { CommandsOf, type Said } from './table.js'

export interface TransactionOptions {
  /** Carries it out only if none of these keys has changed since the function was called, and calls that again otherwise. */
  watch?: Key[]
  /** How often it is called at most, 16 times unless given; then `CONFLICT` is thrown. */
  attempts?: number
}

/** What a function that makes up a transaction returns: those of its commands whose replies are wanted. */
export type Wanted<T extends readonly unknown[]> = readonly [...T] | Promise<readonly [...T]>
/** Those replies. */
export type Replied<T extends readonly unknown[]> = { -readonly [I in keyof T]: Awaited<T[I]> }

/**
 * Gathers the commands that `body` gives, has them carried out together, and returns what `body` did, replied; the replies to all of
 * them if it returned nothing.
 *
 * @throws {XferdError} `CONFLICT` if a key that is watched has changed; nothing was carried out then
 */
export async function transact<B extends string | Buffer>(
  pipeline: Pipeline,
  texts: Texts,
  body: (t: KvCommands<B>) => unknown,
  signal?: AbortSignal,
): Promise<unknown[]> {
  const queue: Queued[] = []
  let isOpen = true
  const t = new CommandsOf<B>((said) => {
    if (!isOpen) throw new XferdError('INVALID_ARGUMENT', 'the transaction is over; give its commands before')
    const queued = new Queued(said)
    queue.push(queued)
    return queued
  })
  let wanted: unknown
  try {
    const made = body(t)
    wanted = made instanceof Queued ? undefined : await made
    isOpen = false
    if (queue.length > 0) await carryOut(pipeline, queue, texts, signal)
  } catch (error) {
    for (const queued of queue) queued.reject(error)
    throw error
  } finally {
    isOpen = false
    for (const queued of queue) queued.isOpen = false
  }
  return Promise.all(Array.isArray(wanted) ? wanted : queue)
}

async function carryOut(
  pipeline: Pipeline,
  queue: readonly Queued[],
  texts: Texts,
  signal?: AbortSignal,
): Promise<void> {
  const each = queue.map(({ said }) => (said.isText ? asStrings : texts))
  const saids = [MULTI, ...queue.map(({ said: { args } }) => ({ args })), { ...EXEC, each }]
  const outcomes = await Promise.allSettled(pipeline.callTogether(saids, asStrings, signal))
  // What was refused first is why EXEC was.
  const refused = outcomes.find((outcome) => outcome.status === 'rejected')
  if (refused) throw refused.reason
  const { value: replies } = outcomes.at(-1) as PromiseFulfilledResult<unknown[] | null>
  if (!replies) {
    const message = 'a key that the transaction watches was changed by somebody else; nothing was carried out'
    throw new XferdError('CONFLICT', message, { retryable: true })
  }
  for (const [index, queued] of queue.entries()) queued.answer(replies[index])
}

/** What a command of a transaction will be replied to. Only once that was sent can it be awaited. */
class Queued extends Promise<unknown> {
  readonly said: Said
  isOpen = true
  readonly #resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void

  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  constructor(said: Said) {
    let settle: [resolve: (value: unknown) => void, reject: (error: unknown) => void] | undefined
    super((...both) => {
      settle = both
    })
    this.said = said
    ;[this.#resolve, this.reject] = settle as NonNullable<typeof settle>
    // Whether anybody asks for it or not.
    super.then(undefined, () => {})
  }

  answer(reply: unknown): void {
    if (reply instanceof XferdError) this.reject(reply)
    else this.#resolve(this.said.read ? this.said.read(reply, this.said.args) : reply)
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise
  override then<A = unknown, C = never>(
    onValue?: ((value: unknown) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => C | PromiseLike<C>) | null,
  ): Promise<A | C> {
    if (!this.isOpen) return super.then(onValue, onError)
    const message =
      'a command of a transaction is replied to when all have been carried out: return it, and await the transaction'
    throw new XferdError('INVALID_ARGUMENT', message)
  }
}

const MULTI = { args: ['MULTI'] satisfies KvArg[] }
const EXEC = { args: ['EXEC'] satisfies KvArg[] }
