import { XferdError } from '../src/index.js'

/** What the exit codes mean, for the help and for {@link exitCode}. */
export const EXIT_CODES = {
  ok: [0, 'done'],
  failure: [1, 'failed'],
  usage: [2, 'the command line is wrong'],
  integrity: [4, 'what arrived is not what was sent; nothing of it was kept'],
  temporary: [5, 'failed for now: try again'],
  partial: [6, 'some files were transferred, others failed'],
  interrupted: [130, 'interrupted'],
} as const satisfies Record<string, readonly [number, string]>

const KIND_OF_CODE: Record<string, keyof typeof EXIT_CODES> = {
  INVALID_ARGUMENT: 'usage',
  BAD_PATH: 'usage',
  DIGEST_MISMATCH: 'integrity',
  SIZE_MISMATCH: 'integrity',
  PARTIAL: 'partial',
  ABORTED: 'interrupted',
}

export function exitCode({ code, retryable }: XferdError): number {
  return EXIT_CODES[KIND_OF_CODE[code] ?? (retryable ? 'temporary' : 'failure')][0]
}

/** Any error as ours: those of the command line's parser are usage errors. */
export function asXferdError(error: Error & { oclif?: { exit?: number } }): XferdError {
  if (error instanceof XferdError) return error
  if (error.oclif?.exit !== EXIT_CODES.usage[0])
    return new XferdError('INTERNAL', error.message, { cause: error })
  // oclif notes that flags which may be given again swallow what follows; ours take one value each time.
  const message = error.message.replace(/\n\nNote: .*(?=\nSee more)/s, '')
  return new XferdError('INVALID_ARGUMENT', message, { cause: error })
}
