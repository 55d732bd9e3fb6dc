import type { RawProgress } from './native.js'
import type { Receipt } from './receipt.js'

/** How far a transfer is. */
export interface Progress {
  /** Sent, or stored, or there already. */
  bytes: number
  /** How many of the bytes the server had already, from a push that was cut off; they don't count for the rate. */
  resumedBytes: number
  /** How many of them are of files that are left out because they are there already; nor do these. */
  unchangedBytes: number
  /** Bytes to transfer; undefined until the whole tree has been walked. */
  total: number | undefined
  files: number
  /** Files to transfer; undefined as long as `total` is. */
  totalFiles: number | undefined
  /** Over the last three seconds; in the last progress of a transfer, over all of it. */
  bytesPerSecond: number
  /** At the present rate; undefined while nothing moves or the total is not known. */
  secondsLeft: number | undefined
}

/** Turns the native counters into {@link Progress} by remembering the last few of them. */
export class Meter {
  readonly #samples: { atMs: number; bytes: number }[]

  /** @param startMs when the transfer began, by `performance.now()` */
  constructor(startMs: number) {
    this.#samples = [{ atMs: startMs, bytes: 0 }]
  }

  sample(raw: RawProgress): Progress {
    const bytesPerSecond = this.#rate(performance.now(), raw.bytes - raw.resumedBytes - raw.unchangedBytes)
    const total = raw.totalKnown ? raw.totalBytes : undefined
    return {
      bytes: raw.bytes,
      resumedBytes: raw.resumedBytes,
      unchangedBytes: raw.unchangedBytes,
      total,
      files: raw.files,
      totalFiles: raw.totalKnown ? raw.totalFiles : undefined,
      bytesPerSecond,
      secondsLeft:
        total === undefined || bytesPerSecond === 0 ? undefined : (total - raw.bytes) / bytesPerSecond,
    }
  }

  #rate(atMs: number, bytes: number): number {
    this.#samples.push({ atMs, bytes })
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? atMs) > WINDOW_MS)
      this.#samples.shift()
    const oldest = this.#samples[0] ?? { atMs, bytes }
    return perSecond(bytes - oldest.bytes, (atMs - oldest.atMs) / 1000)
  }
}

/** The last progress of a transfer that succeeded. */
export function completed(receipt: Receipt): Progress {
  const { resumedBytes, unchangedBytes, seconds } = receipt
  const bytes = receipt.bytes + unchangedBytes
  const files = receipt.files + receipt.unchanged
  return {
    bytes,
    resumedBytes,
    unchangedBytes,
    total: bytes,
    files,
    totalFiles: files,
    bytesPerSecond: perSecond(receipt.bytes - resumedBytes, seconds),
    secondsLeft: 0,
  }
}

function perSecond(bytes: number, seconds: number): number {
  return seconds > 0 ? bytes / seconds : 0
}

/** Long enough to even out the bursts of a full socket, short enough to follow a change of the network. */
const WINDOW_MS = 3000
