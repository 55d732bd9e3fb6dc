import { XferdError } from './error.js'

/** Where a server listens unless told otherwise. */
export const DEFAULT_PORT = 7400

/**
 * `xfer://HOST[:PORT][/PATH]`, taken apart.
 *
 * The path is taken literally: `%20`, `?` and `#` are characters of a name, as on the command line of `cp`.
 */
export class Address {
  /** A name, an IPv4 address or a bracketed IPv6 address. */
  readonly host: string
  readonly port: number
  /** Relative to the server's root; empty for the root. A trailing slash is kept: it says that a directory is meant. */
  readonly path: string

  private constructor(host: string, port: number, path: string) {
    this.host = host
    this.port = port
    this.path = path
  }

  /** @throws {XferdError} `INVALID_ARGUMENT` if `text` is not such an address */
  static parse(text: string): Address {
    const match = /^xfer:\/\/(\[[\da-f:.%]+\]|[^/:@[\]\s]+)(?::(\d{1,5}))?(?:\/(.*))?$/is.exec(text)
    const [, host = '', port = DEFAULT_PORT, path = ''] = match ?? []
    if (!match || Number(port) > 65_535) {
      throw new XferdError(
        'INVALID_ARGUMENT',
        `${JSON.stringify(text)} is not an address: write xfer://HOST[:PORT]/PATH`,
      )
    }
    return new Address(host, Number(port), path)
  }

  /** The server alone: `xfer://HOST:PORT`. */
  get server(): string {
    return `xfer://${this.host}:${this.port}`
  }

  toString(): string {
    return `${this.server}/${this.path}`
  }
}
