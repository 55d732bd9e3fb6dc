import { errorFrom, XferdError } from './error.js'
import type { RawCompletion, WritePathCounts } from './native.js'

/** What a transfer did. */
export interface Receipt {
  /** Files stored, each copy of `clients` counted. */
  files: number
  /** Files left out because they are there already. */
  unchanged: number
  /** Their bytes. */
  unchangedBytes: number
  directories: number
  links: number
  bytes: number
  /** How many of the bytes the server had already, from a push that was cut off. */
  resumedBytes: number
  /** What is neither file nor folder nor link, and was left out. */
  skipped: number
  /** Of a single file: the algorithm and the value in hex, as in `crc64nvme:9a1b…`. */
  digest?: string
  /** The ways those files took to the disk they are on now. */
  writePaths: WritePathCounts
  /** From the first byte to the last acknowledged commit. */
  seconds: number
  /** How many files were not transferred. Above 0 only on the receipt of an {@link XferdError}. */
  failed: number
  /** Which, and why; the first 100 of them. */
  failures: Failure[]
}

export interface Failure {
  path: string
  error: XferdError
}

/**
 * The receipt in a completion.
 *
 * @throws {XferdError} with the receipt on it, if files failed: `PARTIAL` if others were transferred, else the error of the
 * first that failed
 */
export function receiptFrom({ receipt: raw }: RawCompletion): Receipt {
  if (!raw) throw new XferdError('INTERNAL', 'the native side answered a transfer without a receipt')
  const receipt = {
    ...raw,
    failures: raw.failures.map(({ path, error }) => ({ path, error: errorFrom(error) })),
  }
  if (receipt.failed === 0) return receipt
  const [first] = receipt.failures
  if (!first) throw new XferdError('INTERNAL', `${receipt.failed} files failed without a reason`, { receipt })
  const { code, message, retryable } = first.error
  if (receipt.files + receipt.unchanged === 0) throw new XferdError(code, message, { retryable, receipt })
  throw new XferdError(
    'PARTIAL',
    `${receipt.failed} of ${receipt.files + receipt.unchanged + receipt.failed} files failed, the first of them ${first.path}: ${message}`,
    { retryable: receipt.failures.every(({ error }) => error.retryable), receipt },
  )
}
