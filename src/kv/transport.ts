import type { XferdError } from '../error.js'

/** What came of commands that were sent together. */
export interface KvAnswer {
  /** The replies that came: RESP3 values one after another, in the order of their commands. */
  replies: Buffer
  /** Why not all of them did. */
  error?: XferdError
}

/** Where commands go. */
export interface KvTransport {
  /**
   * Sends commands, encoded one after another as RESP arrays of bulk strings. They are carried out in their order, with no
   * other's in between them on their connection. It never rejects.
   *
   * @param count how many replies belong to them: one to each command, but none to `SUBSCRIBE` and its kin, which are answered
   * by {@link KvLine.pushes}
   */
  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer>

  /**
   * A connection of its own, for what has state: `WATCH`, `SUBSCRIBE`, `MONITOR`.
   *
   * @throws {XferdError} as for the calls of a transport that cannot connect
   */
  lease(signal?: AbortSignal): Promise<KvLine>

  /** Ends what is under way, with `ABORTED`, and disconnects. */
  close(): Promise<void>
}

/** A connection that is somebody's alone, until it is closed. It is not made anew when it breaks. */
export interface KvLine {
  /** As {@link KvTransport.call}. */
  call(requests: Buffer, count: number, signal?: AbortSignal): Promise<KvAnswer>

  /**
   * What comes unasked: RESP3 values one after another, whole ones in each buffer. That is what is pushed, and any reply beyond
   * those that were counted, such as the lines of `MONITOR` or an error that answers `SUBSCRIBE`. Ends once the line is closed.
   * While nobody takes them, only so many are read from the server.
   *
   * @throws {XferdError} `CONNECTION_LOST` when the connection breaks
   */
  pushes(): AsyncIterable<Buffer>

  /** Gives it back, without what it was used for; what waits for an answer gets `ABORTED`. */
  close(): Promise<void>
}
