import { Command } from '@oclif/core/command'
import { Address, XferdError } from '../src/index.js'
import { asXferdError, exitCode } from './exit-codes.js'
import { printable } from './text.js'

/** What all commands share: `--json`, and errors that become one line, or one object, and an exit code. */
export abstract class XferdCommand extends Command {
  static override enableJsonFlag = true

  /** Data, for stdout. With `--json` it is left to the object that the command returns. */
  protected print(line: string): void {
    if (!this.jsonEnabled()) process.stdout.write(`${printable(line, process.stdout)}\n`)
  }

  /** What people want to know besides, for stderr. */
  protected tell(line: string): void {
    process.stderr.write(`${printable(line, process.stderr)}\n`)
  }

  override logJson(json: unknown): void {
    process.stdout.write(`${JSON.stringify(json)}\n`)
  }

  protected override async catch(error: Error): Promise<void> {
    const failure = asXferdError(error)
    process.exitCode = exitCode(failure)
    if (this.jsonEnabled()) this.logJson(this.toErrorJson(failure))
    else this.tell(`xferd: ${failure.message}`)
  }

  protected override toErrorJson(error: XferdError): unknown {
    return { error }
  }
}

/** The server that all of `addresses` are on, and the paths there. */
export function parseAddresses(texts: string[]): { server: string; paths: string[] } {
  const addresses = texts.map((text) => Address.parse(text))
  const [server = '', ...others] = new Set(addresses.map((address) => address.server))
  if (others.length > 0) {
    throw new XferdError(
      'INVALID_ARGUMENT',
      `${server} and ${others[0]} are different servers: use one command for each`,
    )
  }
  return { server, paths: addresses.map((address) => address.path) }
}
