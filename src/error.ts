import type { Entry } from './entry.js'
import type { RawError } from './native.js'
import type { Receipt } from './receipt.js'

/** The stable codes. A newer server may send others, so treat an unknown one like `INTERNAL`. */
export type ErrorCode =
  | 'PROTOCOL'
  | 'VERSION'
  | 'UNSUPPORTED'
  | 'LIMIT'
  | 'BAD_PATH'
  | 'OUTSIDE_ROOT'
  | 'NOT_FOUND'
  | 'EXISTS'
  | 'NOT_A_FILE'
  | 'NOT_A_DIRECTORY'
  | 'DIRECTORY_NOT_EMPTY'
  | 'PERMISSION'
  | 'READ_ONLY'
  | 'DISK_FULL'
  | 'TOO_MANY_FILES'
  | 'DIGEST_MISMATCH'
  | 'SIZE_MISMATCH'
  | 'SOURCE_CHANGED'
  | 'LINK_ESCAPES'
  | 'NAME_NOT_UTF8'
  | 'TIMEOUT'
  | 'BUSY'
  | 'SHUTTING_DOWN'
  | 'CONNECTION_LOST'
  | 'CONNECTION_REFUSED'
  | 'ABORTED'
  | 'INVALID_ARGUMENT'
  | 'PARTIAL'
  | 'IO'
  | 'INTERNAL'
  | (string & {})

/** What an {@link XferdError} can have besides its code and message. */
export interface XferdErrorDetails {
  retryable?: boolean
  cause?: unknown
  receipt?: Receipt
  entries?: Entry[]
}

/** What every failed call throws. The message names the thing and the remedy; `code` is what to decide by. */
export class XferdError extends Error {
  override readonly name = 'XferdError'
  readonly code: ErrorCode
  /** Whether the same call may succeed later, with nothing changed on this side. */
  readonly retryable: boolean
  /** What was done and what was not, if some or all files of a transfer failed. */
  readonly receipt: Receipt | undefined
  /** What could be listed, if a listing is `PARTIAL`. */
  readonly entries: Entry[] | undefined

  constructor(
    code: ErrorCode,
    message: string,
    { retryable = false, cause, receipt, entries }: XferdErrorDetails = {},
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.retryable = retryable
    this.receipt = receipt
    this.entries = entries
  }

  /** `{code, message, retryable}` */
  toJSON(): RawError {
    return { code: this.code, message: this.message, retryable: this.retryable }
  }
}

/** The error that the native side reported. */
export function errorFrom(raw: RawError, details: Pick<XferdErrorDetails, 'entries'> = {}): XferdError {
  return new XferdError(raw.code, raw.message, { retryable: raw.retryable, ...details })
}

/** What a call rejects with whose signal was aborted. */
export function aborted(reason: unknown): XferdError {
  const why = reason instanceof Error && reason.name !== 'AbortError' ? `: ${reason.message}` : ''
  return new XferdError('ABORTED', `aborted${why}`, { cause: reason })
}
