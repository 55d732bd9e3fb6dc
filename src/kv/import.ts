import { errorFrom } from '../error.js'
import { native, type RawImport } from '../native.js'

/** What was taken over. */
export interface KvImport {
  keys: number
  /** Of all files. */
  bytes: number
  /** How many bytes at the end of the last file were left out, because whoever wrote it was cut off there. */
  tornBytes: number
}

/**
 * Takes keys over from Redis 7 into a directory that `serve` keeps keys in, of whoever is not running: all of them, or, if that
 * fails, none.
 *
 * @param source a dump (`dump.rdb`), a log (`appendonly.aof`), or a directory of logs with its manifest (`appendonlydir`)
 * @param dir is made if it is not there; there may be no keys in it
 * @throws {XferdError} `INVALID_ARGUMENT` for what cannot be taken over, such as a stream, or a directory with keys in it; `BUSY` for one
 * that a server uses; what the system says, such as `NOT_FOUND`
 */
export async function importKeys(source: string, dir: string): Promise<KvImport> {
  const result = await new Promise<RawImport>((resolve) => {
    const error = native().importKeys(source, dir, resolve)
    if (error) resolve({ error })
  })
  if (result.error) throw errorFrom(result.error)
  const { keys = 0, bytes = 0, tornBytes = 0 } = result
  return { keys, bytes, tornBytes }
}
