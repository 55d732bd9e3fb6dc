import { Address } from '../address.js'
import { errorFrom, XferdError } from '../error.js'
import { native, type RawKvLoad, type RawKvLoadOptions } from '../native.js'

/** What a key-value store is to be asked, and how often. */
export interface KvLoadOptions {
  password?: string
  /** `get` unless told otherwise: keys that it asks for are written before. */
  command?: KvLoadCommand
  /** How many of the requests of `mixed` are GET, 0 to 1; the others are SET. */
  reads?: number
  /** 50 unless told otherwise, up to 16,000. */
  connections?: number
  /** Requests that a connection sends at once: 1 unless told otherwise, up to 4,096. The next follow when all were answered. */
  pipeline?: number
  /** Threads that ask, 1 unless told otherwise. */
  threads?: number
  /** How many keys there are: 100,000 unless told otherwise, up to 100,000,000. They begin with `xferd-bench:`. */
  keys?: number
  /** How often each of them is asked for: as often as any other, unless told otherwise. */
  distribution?: KvLoadDistribution
  /** Of `zipf`: the n-th key is asked for as often as 1/n to this power, up to 10. */
  exponent?: number
  /** 64 unless told otherwise. All values in a pipeline may have 1 MiB. */
  valueBytes?: number
  /** How long it is asked before that counts: 1 s unless told otherwise. */
  warmUpMs?: number
  /** How long it is asked: 5 s unless told otherwise. */
  timeMs?: number
  /** How often it is asked, instead. */
  requests?: number
  /**
   * Requests a second: each is made at its time, and how long it takes is counted from then on, even if nobody was free to send
   * it. As many as are answered unless told otherwise.
   */
  rate?: number
  /** How long an answer may take: 30 s unless told otherwise. */
  timeoutMs?: number
  /** What waits for sockets here. */
  backend?: 'auto' | 'mio' | 'uring'
}

export type KvLoadCommand = NonNullable<RawKvLoadOptions['command']>
export type KvLoadDistribution = NonNullable<RawKvLoadOptions['distribution']>

/** What became of it. */
export interface KvLoadFigures extends Omit<RawKvLoad, 'error' | 'histogram'> {
  /** Requests that were answered; `errors` of them by an error or something unexpected, `misses` of them by nothing. */
  requests: number
  /** What the first of the errors was. */
  firstError?: string
  /** Requests that were due and never sent: the rate was too high. Their waiting is among the latencies. */
  unsent: number
  seconds: number
  requestsPerSecond: number
  /** How many requests took less than so long, and no less than half of it. */
  histogram: { belowMs: number; count: number }[]
}

/**
 * Asks the key-value store at `kv://HOST[:PORT]` or `kv+unix:///PATH` the same again and again and says how long the answers
 * took. Any server that speaks Redis's protocol can be asked. What it is asked for is there before, and removed in the end.
 *
 * @throws {XferdError} `INVALID_ARGUMENT` for a number past its limit; `PERMISSION` if it asks for another password;
 * `CONNECTION_LOST`, `TIMEOUT` and the like if it goes away
 */
export async function measureKv(address: string, options: KvLoadOptions = {}): Promise<KvLoadFigures> {
  for (const [name, value] of Object.entries(options)) {
    const isFraction = name === 'reads' || name === 'exponent' || name.endsWith('Ms')
    const max = name === 'requests' || name === 'rate' ? Number.MAX_SAFE_INTEGER : 0xffff_ffff
    const isRight = isFraction || (Number.isInteger(value) && value >= 0 && value <= max)
    if (typeof value === 'number' && !isRight)
      throw new XferdError('INVALID_ARGUMENT', `${name} is ${value}; give a whole number up to ${max}`)
  }
  const raw = { ...options, address: await Address.ofStore(address) }
  const result = await new Promise<Partial<RawKvLoad>>((resolve) => {
    const error = native().measureKv(raw, resolve)
    if (error) resolve({ error })
  })
  const { error, ...figures } = result
  if (error) throw errorFrom(error)
  const { requests = 0, seconds = 0 } = figures
  return { ...(figures as RawKvLoad), requestsPerSecond: seconds > 0 ? requests / seconds : 0 }
}
