import type { XferdError } from '../error.js'

/** Where commands go. */
export interface KvTransport {
  /**
   * Sends `count` commands, encoded one after another as RESP arrays of bulk strings; fulfilled with their replies, RESP3 values
   * one after another. If not all were answered, `error` is why the rest was not.
   */
  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer>
  /** A connection of its own, for what has state: WATCH, SUBSCRIBE, MONITOR. */
  lease(signal?: AbortSignal): Promise<KvLine>
  close(): Promise<void>
}

export interface KvLine {
  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer>
  /** What comes unasked: RESP3 values one after another. Throws CONNECTION_LOST when the connection breaks; ends when it is closed. */
  pushes(): AsyncIterable<Buffer>
  close(): Promise<void>
}

export interface KvAnswer {
  replies: Buffer
  error?: XferdError
}
