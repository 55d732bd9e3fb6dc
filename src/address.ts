import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { XferdError } from './error.js'

/** Where a server listens unless told otherwise. */
export const DEFAULT_PORT = 7400
/** Where a key-value store does. */
export const KV_DEFAULT_PORT = 6390

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

  /**
   * The same with an IP address for its host.
   *
   * @throws {XferdError} `NOT_FOUND` if there is no such host, `CONNECTION_REFUSED` if nobody can be asked now
   */
  async resolve(): Promise<Address> {
    if (this.host.startsWith('[') || isIP(this.host) || this.host === 'localhost') return this
    try {
      // The first address is the one to use, and more servers listen on IPv4 alone than on IPv6 alone.
      const { address, family } = await lookup(this.host, { verbatim: false })
      return new Address(family === 6 ? `[${address}]` : address, this.port, this.path)
    } catch (cause) {
      const isUnknown = (cause as NodeJS.ErrnoException).code === 'ENOTFOUND'
      throw new XferdError(
        isUnknown ? 'NOT_FOUND' : 'CONNECTION_REFUSED',
        `no address is known for the host ${this.host}; check its name and this machine's name service`,
        { cause, retryable: !isUnknown },
      )
    }
  }

  /**
   * Where the server is that `text` names, for the addon: an IP address and a port, or, of `xfer+unix:///PATH`, the socket
   * with all that follows.
   *
   * @throws {XferdError} as {@link parse} and {@link resolve}
   */
  static async ofServer(text: string): Promise<string> {
    return isSocket(text) ? text : (await Address.parse(text).resolve()).server
  }

  /**
   * The same where keys may be served, too: `kv://HOST[:PORT]`, `kv+unix:///PATH`.
   *
   * @throws {XferdError} as {@link parse} and {@link resolve}
   */
  static async ofListener(text: string): Promise<string> {
    return /^kv(\+unix)?:/.test(text) ? Address.ofStore(text) : Address.ofServer(text)
  }

  /**
   * Where the keys are that `text` names: `kv://HOST[:PORT]`, `kv+unix:///PATH`.
   *
   * @throws {XferdError} as {@link parse} and {@link resolve}
   */
  static async ofStore(text: string): Promise<string> {
    if (text.startsWith('kv+unix://')) return text
    const [, rest] = /^kv:\/\/(.*)$/s.exec(text) ?? []
    const store = rest === undefined ? undefined : await Address.parse(`xfer://${rest}`).resolve()
    if (store?.path !== '') {
      const message = `${JSON.stringify(text)} is not where keys can be served: write kv://HOST[:PORT]`
      throw new XferdError('INVALID_ARGUMENT', message)
    }
    return `kv://${store.host}:${/:\d+\/?$/.test(text) ? store.port : KV_DEFAULT_PORT}`
  }

  toString(): string {
    return `${this.server}/${this.path}`
  }
}

/** Whether a server is named by the path of a Unix socket. */
export function isSocket(text: string): boolean {
  return text.startsWith('xfer+unix://')
}
