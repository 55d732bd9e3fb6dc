import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { connect, type Entry, XferdError } from '../../src/index.js'
import { parseAddresses, XferdCommand } from '../command.js'
import { formatEntry } from '../entry-line.js'

export class Ls extends XferdCommand {
  static override summary = 'List a folder on a server.'
  static override examples = [
    '<%= config.bin %> ls xfer://nas',
    '<%= config.bin %> ls xfer://nas/films --recursive --json',
  ]
  static override args = {
    directory: Args.string({ required: true, ignoreStdin: true, description: 'xfer://HOST[:PORT]/PATH' }),
  }
  static override flags = {
    recursive: Flags.boolean({ char: 'r', description: 'everything below it, too' }),
  }

  override async run(): Promise<{ entries: Entry[] }> {
    const { args, flags } = await this.parse(Ls)
    const { server, paths } = parseAddresses([args.directory])
    await using client = await connect(server)
    try {
      return { entries: this.#show(await client.list(paths[0], { recursive: flags.recursive })) }
    } catch (error) {
      if (error instanceof XferdError && error.entries) this.#show(error.entries)
      throw error
    }
  }

  protected override toErrorJson(error: XferdError): unknown {
    return { error, ...(error.entries && { entries: error.entries }) }
  }

  #show(entries: Entry[]): Entry[] {
    entries.sort((a, b) => (a.path < b.path ? -1 : 1))
    for (const entry of entries) this.print(formatEntry(entry))
    return entries
  }
}
