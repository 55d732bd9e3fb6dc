import { errorFrom } from './error.js'
import { native, type RawCeiling, type RawCeilingOptions } from './native.js'

/** What the kernel is to be measured with. */
export interface CeilingOptions {
  /** The file that is sent. */
  source: string
  /** Where the copies are stored until the measurement is over, as `ceiling.0`, `ceiling.1` … */
  folder: string
  /** Senders, and as many receivers; 1 to 1,000. */
  clients: number
  /** How the receivers store: {@link CEILING_WAYS}. */
  way: CeilingWay
}

export type CeilingWay = RawCeilingOptions['way']

/** What moving all copies took. */
export interface CeilingFigures {
  /** Of all copies together. */
  bytes: number
  /** From the first connection to the last stored copy. */
  seconds: number
  /** User and system time of all senders and receivers. */
  cpuSeconds: number
}

/**
 * The ways from a socket to the disk: nowhere; through the page cache into a file that grows, or one of its final size; the
 * latter with `RWF_DONTCACHE`; around the page cache with `O_DIRECT`.
 */
export const CEILING_WAYS: readonly CeilingWay[] = ['discard', 'plain', 'prealloc', 'dontcache', 'direct']

/**
 * Measures what this machine's kernel can do without xferd: `clients` senders push one file over loopback TCP with `sendfile`
 * to as many receivers that store a copy each, and nothing else. The best way is the ceiling for a transfer.
 *
 * @returns `undefined` if the folder's file system does not take the way
 * @throws {XferdError} `UNSUPPORTED` on other systems than Linux; what the system says, such as `NOT_FOUND` or `DISK_FULL`
 */
export async function measureCeiling(options: CeilingOptions): Promise<CeilingFigures | undefined> {
  const result = await new Promise<RawCeiling>((resolve) => {
    const error = native().measureCeiling(options, resolve)
    if (error) resolve({ error })
  })
  if (result.error) throw errorFrom(result.error)
  const { bytes, seconds, cpuSeconds } = result
  return seconds === undefined ? undefined : { bytes: bytes ?? 0, seconds, cpuSeconds: cpuSeconds ?? 0 }
}
