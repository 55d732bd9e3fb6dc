import * as Args from '@oclif/core/args'
import { connect, type Entry } from '../../src/index.js'
import { parseAddresses, XferdCommand } from '../command.js'
import { formatEntry } from '../entry-line.js'

export class Stat extends XferdCommand {
  static override summary = 'Show what a file or folder on a server is.'
  static override examples = ['<%= config.bin %> stat xfer://nas/films/movie.mkv --json']
  static override args = {
    path: Args.string({ required: true, ignoreStdin: true, description: 'xfer://HOST[:PORT]/PATH' }),
  }

  override async run(): Promise<Entry> {
    const { args } = await this.parse(Stat)
    const { server, paths } = parseAddresses([args.path])
    await using client = await connect(server)
    const entry = await client.stat(paths[0] ?? '')
    this.print(formatEntry(entry))
    return entry
  }
}
